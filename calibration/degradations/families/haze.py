"""Haze, of six kinds."""

from __future__ import annotations

import numpy as np

from uir.calibration.degradations._common import Image, to_encoded, to_linear
from uir.calibration.degradations.families.scene import (
    Effect,
    Family,
    Plane,
    Scene,
    guided,
    light_or_code,
    luminance,
    shipped,
    soft,
)
from uir.calibration.degradations.haze import haze


def _normal(depth: Plane, scene: Scene) -> Plane:
    """The depth between 0 and 1, its edges where the picture's are."""
    grey = luminance(scene.image)
    followed = guided(depth, grey, max(2, round(scene.lines / 20)), 1e-3)
    low, high = float(followed.min()), float(followed.max())
    # A crop of a large picture shows but a part of its depths.
    return (followed - np.float32(low)) / np.float32(max(high - low, 0.25))


def _depth(scene: Scene, rng: np.random.Generator) -> Plane:
    """A made-up depth: the sum of height, smooth irregularities and brightness, in random shares."""
    upward = np.clip(1 - scene.down(), 0, 1) ** np.float32(rng.uniform(0.5, 2))
    grey, drifts = luminance(scene.image), scene.clouds(rng.choice((1, 3, 6)), rng)
    depth = np.float32(rng.random()) * upward + np.float32(0.3 * rng.random()) * drifts
    depth += np.float32(rng.choice((0.0, 0.4))) * (grey if rng.random() < 0.6 else 1 - grey)
    return _normal(depth, scene)


def _sky(rng: np.random.Generator) -> Image:
    """The light of a bright sky, or, one time in four, of a dusk: rather warm or cool than green or pink."""
    bright = rng.uniform(0.25, 0.6) if rng.random() < 0.25 else rng.uniform(0.55, 1)
    warm, pink = rng.normal(0, 0.04), rng.normal(0, 0.01)
    return np.clip(bright * np.array([1 + warm + pink, 1 - pink, 1 - warm + pink]), 0, 1).astype(np.float32)


def _through(scene: Scene, optical: Plane, airlight: Image, rng: np.random.Generator) -> Effect:
    """Koschmieder's law for an optical depth, H x W or H x W x 3; one time in four with the blur of scattered light.

    (S. G. Narasimhan and S. K. Nayar, "Shedding Light on the Weather", CVPR 2003, for multiple scattering.)
    """
    passed = np.exp(-optical)
    passed = passed if passed.ndim == 3 else passed[..., None]
    spread = rng.uniform(1, 6) * scene.size if rng.random() < 0.25 else 0.0

    def scattered(image: Image) -> Image:
        if spread:
            image = image + (1 - passed) * (soft(image, spread) - image)
        return np.asarray(image * passed + airlight * (1 - passed), np.float32)

    return light_or_code(scattered, rng)


def _thickness(severity: float, rng: np.random.Generator) -> float:
    """The optical depth of the far end."""
    return float(2.9 * severity**1.3 * rng.uniform(0.7, 1.2))


def deep(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Haze by a depth whose edges are the picture's, with an even share from nothing to most of it."""
    optical = np.float32(_thickness(severity, rng)) * (np.float32(rng.uniform(0, 0.6)) + _depth(scene, rng))
    return _through(scene, optical, _sky(rng), rng)


def planes(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """A scene of a few planes, one behind the other, as a street or a stand of trees has them."""
    rough = soft(_depth(scene, rng), rng.uniform(2, 8) * scene.size)
    count = int(rng.integers(2, 6))
    steps = np.sort(rng.random(count)).astype(np.float32)
    layers = steps[np.clip((rough * count).astype(int), 0, count - 1)]
    depth = np.clip(guided(layers, luminance(scene.image), max(2, round(scene.lines / 40)), 1e-4), 0, 1)
    optical = np.float32(_thickness(severity, rng)) * (np.float32(rng.uniform(0, 0.4)) + depth)
    return _through(scene, optical, _sky(rng), rng)


def banks(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Drifting fog or smoke, thick here and thin there: turbulence in several octaves, not depth."""
    swirl = scene.clouds(rng.uniform(1.5, 5), rng, octaves=int(rng.integers(2, 6)))
    density = np.clip(np.float32(0.5) + np.float32(rng.uniform(0.2, 0.6)) * swirl, 0, 2)
    if rng.random() < 0.5:
        density = density * (np.float32(0.3) + _depth(scene, rng))
    return _through(scene, np.float32(0.8 * _thickness(severity, rng)) * density, _sky(rng), rng)


def coloured(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Dust, smoke and smog: an airlight of any warmth, and a thickness that differs from colour to colour.

    (Rayleigh and Mie: the smaller the particles, the more the short waves are scattered.)
    """
    warm, bright = rng.uniform(-0.25, 0.55), rng.uniform(0.45, 0.95)
    tint = np.array([1 + 0.25 * warm, 1 - 0.12 * max(warm, 0), 1 - 0.75 * warm if warm > 0 else 1 - 0.4 * warm])
    airlight = np.clip(bright * tint, 0, 1).astype(np.float32)
    waves = (1 + rng.uniform(0, 0.4) * np.array([-1, 0, 1])).astype(np.float32)
    depth = np.float32(rng.uniform(0.1, 0.8)) + _depth(scene, rng)
    return _through(scene, np.float32(0.8 * _thickness(severity, rng)) * depth[..., None] * waves, airlight, rng)


def night(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Haze at night: the lamps are what lights it, so that it glows around bright things and around lamps out of view.

    (Y. Li, R. Tan and M. Brown, "Nighttime Haze Removal with Glow and Multiple Light Colors", ICCV 2015.)
    """
    pale = rng.random()  # from sodium to white
    lamp = np.array([1.0, 0.68 + 0.3 * pale, 0.3 + 0.65 * pale + rng.normal(0, 0.03)], np.float32)
    x, y = scene.across(), scene.down()
    pools = np.full(scene.shape, rng.uniform(0.03, 0.2), np.float32)
    for _ in range(rng.integers(1, 5)):
        wide = np.float32(rng.uniform(0.08, 0.4))
        away = (x - np.float32(rng.uniform(-0.2, 1.7))) ** 2 + (y - np.float32(rng.uniform(-0.3, 0.8))) ** 2
        pools += np.float32(rng.uniform(0.1, 0.5)) * np.exp(-np.sqrt(away + np.float32(1e-4)) / wide)
    airlight = np.clip(pools, 0, 0.8)[..., None] * lamp
    depth = np.float32(rng.uniform(0.2, 1)) + _depth(scene, rng)
    passed = np.exp(np.float32(-0.7 * _thickness(severity, rng)) * depth)[..., None]
    glow, reach = np.float32(rng.uniform(0.3, 1.2) * severity), rng.uniform(0.02, 0.08) * scene.lines

    def glowing(image: Image) -> Image:
        linear = to_linear(image)
        lights = soft(np.maximum(linear - np.float32(0.6), 0), reach)
        return to_encoded(linear * passed + airlight * (1 - passed) + glow * lights)

    return glowing


HAZE: Family = {
    "shipped": (0.14, shipped(haze)),
    "deep": (0.36, deep),
    "planes": (0.14, planes),
    "banks": (0.13, banks),
    "coloured": (0.13, coloured),
    "night": (0.1, night),
}
