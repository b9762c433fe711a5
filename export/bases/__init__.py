"""Base architectures, one file each, and their checkpoints.

A base checkpoint is a safetensors file of the network's own state dict. Its architecture and its size are read off the
weights' names and shapes, so a checkpoint needs no side file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from uir.export.bases import nafnet, unet
from uir.export.tensors import read_tensors, refuse_pickle
from uir.runtime.atomic import atomic_output
from uir.runtime.errors import BaseModelError, MissingFileError, shown


@dataclass(frozen=True)
class Architecture:
    """A family of networks: how to build one, and how to recognise its weights.

    Attributes:
        build: makes a network; keyword arguments choose its size. Networks map N x 3 x H x W in [0, 1] to the same
            shape and have `multiple_of`.
        detect: a state dict to `build`'s arguments, or None where the weights are of another architecture.
        sizes: `build`'s arguments for sizes other than the usual one, by name.
    """

    build: Callable[..., nn.Module]
    detect: Callable[[Mapping[str, Tensor]], dict[str, Any] | None]
    sizes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


ARCHITECTURES = {
    "unet": Architecture(unet.UNet, unet.detect, {"medium": unet.MEDIUM}),
    "nafnet": Architecture(nafnet.NAFNet, nafnet.detect),
}


@dataclass(frozen=True)
class LoadedBase:
    """A base network and the name of its architecture."""

    architecture: str
    network: nn.Module

    @classmethod
    def new(cls, size: str) -> LoadedBase:
        """An untrained base: of an architecture's usual size (`unet`), or of another that it names (`unet-medium`)."""
        architecture, _, other = size.partition("-")
        made = ARCHITECTURES[architecture]
        return cls(architecture, made.build(**made.sizes[other]) if other else made.build())


def sizes() -> list[str]:
    """What `LoadedBase.new` makes."""
    return [*ARCHITECTURES, *(f"{name}-{size}" for name, made in ARCHITECTURES.items() for size in made.sizes)]


def load_base(path: Path) -> LoadedBase:
    """Read a base checkpoint.

    Raises:
        MissingFileError: there is no such file.
        BaseModelError: it is not safetensors, holds values that are not finite, or is of no known architecture.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such base checkpoint")
    refuse_pickle(path, error=BaseModelError)
    weights = {name: torch.from_numpy(values) for name, values in read_tensors(path, BaseModelError).items()}
    return LoadedBase(*_network(path, weights))


def _network(path: Path, weights: Mapping[str, Tensor]) -> tuple[str, nn.Module]:
    for name, architecture in ARCHITECTURES.items():
        settings = architecture.detect(weights)
        if settings is None:
            continue
        try:
            with torch.device("meta"):  # shapes alone: what a hostile file says may be larger than any memory
                shapes = architecture.build(**settings).state_dict()
        except (RuntimeError, OverflowError) as error:
            raise BaseModelError(f"{path}: looks like a {name} of impossible size: {shown(error)}") from error
        differing = _differing(weights, shapes)
        if differing:
            more = f"; and {len(differing) - 3} more" if len(differing) > 3 else ""
            raise BaseModelError(f"{path}: looks like a {name}, but is not one: {'; '.join(differing[:3])}{more}")
        network = architecture.build(**settings)
        network.load_state_dict(weights)
        return name, network.eval()
    listed = ", ".join(sorted(weights)[:5])
    raise BaseModelError(
        f"{path}: of no known architecture (known: {', '.join(ARCHITECTURES)}); "
        f"its first weights are {listed or 'none'}"
    )


def _differing(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """How a checkpoint's names and shapes differ from those of the network that it looks like."""

    def shape(tensors: Mapping[str, Tensor], name: str) -> str:
        return " x ".join(map(str, tensors[name].shape)) if name in tensors else "missing"

    return [
        f"{name} is {shape(weights, name)}, and should be {shape(wanted, name)}"
        for name in sorted({*weights, *wanted})
        if shape(weights, name) != shape(wanted, name)
    ]


def save_base(path: Path, architecture: str, weights: Mapping[str, Tensor]) -> None:
    """Write a base checkpoint, over an older one: the state dict as safetensors, the architecture in its metadata.

    Raises:
        OutputError: the file cannot be written.
    """
    contiguous = {name: tensor.detach().contiguous() for name, tensor in weights.items()}
    with atomic_output(path, overwrite=True) as temporary:
        # Not by save_file, whose files nobody but their owner may read.
        temporary.write_bytes(save(contiguous, metadata={"architecture": architecture}))
