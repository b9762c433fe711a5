"""Time uir-run on whole videos, beside its engine alone and beside what bounds it, and see how much memory it takes.

A moving video of each size is made in a temporary folder and restored by uir-run in a process of its own: decoding,
restoring and encoding, at the speed that the command itself reports, which leaves its start out. The engine alone
restores one frame over and over, as many of them at once as the command gives it. The two take turns, so that a slow
spell of the machine meets both. What each stage costs by itself, in time of the processors, says what all of them
together can reach.

How soon the first frame is there, a run over a video's first frame alone tells: from the command's start to its end,
once where no engine is on disk and once where there is one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from tqdm import tqdm

from uir.runtime.backends.devices import DEVICES
from uir.runtime.disk_cache import VARIABLE
from uir.runtime.errors import UsageError
from uir.runtime.package import Package
from uir.runtime.restorer import Restorer
from uir.tools.bench.media import RATE, texture, view, write_still, write_video
from uir.tools.bench.metrics import Frame
from uir.tools.bench.options import Size, add_package_option, frame_size
from uir.tools.bench.processes import Finished, run_watched
from uir.tools.bench.report import Report, Table, median
from uir.tools.bench.stages import StageCosts, engine_speed, media_costs
from uir.tools.photos import read_photo
from uir.tools.processor import usable_cores
from uir.tools.scratch import scratch_folder

MIB = 2**20
MAX_PHOTO = 4096  # pixels, of a side


@dataclass(frozen=True)
class VideoResult:
    """One size of video; medians over the turns.

    Attributes:
        fps: frames per second of uir-run, from its first frame to the closed file.
        engine_fps: frames per second of the restorer alone.
        ratio: the first by the second.
        costs: what each stage costs by itself.
        bound: frames per second that the stages allow on this machine.
        first_frame: seconds of the whole command on a video's first frame.
        first_build: the same where the engine is not on disk yet.
        seconds: of the whole command, its start included.
        peak_bytes: resident memory of the command.
    """

    frames: int
    fps: float
    engine_fps: float
    ratio: float
    costs: StageCosts
    bound: float
    first_frame: float
    first_build: float
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class StillResult:
    """One still picture: seconds of the whole command, and its peak resident memory."""

    seconds: float
    peak_bytes: int


def add_options(command: argparse.ArgumentParser) -> None:
    """The benchmark's options."""
    add_package_option(command)
    command.add_argument("--device", choices=DEVICES, help="default: $UIR_DEVICE, or else auto")
    command.add_argument(
        "--sizes", type=_sizes, default=[(640, 360), (1920, 1080)], metavar="WxH,WxH", help="default: 640x360,1920x1080"
    )
    command.add_argument("--seconds", type=float, default=3.0, metavar="N", help="of video (default: %(default)g)")
    command.add_argument("--turns", type=int, default=3, metavar="N", help="of each median (default: %(default)s)")
    command.add_argument("--photo", type=Path, metavar="FILE", help="pan over this photo (default: a made-up texture)")
    command.add_argument(
        "--still",
        type=_sizes,
        nargs="?",
        const="7680x4320",
        metavar="WxH",
        help="also a still picture, 8K if no size is named",
    )


def _sizes(text: str) -> list[Size]:
    return [frame_size(part) for part in text.split(",")]


def measure(options: argparse.Namespace) -> Report:
    """Run the benchmark.

    Raises:
        UirError: the options make no sense, the package or the photo cannot be read, or uir-run fails.
    """
    if options.turns < 1:
        raise UsageError(f"--turns {options.turns}: must be 1 or more")
    frames = round(options.seconds * RATE)
    if frames < 1:
        raise UsageError(f"--seconds {options.seconds:g}: too short; a second is {RATE} frames")
    restorer = Restorer(Package(options.package), device=options.device, throughput=True)  # as uir-run
    picture = read_photo(options.photo, MAX_PHOTO) if options.photo else texture()
    videos: dict[str, VideoResult] = {}
    stills: dict[str, StillResult] = {}
    with (
        scratch_folder() as temporary,
        tqdm(total=(options.turns * (len(options.sizes) + len(options.still or []))), unit="turn", disable=None) as bar,
    ):
        folder = Path(temporary)
        for width, height in options.sizes:
            bar.set_postfix_str(f"{width}x{height}")
            source = folder / f"{width}x{height}.mp4"
            write_video(source, picture, width, height, frames)
            frame = view(picture, width, height)
            videos[source.stem] = _measure_video(options, restorer, source, frame, bar.update)
        for width, height in options.still or []:
            bar.set_postfix_str(f"{width}x{height} still")
            source = folder / f"{width}x{height}.png"
            write_still(source, picture, width, height)
            stills[source.stem] = _measure_still(options, source, bar.update)
    settings = {
        "package": str(options.package),
        "composition": restorer.composition.key,
        "engine": restorer.describe(),
        "seconds": options.seconds,
        "rate": RATE,
        "turns": options.turns,
        "photo": options.photo.name if options.photo else None,
    }
    return Report(settings, {"videos": videos, "stills": stills}, _tables(videos, stills, options.turns))


def _measure_video(
    options: argparse.Namespace, restorer: Restorer, source: Path, frame: Frame, done: Callable[[], object]
) -> VideoResult:
    restorer.expect(*frame.shape[:2])
    restorer(frame)  # the first run lays out its memory
    runs: list[Finished] = []
    builds: list[float] = []
    starts: list[float] = []
    speeds: list[float] = []
    engine: list[float] = []
    costs: list[StageCosts] = []
    for turn in range(options.turns):
        engines = {VARIABLE: str(source.with_suffix(f".engines{turn}"))}
        one = ["--duration", f"{0.9 / RATE:g}"]
        builds.append(_uir_run(options, source, engines, *one).seconds)
        starts.append(_uir_run(options, source, engines, *one).seconds)
        run = _uir_run(options, source, engines)
        report = json.loads(run.output)[0]
        runs.append(run)
        speeds.append(report["frames"] / report["seconds"])
        alone, busy = engine_speed(restorer, frame)
        engine.append(alone)
        costs.append(StageCosts(engine=busy, **media_costs(source, source.with_stem("copied"))))
        done()
    fps, engine_fps = median(speeds), median(engine)
    cost = StageCosts(*(median([getattr(each, part.name) for each in costs]) for part in fields(StageCosts)))
    return VideoResult(
        frames=report["frames"],
        fps=fps,
        engine_fps=engine_fps,
        ratio=fps / engine_fps,
        costs=cost,
        bound=cost.bound(engine_fps),
        first_frame=median(starts),
        first_build=median(builds),
        seconds=median([run.seconds for run in runs]),
        peak_bytes=round(median([run.peak_bytes for run in runs])),
    )


def _measure_still(options: argparse.Namespace, source: Path, done: Callable[[], object]) -> StillResult:
    runs = []
    for _ in range(options.turns):
        runs.append(_uir_run(options, source, {}))
        done()
    return StillResult(median([run.seconds for run in runs]), round(median([run.peak_bytes for run in runs])))


def _uir_run(options: argparse.Namespace, source: Path, variables: Mapping[str, str], *more: str) -> Finished:
    composition = Package(options.package).manifest.default  # as the engine beside it has
    line = [str(source), "-o", str(source.with_stem("restored")), "--overwrite", "--package", str(options.package)]
    device = ["--device", options.device] if options.device else []
    return run_watched("uir.runtime.cli", [*line, *device, "--compose", composition, "--json", *more], variables)


def _tables(videos: Mapping[str, VideoResult], stills: Mapping[str, StillResult], turns: int) -> list[Table]:
    cores = usable_cores()
    rows = [
        [
            size,
            str(v.frames),
            f"{v.fps:.2f}",
            f"{v.engine_fps:.2f}",
            f"{v.ratio:.2f}",
            f"{v.bound:.2f}",
            f"{v.fps / v.bound:.2f}",
            f"{v.first_frame:.2f}",
            f"{v.first_build:.2f}",
            _mib(v.peak_bytes),
        ]
        for size, v in videos.items()
    ]
    columns = ["video", "frames", "uir-run fps", "engine fps", "ratio", "bound fps", "ratio"]
    columns += ["first frame s", "with build s", "peak MiB"]
    tables = [Table(f"uir-run on videos beside its engine alone, medians of {turns} turns", columns, rows)]
    rows = [
        [size, *(f"{seconds * 1e3:.1f}" for seconds in (v.costs.read, v.costs.engine, v.costs.write, v.costs.sum))]
        for size, v in videos.items()
    ]
    columns = ["video", "read", "engine", "write", "sum"]
    tables.append(
        Table(f"Stages alone, milliseconds of processor time a frame; there are {cores} cores", columns, rows)
    )
    if stills:
        rows = [[size, f"{s.seconds:.1f}", _mib(s.peak_bytes)] for size, s in stills.items()]
        columns = ["still", "command s", "peak MiB"]
        tables.append(Table(f"uir-run on still pictures, medians of {turns} turns", columns, rows))
    return tables


def _mib(size: int) -> str:
    return f"{size / MIB:.0f}"
