"""Blur, by lens, hand, movement and scaling."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.calibration.degradations._common import Image
from uir.calibration.degradations.blur import blur, point_spread
from uir.calibration.degradations.families.scene import (
    Effect,
    Family,
    Plane,
    Scene,
    clipped,
    guided,
    light_or_code,
    luminance,
    shipped,
)


def _convolved(kernel: Plane, rng: np.random.Generator) -> Effect:
    """By a kernel of sum 1, in light or in codes; sometimes highlights were brighter than the picture could show."""
    boost = np.float32(rng.uniform(1, 4) if rng.random() < 0.3 else 0)

    def effect(image: Image) -> Image:
        source = image + boost * np.maximum(image - np.float32(0.9), 0) if boost else image
        return clipped(np.asarray(cv2.filter2D(source, -1, kernel, borderType=cv2.BORDER_REFLECT), np.float32))

    return light_or_code(effect, rng)


def _widest(scene: Scene, severity: float, rng: np.random.Generator) -> float:
    return float(min(severity * scene.size * rng.uniform(0.7, 1.3), 1.6))


def gaussian(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """A Gaussian, round or long, or one of flatter or more peaked form.

    (The kernels of X. Wang et al., "Real-ESRGAN", ICCVW 2021, section 3.)
    """
    wide = 6 * _widest(scene, severity, rng) + 0.02
    narrow = wide * (1.0 if rng.random() < 0.5 else rng.uniform(0.15, 1))
    angle, power = rng.uniform(0, np.pi), rng.choice((1.0, 1.0, 0.6, 2.0))
    half = int(np.ceil(2.8 * wide)) + 1
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    u, v = (x * np.cos(angle) + y * np.sin(angle)) / wide, (y * np.cos(angle) - x * np.sin(angle)) / narrow
    kernel = np.exp(-0.5 * (u * u + v * v) ** power)
    return _convolved(np.asarray(kernel / kernel.sum(), np.float32), rng)


def aperture(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Out of focus: the image of a point is the iris, round or with five to eight blades, sometimes brighter-rimmed."""
    radius = 11 * _widest(scene, severity, rng) + 0.02
    blades, turn, rim = int(rng.choice((0, 0, 5, 6, 7, 8))), rng.uniform(0, 2), rng.uniform(0, 1.5)
    count = int(40 * (1 + radius**2))
    share = ((np.arange(count) + 0.5) / count) ** (1 / (2 + rim))
    angles = np.pi * (3 - 5**0.5) * np.arange(count)
    if blades:  # the distance from the middle to a side, for a corner's distance of 1
        sector = np.pi / blades
        share = share * np.cos(sector) / np.cos((angles + turn) % (2 * sector) - sector)
    return _convolved(point_spread(radius * share * np.exp(1j * angles)), rng)


def motion(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """A straight pan: evenly exposed, or fading to one end."""
    length = min(42 * _widest(scene, severity, rng), 90.0)
    places = np.linspace(-0.5, 0.5, int(length * 8) + 2)
    if rng.random() < 0.3:
        places = np.sign(places) * np.abs(places) ** rng.uniform(1, 2)
    return _convolved(point_spread(length * places * np.exp(1j * rng.uniform(0, np.pi))), rng)


def shake(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """A hand that trembles: a random walk with inertia, and impulsive turns.

    (G. Boracchi and A. Foi, "Modeling the Performance of Image Restoration from Motion Blur", IEEE TIP 2012.)
    """
    steps = 160
    inertia, jerk = rng.uniform(0.7, 1), rng.uniform(0.05, 0.35)
    kicks = jerk * (rng.normal(0, 1, steps) + 1j * rng.normal(0, 1, steps))
    kicks += np.where(rng.random(steps) < 0.02, 6 * jerk, 0) * np.exp(2j * np.pi * rng.random(steps))
    speed = np.exp(2j * np.pi * rng.random())
    speeds = []
    for kick in kicks.tolist():
        speed = inertia * speed + kick
        speeds.append(speed)
    path = np.cumsum(np.array(speeds))
    extent = max(float(np.ptp(path.real)), float(np.ptp(path.imag)), 1e-6)
    fine = np.interp(np.linspace(0, steps - 1, 900), np.arange(steps), path)
    return _convolved(point_spread(fine * (30 * _widest(scene, severity, rng) / extent)), rng)


def uneven(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """One part blurred more than another, as depth of field and moving things do: two blurs, shared out by a mask."""
    first = (gaussian, aperture, motion)[rng.integers(3)](scene, severity, rng)
    second = (gaussian, aperture)[rng.integers(2)](scene, severity * rng.uniform(0, 0.5), rng)
    field = guided(scene.clouds(rng.uniform(1, 4), rng), luminance(scene.image), max(2, round(scene.lines / 20)), 1e-3)
    share = np.clip(field * np.float32(rng.uniform(0.5, 2)) + np.float32(0.5), 0, 1)[..., None]

    def mixed(image: Image) -> Image:
        one, other = first(image), second(image)
        return clipped(other + share * (one - other))

    return mixed


def turned(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """A camera that zooms, or turns about its axis, during the exposure."""
    height, width = scene.shape
    middle = np.array([(rng.uniform(0, 1.5) - scene.left) * scene.lines, (rng.random() - scene.top) * scene.lines])
    reach = max(float(np.hypot(*(middle - (x, y)))) for x in (0, width) for y in (0, height))
    most = min(26 * _widest(scene, severity, rng), 40.0) / reach
    count = int(np.clip(most * reach * 0.8, 3, 16))
    zoom = rng.random() < 0.5
    places: list[NDArray[np.float64]] = []
    for step in np.linspace(-0.5, 0.5, count) * most:
        scale, angle = (1 + step, 0.0) if zoom else (1.0, step)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        places.append(np.hstack([turn, (middle - turn @ middle)[:, None]]))

    def effect(image: Image) -> Image:
        total = np.zeros_like(image)
        for place in places:
            cv2.accumulate(cv2.warpAffine(image, place, (width, height), borderMode=cv2.BORDER_REFLECT), total)
        return total * np.float32(1 / count)

    return light_or_code(effect, rng)


def enlarged(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Stored small and shown large, by any pair of filters."""
    height, width = scene.shape
    factor = 1 + 3.5 * severity * rng.uniform(0.5, 1)
    small = max(1, round(width / factor)), max(1, round(height / factor))
    shrink = int(rng.choice((cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)))
    grow = int(rng.choice((cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)))
    return lambda image: clipped(
        np.asarray(
            cv2.resize(cv2.resize(image, small, interpolation=shrink), (width, height), interpolation=grow), np.float32
        )
    )


BLUR: Family = {
    "shipped": (0.16, shipped(blur)),
    "gaussian": (0.16, gaussian),
    "aperture": (0.16, aperture),
    "motion": (0.15, motion),
    "shake": (0.14, shake),
    "uneven": (0.08, uneven),
    "turned": (0.05, turned),
    "enlarged": (0.1, enlarged),
}
