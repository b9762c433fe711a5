"""The rows that are not ours: torch as research code runs it, torch at its best, and a plain export.

Each takes and gives uint8 frames, and converts them by numpy as such code does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uir.export.adapters import write_peft
from uir.export.bases import load_base
from uir.export.trace import quiet
from uir.runtime.errors import UirError
from uir.runtime.factors import Factors, Update
from uir.tools.bench.metrics import Frame
from uir.tools.bench.speed.subject import Restore, Subject

Planes = NDArray[np.float32]
"""1 x 3 x H x W, in [0, 1]."""


def unmerged(subject: Subject) -> Restore:
    """torch, eager, each adapter beside the weights that it changes, as PEFT loads it from its files.

    Raises:
        ModuleNotFoundError: PEFT is not installed.
        UirError: PEFT cannot take one of the adapters.
    """
    from peft import PeftModel

    if not subject.composition.items:
        raise UirError(f"{subject.composition.key} has no adapter that could be left unmerged")
    network = _network(subject, merged=False)
    names = [name for name, _ in subject.composition.items]
    folders = [_peft_folder(subject, network, name) for name in names]
    with others_work("PEFT"):
        model = PeftModel.from_pretrained(network, folders[0], adapter_name=names[0])
        for name, folder in zip(names[1:], folders[1:], strict=True):
            model.load_adapter(folder, adapter_name=name)
        model.base_model.set_adapter(names)  # type: ignore[operator]
    return _by_torch(model.eval())


def merged(subject: Subject) -> Restore:
    """torch, eager, the adapters merged, channels last."""
    return _by_torch(_channels_last(subject), torch.channels_last)


def merged_bf16(subject: Subject) -> Restore:
    """The same in bfloat16 wherever torch's own autocast thinks it safe."""
    network = _channels_last(subject)

    def run(planes: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(planes).float()  # type: ignore[no-any-return]

    return _by_torch(run, torch.channels_last)


def compiled(subject: Subject) -> Restore:
    """The same as `merged`, compiled by torch for this processor and this size.

    Raises:
        UirError: it cannot be, such as for want of a C++ compiler.
    """
    network = _channels_last(subject)
    restore = _by_torch(torch.compile(network), torch.channels_last)
    with others_work("torch.compile"):
        restore(subject.frames[0])  # it compiles when it is first called
    return restore


def plain_export(subject: Subject) -> Restore:
    """ONNX Runtime as it comes, on the float network as torch.onnx.export writes it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = subject.threads or 0  # 0: as it chooses
    session = onnxruntime.InferenceSession(plain_model(subject), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return _converting(lambda planes: np.clip(session.run(None, {name: planes})[0], 0, 1))


def plain_model(subject: Subject) -> Path:
    """The float network, 1 x 3 x H x W in and out, of one size, as an ONNX file; exported when it is first wanted.

    Raises:
        ModuleNotFoundError: onnxscript is not installed.
        UirError: torch cannot export it.
    """
    import onnxscript  # noqa: F401 - torch.onnx's own error for its absence says less

    path = subject.folder / "plain.onnx"
    if not path.exists():
        picture = torch.zeros(1, 3, *subject.network_size)
        with others_work("torch.onnx.export"):
            program = torch.onnx.export(_network(subject), (picture,), dynamo=True, verbose=False)
        assert program is not None
        path.write_bytes(program.model_proto.SerializeToString())
    return path


def _network(subject: Subject, *, merged: bool = True) -> nn.Module:
    """The package's base in torch, with its own weights or with the composition's."""
    if subject.threads is not None:
        torch.set_num_threads(subject.threads)
    weights = subject.weights  # the package's hashes are checked here
    network = load_base(subject.package.path / subject.package.manifest.base.file).network
    if merged:
        network.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()})
    return network.requires_grad_(False)


def _channels_last(subject: Subject) -> nn.Module:
    """The merged network, its weights in the layout that convolutions on processors like best."""
    return _network(subject).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _peft_folder(subject: Subject, network: nn.Module, name: str) -> Path:
    """One of the package's adapters as PEFT has it, its weight in the composition taken in."""
    shapes = {weight: tuple(tensor.shape) for weight, tensor in network.state_dict().items()}
    adapter = subject.package.adapter(name)
    rank, amount = subject.package.manifest.adapters[name].rank, subject.composition.weights[name]
    factors = {weight: _of_rank(update, shapes[weight], rank, amount) for weight, update in adapter.updates.items()}
    folder = subject.folder / name
    write_peft(folder, factors, shapes, rank=rank, alpha=rank, base_model="base", overwrite=True)
    return folder


def _of_rank(update: Update, shape: tuple[int, ...], rank: int, amount: float) -> Factors:
    """An update as factors of one rank; packages store some whole, as their factors would be larger."""
    if isinstance(update, Factors):
        b, a, scale = update.b, update.a, update.scale * amount
    else:
        u, s, vt = np.linalg.svd(update.values.reshape(shape[0], -1), full_matrices=False)
        b, a, scale = u[:, :rank] * s[:rank], vt[:rank], amount
    missing = rank - a.shape[0]
    return Factors(np.pad(b, ((0, 0), (0, missing))), np.pad(a, ((0, missing), (0, 0))), scale)


def _by_torch(run: Callable[[Tensor], Tensor], layout: torch.memory_format = torch.contiguous_format) -> Restore:
    def restore(planes: Planes) -> Planes:
        with torch.inference_mode():
            picture = torch.from_numpy(planes).to(memory_format=layout)
            return run(picture).clamp(0, 1).numpy()

    return _converting(restore)


def _converting(restore: Callable[[Planes], Planes]) -> Restore:
    """Frames through a function of planes in [0, 1]."""

    def run(frame: Frame) -> Frame:
        planes = np.ascontiguousarray(frame.transpose(2, 0, 1)[None], dtype=np.float32) / np.float32(255)
        restored = restore(planes)[0].transpose(1, 2, 0)
        return np.asarray(np.rint(restored * 255), np.uint8)

    return run


@contextmanager
def others_work(name: str) -> Iterator[None]:
    """A block of another library's work: whatever it raises is why there is no row, and what it warns of is no news."""
    try:
        with quiet():
            yield
    except ModuleNotFoundError:
        raise
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), "")
        raise UirError(f"{name}: {type(error).__name__}: {first}") from error
