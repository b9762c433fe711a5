"""Raindrops on the windscreen or lens: small lenses that show the scene upside down."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.calibration.degradations._common import (
    Image,
    brightness,
    check,
    relative_size,
    scene_rng,
    spread,
    to_encoded,
    to_linear,
)

_EDGE = 0.3
"""The depth of water, in units of a single drop's depth, at which it holds together; below it the glass is dry."""

_REDUCED = 6
"""What drops show is taken from a picture reduced so many times: they are out of focus, and show it small."""


def raindrop(image: Image, severity: float, seed: int, seconds: float = 0.0) -> Image:
    """Put raindrops on the glass before the camera.

    In linear light, each pixel is `(1 - a) * scene + a * drop`, where a has soft edges, since the camera is focused on
    the scene (R. Qian et al., "Attentive Generative Adversarial Network for Raindrop Removal", CVPR 2018). A drop is a
    thick lens: towards its edge it is steeper, and bends light farther inwards, so that it shows a wide view, upside
    down, small and blurred; its steep rim passes little light, and its top has a glint of the sky (S. You et al.,
    "Adherent Raindrop Modeling, Detection and Removal in Video", IEEE TPAMI 2016). Drops are not round: the larger ones
    are made of lobes whose depths add up, and so do those of drops that touch.

    The seed fixes every drop. Most stick; with `seconds` some of the large ones slide, by fits and starts, and leave at
    the bottom. Drops are only added and grown as severity grows.

    Sizes follow the picture's height (they are right for 720 lines, double at 1440). Below 540 lines they shrink no
    further: so small a picture is taken for a crop of a larger one.

    Args:
        image: float32 H x W x 3, RGB, sRGB-encoded, in [0, 1].
        severity: 0 (unchanged) to 1 (drops on about a quarter of the picture).
        seed: 0 or more.
        seconds: time in the video.

    Returns:
        A new array of the same shape, type and range.

    Raises:
        UsageError: as `check` says.
    """
    check("raindrop", image, severity, seed)
    if severity == 0:
        return np.array(image)
    rng = scene_rng(seed)
    height, width = image.shape[:2]
    scale = relative_size(height) * rng.uniform(0.8, 1.3)
    reach = rng.uniform(120, 210) * scale
    depth, across, down = _water((height, width), scale, severity, rng, seconds)

    linear = to_linear(image)
    sky = np.float32(min(1.0, 0.3 + 0.8 * brightness(linear)))
    inside = depth - np.float32(_EDGE)
    edge = np.float32(3.5) * inside
    np.clip(edge, 0, 1, out=edge)
    covered = cv2.GaussianBlur(edge, (0, 0), 0.9 * scale)
    # The slope of a cap grows without end towards its edge.
    np.maximum(inside, 0, out=inside)
    steepness = np.float32(0.75) / np.sqrt(inside + np.float32(0.12))
    across *= steepness
    down *= steepness
    shown = _refracted(linear, across, down, reach)
    # Through the steep rim little light arrives.
    shown *= (np.float32(0.25) + np.float32(0.75) * edge)[..., None]
    glint = cv2.exp(((across + np.float32(0.3)) ** 2 + (down + np.float32(0.5)) ** 2) * np.float32(-40))
    shown += (glint * edge * (np.float32(0.5) * sky))[..., None]
    shown -= linear
    shown *= covered[..., None]
    linear += shown
    return to_encoded(linear)


def _refracted(linear: Image, across: NDArray[np.float32], down: NDArray[np.float32], reach: float) -> Image:
    """What the water shows at each pixel: the scene from `reach` times its slope farther on."""
    height, width = across.shape
    small = (max(1, width // _REDUCED), max(1, height // _REDUCED))
    blurred = cv2.GaussianBlur(cv2.resize(linear, small, interpolation=cv2.INTER_AREA), (0, 0), 1.0)
    # Pixel centres lie at halves.
    x = (np.arange(0.5, width, dtype=np.float32) - np.float32(reach) * across) * np.float32(small[0] / width)
    y = (np.arange(0.5, height, dtype=np.float32)[:, None] - np.float32(reach) * down) * np.float32(small[1] / height)
    x -= np.float32(0.5)
    y -= np.float32(0.5)
    return np.asarray(cv2.remap(blurred, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.float32)


def _water(
    size: tuple[int, int], scale: float, severity: float, rng: np.random.Generator, seconds: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """The water's depth (1 in the middle of a single drop) and its slope along x and y, each H x W."""
    lobes = _lobes(size, scale, severity, rng, seconds)
    height, width = size
    depth, across, down = np.zeros((3, height, width), np.float32)
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    for x, y, radius_x, radius_y in lobes.tolist():
        left, right = max(0, int(x - radius_x)), min(width, int(x + radius_x) + 2)
        top, bottom = max(0, int(y - radius_y)), min(height, int(y + radius_y) + 2)
        u = (columns[left:right] - np.float32(x)) * np.float32(1 / radius_x)
        v = (rows[top:bottom] - np.float32(y)) * np.float32(1 / radius_y)
        # The depth is (1 - u^2 - v^2)^2, smooth at its foot, and this its root.
        root = np.maximum(1 - u * u - v * v, 0)
        depth[top:bottom, left:right] += root * root
        across[top:bottom, left:right] += u * root
        down[top:bottom, left:right] += v * root
    return depth, across, down


def _lobes(
    size: tuple[int, int], scale: float, severity: float, rng: np.random.Generator, seconds: float
) -> NDArray[np.float64]:
    """The lobes of all drops, as rows of x, y and two radii in pixels."""
    height, width = size
    margin = 50 * scale
    tall, wide = height + 2 * margin, width + 2 * margin
    most = 1460 * tall * wide / (1280 * 720 * scale**2)
    total = int(np.ceil(most))
    x, y = spread(total, rng)
    size_, slender, lean, sag, bulge, turn, pace, rhythm, phase, slides = rng.random((10, total))
    # A drop appears at its turn and is grown soon after.
    grown = np.clip((severity - np.arange(total) / most) / 0.2, 0, 1) ** 0.5
    radius = (3.5 + 21 * size_**3.3) * scale * grown

    speed = np.where((slides < 0.35) & (size_ > 0.75), 12 + 60 * pace, 0.0) * scale
    beat = 2 * np.pi * (0.3 + 0.6 * rhythm)
    moved = speed * (seconds + np.sin(beat * seconds + 2 * np.pi * phase) / beat)
    fall = y + moved / tall
    turns = np.floor(fall)
    middle_y = (fall - turns) * tall - margin
    middle_x = ((x + turns * 0.6180339887498949) % 1.0) * wide - margin
    middle_x += np.where(speed > 0, 3 * scale * np.sin(moved / (25 * scale) + 6 * phase), 0.0)

    angle = 2 * np.pi * turn
    lean_x, lobe = radius * (0.2 * lean - 0.1), radius * (0.4 + 0.45 * bulge)
    body = [middle_x, middle_y, radius * (0.85 + 0.25 * slender), radius * (0.95 + 0.3 * sag)]
    side = [middle_x + 0.55 * radius * np.cos(angle), middle_y + 0.55 * radius * np.sin(angle), lobe, lobe]
    tail = [middle_x + lean_x, middle_y - 0.8 * radius, 0.65 * radius, radius]
    # Surface tension keeps the smallest drops round; those that slide draw a tail.
    lobes = np.hstack([body, np.compress(size_ > 0.45, side, axis=1), np.compress(speed > 0, tail, axis=1)])
    x, y, radius_x, radius_y = lobes
    seen = (np.minimum(radius_x, radius_y) > 0.5) & (x > -radius_x) & (x < width + radius_x) & (y > -radius_y)
    return lobes[:, seen & (y < height + radius_y)].T
