"""The progress of a build, which would be silent for minutes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from tqdm import tqdm

_AFTER = 2  # seconds; quicker builds show nothing


@dataclass
class _Phase:
    name: str
    steps: int
    done: int = 0


class Progress:
    """A bar on a terminal's stderr for builds of more than two seconds; and the way to stop one.

    TensorRT tells of phases within phases, each of so many steps. The bar shows the share that is done, and the
    innermost phase.

    Args:
        trt: the bindings' module.
        title: what is being built.

    Attributes:
        native: the monitor that TensorRT wants. It must live for as long as the build.
    """

    def __init__(self, trt: Any, title: str) -> None:
        self._phases: list[_Phase] = []
        self._stopped = False
        # Phases may come from several threads.
        self._lock = threading.Lock()
        self._bar = tqdm(
            total=100,
            desc=title,
            delay=_AFTER,
            leave=False,
            disable=not sys.stderr.isatty(),
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}",
        )
        self.native = _monitor_class(trt)(self)

    def stop(self) -> None:
        """Let the build end as soon as it can; it then fails."""
        self._stopped = True

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()

    def started(self, name: str, steps: int) -> None:
        """A phase begins, within those under way."""
        with self._lock:
            self._phases.append(_Phase(name, max(1, steps)))
            self._show()

    def stepped(self, name: str, step: int) -> bool:
        """A step of a phase is done, counted from 0. Whether to go on."""
        with self._lock:
            for phase in self._phases:
                if phase.name == name:
                    phase.done = min(step + 1, phase.steps)
            self._show()
        return not self._stopped

    def finished(self, name: str) -> None:
        """A phase is over."""
        with self._lock:
            self._phases = [phase for phase in self._phases if phase.name != name]
            self._show()

    @property
    def share(self) -> float:
        """How much is done, in [0, 1]: a phase's steps, and within the step under way those of the phase inside it."""
        share = 0.0
        for phase in reversed(self._phases):
            share = min(1.0, (phase.done + share) / phase.steps)
        return share

    def _show(self) -> None:
        if self._bar.disable or not self._phases:
            return
        self._bar.set_postfix_str(self._phases[-1].name, refresh=False)
        ahead = 100 * self.share - self._bar.n
        if ahead > 0:  # never backwards, where phases were counted too small
            self._bar.update(ahead)


@cache
def _monitor_class(trt: Any) -> Callable[[Progress], Any]:
    """The class of monitors of one of the modules, made once: its base is known only when the module is loaded."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self, progress: Progress) -> None:
            trt.IProgressMonitor.__init__(self)
            self._progress = progress

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002
            self._progress.started(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return self._progress.stepped(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            self._progress.finished(phase_name)

    return Monitor
