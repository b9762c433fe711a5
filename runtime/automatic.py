"""`uir-run` where no adapters are named: the router chooses, for each picture and along each video."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from uir.runtime.follow import Follower, FollowOptions, Moment
from uir.runtime.pipeline import Work
from uir.runtime.restorer import Restorer
from uir.runtime.router import Router
from uir.runtime.trace import Trace, explain, write_traces


class Automatic:
    """Restores files by what is seen in them.

    Args:
        restorer: what restores; its compositions are chosen.
        router: what chooses them.
        options: how videos are followed.
        explain: say on stderr what was seen, whenever the decision changes.
        trace: keep what `write` writes.
    """

    def __init__(
        self, restorer: Restorer, router: Router, options: FollowOptions, *, explain: bool, trace: bool
    ) -> None:
        self._restorer, self._router, self._options = restorer, router, options
        self._explains, self._keep = explain, trace
        self._traces: list[Trace] = []

    def begin(self, source: Path, *, still: bool) -> Follower:
        """What restores the next file, frame by frame; a still picture is a stream of one frame."""
        trace = Trace(str(source), self._restorer.describe(), keep=self._keep)
        self._traces.append(trace)

        def tell(moment: Moment) -> None:
            if trace.add(moment) and self._explains:
                tqdm.write(f"{source}: {moment.seconds:.2f} s: {explain(moment)}", file=sys.stderr)

        return Follower(self._restorer, self._router, self._options, tell, still=still)

    def decisions(self) -> list[tuple[float, str]]:
        """What was decided along the last file: when, in seconds, and what."""
        return [(seconds, decision.key) for seconds, decision in self._traces[-1].changes]

    def write(self, path: Path, *, overwrite: bool) -> None:
        """Write what was seen and done in all files so far, as JSON.

        Raises:
            OutputError: the file exists, or cannot be written.
        """
        write_traces(path, self._traces, overwrite=overwrite)


class Fixed:
    """Restores files with the restorer's composition."""

    def __init__(self, restorer: Restorer) -> None:
        self._restorer = restorer

    def begin(self, _source: Path, *, still: bool) -> _Steady:
        """What restores the next file, frame by frame."""
        return _Steady(self._restorer, still)

    def decisions(self) -> list[tuple[float, str]]:
        """The one composition, from the start."""
        return [(0.0, self._restorer.composition.key)]


class _Steady:
    seconds_looking = 0.0

    def __init__(self, restorer: Restorer, still: bool) -> None:
        self._restorer, self._still, self._told = restorer, still, False

    def decide(self, frame: NDArray[np.uint8], _seconds: float) -> Work[NDArray[np.uint8]]:
        if not self._told:  # the first frame says what size all of them have
            self._told = True
            self._restorer.expect(*frame.shape[:2], still=self._still)
        return Work(partial(self._restorer, frame))

    @property
    def label(self) -> str:
        return self._restorer.composition.key


def summary(decisions: Sequence[tuple[float, str]]) -> str:
    """What a file was restored with: `rain`, or `clean, rain, haze=0.5,rain=0.5 (2 changes)`."""
    names = list(dict.fromkeys(name for _, name in decisions))
    changes = len(decisions) - 1
    if not changes:
        return names[0]
    return f"{'; '.join(names)} ({changes} change{'s' if changes > 1 else ''})"
