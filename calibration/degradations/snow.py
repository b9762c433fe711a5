"""Snow: flakes drifting down at several distances, and the veil of those too far to be told apart."""

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
"""Seconds of exposure, in which a flake draws its trail."""


@dataclass(frozen=True)
class _Layer:
    """Flakes at one distance. Sizes are in pixels of a 720-line picture."""

    flakes: int
    """In a 1280 x 720 picture at severity 1."""
    width: float
    speed: float
    """Of the fall, in pixels a second: the nearer a flake, the faster it crosses the picture."""
    opacity: float
    blur: float
    """Defocus, as the sigma of a Gaussian."""
    clumps: int
    """How many crystals can be told apart in a flake."""


# Far to near: nearer flakes are fewer, larger, faster, and so far out of focus that the scene shows through them.
_LAYERS = (
    _Layer(flakes=3600, width=1.7, speed=90, opacity=0.6, blur=0.55, clumps=1),
    _Layer(flakes=1500, width=3.2, speed=190, opacity=0.8, blur=0.8, clumps=1),
    _Layer(flakes=330, width=6.0, speed=400, opacity=0.75, blur=1.5, clumps=2),
    _Layer(flakes=42, width=15.0, speed=950, opacity=0.5, blur=4.0, clumps=3),
)


def snow(image: Image, severity: float, seed: int, seconds: float = 0.0) -> Image:
    """Add falling snow.

    A flake scatters the light of the whole sky, so that it is as bright as the overcast, white before the dark and grey
    before the sky. Smeared by its motion and by defocus, it covers each pixel for a share of the exposure: in linear
    light, `(1 - a) * background + a * sky` (P. Barnum, S. Narasimhan and T. Kanade, "Analysis of Rain and Snow in
    Frequency Space", IJCV 2010). Size, speed and transparency go by layers of distance. Flakes too distant to be seen
    singly add a veil.

    The seed fixes the wind, the coarseness and every flake; with `seconds` each falls, driven by the wind and swinging
    from side to side, and its trail follows its way. Flakes are only added as severity grows.

    Sizes follow the picture's height (they are right for 720 lines, double at 1440). Below 540 lines they shrink no
    further: so small a picture is taken for a crop of a larger one.

    Args:
        image: float32 H x W x 3, RGB, sRGB-encoded, in [0, 1].
        severity: 0 (unchanged) to 1 (a blizzard).
        seed: 0 or more.
        seconds: time in the video.

    Returns:
        A new array of the same shape, type and range.

    Raises:
        UsageError: as `check` says.
    """
    check("snow", image, severity, seed)
    if severity == 0:
        return np.array(image)
    rng = scene_rng(seed)
    height, width = image.shape[:2]
    scale = relative_size(height) * rng.uniform(0.75, 1.4)
    wind = float(np.clip(rng.normal(0, 0.35), -1, 1))
    gain = rng.uniform(0.9, 1.15)

    clear = np.ones((height, width), np.float32)  # the share of light that passes all the layers
    for layer in _LAYERS:
        flakes = _draw(layer, (height, width), scale, wind, severity, rng, seconds)
        clear *= 1 - flakes * np.float32(1 / 255)
    clear *= np.float32(1 - 0.045 * severity**1.5)

    return veil(image, clear, lambda scene: gain * (0.45 + 0.55 * scene))


def _draw(
    layer: _Layer,
    size: tuple[int, int],
    scale: float,
    wind: float,
    severity: float,
    rng: np.random.Generator,
    seconds: float,
) -> NDArray[np.uint8]:
    """Draw one layer's opacity, 0 to 255, H x W."""
    height, width = size
    swing = 3 * layer.width * scale
    margin = 2 * swing + layer.speed * _SHUTTER * scale
    # Flakes start above and beside the picture, so that those blown in by the wind fill its corners.
    tall, wide = height + 2 * margin, width + abs(wind) * height + 2 * margin
    most = layer.flakes * tall * wide / (1280 * 720 * scale**2)
    total = int(np.ceil(most))
    flakes = rng.random((total, 7 + 2 * layer.clumps), dtype=np.float32)  # row by row: fewer are the first of more
    count = min(total, int(np.ceil(most * severity**1.25)))
    x, y, pace, opacity, thickness, rhythm, phase, *offsets = flakes[:count].T.astype(np.float64)

    # y in units of the way from the top to the bottom; each new fall starts at another x, by the golden ratio.
    speed = layer.speed * scale * (0.75 + 0.5 * pace)
    fall = y + seconds * speed / tall
    turns = np.floor(fall)
    middle_y = (fall - turns) * tall - margin
    beat = 2 * np.pi * (0.25 + 0.5 * rhythm)
    swaying = beat * seconds + 2 * np.pi * phase
    middle_x = ((x + turns * 0.6180339887498949) % 1.0 - 0.5) * wide + width / 2 + wind * (middle_y - height / 2)
    middle_x += swing * np.sin(swaying)
    half_y = speed * _SHUTTER / 2
    half_x = (wind * speed + swing * beat * np.cos(swaying)) * _SHUTTER / 2

    wanted = layer.width * scale * (0.5 + 0.9 * thickness**2)
    strength = 255 * layer.opacity * (0.4 + 0.6 * opacity) * np.minimum(1, wanted)
    canvas = np.zeros(size, np.uint8)
    # A flake is soft: a wide faint mark under a narrow strong one, of each of its crystals. 1/16 pixel coordinates.
    for share, part in ((1.0, 0.5), (0.6, 1.0)):
        drawn = np.maximum(1, np.rint(wanted * share)).astype(int).tolist()
        for across, down in zip(offsets[::2], offsets[1::2], strict=True):
            apart = 0.0 if layer.clumps == 1 else 0.8
            centre_x, centre_y = middle_x + apart * wanted * (across - 0.5), middle_y + apart * wanted * (down - 0.5)
            ends = np.stack([centre_x - half_x, centre_y - half_y, centre_x + half_x, centre_y + half_y], axis=1)
            for (x0, y0, x1, y1), shade, thick in zip(
                np.rint(ends * 16).astype(int).tolist(), (strength * part).tolist(), drawn, strict=True
            ):
                cv2.line(canvas, (x0, y0), (x1, y1), shade, thick, cv2.LINE_AA, 4)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), layer.blur * scale), np.uint8)
