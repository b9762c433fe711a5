"""What the router sees of a frame: all of it, small, and a few places in full resolution.

Haze, darkness and shadow show in the whole; noise, JPEG blocks and blur only where no pixel was averaged away. The
places are chosen by rule, without chance, so that the same frame always looks the same.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

THUMBNAIL = 192
"""Side of the small picture, pixels; a frame of any shape is squeezed to this square."""

CROP = 64
"""Side of a place that is looked at, pixels."""

FIXED, TEXTURED, FLAT = 4, 2, 2
CROPS = FIXED + TEXTURED + FLAT
"""The places: the middles of the four quarters, where most is to be seen, and where least is: noise shows there."""

BLOCK = 8
"""Places begin at multiples of this, so that the blocks of JPEG and of video codecs always lie alike in them."""

CELLS = 16
"""In each direction, of the grid on which places are compared."""

APART = 2
"""Cells that two chosen places are apart at least, in either direction."""

TOO_DARK, TOO_BRIGHT = 12, 243
"""A flat place beyond these is taken last: what is clipped shows no noise."""


class Look(NamedTuple):
    """What is seen of one frame, uint8 RGB.

    Attributes:
        thumbnail: `THUMBNAIL` x `THUMBNAIL` x 3.
        crops: `CROPS` x `CROP` x `CROP` x 3: the fixed places, the textured ones, the flat ones.
    """

    thumbnail: NDArray[np.uint8]
    crops: NDArray[np.uint8]


def look(frame: NDArray[np.uint8]) -> Look:
    """Look at a frame, H x W x 3 uint8 RGB, of any size from 1 x 1 on.

    A frame that is smaller than a place is continued by mirroring.
    """
    thumbnail = _thumbnail(frame)
    height, width = frame.shape[:2]
    down, across = max(0, CROP - height), max(0, CROP - width)
    if down or across:
        frame = cv2.copyMakeBorder(frame, 0, down, 0, across, cv2.BORDER_REFLECT_101).astype(np.uint8, copy=False)
    crops = np.empty((CROPS, CROP, CROP, 3), np.uint8)
    for crop, (y, x) in zip(crops, _places(thumbnail), strict=True):
        top, left = _corner(y * height, frame.shape[0]), _corner(x * width, frame.shape[1])
        crop[:] = frame[top : top + CROP, left : left + CROP]
    return Look(thumbnail, crops)


def _thumbnail(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The frame squeezed to a square. Halving is many times faster than one step of an odd factor."""
    while min(frame.shape[:2]) >= 2 * THUMBNAIL:
        height, width = frame.shape[0] // 2, frame.shape[1] // 2
        even = frame[: 2 * height, : 2 * width]
        frame = cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    small = cv2.resize(frame, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return small.astype(np.uint8, copy=False)


def _corner(middle: float, length: int) -> int:
    """Where a place around `middle` begins, inside the frame and at a block's edge."""
    begin = round((middle - CROP / 2) / BLOCK) * BLOCK
    return max(0, min(begin, (length - CROP) // BLOCK * BLOCK))


def _places(thumbnail: NDArray[np.uint8]) -> list[tuple[float, float]]:
    """The middles of the places, as shares of the frame's height and width."""
    grey = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY).astype(np.float32)
    mean, square = (cv2.resize(each, (CELLS, CELLS), interpolation=cv2.INTER_AREA) for each in (grey, grey * grey))
    variance = square - mean * mean
    clipped = (mean < TOO_DARK) | (mean > TOO_BRIGHT)
    quarters = [(y, x) for y in (0.25, 0.75) for x in (0.25, 0.75)]
    textured = _largest(variance, TEXTURED)
    flat = _largest(np.where(clipped, -np.inf, -variance).astype(np.float32), FLAT)
    return [*quarters, *(((y + 0.5) / CELLS, (x + 0.5) / CELLS) for y, x in (*textured, *flat))]


def _largest(values: NDArray[np.float32], count: int) -> list[tuple[int, int]]:
    """The cells of the largest values that are `APART` from each other; the first of equals."""
    left, chosen = values.copy(), []
    for _ in range(count):
        y, x = divmod(int(left.argmax()), CELLS)
        chosen.append((y, x))
        left[max(0, y - APART + 1) : y + APART, max(0, x - APART + 1) : x + APART] = -np.inf
    return chosen
