"""One point of `uir-bench scaling`, in a process of its own: its peak memory is nobody else's."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from uir.runtime.composition import Composition
from uir.runtime.console import run_command
from uir.runtime.restorer import Restorer
from uir.tools.bench.report import median

PROGRAM = "uir-bench scaling"


@dataclass(frozen=True)
class Task:
    """What one process does: it restores the same frames with each composition in turn, round after round.

    Attributes:
        device: None is `$UIR_DEVICE`, or else `auto`.
        memory_limit: of the network's activations, bytes.
        compositions: their keys.
        frames: a NumPy file of one frame, H x W x 3, or of a batch, N x H x W x 3.
        seconds: of timing; one round at least. A round before it, which lays out memory, does not count.
    """

    package: str
    device: str | None
    memory_limit: int
    compositions: Sequence[str]
    frames: str
    seconds: float


@dataclass(frozen=True)
class Timed:
    """What it found.

    Attributes:
        seconds: of a call, all its frames; the median.
        switch: seconds of a switch to the next composition; the median.
        samples: calls that were timed.
        held: how many of the compositions have an engine in memory at the end.
        counted: bytes that the engines in memory say that they take, at the end.
        precision: of the last composition.
    """

    seconds: float
    switch: float
    samples: int
    held: int
    counted: int
    precision: str


def carry_out(task: Task) -> Timed:
    """Restore, and time it.

    Raises:
        UirError: the package, the device or an engine fails.
    """
    frames = np.load(task.frames)
    compositions = [Composition.parse(key) for key in task.compositions]
    restorer = Restorer(task.package, compositions[0], device=task.device, memory_limit=task.memory_limit)
    restorer.expect(*frames.shape[-3:-1])

    def go_round() -> list[tuple[float, float]]:
        """Seconds of each switch and of each call."""
        times = []
        for composition in compositions:
            began = time.perf_counter()
            restorer.compose(composition)
            switched = time.perf_counter()
            restorer(frames)
            times.append((switched - began, time.perf_counter() - switched))
        return times

    go_round()
    ends = time.perf_counter() + task.seconds
    times = go_round()
    while time.perf_counter() < ends:
        times += go_round()
    switches, calls = zip(*times, strict=True)
    held = sum(restorer.ready(composition) for composition in compositions)
    return Timed(median(calls), median(switches), len(calls), held, restorer.nbytes, restorer.precision)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the task from the file that is named, and print what was found as JSON."""
    (path,) = sys.argv[1:] if arguments is None else arguments
    task = msgspec.json.decode(Path(path).read_bytes(), type=Task)
    print(msgspec.json.encode(carry_out(task)).decode())


def run() -> None:
    """What the process runs."""
    run_command(PROGRAM, main)
