"""What trains: the CPU, or an NVIDIA GPU."""

from __future__ import annotations

import torch

from uir.runtime.errors import UsageError
from uir.tools.processor import processor, usable_cores


def chosen(name: str) -> torch.device:
    """The device of that name, `cpu` or `cuda`.

    Raises:
        UsageError: there is no such GPU.
    """
    if name == "cuda":
        if not torch.cuda.is_available():
            raise UsageError("--device cuda: torch sees no NVIDIA GPU here; leave it out to train on the CPU")
        torch.backends.cudnn.benchmark = True  # patches have two sizes in a run: it pays to look for the fastest way
        torch.set_num_threads(1)  # the cores belong to those who degrade
    return torch.device(name)


def described(device: torch.device) -> str:
    """The name of the GPU, or of the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def processes(asked: int | None, device: torch.device) -> int:
    """How many processes degrade where it is not asked for: one beside a CPU that trains, all cores for a GPU."""
    if asked is not None:
        return asked
    return max(1, usable_cores() - 1) if device.type == "cuda" else 1
