"""Scene cuts: a frame that has nothing to do with the one before."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SMALL = 16, 9
"""Width and height to which frames are shrunk to be compared, pixels: motion and noise hardly show there."""

THINNED = 16
"""Pixels of a frame in each direction that one of the small frame's is the mean of, at least; more are left out."""

FAINT = 6.0
"""Standard deviation, in 8-bit codes, below which contrast is not raised: noise alone shall be no scene."""

LEAST = 0.4
"""Distance below which nothing is a cut."""

TIMES = 2.0
"""How many times the usual distance between two frames it must be besides."""


class CutDetector:
    """Tells for each frame of a stream, in order, whether a scene begins with it. The first one begins none.

    The distance of two frames is one minus the correlation of their small versions, so that neither a lamp nor an
    exposure, nor haze or darkness that begins, looks like another scene. Footage that jumps all the time soon counts as
    usual.
    """

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None
        self._usual = 0.0

    def __call__(self, frame: NDArray[np.uint8]) -> bool:
        """Whether an H x W x 3 frame begins a scene."""
        small = _small(frame)
        last, self._last = self._last, small
        if last is None:
            return False
        distance = 0.5 * float(np.square(small - last).mean())
        cut = distance > max(LEAST, TIMES * self._usual)
        self._usual += 0.1 * (distance - self._usual)
        return cut


def _small(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A frame shrunk, each colour without its mean, at a standard deviation of one, or less where it is faint.

    Half the mean square of two such frames' difference is one minus their correlation.
    """
    width, height = SMALL
    step = max(1, min(frame.shape[0] // (THINNED * height), frame.shape[1] // (THINNED * width)))
    small = cv2.resize(frame[::step, ::step], SMALL, interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean(axis=(0, 1))
    small /= max(float(small.std()), FAINT)
    return small
