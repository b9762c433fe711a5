"""What was seen and done while a stream was followed, for people and for scripts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uir.runtime.atomic import atomic_output
from uir.runtime.decision import Decision
from uir.runtime.follow import Moment

NAMED = 3  # similarities that are named where all would be too many


class Trace:
    """The moments of one file, in order.

    Args:
        source: its name.
        engine: what restores it, in words.
        keep: whether all moments are kept; a long video has many, and the changes alone are few.

    Attributes:
        moments: what was kept.
        changes: when the decision changed, seconds, and to what; the first decision is the first of them.
    """

    def __init__(self, source: str, engine: str, *, keep: bool = True) -> None:
        self.source, self.engine = source, engine
        self._keep = keep
        self.moments: list[Moment] = []
        self.changes: list[tuple[float, Decision]] = []

    def add(self, moment: Moment) -> bool:
        """Take the next moment; whether the decision changed with it."""
        changed = not self.changes or self.changes[-1][1] != moment.wanted
        if changed:
            self.changes.append((moment.seconds, moment.wanted))
        if self._keep:
            self.moments.append(moment)
        return changed

    def plain(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        frames = [
            {
                "seconds": round(moment.seconds, 6),
                "similarities": moment.similarities and {k: round(v, 4) for k, v in moment.similarities.items()},
                "cut": moment.cut,
                "wanted": moment.wanted.key,
                "served": moment.served.key,
                "precision": moment.precision,
            }
            for moment in self.moments
        ]
        return {"input": self.source, "engine": self.engine, "frames": frames}


def explain(moment: Moment) -> str:
    """What was seen, and what was decided: `haze 0.71, rain 0.40, clean 0.12 -> haze=0.5625,rain=0.4375`."""
    seen = sorted((moment.similarities or {}).items(), key=lambda pair: -pair[1])[:NAMED]
    return f"{', '.join(f'{name} {value:.2f}' for name, value in seen)} -> {moment.wanted.key}"


def write_traces(path: Path, traces: Sequence[Trace], *, overwrite: bool) -> None:
    """Write the traces of some files as JSON.

    Raises:
        OutputError: the file exists, or cannot be written.
    """
    with atomic_output(path, overwrite=overwrite) as temporary:
        temporary.write_text(json.dumps({"files": [trace.plain() for trace in traces]}, indent=1) + "\n")
