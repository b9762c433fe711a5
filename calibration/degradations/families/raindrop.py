"""Drops of water on the glass before the camera, of five kinds."""

from __future__ import annotations

import cv2
import numpy as np

from uir.calibration.degradations._common import Image
from uir.calibration.degradations.families.overlay import scattered
from uir.calibration.degradations.families.scene import (
    Effect,
    Family,
    Plane,
    Scene,
    clipped,
    light_or_code,
    log_uniform,
    shipped,
    soft,
    soon,
)
from uir.calibration.degradations.raindrop import raindrop


def _bent(image: Image, x: Plane, y: Plane) -> Image:
    """The picture as seen from `x` and `y` pixels beside each place."""
    height, width = image.shape[:2]
    across = np.arange(width, dtype=np.float32)[None] + x
    along = np.arange(height, dtype=np.float32)[:, None] + y
    return np.asarray(cv2.remap(image, across, along, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.float32)


def _through_water(scene: Scene, depth: Plane, edge: float, rng: np.random.Generator) -> Effect:
    """The scene through water of a depth, H x W: bent by its slope, blurred, shaded, with a glint of the sky.

    (The lens model of S. You et al., "Adherent Raindrop Modeling, Detection and Removal in Video", TPAMI 2016; its mask
    soft as in R. Qian et al., CVPR 2018.)
    """
    size = scene.size
    depth = soft(depth, rng.uniform(0.5, 2) * size)
    across = np.asarray(cv2.Sobel(depth, cv2.CV_32F, 1, 0, ksize=3), np.float32)
    down = np.asarray(cv2.Sobel(depth, cv2.CV_32F, 0, 1, ksize=3), np.float32)
    reach = rng.uniform(40, 260) * size * size
    x, y = np.float32(-reach) * across, np.float32(-reach) * down
    cover = np.clip(depth * np.float32(1 / edge), 0, 1)
    cover = soft(cover, rng.uniform(0.3, 2.5) * size)[..., None]
    dimmed = rng.uniform(0.55, 1.05)
    shade = np.clip(np.float32(dimmed) - np.float32(rng.uniform(0, 0.5)) * (1 - np.minimum(depth, 1)), 0.1, 1.1)
    glint = np.clip(np.float32(-3 * size) * (down * np.float32(0.8) + across * np.float32(rng.normal(0, 0.4))), 0, 1)
    glint *= np.float32(rng.uniform(0, 0.6))
    blur = rng.uniform(1, 6) * size

    def seen(image: Image) -> Image:
        shown = _bent(soft(image, blur), x, y) * shade[..., None]
        shown += glint[..., None] * (1 - np.minimum(shown, 1))
        return np.asarray(image + cover * (shown - image), np.float32)

    return light_or_code(lambda image: clipped(seen(image)), rng)


def caps(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Single drops, round or sagging: caps that each show the scene upside down."""
    depth = np.zeros(scene.shape, np.float32)
    size = scene.size
    middling = log_uniform(6, 28, rng) * size
    count = int((0.02 + 0.3 * severity) * rng.uniform(0.4, 1) * scene.area / (3 * middling**2))
    tall = rng.uniform(0.9, 1.4)
    columns, rows = np.arange(scene.shape[1], dtype=np.float32), np.arange(scene.shape[0], dtype=np.float32)[:, None]
    x, y = scattered(scene.shape, min(count, 400), 1.5 * middling, rng)
    for middle_x, middle_y, part in zip(x.tolist(), y.tolist(), rng.lognormal(-0.1, 0.5, x.size).tolist(), strict=True):
        wide = min(middling * part, 3 * middling) * soon(severity) + 0.6
        high = wide * tall
        left, right = max(0, int(middle_x - wide)), int(middle_x + wide) + 2
        top, bottom = max(0, int(middle_y - high)), int(middle_y + high) + 2
        if right <= left or bottom <= top:
            continue
        u = (columns[left:right] - np.float32(middle_x)) * np.float32(1 / wide)
        v = (rows[top:bottom] - np.float32(middle_y)) * np.float32(1 / high)
        np.maximum(depth[top:bottom, left:right], 1 - u * u - v * v, out=depth[top:bottom, left:right])
    return _through_water(scene, depth, rng.uniform(0.15, 0.7), rng)


def film(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Water that has run together: patches of any outline, cut from noise, stretched where it runs down."""
    field = scene.clouds(scene.lines / (log_uniform(14, 60, rng) * scene.size), rng, octaves=2)
    if rng.random() < 0.4:
        stretched = cv2.blur(field, (1, 2 * int(rng.uniform(5, 30) * scene.size) + 1), borderType=cv2.BORDER_REFLECT)
        field = np.asarray(stretched, np.float32)
        field /= field.std() + np.float32(1e-3)
    share = (0.005 + 0.3 * severity) * rng.uniform(0.5, 1)
    limit = np.quantile(field[::3, ::3], 1 - share)
    depth = np.clip((field - np.float32(limit)) * np.float32(rng.uniform(0.6, 1.5)), 0, 1.5)
    depth *= np.float32(soon(severity))
    return _through_water(scene, depth, rng.uniform(0.15, 0.7), rng)


def blobs(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Drops so near the lens that they are but soft blurred spots, lighter or darker than what they cover."""
    cover = np.zeros(scene.shape, np.float32)
    size = scene.size
    middling = log_uniform(8, 40, rng) * size
    count = int((0.03 + 0.35 * severity) * rng.uniform(0.4, 1) * scene.area / (3 * middling**2))
    for x, y in zip(*scattered(scene.shape, min(count, 300), middling, rng), strict=True):
        wide = middling * rng.uniform(0.5, 1.3)
        axes = int(16 * wide), int(16 * wide * rng.uniform(0.9, 1.4))
        shade = rng.uniform(0.6, 1)
        cv2.ellipse(cover, (int(16 * x), int(16 * y)), axes, rng.normal(0, 20), 0, 360, shade, -1, cv2.LINE_AA, 4)
    cover = soft(cover, middling * rng.uniform(0.1, 0.4)) * np.float32(soon(severity) * rng.uniform(0.6, 1))
    gain = np.float32(rng.choice((rng.uniform(0.5, 0.85), rng.uniform(1.15, 1.5))))
    blur, lift = middling * rng.uniform(0.3, 1), np.float32(rng.uniform(-0.05, 0.2))
    share = cover[..., None]
    return lambda image: clipped(image + share * (np.clip(soft(image, blur) * gain + lift, 0, 1) - image))


def condensed(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """A fogged pane: fine droplets everywhere that scatter light, wiped or thin in places."""
    thin = np.clip(np.float32(0.5) + np.float32(0.5) * scene.clouds(rng.uniform(1.5, 5), rng, 2), 0, 1)
    fog = np.float32(severity * rng.uniform(0.6, 1.2)) * thin
    fine = np.clip(scene.clouds(scene.lines / (log_uniform(2.5, 7, rng) * scene.size), rng, 2), 0, 1)
    cover = np.clip(fog * (np.float32(0.6) + np.float32(rng.uniform(0.2, 0.8)) * fine), 0, 1)[..., None]
    blur, light = rng.uniform(3, 10) * scene.size, np.float32(rng.uniform(0, 0.4))
    return lambda image: clipped(image + cover * (soft(image, blur) * (1 - light) + light - image))


RAINDROP: Family = {
    "shipped": (0.22, shipped(raindrop)),
    "caps": (0.28, caps),
    "film": (0.2, film),
    "blobs": (0.2, blobs),
    "condensed": (0.1, condensed),
}
