"""Snow, drawn in five ways."""

from __future__ import annotations

import cv2
import numpy as np

from uir.calibration.degradations.families.overlay import (
    both,
    composite,
    lines,
    scattered,
    smeared,
    streak_kernel,
    veil,
)
from uir.calibration.degradations.families.scene import (
    Effect,
    Family,
    Plane,
    Scene,
    log_uniform,
    shipped,
    soft,
    soon,
)
from uir.calibration.degradations.snow import snow


def _often_veiled(scene: Scene, cover: Plane, severity: float, rng: np.random.Generator) -> Effect:
    effect = composite(scene, cover, rng)
    return both(effect, veil(scene, rng.uniform(0.05, 0.45) * severity, rng)) if rng.random() < 0.4 else effect


def flakes(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Round flakes of all sizes, each with the trail of its fall, in up to four layers of distance.

    As the snow masks of Snow100K (Y.-F. Liu et al., "DesnowNet", IEEE TIP 2018) have them, small to large.
    """
    wind, pace = rng.normal(0, 0.6), rng.uniform(0, 2.5)
    clear = np.ones(scene.shape, np.float32)
    for _ in range(rng.integers(1, 5)):
        width = log_uniform(1.5, 14, rng) * scene.size
        covered = (0.004 + 0.07 * severity) * rng.uniform(0.3, 1)
        x, y = scattered(scene.shape, int(covered * scene.area / width**2), width, rng)
        trail = pace * width * rng.uniform(0.3, 1, x.size)
        across = trail * (wind + rng.normal(0, 0.3, x.size))
        wide = width * rng.uniform(0.5, 1.4, x.size)
        drawn = lines(scene.shape, (x, y), (across, trail), rng.uniform(0.4, 1, x.size) * np.minimum(1, wide), wide)
        opacity = np.float32(rng.uniform(0.4, 1) * soon(severity))
        clear *= 1 - opacity * soft(drawn, width * rng.uniform(0.1, 0.45) + 0.3)
    return _often_veiled(scene, 1 - clear, severity, rng)


def grains(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Thresholded noise, enlarged and drawn out by the wind.

    (As ImageNet-C's snow: D. Hendrycks and T. Dietterich, "Benchmarking Neural Network Robustness", ICLR 2019.)
    """
    clear = np.ones(scene.shape, np.float32)
    degrees = rng.uniform(-70, 70)
    for _ in range(rng.integers(1, 4)):
        coarse = log_uniform(1, 5, rng) * max(scene.size, 0.7)
        kernel = streak_kernel(log_uniform(2, 15, rng), degrees + rng.normal(0, 8), 1.0)
        rows, columns = (int(np.ceil(side / coarse)) + kernel.shape[0] for side in scene.shape)
        share = 10 ** (-3.2 + 1.7 * severity + rng.uniform(-0.2, 0.4))
        seeds = rng.random((rows, columns), dtype=np.float32)
        impulses = np.where(seeds < share, 0.5 + 0.5 * seeds / np.float32(share), 0).astype(np.float32)
        inner = rows - kernel.shape[0] + 1, columns - kernel.shape[0] + 1
        field = np.minimum(smeared(impulses, kernel, inner), 1)
        height, width = scene.shape
        sized = cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)
        clear *= 1 - np.float32(rng.uniform(0.4, 1) * soon(severity)) * np.clip(np.asarray(sized, np.float32), 0, 1)
    return _often_veiled(scene, 1 - clear, severity, rng)


def clumps(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Irregular flakes: cut from noise, so that no two have one outline, sharp or soft."""
    clear = np.ones(scene.shape, np.float32)
    for _ in range(rng.integers(1, 3)):
        field = scene.clouds(scene.lines / (log_uniform(5, 22, rng) * scene.size), rng, octaves=2)
        limit = np.quantile(field[::3, ::3], 1 - (0.004 + 0.1 * severity * rng.uniform(0.4, 1)))
        shape = np.clip((field - np.float32(limit)) * np.float32(rng.uniform(1.5, 8)), 0, 1)
        clear *= 1 - np.float32(rng.uniform(0.5, 1) * soon(severity)) * soft(shape, rng.uniform(0, 1.2))
    return _often_veiled(scene, 1 - clear, severity, rng)


def lights(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Large faint discs, some brighter at the rim: flakes near a lens that is focused on the scene."""
    far = flakes(scene, 0.6 * severity, rng)
    canvas = np.zeros(scene.shape, np.float32)
    radius = log_uniform(8, 32, rng) * scene.size
    count = int(12 * (0.2 + severity) * scene.area / (60 * radius**2))
    opacity, rim = soon(severity) * rng.uniform(0.15, 0.6), rng.random() < 0.5
    for x, y in zip(*scattered(scene.shape, min(count, 150), radius, rng), strict=True):
        wide = radius * rng.uniform(0.5, 1.2)
        strong, place = opacity * rng.uniform(0.3, 1), (int(x * 16), int(y * 16))
        cv2.circle(canvas, place, int(wide * 16), strong, -1, cv2.LINE_AA, 4)
        if rim:
            cv2.circle(canvas, place, int(wide * 16), min(1.0, 1.5 * strong), 1, cv2.LINE_AA, 4)
    return both(far, composite(scene, soft(canvas, radius * rng.uniform(0.05, 0.35)), rng))


SNOW: Family = {
    "shipped": (0.18, shipped(snow)),
    "flakes": (0.36, flakes),
    "grains": (0.2, grains),
    "clumps": (0.14, clumps),
    "lights": (0.12, lights),
}
