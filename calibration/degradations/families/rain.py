"""Rain, drawn in seven ways."""

from __future__ import annotations

from dataclasses import dataclass

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
    guided,
    log_uniform,
    luminance,
    shipped,
    soft,
    soon,
)
from uir.calibration.degradations.rain import rain


@dataclass(frozen=True)
class _Layer:
    """Straight streaks of one kind.

    Attributes:
        density: streaks a pixel.
        covered: the largest share of the picture that they may cover; a hundredth of it is the least.
        length, width: the shortest and longest, in pixels of a 720-line picture.
        degrees, jitter: their direction from the vertical, and its deviation.
    """

    density: float
    covered: float
    length: tuple[float, float]
    width: tuple[float, float]
    degrees: float
    jitter: float

    def drawn(self, scene: Scene, rng: np.random.Generator) -> Plane:
        """The streaks one by one, of random shades in [0, 1]."""
        long_, wide = (log_uniform(*between, rng) * scene.size for between in (self.length, self.width))
        density = np.clip(self.density, 0.01 * self.covered / (long_ * wide), self.covered / (long_ * wide))
        x, y = scattered(scene.shape, int(density * scene.area), long_ / 2, rng)
        lengths = long_ * rng.uniform(0.5, 1.5, x.size)
        angles = np.radians(self.degrees + self.jitter * rng.standard_normal(x.size))
        run = lengths * np.sin(angles), lengths * np.cos(angles)
        wanted = wide * rng.uniform(0.6, 1.4, x.size)
        shade = rng.uniform(0.35, 1, x.size) * np.minimum(1, wanted)
        return lines(scene.shape, (x - run[0] / 2, y - run[1] / 2), run, shade, wanted)


def _combined(layers: list[Plane]) -> Plane:
    clear = np.ones_like(layers[0])
    for layer in layers:
        clear *= 1 - np.clip(layer, 0, 1)
    return 1 - clear


def streaks(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Lines one by one in up to three layers, few to very many, in about one direction, with a veil three times in ten.

    Domain randomisation of the additive model `O = B + S` of rain (W. Yang et al., "Deep Joint Rain Detection and
    Removal from a Single Image", CVPR 2017).
    """
    count, opacity = int(rng.integers(1, 4)), rng.uniform(0.5, 0.95) * soon(severity)
    layer = _Layer(
        density=10 ** (-3.4 + 1.5 * severity + rng.uniform(0, 0.5)),
        covered=(0.05 + 0.5 * severity) / count,
        length=(4, 80),
        width=(0.8, 4),
        degrees=rng.uniform(-40, 40),
        jitter=rng.uniform(0, 6),
    )
    layers = []
    for _ in range(count):
        blurred = soft(layer.drawn(scene, rng), rng.uniform(0.4, 1.5) * max(1.0, scene.size))
        layers.append(np.float32(opacity * rng.uniform(0.6, 1)) * blurred)
    effect = composite(scene, _combined(layers), rng)
    return both(effect, veil(scene, rng.uniform(0.05, 0.4) * severity, rng)) if rng.random() < 0.3 else effect


def dense(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Grains of noise drawn out into streaks, in one to five directions at once.

    As rain is made in image editors (and in the sets Rain100H of Yang et al., CVPR 2017, and Rain1400 of X. Fu et al.,
    CVPR 2017): sparse noise under a motion blur.
    """
    main, opacity = rng.uniform(-45, 45), rng.uniform(0.4, 0.95) * soon(severity)
    layers = []
    for number in range(rng.integers(1, 6)):
        length, width = log_uniform(8, 60, rng) * scene.size, log_uniform(0.6, 3, rng) * scene.size
        kernel = streak_kernel(min(length, 90), main + (rng.normal(0, 25) if number else 0.0), width)
        size = scene.shape[0] + kernel.shape[0], scene.shape[1] + kernel.shape[1]
        # So many grains that the streaks cover a given share of the picture.
        covered = (0.01 + 0.32 * severity) * rng.uniform(0.3, 1) / (1 + 0.5 * number)
        grains = rng.random(size, dtype=np.float32)
        limit = np.float32(covered / max(4.0, float(kernel.sum())))
        impulses = np.where(grains < limit, 0.4 + 0.6 * grains / limit, 0).astype(np.float32)
        layers.append(np.float32(opacity) * np.minimum(smeared(impulses, kernel, scene.shape), 1))
    return composite(scene, soft(_combined(layers), rng.uniform(0, 0.8)), rng)


def video(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Thin, short, faint streaks, nearly parallel, as a video's short exposure shows them.

    (J. Chen et al., "Robust Video Content Alignment and Compensation for Rain Removal in a CNN Framework", CVPR 2018.)
    """
    degrees, layers = rng.uniform(-30, 30), []
    for _ in range(rng.integers(1, 3)):
        layer = _Layer(10 ** (-3.4 + 1.5 * severity), 0.3, (8, 45), (0.5, 1.6), degrees, jitter=rng.uniform(0, 3))
        blurred = soft(layer.drawn(scene, rng), rng.uniform(0.35, 0.9))
        layers.append(np.float32(rng.uniform(0.3, 0.9) * soon(severity)) * blurred)
    return composite(scene, _combined(layers), rng)


def frozen(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Drops that a short exposure has caught: bright specks, hardly longer than wide, sharp and soft ones mixed."""
    degrees, layers = rng.uniform(-45, 45), []
    for _ in range(rng.integers(1, 4)):
        density = 10 ** (-3.3 + 1.5 * severity + rng.uniform(-0.3, 0.3))
        layer = _Layer(density, 0.12, (2, 12), (0.8, 3.5), degrees, jitter=rng.uniform(2, 15))
        blurred = soft(layer.drawn(scene, rng), log_uniform(0.35, 2, rng) * max(0.7, scene.size))
        layers.append(np.float32(rng.uniform(0.5, 1) * soon(severity)) * blurred)
    return composite(scene, _combined(layers), rng)


def defocused(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Wide long streaks, out of focus: drops near the camera, with finer ones behind."""
    degrees, size = rng.uniform(-30, 30), scene.size
    near = _Layer(2e-4 * (0.3 + severity) / size**2, 0.4, (60, 260), (4, 14), degrees, jitter=3).drawn(scene, rng)
    far = _Layer(2e-3 * severity, 0.1, (10, 50), (0.8, 2), degrees, jitter=3).drawn(scene, rng)
    opacity = soon(severity) * rng.uniform(0.2, 0.7)
    layers = [np.float32(opacity) * soft(near, rng.uniform(1.5, 5) * size)]
    layers.append(np.float32(opacity) * soft(far, rng.uniform(0.4, 1)))
    return composite(scene, _combined(layers), rng)


def accumulated(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Streaks too many to be told apart: drawn-out noise and a veil that thickens with the distance.

    (R. Li, L.-F. Cheong and R. Tan, "Heavy Rain Image Restoration", CVPR 2019.)
    """
    kernel = streak_kernel(min(log_uniform(15, 90, rng) * scene.size, 90), rng.uniform(-35, 35), rng.uniform(0.5, 2.5))
    size = scene.shape[0] + kernel.shape[0], scene.shape[1] + kernel.shape[1]
    texture = smeared(rng.standard_normal(size, dtype=np.float32), kernel, scene.shape)
    texture /= np.float32(np.sqrt(np.square(kernel).sum()))
    bright = np.maximum(texture - np.float32(rng.uniform(-0.5, 1)), 0) * np.float32(rng.uniform(0.15, 0.45) * severity)
    upward = np.ascontiguousarray(np.broadcast_to(1 - scene.down(), scene.shape))
    far = guided(upward, luminance(scene.image), max(2, int(20 * scene.size)), 1e-3)
    bright *= np.float32(0.4) + np.clip(far, 0, 1)
    effect = composite(scene, bright, rng)
    return both(veil(scene, rng.uniform(0.1, 0.6) * severity, rng), effect)


RAIN: Family = {
    "shipped": (0.18, shipped(rain)),
    "streaks": (0.25, streaks),
    "dense": (0.2, dense),
    "video": (0.12, video),
    "frozen": (0.08, frozen),
    "defocused": (0.07, defocused),
    "accumulated": (0.1, accumulated),
}
