"""What `uir-bench follow` found: how each segment was followed, in numbers, tables and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from uir.runtime.decision import Decision
from uir.runtime.follow import Moment
from uir.tools.bench.report import Table, median
from uir.tools.bench.weather import Segment

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


def judge(run: Run, segments: Sequence[Segment], rate: float) -> list[Followed]:
    """How each segment was followed; all are as long."""
    length = len(run.moments) // len(segments)
    served: dict[Decision, list[float]] = {}
    for moment, seconds in list(zip(run.moments, run.seconds, strict=True))[1:]:
        served.setdefault(moment.served, []).append(seconds)
    usual = {decision: median(each) for decision, each in served.items()}
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


def _first(right: Sequence[bool]) -> int | None:
    return right.index(True) if True in right else None


def following_table(followed: Sequence[Followed]) -> Table:
    """A row for each segment."""
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


def quality_table(
    found: Mapping[str, Sequence[float]], whole: Mapping[str, float], segments: Sequence[Segment]
) -> Table:
    """PSNR by composition: in each segment, and in all."""
    rows = [[name, *(f"{each:.2f}" for each in (*by, whole[name]))] for name, by in found.items()]
    return Table("PSNR, dB", ["composition", *map(str, segments), "all"], rows)


def notes_on(
    followed: Sequence[Followed], whole: Mapping[str, float], rate: float, left_out: Sequence[Segment]
) -> list[str]:
    """The gain, what was late or restless, and the longest stall, in words.

    Args:
        whole: PSNR over all segments, by composition, the follower's among them.
        left_out: segments that the router knows no adapters for.
    """
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
