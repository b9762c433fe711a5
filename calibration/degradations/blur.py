"""Blur: a camera that moved during the exposure, or whose lens was out of focus."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.calibration.degradations._common import Image, check, relative_size, scene_rng, to_encoded, to_linear

_GOLDEN_ANGLE = np.pi * (3 - 5**0.5)


def blur(image: Image, severity: float, seed: int, seconds: float = 0.0) -> Image:
    """Blur the picture, by the camera's motion or by defocus.

    Both are convolutions in linear light, where the light of an exposure adds up: with the path that the camera's shake
    drew during it, or with the disc that the lens makes of a point out of focus.

    The seed fixes which, and the path; with `seconds` the hand sways and the focus hunts, slowly. What lies beyond the
    picture's edge is taken to be like the edge.

    Sizes follow the picture's height (they are right for 720 lines, double at 1440). Below 540 lines they shrink no
    further: so small a picture is taken for a crop of a larger one.

    Args:
        image: float32 H x W x 3, RGB, sRGB-encoded, in [0, 1].
        severity: 0 (unchanged) to 1 (paths of about 38 pixels or discs 20 across, of 720 lines).
        seed: 0 or more.
        seconds: time in the video.

    Returns:
        A new array of the same shape, type and range.

    Raises:
        UsageError: as `check` says.
    """
    check("blur", image, severity, seed)
    if severity == 0:
        return np.array(image)
    rng = scene_rng(seed)
    scale = relative_size(image.shape[0])
    if rng.random() < 0.5:
        points = _path(38 * scale * severity, rng, seconds)
    else:
        points = _disc(10 * scale * severity, rng, seconds)
    blurred = cv2.filter2D(to_linear(image), -1, point_spread(points), borderType=cv2.BORDER_REPLICATE)
    return to_encoded(np.asarray(blurred, np.float32))


def _sway(rng: np.random.Generator, seconds: float) -> float:
    """A number in [-1, 1] that changes slowly."""
    period, phase = rng.uniform(2, 5), rng.uniform(0, 2 * np.pi)
    return float(np.sin(2 * np.pi * seconds / period + phase))


def _disc(radius: float, rng: np.random.Generator, seconds: float) -> NDArray[np.complex128]:
    """Points that fill a disc evenly: a sunflower's."""
    radius *= 1 + 0.15 * _sway(rng, seconds)
    count = int(np.ceil(32 * (1 + radius**2)))
    number = np.arange(count) + 0.5
    points: NDArray[np.complex128] = radius * np.sqrt(number / count) * np.exp(1j * _GOLDEN_ANGLE * number)
    return points


def _path(length: float, rng: np.random.Generator, seconds: float) -> NDArray[np.complex128]:
    """Points along a bent path of about the given length."""
    angle = rng.uniform(0, np.pi) + 0.3 * _sway(rng, seconds)
    bend = rng.uniform(-0.9, 0.9) + 0.3 * _sway(rng, seconds)
    wiggle = rng.uniform(-0.5, 0.5) + 0.2 * _sway(rng, seconds)
    length *= 1 + 0.15 * _sway(rng, seconds)
    time = np.linspace(-0.5, 0.5, int(np.ceil(length)) * 8 + 1)
    points: NDArray[np.complex128] = (time + 1j * (bend * time**2 + wiggle * (4 * time**3 - 0.6 * time))) * (
        length * np.exp(1j * angle)
    )
    return points


def point_spread(points: NDArray[np.complex128]) -> NDArray[np.float32]:
    """The kernel that spreads light over the points (in pixels, x + iy) about their mean; odd sides, sum 1."""
    points = points - points.mean()
    left, top = np.floor(points.real).astype(int), np.floor(points.imag).astype(int)
    across, down = points.real - left, points.imag - top
    half_x, half_y = (int(np.ceil(np.abs(part).max())) + 1 for part in (points.real, points.imag))
    kernel = np.zeros((2 * half_y + 1, 2 * half_x + 1))
    for step_y, share_y in ((0, 1 - down), (1, down)):
        for step_x, share_x in ((0, 1 - across), (1, across)):
            np.add.at(kernel, (top + step_y + half_y, left + step_x + half_x), share_y * share_x)
    return np.asarray(kernel / kernel.sum(), np.float32)
