"""Scene cuts: a frame that has nothing to do with the one before."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SMALL = 32, 18
"""Width and height to which frames are shrunk to be compared, pixels: motion and noise hardly show there."""

LEAST = 12.0
"""Mean difference, in 8-bit codes, below which nothing is a cut."""

TIMES = 4.0
"""How many times the usual difference between two frames it must be besides."""


class CutDetector:
    """Tells for each frame of a stream, in order, whether a scene begins with it. The first one begins none."""

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None
        self._usual = 0.0

    def __call__(self, frame: NDArray[np.uint8]) -> bool:
        """Whether an H x W x 3 frame begins a scene."""
        step = max(
            1, min(frame.shape[0] // (4 * SMALL[1]), frame.shape[1] // (4 * SMALL[0]))
        )  # large frames are thinned
        small = cv2.resize(frame[::step, ::step], SMALL, interpolation=cv2.INTER_AREA).astype(np.float32)
        last, self._last = self._last, small
        if last is None:
            return False
        # Without the mean: a lamp that is switched on is no cut.
        difference = float(np.abs((small - small.mean()) - (last - last.mean())).mean())
        cut = difference > max(LEAST, TIMES * self._usual)
        if not cut:
            self._usual += 0.1 * (difference - self._usual)
        return cut
