"""Haze: light scattered into the line of sight, more of it the farther away the scene is."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.calibration.degradations._common import Image, check, scene_rng, to_encoded, to_linear

_DRIFT_PERIOD = 90.0
"""Seconds in which the banks of haze drift once around; slow enough that adjacent frames look the same."""


def haze(image: Image, severity: float, seed: int, seconds: float = 0.0) -> Image:
    """Add haze.

    Koschmieder's law, in linear light, where light adds up: `I = J * t + A * (1 - t)` with `t = exp(-beta * d)` (S. G.
    Narasimhan and S. K. Nayar, "Vision and the Atmosphere", IJCV 2002). The airlight A is near white with a slight
    colour. There is no depth map to be had of a photograph, so d is made up: farther towards the top, with smooth
    irregularities, both of a strength that the seed draws, from an even bank to a deep view.

    The seed fixes A, the depth and the irregularities, which drift slowly with `seconds`. Depth is relative to the
    picture, whatever its size.

    Args:
        image: float32 H x W x 3, RGB, sRGB-encoded, in [0, 1].
        severity: 0 (unchanged) to 1 (about a fifth of the scene's light arrives).
        seed: 0 or more.
        seconds: time in the video.

    Returns:
        A new array of the same shape, type and range.

    Raises:
        UsageError: as `check` says.
    """
    check("haze", image, severity, seed)
    if severity == 0:
        return np.array(image)
    rng = scene_rng(seed)
    airlight = rng.uniform(0.62, 0.92) * _tint(rng)
    depth = _depth(image.shape[:2], rng, seconds)
    beta = 1.5 * severity**1.3
    passed = cv2.exp(depth * np.float32(-beta))
    linear = to_linear(image)
    linear -= airlight
    linear *= passed[..., None]
    linear += airlight
    return to_encoded(linear)


def _tint(rng: np.random.Generator) -> NDArray[np.float32]:
    """From warm (dust, evening) to cool (clean mist), with green in between so that it is never a party colour."""
    warmth = rng.uniform(-0.06, 0.06)
    return np.array([1 + warmth, 1.0, 1 - warmth], np.float32)


def _depth(size: tuple[int, int], rng: np.random.Generator, seconds: float) -> NDArray[np.float32]:
    """A smooth depth of mean about 1, H x W, positive."""
    height, width = size
    slope, uneven = rng.uniform(0.1, 1.2), rng.uniform(0.05, 0.3)
    tilt = rng.uniform(-0.3, 0.3)
    phase = 2 * np.pi * seconds / _DRIFT_PERIOD
    first, second = rng.uniform(-1, 1, (2, 3, 4)).astype(np.float32)
    banks = np.float32(np.cos(phase)) * first + np.float32(np.sin(phase)) * second
    # Reckoned on a small grid and stretched: the field is smooth, and a stretch costs a fraction of a full-size sum.
    grid = cv2.resize(banks, (32, 32), interpolation=cv2.INTER_CUBIC) * np.float32(uneven)
    down, across = np.linspace(-0.5, 0.5, 32, dtype=np.float32), np.linspace(-0.5, 0.5, 32, dtype=np.float32)
    grid += np.float32(slope) * (np.float32(tilt) * across[None, :] - down[:, None])
    depth = cv2.resize(np.maximum(grid + 1, 0.15), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(depth, np.float32)
