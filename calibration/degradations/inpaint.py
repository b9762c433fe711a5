"""Inpaint: strokes painted over the picture, to be filled with what they hide."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.calibration.degradations._common import (
    Image,
    check,
    check_seed,
    check_severity,
    relative_size,
    scene_rng,
    spread,
)
from uir.runtime.errors import UsageError

_SHARE = 0.2
"""Of the picture, at severity 1."""

_LENGTH, _WIDTH = 125.0, 9.5
"""Of a middling stroke, in pixels of a 720-line picture."""

_AREA = 1440.0
"""That a middling stroke covers, round ends and bends included, in pixels of a 720-line picture."""

_STEPS = 24
"""Of which a stroke's line is made up."""


def inpaint(image: Image, severity: float, seed: int, seconds: float = 0.0) -> Image:
    """Paint strokes over the picture.

    Irregular strokes of one flat colour, as of a brush or a scratch (the free-form masks of J. Yu et al., "Free-Form
    Image Inpainting with Gated Convolution", ICCV 2019). Outside the strokes nothing changes; where they are,
    `inpaint_mask` says.

    The seed fixes the strokes and their colour: black, white, grey, or any. With `seconds` they sway slowly. They only
    grow as severity does.

    Sizes follow the picture's height (they are right for 720 lines, double at 1440). Below 540 lines they shrink no
    further: so small a picture is taken for a crop of a larger one.

    Args:
        image: float32 H x W x 3, RGB, sRGB-encoded, in [0, 1].
        severity: 0 (unchanged) to 1 (about a fifth of the picture is hidden).
        seed: 0 or more.
        seconds: time in the video.

    Returns:
        A new array of the same shape, type and range.

    Raises:
        UsageError: as `check` says.
    """
    check("inpaint", image, severity, seed)
    rng = scene_rng(seed)
    result = np.array(image)
    colour = _colour(rng)
    result[_strokes(image.shape[:2], severity, rng, seconds)] = colour
    return result


def inpaint_mask(shape: tuple[int, int], severity: float, seed: int, seconds: float = 0.0) -> NDArray[np.bool_]:
    """Where `inpaint` paints, for a peer that is told.

    Args:
        shape: height and width in pixels.
        severity: as for `inpaint`.
        seed: the one given to `inpaint` (`seed_for` tells which one `degrade` gives it).
        seconds: time in the video.

    Returns:
        bool H x W, true where the picture is hidden.

    Raises:
        UsageError: the shape has no pixels, the severity is no number in [0, 1], or the seed is negative.
    """
    if min(shape) < 1:
        raise UsageError(f"inpaint: no picture is {shape[1]} x {shape[0]}")
    check_severity("inpaint", severity)
    check_seed("inpaint", seed)
    rng = scene_rng(seed)
    _colour(rng)
    return _strokes(shape, severity, rng, seconds)


def _colour(rng: np.random.Generator) -> NDArray[np.float32]:
    """Black, white, mid grey or any colour."""
    drawn = rng.random(3, dtype=np.float32)
    kind = rng.integers(5)
    return drawn if kind > 2 else np.full(3, kind / 2, np.float32)


def _strokes(size: tuple[int, int], severity: float, rng: np.random.Generator, seconds: float) -> NDArray[np.bool_]:
    """Where the strokes are, bool H x W."""
    height, width = size
    canvas = np.zeros(size, np.uint8)
    scale = relative_size(height) * rng.uniform(0.8, 1.25)
    # They start beyond the picture's edges too. What overlaps counts once, hence the logarithm.
    margin = 80 * scale
    tall, wide = height + 2 * margin, width + 2 * margin
    area = -np.log(1 - _SHARE) * tall * wide
    count = int(np.ceil(area / (_AREA * scale**2)))
    x, y = spread(count, rng)
    long_, thick, heading, bend, period, phase = rng.random((6, count))
    turns = rng.normal(0, 1, (count, _STEPS))

    length = _LENGTH * scale * (0.4 + 1.2 * long_)
    thickness = np.maximum(1, np.rint(_WIDTH * scale * (0.25 + 1.5 * thick))).astype(int)
    angles = 2 * np.pi * heading[:, None] + np.cumsum(0.22 * (bend[:, None] - 0.5) + 0.18 * turns, axis=1)
    steps = (length / _STEPS)[:, None] * np.exp(1j * angles)
    paths = np.concatenate([np.zeros((count, 1)), np.cumsum(steps, axis=1)], axis=1)
    paths -= paths.mean(axis=1, keepdims=True)
    sway = 8 * scale * np.exp(1j * (2 * np.pi * phase)) * np.sin(2 * np.pi * (seconds / (4 + 4 * period) + phase))
    paths += (x * wide - margin + 1j * (y * tall - margin) + sway)[:, None]

    # Each stroke begins at its turn and is drawn to its end soon after. 1/16 pixel coordinates.
    drawn = np.rint(_STEPS * np.clip((severity - np.arange(count) / count) / 0.2, 0, 1)).astype(int)
    corners = np.rint(np.stack([paths.real, paths.imag], axis=2) * 16).astype(np.int32)
    for path, part, line in zip(corners, drawn.tolist(), thickness.tolist(), strict=True):
        if part > 0:
            cv2.polylines(canvas, [path[: part + 1]], isClosed=False, color=1, thickness=line, shift=4)
    return canvas.astype(np.bool_)
