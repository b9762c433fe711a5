"""How far a run has come: its clock, its learning rate, and its record."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from uir.runtime.errors import UsageError
from uir.tools.train.settings import Schedule

LOG = "log.jsonl"
WARMUP = 0.02  # of the run
DECIBELS = -10 / math.log(10)  # times the natural logarithm of the squared error
RESERVE = 0.02  # of the time, or 2 s at least, to write what was learnt


class Clock:
    """How much of a run is over.

    Args:
        since: `time.monotonic()` when the command began.
        spent: seconds that the run took before it was interrupted.
    """

    def __init__(self, schedule: Schedule, since: float, spent: float) -> None:
        self.schedule, self.began = schedule, since - spent
        self.step, self.pace = time.monotonic(), 0.0

    @property
    def seconds(self) -> float:
        """Seconds that the run has taken."""
        return time.monotonic() - self.began

    def tick(self) -> None:
        """Note that a step was taken: the next one may take as long."""
        now = time.monotonic()
        self.step, self.pace = now, now - self.step

    def share(self, step: int) -> float:
        """The share of the run that is over in the middle of a step; 1 and more where there is to be no such step."""
        steps, minutes = self.schedule.steps, self.schedule.minutes
        by_steps = (step + 0.5) / steps if steps else 0.0
        if minutes is None:
            return by_steps
        seconds, limit = self.seconds, 60 * minutes - max(2.0, RESERVE * 60 * minutes)
        return max(by_steps, (seconds + self.pace / 2) / limit if seconds + self.pace < limit else 1.0)


def rate(share: float) -> float:
    """The learning rate over its peak: a short rise, and a cosine down to zero."""
    if share < WARMUP:
        return share / WARMUP
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (share - WARMUP) / (1 - WARMUP))))


class Progress:
    """The PSNR of each composition, dB, as a running average, on the screen and in `log.jsonl`.

    Losses stay on the device until they are read: waiting for each would keep a GPU from its next step.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path, self.clock = path, clock
        self.running: dict[str, float] = {}
        self.unread: list[tuple[str, Tensor]] = []
        self.patches, self.waited, self.began = 0, 0.0, time.monotonic()

    def add(self, weights: dict[str, float], loss: Tensor, patches: int) -> None:
        """Take the loss of a batch, the mean logarithm of the squared error."""
        self.unread.append(("+".join(sorted(weights)) or "base", loss))
        self.patches += patches

    def read(self) -> None:
        """Wait for the device, and take in what it found.

        Raises:
            UsageError: a loss is not finite.
        """
        if not self.unread:
            return
        losses = torch.stack([loss for _, loss in self.unread]).tolist()
        if not all(map(math.isfinite, losses)):
            raise UsageError(f"{self.path.parent}: the training diverged; choose another --out, and a lower --lr")
        for (key, _), loss in zip(self.unread, losses, strict=True):
            psnr = loss * DECIBELS
            self.running[key] = psnr if key not in self.running else 0.98 * self.running[key] + 0.02 * psnr
        self.unread.clear()

    def write(self, steps: int) -> None:
        """Add a line to the log, of what was read up to this number of steps."""
        passed = time.monotonic() - self.began
        line = {
            "step": steps,
            "seconds": round(self.clock.seconds, 1),
            "patches a second": round(self.patches / passed, 1),
            "waited for patches": round(self.waited / passed, 3),
            "psnr": {key: round(value, 3) for key, value in sorted(self.running.items())},
        }
        with self.path.open("a") as log:
            log.write(json.dumps(line) + "\n")

    def text(self) -> str:
        """Of each adapter alone."""
        return " ".join(f"{key} {value:.2f}" for key, value in self._singles())

    def _singles(self) -> Iterator[tuple[str, float]]:
        return ((key, value) for key, value in sorted(self.running.items()) if "+" not in key)
