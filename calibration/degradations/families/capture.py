"""What every picture has been through that names no degradation: a lens, a sensor, a camera's software, a file.

Each is mild, and each is drawn for some pictures only.
"""

from __future__ import annotations

import cv2
import numpy as np

from uir.calibration.degradations._common import Image
from uir.calibration.degradations.families.jpeg import encoded, filmed, settings
from uir.calibration.degradations.families.noise import correlated, sensor
from uir.calibration.degradations.families.scene import Effect, Family, Scene, clipped, luminance, soft


def lens(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """A little soft, and a little darker towards the corners."""
    sigma = severity * rng.uniform(0.2, 0.8)
    x, y = scene.across() - np.float32(0.75), scene.down() - np.float32(0.5)
    fall = (1 - np.float32(severity * rng.uniform(0, 0.25)) * (x * x + y * y))[..., None]
    return lambda image: clipped(soft(image, sigma) * fall)


def grain(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """The sensor's noise by day."""
    return (sensor, correlated)[rng.integers(2)](scene, 0.08 * severity, rng)


def software(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:  # noqa: ARG001
    """Sharpened or smoothed, with a tone curve, a white balance and a saturation of the maker's taste."""
    amount, radius = np.float32(severity * rng.uniform(-0.25, 0.8)), rng.uniform(0.6, 2)
    gamma, contrast = (
        np.float32(1 + severity * rng.uniform(-0.15, 0.15)),
        np.float32(severity * rng.uniform(-0.1, 0.25)),
    )
    balance = (1 + severity * rng.normal(0, 0.03, 3)).astype(np.float32)
    saturation = np.float32(1 + severity * rng.uniform(-0.2, 0.2))
    tuned = rng.random() < 0.6

    def effect(image: Image) -> Image:
        result = clipped(image + amount * (image - soft(image, radius)))
        if not tuned:
            return result
        result = np.minimum(result * balance, 1) ** gamma
        result += contrast * (result * result * (3 - 2 * result) - result)
        grey = luminance(result)[..., None]
        return clipped(grey + saturation * (result - grey))

    return effect


def resized(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Scaled down or up and back, by any filters."""
    height, width = scene.shape
    factor = 1 + severity * rng.uniform(-0.35, 0.5)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    ways = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4)
    there, back = (int(way) for way in rng.choice(ways, 2))

    def effect(image: Image) -> Image:
        other = cv2.resize(image, size, interpolation=there)
        return clipped(cv2.resize(other, (width, height), interpolation=back))

    return effect


def stored(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:  # noqa: ARG001
    """A JPEG of good quality, or, seldom, a frame of good H.264."""
    if rng.random() < 0.06:
        factor = int(14 + 12 * severity)
        return lambda image: filmed(image, factor)
    chosen = settings(98 - 38 * severity * rng.random(), rng)
    return lambda image: encoded(image, ".jpg", chosen)


CAPTURE: Family = {
    "lens": (0.15, lens),
    "grain": (0.2, grain),
    "software": (0.25, software),
    "resized": (0.15, resized),
    "stored": (0.3, stored),
}
"""By name, with how often each is part of a picture's history. Unlike a family's members, several may be."""
