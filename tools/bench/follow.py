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
from dataclasses import dataclass
from pathlib import Path

import msgspec
from tqdm import tqdm

from uir.runtime.atomic import check_destination
from uir.runtime.composition import Composition
from uir.runtime.errors import UsageError
from uir.runtime.follow import Follower, FollowOptions, Moment, Sight, shown
from uir.runtime.quantize import psnr, squared_error
from uir.runtime.restorer import Restorer
from uir.runtime.router import Router
from uir.runtime.trace import Trace, write_traces
from uir.tools.bench.metrics import Frame
from uir.tools.bench.options import add_package_option, check_least
from uir.tools.bench.plots import check_plot, save_plot
from uir.tools.bench.report import Report, Table, median
from uir.tools.bench.trace import TracedFile, draw_trace
from uir.tools.bench.weather import DEFAULT, Segment, degraded, parse_segments, read_clip

FOLLOWER = "follower"

LATE = 0.5  # seconds: what is followed within them, few viewers will notice


@dataclass(frozen=True)
class Run:
    """What a follower did, frame by frame.

    Attributes:
        seconds: that each frame took.
        errors: mean squared errors against the clean frames, by the number of the frame, where they were compared.
    """

    moments: Sequence[Moment]
    seconds: Sequence[float]
    errors: Mapping[int, float]


@dataclass(frozen=True)
class Followed:
    """How one segment was followed.

    Attributes:
        begins: seconds.
        delay: frames until the decision was right, None where it never was; `delay_seconds` is their time.
        served: frames until what was right restored them.
        changes: decisions that changed in it; the first of all is none.
        right: share of its frames whose decision was right.
        usual, longest: seconds of a frame: the median, and the longest but for the very first.
        stall: seconds that a frame took at most above what is usual for those that are served likewise.
    """

    segment: str
    begins: float
    frames: int
    delay: int | None
    delay_seconds: float | None
    served: int | None
    changes: int
    right: float
    usual: float
    longest: float
    stall: float


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
    restorer = Restorer(options.package, Composition())
    router = Router(restorer.package)
    segments, left_out = _segments(asked, router.adapters, options.package)
    clean, rate = read_clip(options.video, options.seconds, len(segments), options.max_side)
    length = len(clean) // len(segments)
    if options.stride > length:
        raise UsageError(f"--stride {options.stride}: a segment has {length} frames; give at most so many")
    chosen = range(0, len(clean), options.stride)
    fixed = fixed_compositions(segments)
    with tqdm(total=2 * len(clean) + len(fixed) * len(chosen), unit="frame", disable=None) as bar:
        frames = []
        for frame in degraded(clean, rate, segments, options.seed):
            frames.append(frame)
            bar.update()
        run = follow(restorer, router, FollowOptions(options.every), clean, frames, rate, chosen, bar.update)
        errors = {FOLLOWER: run.errors}
        for composition in fixed:
            bar.set_postfix_str(shown(composition))
            errors[shown(composition)] = fixed_errors(restorer, composition, clean, frames, chosen, bar.update)
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
    notes = _notes(followed, whole, rate, left_out)
    notes.append(f"Frames in and out: {len(frames)} and {len(run.seconds)}; each {options.stride}th is compared.")
    return Report(settings, results, [_following(followed), _qualities(found, whole, segments)], notes)


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


def fixed_compositions(segments: Sequence[Segment]) -> list[Composition]:
    """None, each adapter of the segments alone, and the equal mix of each segment that needs several."""
    names = dict.fromkeys(name for segment in segments for name in segment.severities)
    sets = [[name] for name in names] + [segment.adapters for segment in segments if len(segment.adapters) > 1]
    return list(dict.fromkeys([Composition(), *map(Composition.equal_mix, sets)]))


def fixed_errors(
    restorer: Restorer,
    composition: Composition,
    clean: Sequence[Frame],
    frames: Sequence[Frame],
    compared: range,
    done: Callable[[], object],
) -> dict[int, float]:
    """The mean squared errors of some frames restored by one composition; the empty one leaves them untouched."""
    if composition.items:
        restorer.compose(composition)
    errors = {}
    for index in compared:
        restored = restorer(frames[index]) if composition.items else frames[index]
        errors[index] = squared_error(clean[index], restored)
        done()
    return errors


def judge(run: Run, segments: Sequence[Segment], rate: float) -> list[Followed]:
    """How each segment was followed; all are as long."""
    length = len(run.moments) // len(segments)
    served: dict[Composition, list[float]] = {}
    for moment, seconds in list(zip(run.moments, run.seconds, strict=True))[1:]:
        served.setdefault(moment.served, []).append(seconds)
    usual = {composition: median(each) for composition, each in served.items()}
    found = []
    for place, segment in enumerate(segments):
        begin, end = place * length, (place + 1) * length
        moments, counted = run.moments[begin:end], range(max(1, begin), end)
        right = [list(moment.wanted.weights) == segment.adapters for moment in moments]
        delay = _first(right)
        changes = sum(run.moments[i].wanted != run.moments[i - 1].wanted for i in counted)
        times = [run.seconds[i] for i in counted]
        found.append(
            Followed(
                segment=str(segment),
                begins=begin / rate,
                frames=length,
                delay=delay,
                delay_seconds=None if delay is None else delay / rate,
                served=_first([list(moment.served.weights) == segment.adapters for moment in moments]),
                changes=changes,
                right=sum(right) / length,
                usual=median(times),
                longest=max(times),
                stall=max(run.seconds[i] - usual[run.moments[i].served] for i in counted),
            )
        )
    return found


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


def _first(right: Sequence[bool]) -> int | None:
    return right.index(True) if True in right else None


def _means(by_frame: Mapping[int, float], length: int) -> list[float]:
    """The mean of each segment."""
    groups: dict[int, list[float]] = {}
    for index, error in by_frame.items():
        groups.setdefault(index // length, []).append(error)
    return [math.fsum(each) / len(each) for each in groups.values()]


def _written(segment: Segment) -> str:
    return "+".join(f"{name}={severity:g}" for name, severity in segment.severities.items()) or str(segment)


def _following(followed: Sequence[Followed]) -> Table:
    columns = [
        "segment",
        "from s",
        "after frames",
        "after s",
        "served after",
        "changes",
        "right",
        "ms",
        "longest",
        "stall",
    ]
    rows = [
        [
            each.segment,
            f"{each.begins:.2f}",
            "never" if each.delay is None else str(each.delay),
            "-" if each.delay_seconds is None else f"{each.delay_seconds:.2f}",
            "never" if each.served is None else str(each.served),
            str(each.changes),
            f"{each.right:.0%}",
            *(f"{seconds * 1e3:.1f}" for seconds in (each.usual, each.longest, each.stall)),
        ]
        for each in followed
    ]
    return Table("How the changes were followed", columns, rows)


def _qualities(found: Mapping[str, Sequence[float]], whole: Mapping[str, float], segments: Sequence[Segment]) -> Table:
    rows = [[name, *(f"{each:.2f}" for each in (*by, whole[name]))] for name, by in found.items()]
    return Table("PSNR, dB", ["composition", *map(str, segments), "all"], rows)


def _notes(
    followed: Sequence[Followed], whole: Mapping[str, float], rate: float, left_out: Sequence[Segment]
) -> list[str]:
    fixed = {name: value for name, value in whole.items() if name != FOLLOWER}
    best = max(fixed, key=lambda name: fixed[name])
    gain = whole[FOLLOWER] - fixed[best]
    late = [each.segment for each in followed if each.delay_seconds is None or each.delay_seconds > LATE]
    restless = [each.segment for place, each in enumerate(followed) if each.changes > bool(place)]
    longest = max(followed, key=lambda each: each.stall)
    notes = [
        f"The best fixed composition is {best}, {whole[best]:.2f} dB; following is {gain:+.2f} dB beside it.",
        f"Followed later than {LATE} s, or never: {', '.join(late) or 'none'}. More decisions than real changes: "
        f"{', '.join(restless) or 'none'}.",
        f"The longest stall took {longest.stall * 1e3:.1f} ms ({longest.segment}); a frame of the video lasts "
        f"{1e3 / rate:.1f} ms.",
    ]
    if left_out:
        notes.append(f"Left out, for want of adapters that the router knows: {', '.join(map(str, left_out))}.")
    return notes
