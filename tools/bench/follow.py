"""Change the weather along a real video, and see how quickly the router follows and what that gains.

The footage goes on while its degradation changes, segment by segment: clean, rain, rain with haze, a noisy night, or
what --segments says. Each segment has its own seed and moves in time. A clip that is too short is played back and
forth. The frames are given to the follower in order, as fast as it takes them, and every fixed composition restores
them too: each adapter of the segments alone, their equal mixes, and none (clean: the frames untouched).

A change is followed at the first frame where the wanted composition has the segment's adapters and no others. PSNR is
that of the mean squared error over a segment's frames, or all. A stall is what a frame took above the median of the
frames that were served likewise; the very first frame, whose engine is waited for, does not count.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from tqdm import tqdm

from uir.runtime.atomic import check_destination
from uir.runtime.composition import Composition
from uir.runtime.decision import CLEAN, Decision
from uir.runtime.errors import UsageError
from uir.runtime.follow import Follower, FollowOptions, Moment, Sight
from uir.runtime.quantize import psnr, squared_error
from uir.runtime.restorer import Restorer
from uir.runtime.router import Router
from uir.runtime.trace import Trace, write_traces
from uir.tools.bench.follow_results import FOLLOWER, Run, following_table, judge, notes_on, quality_table
from uir.tools.bench.metrics import Frame
from uir.tools.bench.options import add_package_option, check_least
from uir.tools.bench.plots import check_plot, save_plot
from uir.tools.bench.report import Report
from uir.tools.bench.trace import TracedFile, draw_trace
from uir.tools.bench.weather import DEFAULT, Segment, degraded, parse_segments, read_clip


def add_options(command: argparse.ArgumentParser) -> None:
    """The benchmark's options."""
    add = command.add_argument
    add_package_option(command)
    add("--video", type=Path, required=True, metavar="CLIP", help="clean footage, which no adapter was trained on")
    add("--segments", metavar="A=S+B=S,...", help="default: " + ",".join(map(_written, DEFAULT)))
    add("--seconds", type=float, default=3.0, metavar="S", help="of each segment (default: %(default)g)")
    add(
        "--max-side",
        type=int,
        default=640,
        metavar="PIXELS",
        help="reduce larger frames to this (default: %(default)s)",
    )
    add("--every", type=int, default=FollowOptions.every, metavar="N", help="as uir-run has it (default: %(default)s)")
    add("--stride", type=int, default=4, metavar="N", help="compare each Nth frame (default: %(default)s)")
    add("--seed", type=int, default=0, help="fixes everything random (default: %(default)s)")
    add("--trace", type=Path, metavar="FILE", help="also write what was seen and done, as uir-run --trace does")
    add("--plot", type=Path, metavar="FILE.png", help="also draw it, as uir-bench trace does, with the real changes")


def measure(options: argparse.Namespace) -> Report:
    """Run the benchmark.

    Raises:
        UirError: the options make no sense, the package has no router or lacks an adapter, the video cannot be read,
            or an output cannot be written.
        ModuleNotFoundError: a plot is wanted and matplotlib missing.
    """
    _check(options)
    asked = None if options.segments is None else parse_segments(options.segments)
    restorer = Restorer(options.package)
    router = Router(restorer.package)
    segments, left_out = _segments(asked, router.adapters, options.package)
    clean, rate = read_clip(options.video, options.seconds, len(segments), options.max_side)
    length = len(clean) // len(segments)
    if options.stride > length:
        raise UsageError(f"--stride {options.stride}: a segment has {length} frames; give at most so many")
    chosen = range(0, len(clean), options.stride)
    fixed = fixed_decisions(segments)
    with tqdm(total=2 * len(clean) + len(fixed) * len(chosen), unit="frame", disable=None) as bar:
        frames = []
        for frame in degraded(clean, rate, segments, options.seed):
            frames.append(frame)
            bar.update()
        run = follow(restorer, router, FollowOptions(options.every), clean, frames, rate, chosen, bar.update)
        errors = {FOLLOWER: run.errors}
        for decision in fixed:
            bar.set_postfix_str(decision.key)
            errors[decision.key] = fixed_errors(restorer, decision, clean, frames, chosen, bar.update)
    trace = Trace(str(options.video), restorer.describe())
    for moment in run.moments:
        trace.add(moment)
    if options.trace:
        write_traces(options.trace, [trace], overwrite=options.overwrite)
    followed = judge(run, segments, rate)
    if options.plot:
        truth = [(each.begins, each.segment) for each in followed]
        figure = draw_trace(msgspec.convert(trace.plain(), TracedFile), truth)
        save_plot(options.plot, figure, overwrite=options.overwrite)
    found = {name: [psnr(each) for each in _means(by_frame, length)] for name, by_frame in errors.items()}
    whole = {name: psnr(math.fsum(by_frame.values()) / len(by_frame)) for name, by_frame in errors.items()}
    settings = {
        "package": str(options.package),
        "engine": restorer.describe(),
        "video": str(options.video),
        "size": [clean[0].shape[1], clean[0].shape[0]],
        "rate": rate,
        "segments": [_written(segment) for segment in segments],
        "seconds": options.seconds,
        "every": options.every,
        "stride": options.stride,
        "seed": options.seed,
    }
    results = {
        "frames": {"in": len(frames), "out": len(run.seconds)},
        "segments": followed,
        "psnr": {name: {"segments": found[name], "all": whole[name]} for name in errors},
    }
    notes = notes_on(followed, whole, rate, left_out)
    notes.append(f"Frames in and out: {len(frames)} and {len(run.seconds)}; each {options.stride}th is compared.")
    return Report(settings, results, [following_table(followed), quality_table(found, whole, segments)], notes)


def follow(
    restorer: Restorer,
    sight: Sight,
    options: FollowOptions,
    clean: Sequence[Frame],
    frames: Sequence[Frame],
    rate: float,
    compared: range,
    done: Callable[[], object],
) -> Run:
    """Give all frames to a follower, in order, and compare some of what comes out with the clean ones."""
    moments: list[Moment] = []
    seconds: list[float] = []
    errors: dict[int, float] = {}
    follower = Follower(restorer, sight, options, moments.append)
    for index, frame in enumerate(frames):
        began = time.perf_counter()
        restored = follower(frame, index / rate)
        seconds.append(time.perf_counter() - began)
        if index in compared:
            errors[index] = squared_error(clean[index], restored)
        done()
    return Run(moments, seconds, errors)


def fixed_decisions(segments: Sequence[Segment]) -> list[Decision]:
    """None, each adapter of the segments alone, and the equal mix of each segment that needs several."""
    names = dict.fromkeys(name for segment in segments for name in segment.severities)
    sets = [[name] for name in names] + [segment.adapters for segment in segments if len(segment.adapters) > 1]
    return list(dict.fromkeys([CLEAN, *(Decision(Composition.equal_mix(names)) for names in sets)]))


def fixed_errors(
    restorer: Restorer,
    decision: Decision,
    clean: Sequence[Frame],
    frames: Sequence[Frame],
    compared: range,
    done: Callable[[], object],
) -> dict[int, float]:
    """The mean squared errors of some frames with which one and the same is done."""
    errors = {}
    for index in compared:
        errors[index] = squared_error(clean[index], restorer(frames[index], decision))
        done()
    return errors


def _check(options: argparse.Namespace) -> None:
    for name, least in (("max_side", 16), ("every", 1), ("stride", 1), ("seed", 0)):
        check_least(options, name, least)
    if not 0 < options.seconds < math.inf:  # NaN neither
        raise UsageError(f"--seconds {options.seconds:g}: must be more than 0")
    if options.trace:
        check_destination(options.trace, overwrite=options.overwrite)
    if options.plot:
        check_plot(options.plot, overwrite=options.overwrite)


def _segments(
    asked: Sequence[Segment] | None, adapters: Sequence[str], package: Path
) -> tuple[list[Segment], list[Segment]]:
    """The segments that a package's adapters can restore, and those of the usual ones that are left out."""
    lacking = [segment for segment in asked or DEFAULT if not set(segment.adapters) <= set(adapters)]
    there = [segment for segment in asked or DEFAULT if segment not in lacking]
    if asked and lacking:
        raise UsageError(f"{package}: its router knows {', '.join(adapters) or 'no adapter'}; leave out {lacking[0]}")
    if len(there) < 2:
        raise UsageError(f"{package}: nothing changes with fewer than two segments; give others by --segments")
    return there, lacking


def _written(segment: Segment) -> str:
    return "+".join(f"{name}={severity:g}" for name, severity in segment.severities.items()) or str(segment)


def _means(by_frame: Mapping[int, float], length: int) -> list[float]:
    """The mean of each segment."""
    groups: dict[int, list[float]] = {}
    for index, error in by_frame.items():
        groups.setdefault(index // length, []).append(error)
    return [math.fsum(each) / len(each) for each in groups.values()]
