"""The points of `uir-bench scaling`: what each restores, and how its process is run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from uir.runtime.composition import DECIMALS, Composition
from uir.runtime.disk_cache import VARIABLE
from uir.runtime.errors import UsageError
from uir.runtime.framing import Framing
from uir.runtime.manifest import FrameContract
from uir.tools.bench.media import texture, view
from uir.tools.bench.options import Size
from uir.tools.bench.processes import run_watched
from uir.tools.bench.scaling_results import BY_BATCH, BY_COMPOSITIONS, BY_PIXELS, Point
from uir.tools.bench.scaling_worker import Task, Timed

WORKER = "uir.tools.bench.scaling_worker"


@dataclass(frozen=True)
class Work:
    """What one process restores: frames given at once, with each composition in turn."""

    label: str
    amount: float
    size: Size
    compositions: Sequence[Composition]
    frames: int = 1


@dataclass(frozen=True)
class Settings:
    """What all processes have alike.

    Attributes:
        memory_limit: of the network's activations, bytes.
        seconds: of timing.
    """

    package: Path
    device: str | None
    memory_limit: int
    seconds: float


def plan_works(
    composition: Composition, sizes: Sequence[Size], mixes: Sequence[int], batches: Sequence[int], small: Size
) -> dict[str, list[Work]]:
    """What is to be measured, by what grows: `BY_PIXELS` and the others.

    Args:
        mixes, batches: numbers of compositions and of frames.
        small: the size of their frames.

    Raises:
        UsageError: the composition is the base alone.
    """
    beside = _beside(composition, max(mixes))
    return {
        BY_PIXELS: [Work(f"{w}x{h}", w * h / 1e6, (w, h), [composition]) for w, h in sizes],
        BY_COMPOSITIONS: [
            Work(f"{count} composition" + "s" * (count > 1), count, small, beside[:count]) for count in mixes
        ],
        BY_BATCH: [Work(f"{count} at once", count, small, [composition], count) for count in batches],
    }


def _beside(composition: Composition, count: int) -> list[Composition]:
    """Compositions just beside one, each of which costs what it does.

    It is not among them: it may have int8 ranges, which they have not.
    """
    if not composition.items:
        raise UsageError("base: has no adapter that could be weighed otherwise; name one, such as --compose rain")
    name, weight = max(composition.items, key=lambda item: item[1])
    steps = (weight + step * 10**-DECIMALS for step in range(1, count + 1))
    return [Composition.of({**composition.weights, name: step}) for step in steps]


@contextmanager
def engines_kept_in(folder: Path) -> Iterator[None]:
    """Keep engines on disk there, in this process and those that it starts: the user's own are left alone."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def measure_point(settings: Settings, contract: FrameContract, work: Work, folder: Path) -> Point:
    """Run the process of one point.

    Args:
        contract: the package's.
        folder: for what the process reads.

    Raises:
        UirError: the process fails.
    """
    width, height = work.size
    frames, task = folder / "frames.npy", folder / f"{work.label.replace(' ', '-')}.json"
    picture = texture()  # made and written here: making it takes memory too
    batch = np.stack([view(picture, width, height, index) for index in range(work.frames)])
    np.save(frames, batch if work.frames > 1 else batch[0])
    keys = [composition.key for composition in work.compositions]
    given = Task(str(settings.package), settings.device, settings.memory_limit, keys, str(frames), settings.seconds)
    task.write_bytes(msgspec.json.encode(given))
    run = run_watched(WORKER, [str(task)])
    timed = msgspec.json.decode(run.output, type=Timed)
    framing = Framing(contract, int(settings.memory_limit / contract.bytes_per_pixel), static=False)
    grid = framing.grid(height, width, alone=True)
    return Point(
        label=work.label,
        amount=work.amount,
        size=work.size,
        compositions=len(keys),
        frames=work.frames,
        tiles=(grid.rows, grid.columns),
        computed=grid.pixels / (width * height),
        apart=work.frames > 1 and work.frames * grid.pixels > framing.max_pixels,
        seconds=timed.seconds,
        switch=timed.switch,
        samples=timed.samples,
        held=timed.held,
        counted=timed.counted,
        precision=timed.precision,
        peak_bytes=run.peak_bytes,
    )
