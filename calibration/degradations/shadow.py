"""Shadow: parts of the scene that the sun does not reach, lit by the sky alone."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.calibration.degradations._common import Image, check, scene_rng, to_encoded, to_linear

_DRIFT_PERIOD = 60.0
"""Seconds in which the shadow wanders once around."""


def shadow(image: Image, severity: float, seed: int, seconds: float = 0.0) -> Image:
    """Cast a shadow on the scene.

    In the umbra the sun is hidden and the sky's bluish light is what remains; through the penumbra the sun comes out.
    In linear light, `I = L * (1 - m * (1 - sky))`, with a soft-edged mask m and one `sky` for each colour (as the
    light model of H. Le and D. Samaras, "Shadow Removal via Shadow Image Decomposition", ICCV 2019). What casts it
    is a building (straight edges) or foliage (irregular ones); its penumbra widens with the distance from
    what casts it.

    The seed fixes the shadow's form, which wanders slowly with `seconds`. It is relative to the picture, whatever its
    size.

    Args:
        image: float32 H x W x 3, RGB, sRGB-encoded, in [0, 1].
        severity: 0 (unchanged) to 1 (about a quarter of the light is left in the umbra).
        seed: 0 or more.
        seconds: time in the video.

    Returns:
        A new array of the same shape, type and range.

    Raises:
        UsageError: as `check` says.
    """
    check("shadow", image, severity, seed)
    if severity == 0:
        return np.array(image)
    rng = scene_rng(seed)
    left = 0.27 ** (severity**1.1 * rng.uniform(0.9, 1.1))
    blueness = rng.uniform(0.04, 0.16) * (1 - left)
    sky = np.array([1 - blueness, 1, 1 + blueness], np.float32) * np.float32(left)
    mask = _mask(image.shape[:2], rng, seconds)
    linear = to_linear(image)
    linear *= 1 - mask[..., None] * (1 - sky)
    return to_encoded(linear)


def _mask(size: tuple[int, int], rng: np.random.Generator, seconds: float) -> NDArray[np.float32]:
    """How much of the sun is hidden, 0 to 1, H x W."""
    height, width = size
    longer = max(height, width)
    x = (np.arange(width, dtype=np.float32)[None, :] + np.float32(0.5 - width / 2)) / np.float32(longer)
    y = (np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5 - height / 2)) / np.float32(longer)
    phase = 2 * np.pi * seconds / _DRIFT_PERIOD
    covered, straight = rng.uniform(0.2, 0.4), rng.random() < 0.35
    angle, wide, narrow = rng.uniform(0, 2 * np.pi), rng.uniform(0.03, 0.09), rng.uniform(0.006, 0.02)

    leafy = rng.uniform(0.5, 1.5)
    form = leafy * (0.07 * _clouds(size, 6, rng, phase) + 0.03 * _clouds(size, 18, rng, 6 * phase))
    if straight:
        form *= 0.2
        form += _building(x, y, rng, phase)
    else:
        form += 0.16 * _clouds(size, 3, rng, phase)
    # The edge lies where it leaves the wanted part of the picture in shadow.
    step_y, step_x = max(1, height // 48), max(1, width // 48)
    form -= np.quantile(form[::step_y, ::step_x], 1 - covered).astype(np.float32)
    along = np.clip(np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y + np.float32(0.5), 0, 1)
    form /= np.float32(narrow) + np.float32(wide - narrow) * along
    mask = np.clip(form + np.float32(0.5), 0, 1)
    return np.asarray(mask * mask * (3 - 2 * mask), np.float32)


def _clouds(size: tuple[int, int], cells: int, rng: np.random.Generator, phase: float) -> NDArray[np.float32]:
    """A smooth irregular field in about [-1, 1], H x W, with so many cells along the longer side."""
    height, width = size
    longer = max(height, width)
    shape = max(2, round(cells * height / longer)), max(2, round(cells * width / longer))
    first, second = rng.uniform(-1, 1, (2, *shape)).astype(np.float32)
    field = np.float32(np.cos(phase)) * first + np.float32(np.sin(phase)) * second
    return np.asarray(cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def _building(
    x: NDArray[np.float32], y: NDArray[np.float32], rng: np.random.Generator, phase: float
) -> NDArray[np.float32]:
    """How far inside a shadow with two or three straight edges each pixel lies, as a share of the longer side."""
    angle = rng.uniform(0, 2 * np.pi) + 0.1 * np.sin(phase)
    form = np.full((y.size, x.size), np.inf, np.float32)
    for turn in (0.0, rng.uniform(1.2, 2.0), rng.uniform(3.4, 4.6))[: rng.integers(2, 4)]:
        offset = rng.uniform(0.0, 0.15)
        across, down = np.float32(np.cos(angle + turn)), np.float32(np.sin(angle + turn))
        np.minimum(form, across * x + down * y + np.float32(offset), out=form)
    return form
