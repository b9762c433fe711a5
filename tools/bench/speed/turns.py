"""Timing in turns, so that a slow spell of the machine meets every row."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from uir.runtime.errors import UirError
from uir.tools.bench.metrics import Frame
from uir.tools.bench.speed.judge import Timed
from uir.tools.bench.speed.subject import Restore

TURNS = 5
TIMED = 2  # frames of each visit


def take_turns(
    frames: Sequence[Frame],
    restores: Mapping[str, Restore],
    judges: Mapping[str, Timed],
    seconds: float,
    between: Callable[[], object],
    done: Callable[[str], object],
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Time every row again and again: the rows in this process frame by frame in rounds, the judges once a turn.

    Each visit of a row begins with a frame that is not timed: threads of the row before it may still be spinning, and
    the caches hold that one's weights.

    Args:
        seconds: for all of it, rows alike; each row is visited in each turn at least, so it may take longer.
        between: called once a turn, while no row runs.
        done: called with what comes next, before each step: in each turn, the rounds, the judges and `between`.

    Returns:
        Seconds of each frame, and for a judge of each turn's median, by row; and why a row could not be timed.
    """
    times: dict[str, list[float]] = {name: [] for name in (*restores, *judges)}
    failures: dict[str, str] = {}
    share = seconds / max(1, len(times)) / TURNS
    for turn in range(TURNS):
        done("rounds")
        ends = time.perf_counter() + share * len(restores)
        while True:
            for name, restore in restores.items():
                times[name] += _visit(restore, frames, len(times[name]))
            if time.perf_counter() >= ends:
                break
        for name, judge in judges.items():
            done(name)
            if name in failures:
                continue
            try:
                times[name].append(judge(share))
            except UirError as error:
                failures[name] = str(error)
                del times[name]
        done(f"limits, turn {turn + 1} of {TURNS}")
        between()
    return times, failures


def _visit(restore: Restore, frames: Sequence[Frame], first: int) -> list[float]:
    times = []
    restore(frames[first % len(frames)])
    for index in range(first, first + TIMED):
        frame = frames[index % len(frames)]
        began = time.perf_counter()
        restore(frame)
        times.append(time.perf_counter() - began)
    return times
