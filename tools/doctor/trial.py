"""One engine at work, in a process of its own: its memory is then its own, and what kills it kills nothing else."""

from __future__ import annotations

import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from uir.calibration.frames import Frames
from uir.calibration.gate import Judge
from uir.runtime.backends.tensorrt.device_memory import available_memory, find_device
from uir.runtime.composition import Composition
from uir.runtime.errors import UirError
from uir.runtime.manifest import Precision
from uir.runtime.merge import merge_package
from uir.runtime.package import Package
from uir.runtime.quantize import Network
from uir.runtime.restorer import Restorer
from uir.tools.doctor.children import ChildError, answer, ask

Stack = NDArray[np.uint8]
"""N x H x W x 3, RGB."""

FRAMES, RESTORED = "frames.npy", "restored.npy"

_RUNS = 3  # at least, of an engine that is timed


@dataclass(frozen=True)
class Task:
    """What to run on `FRAMES` in a folder, where `RESTORED` is then written.

    Attributes:
        composition: its key.
        precision: None for what the device takes where none is named.
        seconds: so long it is timed, or a little longer.
        also: narrower precisions of which to find what they cost, as export's gate finds it.
    """

    folder: str
    package: str
    composition: str
    device: str
    precision: Precision | None
    seconds: float = 1.0
    also: tuple[Precision, ...] = ()

    def run(self) -> Measured:
        """Run it in a process of its own.

        Raises:
            ChildError: the process ended without an answer, or an error of ours was raised there; the message says why.
        """
        answered = ask(__name__, msgspec.json.encode(self).decode())
        if "error" in answered:
            raise ChildError(str(answered["error"]))
        return Measured(**answered)


@dataclass(frozen=True)
class Measured:
    """How an engine ran.

    Attributes:
        engine: backend, version and device, in words.
        first_seconds: from opening the package to the first frame, an engine built or loaded in between.
        fps: frames per second, by the median of the times of single frames.
        peak_bytes: the most resident memory of the process; None where the system does not tell (Windows).
        gpu_bytes: what the GPU has less of at the end; None where there is none.
        costs: PSNR against float32 on the CPU of each of `also`, dB; None for one that float16's range does not hold.
    """

    engine: str
    first_seconds: float
    fps: float
    peak_bytes: int | None
    gpu_bytes: int | None
    costs: dict[str, float | None]


def run() -> None:
    """What that process does."""
    answer(_work)


def _work(arguments: Sequence[str]) -> dict[str, Any]:
    task = msgspec.json.decode(arguments[0], type=Task)
    folder = Path(task.folder)
    try:
        return asdict(_measure(task, np.load(folder / FRAMES), folder / RESTORED))
    except UirError as error:
        return {"error": str(error)}


def _measure(task: Task, frames: Stack, output: Path) -> Measured:
    gpu_memory = _gpu_memory(task.device)
    before = gpu_memory()
    began = time.perf_counter()
    package, composition = Package(task.package), Composition.parse(task.composition)
    restorer = _open(package, composition, task)
    restorer.expect(*frames.shape[1:3])
    first = restorer(frames[0])
    first_seconds = time.perf_counter() - began
    np.save(output, np.stack([first, *(restorer(frame) for frame in frames[1:])]))
    times: list[float] = []
    while len(times) < _RUNS or sum(times) < task.seconds:
        began = time.perf_counter()
        restorer(frames[len(times) % len(frames)])
        times.append(time.perf_counter() - began)
    after = gpu_memory()
    return Measured(
        engine=restorer.describe(),
        first_seconds=first_seconds,
        fps=1 / statistics.median(times),
        peak_bytes=_peak_memory(),
        gpu_bytes=None if before is None or after is None else before - after,
        costs=_costs(package, composition, task.also, frames),
    )


def _open(package: Package, composition: Composition, task: Task) -> Restorer:
    return Restorer(package, composition, device=task.device, precision=task.precision)


def _costs(
    package: Package, composition: Composition, precisions: Sequence[Precision], frames: Stack
) -> dict[str, float | None]:
    """What each precision costs on these frames, cut to what the graph takes."""
    if not precisions:
        return {}
    multiple = package.manifest.frame.multiple_of
    height, width = (length - length % multiple for length in frames.shape[1:3])
    judged = [np.ascontiguousarray(frame[:height, :width]) for frame in frames]
    network = Network(package.graph(), merge_package(package, composition))
    judge = Judge(network, Frames(calibration=[], judged=judged, pairs=[]))
    costs = {precision: judge.cost(package.graph(precision, composition)) for precision in precisions}
    return {precision: cost.psnr if cost else None for precision, cost in costs.items()}


def _gpu_memory(device: str) -> Callable[[], int | None]:
    """What tells how much memory the GPU has left, bytes, for a device that is one."""
    gpu = None if device in ("openvino", "cpu") else find_device()
    return lambda: available_memory(gpu) if gpu else None


def _peak_memory(status: Path = Path("/proc/self/status")) -> int | None:
    """The most resident memory that this process had, bytes; None where that cannot be told.

    By VmHWM of proc(5) where it is: on Linux, `ru_maxrss` may be that of the parent.
    """
    if status.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    try:
        import resource
    except ModuleNotFoundError:  # Windows has none
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
