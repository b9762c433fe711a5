"""What this machine was seen to do at best: products of large matrices in each type, and a large copy.

The two numbers of a roofline (Williams, Waterman and Patterson, "Roofline", 2009): no engine can be faster than its
arithmetic at the first, or than its traffic at the second where no cache keeps any of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from uir.runtime.version import install

SIDE = 2048  # of the matrices, at most
COPIED = 1 << 28  # bytes, beyond any cache
ENOUGH = 0.05  # seconds of one product, from which larger matrices are no faster
RUNS = 3

WIDTHS = {"fp32": 4, "bf16": 2, "int8": 1}
"""Bytes of a value, by type."""


@dataclass
class Limits:
    """The best that was seen so far.

    Attributes:
        peaks: floating-point operations a second by type, whole-number ones for int8; a type that torch cannot
            multiply here is missing.
        bandwidth: bytes a second that a copy reads and writes, as STREAM counts them (McCalpin 1995).
        failure: why there is nothing.
    """

    peaks: dict[str, float] = field(default_factory=dict)
    bandwidth: float | None = None
    failure: str | None = None

    def look(self) -> None:
        """Measure once more, and keep what is best: it is asked for several times, between the turns."""
        try:
            import torch
        except ModuleNotFoundError:
            self.failure = f"not installed: {install('export')}"
            return
        source = torch.zeros(COPIED, dtype=torch.uint8)
        target = torch.zeros_like(source)
        copied = 2 * COPIED / _best(lambda: target.copy_(source))
        self.bandwidth = max(self.bandwidth or 0.0, copied)
        for kind in WIDTHS:
            reached = _peak(kind)
            if reached is not None:
                self.peaks[kind] = max(self.peaks.get(kind, 0.0), reached)


def _peak(kind: str) -> float | None:
    """Operations a second of the largest product that is worth its time; None where torch has none of the type."""
    side = min(512, SIDE)
    while True:
        try:
            seconds = _best(_product(kind, side))
        except (AttributeError, RuntimeError):  # this torch, or this processor, has none
            return None
        if seconds >= ENOUGH or side >= SIDE:
            return 2 * side**3 / seconds
        side *= 2


def _product(kind: str, side: int) -> Callable[[], object]:
    """The product of two square matrices of random values."""
    import torch

    if kind == "int8":
        whole = [torch.randint(-128, 128, (side, side), dtype=torch.int8) for _ in range(2)]
        return partial(torch._int_mm, *whole)  # of the library that has the float products too, oneDNN
    real = [torch.randn(side, side).to(torch.float32 if kind == "fp32" else torch.bfloat16) for _ in range(2)]
    return partial(torch.matmul, *real)


def _best(work: Callable[[], object]) -> float:
    """The shortest of a few runs, seconds; the first, which lays out memory, does not count."""
    work()
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
