"""A degraded photo, and what a method of restoration is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from uir.tools.bench.metrics import Frame


@dataclass(frozen=True)
class Sample:
    """A photo, degraded.

    Attributes:
        level: how much, as the case counts it (a severity, a sigma).
        seed: what the degradation drew from.
    """

    clean: Frame
    degraded: Frame
    level: float
    seed: int


Method = Callable[[Sample], Frame]
"""A restoration: a degraded photo in, the restored one out. No method looks at the clean one."""
