"""See what restoring costs as the work grows: pixels of a frame, compositions in use, frames given at once.

Each row is measured in a process of its own: its peak is of resident memory, in which a GPU's own does not count.
Frames show a made-up texture. What grows:

  pixels        one frame of each of --sizes. What is beyond --memory-limit is restored in tiles, whose overlaps are
                computed twice.
  compositions  so many mixes, just beside the one that is measured, switched among from frame to frame. Engines are
                kept in memory up to a budget; beyond it, each switch makes one or reads it from disk.
  batch         so many frames given in one call; what is beyond --memory-limit is restored one by one.

Engines that the device keeps on disk are built before, in a temporary folder. The first call for each composition is
not timed. The lines are those of least squares: an R^2 of 1 is a straight one, and nothing where nothing grows.

examples:
  uir-bench scaling --package restore.uir --plot scaling.png
  uir-bench scaling --device cpu --sizes 640x360,1920x1080 --compositions 1,2,4 --batches 1,2 --json scaling.json
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from uir.runtime.backends.devices import DEVICES
from uir.runtime.composition import Composition
from uir.runtime.errors import UsageError
from uir.runtime.package import Package
from uir.runtime.restorer import DEFAULT_MEMORY_LIMIT, Restorer
from uir.tools.bench.options import Size, add_package_option, check_least, frame_size
from uir.tools.bench.plots import check_plot
from uir.tools.bench.report import Report
from uir.tools.bench.scaling_points import Settings, Work, engines_kept_in, measure_point, plan_works
from uir.tools.bench.scaling_results import GROWTHS, MIB, Point, lines, tables, write_plot
from uir.tools.scratch import scratch_folder

SIZES = "640x360,1280x720,1920x1080,3840x2160,7680x4320"
SMALL = "320x180"
COMPOSITIONS = "1,2,4,8,16,32,64,96,128"
BATCHES = "1,2,4,8"
MOST = 1024


def add_options(command: argparse.ArgumentParser) -> None:
    """The benchmark's options."""
    add_package_option(command)
    add = command.add_argument
    add("--compose", metavar="A=W,B=W", help="the composition (default: the package's)")
    add("--device", choices=DEVICES, help="default: $UIR_DEVICE, or else auto: the first that can be used")
    add(
        "--memory-limit",
        type=int,
        default=DEFAULT_MEMORY_LIMIT // MIB,
        metavar="MIB",
        help="for the network's activations, as uir-run has it (default: %(default)s)",
    )
    add("--sizes", type=_sizes, default=SIZES, metavar="WxH,WxH", help="default: %(default)s")
    add("--compositions", type=_counts, default=COMPOSITIONS, metavar="N,N", help="default: %(default)s")
    add("--batches", type=_counts, default=BATCHES, metavar="N,N", help="default: %(default)s")
    add("--size", type=frame_size, default=SMALL, metavar="WxH", help="of these two's frames (default: %(default)s)")
    add("--seconds", type=float, default=3.0, metavar="S", help="of timing, for each row (default: %(default)g)")
    add("--plot", type=Path, metavar="FILE.png", help="also draw it")


def _sizes(text: str) -> list[Size]:
    return [frame_size(part) for part in text.split(",")]


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or not all(1 <= count <= MOST for count in counts):
        raise argparse.ArgumentTypeError(f"{text!r}: write whole numbers from 1 to {MOST}, such as 1,2,4")
    return counts


def measure(options: argparse.Namespace) -> Report:
    """Run the benchmark.

    Raises:
        UirError: the options make no sense, the package cannot be read, the device cannot be used, a process fails, or
            the plot cannot be written.
        ModuleNotFoundError: psutil is missing, or matplotlib where a plot is wanted.
    """
    import psutil  # noqa: F401 - watches the processes, and is better missed now

    if not 0 < options.seconds < math.inf:  # NaN neither
        raise UsageError(f"--seconds {options.seconds:g}: must be more than 0")
    check_least(options, "memory_limit", 1)
    if options.plot:
        check_plot(options.plot, overwrite=options.overwrite)
    package = Package(options.package)
    composition = Composition.parse(options.compose or package.manifest.default)
    composition.check_names(package.manifest.adapters)
    settings = Settings(options.package, options.device, options.memory_limit * MIB, options.seconds)
    works = plan_works(composition, options.sizes, options.compositions, options.batches, options.size)
    with scratch_folder() as temporary:
        folder = Path(temporary)
        with engines_kept_in(folder / "engines"):
            engine = _build_engines(package, settings, [work for part in works.values() for work in part])
            found = _measure_all(package, settings, works, folder)
    title = f"{composition.key}, {engine}"
    if options.plot:
        write_plot(options.plot, title, found, overwrite=options.overwrite)
    about = {
        "package": str(options.package),
        "composition": composition.key,
        "engine": engine,
        "memory_limit": settings.memory_limit,
        "seconds": options.seconds,
    }
    results = {name: {"points": points, "lines": lines(name, points)} for name, points in found.items()}
    return Report(about, results, tables(found), _notes(title, found))


def _build_engines(package: Package, settings: Settings, works: Sequence[Work]) -> str:
    """Build those that the device keeps on disk: no row's memory is to be that of building. The device, in words."""
    first = works[0].compositions[0]
    restorer = Restorer(package, first, device=settings.device, memory_limit=settings.memory_limit)
    if restorer.durable:
        engines = dict.fromkeys((work.size, each) for work in works for each in work.compositions)
        for (width, height), composition in tqdm(engines, unit="engine", delay=2, disable=None):
            restorer.expect(height, width)
            restorer.compose(composition)
    return restorer.describe()


def _measure_all(
    package: Package, settings: Settings, works: dict[str, list[Work]], folder: Path
) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    with tqdm(total=sum(map(len, works.values())), unit="row", delay=2, disable=None) as bar:
        for name, part in works.items():
            for work in part:
                bar.set_postfix_str(work.label)
                point = measure_point(settings, package.manifest.frame, work, folder)
                found.setdefault(name, []).append(point)
                bar.update()
    return found


def _notes(title: str, found: dict[str, list[Point]]) -> list[str]:
    size = "x".join(map(str, found["compositions"][0].size))
    precisions = ", ".join(f"{GROWTHS[name].title} in {points[-1].precision}" for name, points in found.items())
    return [
        f"{title}. Restored: {precisions}.",
        f"Frames of compositions and batches are {size}. The frames themselves, spoilt and restored, are part of the "
        "memory. Of it, engines MiB is what those in memory are counted with, which the budget bounds.",
    ]
