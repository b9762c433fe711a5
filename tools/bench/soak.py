"""Change the composition each second for a long time, and see that memory, threads and open files stay what they are.

Streams of each of --sizes follow one another for ten seconds each, or less where the time is short. Their frames show a
made-up texture and are restored as fast as they can be; the router looks at each, but what it sees is drawn anew each
second: one to three adapters, by weights on the router's lattice. So engines are made and given up all the time, once
the budget for them ($UIR_MEMORY) is full.

The first third of the time is to warm up. The median of the last third may not be more than that of the second: 5% of
memory and of threads are allowed, and two threads and two files. The command fails (exit status 1) where it is.

examples:
  UIR_MEMORY=256MiB uir-bench soak --package restore.uir
  uir-bench soak --package restore.uir --device cpu --time 2h --json soak.json
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from uir.runtime.backends.devices import DEVICES
from uir.runtime.composition import Composition
from uir.runtime.decision import CLEAN_NAME, Decision
from uir.runtime.follow import Follower, FollowOptions, Moment
from uir.runtime.memory import memory_budget
from uir.runtime.restorer import Restorer
from uir.runtime.router import Router
from uir.tools.bench.media import texture, view
from uir.tools.bench.metrics import Frame
from uir.tools.bench.options import Size, add_package_option, frame_size
from uir.tools.bench.report import Report, Table, median

MIB = 2**20
SIZES = "176x144,320x180,640x360"
UNITS = {"s": 1, "m": 60, "h": 3600}
CHANGE, STREAM = 1.0, 10.0
"""Seconds of a composition, and of a stream."""
SAMPLES = 1000
GROWTH = 0.05


@dataclass(frozen=True)
class Sample:
    """The process at one moment.

    Attributes:
        seconds: since the first frame.
        resident: memory, bytes.
        counted: what the engines in memory say that they take, bytes.
        threads, files: how many; files are handles on Windows.
    """

    seconds: float
    resident: int
    counted: int
    threads: int
    files: int


def add_options(command: argparse.ArgumentParser) -> None:
    """The benchmark's options."""
    add_package_option(command)
    add = command.add_argument
    add("--device", choices=DEVICES, help="default: $UIR_DEVICE, or else auto: the first that can be used")
    add("--time", type=_seconds, default="3m", metavar="T", help="such as 90s, 3m or 2h (default: %(default)s)")
    add("--sizes", type=_sizes, default=SIZES, metavar="WxH,WxH", help="default: %(default)s")
    add("--seed", type=int, default=0, help="fixes what is drawn (default: %(default)s)")


def _sizes(text: str) -> list[Size]:
    return [frame_size(part) for part in text.split(",")]


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
    if seconds < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: write a time of a second or more as 90s, 3m or 2h")
    return seconds


class Weather:
    """Looks as a router does, sees what is drawn, and weighs as the router does."""

    def __init__(self, router: Router, seed: int) -> None:
        self._router, self._rng = router, np.random.default_rng(seed)
        self.change()

    def change(self) -> None:
        """Draw what is seen from now on."""
        names = self._router.adapters
        chosen = self._rng.choice(names, self._rng.integers(1, min(3, len(names)), endpoint=True), replace=False)
        self._seen = dict.fromkeys([*names, CLEAN_NAME], 0.0) | {
            str(name): self._rng.uniform(0.4, 1) for name in chosen
        }

    def look(self, frame: Frame) -> dict[str, float]:
        """What was drawn; the router's own answer is thrown away."""
        self._router.look(frame)
        return dict(self._seen)

    def weigh(self, similarities: Mapping[str, float]) -> Decision:
        """As the router does."""
        return self._router.weigh(similarities)


def measure(options: argparse.Namespace) -> Report:
    """Run the benchmark.

    Raises:
        UirError: the package cannot be read or has no router, the device cannot be used, or an engine fails.
        ModuleNotFoundError: psutil is missing.
    """
    import psutil

    process = psutil.Process()
    restorer = Restorer(options.package, Composition(), device=options.device)
    weather = Weather(Router(restorer.package), options.seed)
    short = min(1.0, options.time / (18 * STREAM))  # six streams in each third at least
    samples: list[Sample] = []
    began = time.perf_counter()
    switches = 0
    last: Decision | None = None

    def told(moment: Moment) -> None:
        nonlocal switches, last
        switches += moment.served != last
        last = moment.served

    def sample() -> None:
        if sys.platform == "win32":
            files = process.num_handles()
        else:
            files = process.num_fds()
        now = time.perf_counter() - began
        samples.append(Sample(now, process.memory_info().rss, restorer.nbytes, process.num_threads(), files))

    picture, frames, streams = texture(), 0, 0
    sample()
    with tqdm(total=round(options.time), unit="s", delay=2, disable=None) as bar:
        while samples[-1].seconds < options.time:
            width, height = options.sizes[streams % len(options.sizes)]
            follower = Follower(restorer, weather, FollowOptions(every=1, confirm=1), told)
            begins, streams = time.perf_counter(), streams + 1
            changes = 0
            while (now := time.perf_counter() - begins) < short * STREAM and now + begins - began < options.time:
                if now > changes * short * CHANGE:
                    changes += 1
                    weather.change()
                follower(view(picture, width, height, frames), now)
                frames += 1
                if time.perf_counter() - began > len(samples) * options.time / SAMPLES:
                    sample()
            sample()
            bar.update(round(samples[-1].seconds) - bar.n)
    budget = memory_budget()
    settings = {
        "package": str(options.package),
        "engine": restorer.describe(),
        "seconds": options.time,
        "sizes": ["x".join(map(str, size)) for size in options.sizes],
        "seed": options.seed,
        "budget": budget,
    }
    results = {"frames": frames, "switches": switches, "streams": streams, "samples": samples}
    done = f"{restorer.describe()}: {frames} frames, {switches} switches, {streams} streams in {options.time:g} s."
    notes = [done, f"Engines may take {budget / MIB:.0f} MiB."]
    middle = _third(samples, 1)
    if max(each.counted for each in middle) < 0.75 * budget:
        notes.append("They did not: so nothing was given up, and this says little. Take longer, or lower $UIR_MEMORY.")
    return Report(settings, results, [table(samples)], notes, failure(samples))


def _third(samples: Sequence[Sample], number: int) -> list[Sample]:
    """The samples of one of the three parts of the time; the nearest to its end where there are none."""
    end = samples[-1].seconds
    found = [each for each in samples if number * end / 3 <= each.seconds <= (number + 1) * end / 3]
    return found or [min(samples, key=lambda each: abs(each.seconds - (number + 1) * end / 3))]


def table(samples: Sequence[Sample]) -> Table:
    """The quantities at the start, when all was warm, at the end and at most, and what the verdict compares."""
    rows = []
    for name, values in _quantities(samples).items():
        warm = len([each for each in samples if each.seconds < samples[-1].seconds / 3])
        cells = [values[0], values[min(warm, len(values) - 1)], values[-1], max(values)]
        middle, last = (median(_quantities(_third(samples, number))[name]) for number in (1, 2))
        rows.append([name, *(f"{cell:.0f}" for cell in [*cells, middle, last])])
    columns = ["", "start", "warm", "end", "most", "second third", "last third"]
    return Table("What the process held", columns, rows)


def failure(samples: Sequence[Sample]) -> str:
    """What grew after the warm-up, in words; empty where nothing did."""
    middle, last = (_quantities(_third(samples, number)) for number in (1, 2))
    grown = []
    for name, more in (("resident MiB", 0), ("threads", 2), ("files", 2)):
        before, after = median(middle[name]), median(last[name])  # files are opened for a moment, too
        if after > math.ceil(before * (1 + (GROWTH if name != "files" else 0))) + more:
            grown.append(f"{name} from {before:.0f} to {after:.0f}")
    return f"what the process holds grows: {', '.join(grown)}" if grown else ""


def _quantities(samples: Sequence[Sample]) -> dict[str, list[float]]:
    return {
        "resident MiB": [each.resident / MIB for each in samples],
        "counted MiB": [each.counted / MIB for each in samples],
        "threads": [each.threads for each in samples],
        "files": [each.files for each in samples],
    }
