"""Rain: streaks of falling drops at several distances, and the veil of those too far to be told apart."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.calibration.degradations._common import (
    Image,
    check,
    relative_size,
    scene_rng,
    veil,
)

_SHUTTER = 1 / 60
"""Seconds of exposure: a drop falls its own streak's length in this time."""


@dataclass(frozen=True)
class _Layer:
    """Drops at one distance. Lengths and widths are in pixels of a 720-line picture."""

    drops: int
    """In a 1280 x 720 picture at severity 1."""
    length: float
    width: float
    opacity: float
    blur: float
    """Defocus, as the sigma of a Gaussian."""


# Far to near: nearer drops are fewer, longer, wider, and blurred by motion and defocus until they are more transparent.
_LAYERS = (
    _Layer(drops=2200, length=14, width=0.9, opacity=0.34, blur=0.45),
    _Layer(drops=900, length=30, width=1.3, opacity=0.46, blur=0.55),
    _Layer(drops=260, length=60, width=2.0, opacity=0.42, blur=0.8),
    _Layer(drops=45, length=120, width=4.0, opacity=0.26, blur=2.0),
)


def rain(image: Image, severity: float, seed: int, seconds: float = 0.0) -> Image:
    """Add falling rain.

    A streak is a drop that moved during the exposure; it refracts light from most of the surroundings, so it shows the
    sky's brightness, mixed over the background by the share of the exposure that it covered each pixel for: in linear
    light, `(1 - a) * background + a * sky` (K. Garg and S. K. Nayar, "Vision and Rain", IJCV 2007). Drops too
    distant to be seen singly add a veil, `v` of the sky's light everywhere.

    The seed fixes the wind, the coarseness and every drop; `seconds` lets each drop fall at the speed its streak
    tells, so that adjacent frames share their statistics but hardly a streak. Drops are only added as severity grows.

    Sizes follow the picture's height (they are right for 720 lines, double at 1440). Below 540 lines they shrink no
    further: so small a picture is taken for a crop of a larger one.

    Args:
        image: float32 H x W x 3, RGB, sRGB-encoded, in [0, 1].
        severity: 0 (unchanged) to 1 (a cloudburst).
        seed: 0 or more.
        seconds: time in the video.

    Returns:
        A new array of the same shape, type and range.

    Raises:
        UsageError: as `check` says.
    """
    check("rain", image, severity, seed)
    if severity == 0:
        return np.array(image)
    rng = scene_rng(seed)
    height, width = image.shape[:2]
    coarseness = rng.uniform(0.75, 1.35)
    scale = relative_size(height) * coarseness
    slope = np.tan(np.radians(np.clip(rng.normal(0, 12), -35, 35)))
    gain = rng.uniform(0.85, 1.1)

    clear = np.ones((height, width), np.float32)  # the share of light that passes all the layers
    for layer in _LAYERS:
        streaks = _draw(layer, (height, width), scale, slope, severity, rng, seconds)
        clear *= 1 - streaks * np.float32((0.45 + 0.55 * severity) / 255)
    clear *= np.float32(1 - 0.11 * severity**1.5)

    return veil(image, clear, lambda scene: gain * (0.3 + 0.6 * scene))


def _draw(
    layer: _Layer,
    size: tuple[int, int],
    scale: float,
    slope: float,
    severity: float,
    rng: np.random.Generator,
    seconds: float,
) -> NDArray[np.uint8]:
    """Draw one layer's opacity, 0 to 255, H x W."""
    height, width = size
    longest = 1.6 * layer.length * scale
    # Drops start above and beside the picture, so that those blown in by the wind fill its corners.
    tall, wide = height + longest, width + abs(slope) * (height + longest) + longest
    area = tall * wide / (1280 * 720 * scale**2)
    most = layer.drops * area
    total = int(np.ceil(most))
    drops = rng.random((total, 6), dtype=np.float32)  # row by row: fewer drops are the first of more
    count = min(total, int(np.ceil(most * severity)))
    x, y, length, opacity, jitter, thickness = drops[:count].T.astype(np.float64)

    length = scale * layer.length * (0.5 + 1.1 * length)
    # y in units of the way from the top to the bottom; each new fall starts at another x, by the golden ratio.
    fall = y + seconds / _SHUTTER * layer.length * scale / tall
    turns = np.floor(fall)
    bottom = (fall - turns) * tall
    lean = slope + 0.05 * (jitter - 0.5)
    middle = ((x + turns * 0.6180339887498949) % 1.0 - 0.5) * wide + width / 2 + slope * (bottom - tall / 2)
    wanted = scale * layer.width * (0.6 + 0.8 * thickness)
    drawn = np.maximum(1, np.rint(wanted)).astype(int)
    strength = 255 * layer.opacity * (0.35 + 0.65 * opacity) * np.minimum(1, wanted)

    canvas = np.zeros(size, np.uint8)
    # The ends of a streak fade: three lines, each shorter and stronger than the one under it. 1/16 pixel coordinates.
    for share, part in ((1.0, 0.35), (0.72, 0.7), (0.45, 1.0)):
        half = length * share / 2
        centre = bottom - length / 2
        ends = np.stack(
            [middle - lean * half, centre - half, middle + lean * half, centre + half],
            axis=1,
        )
        for (x0, y0, x1, y1), shade, thick in zip(
            np.rint(ends * 16).astype(int).tolist(), (strength * part).tolist(), drawn.tolist(), strict=True
        ):
            cv2.line(canvas, (x0, y0), (x1, y1), shade, thick, cv2.LINE_AA, 4)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), layer.blur * scale), np.uint8)
