"""Shadow, cast by different things."""

from __future__ import annotations

import cv2
import numpy as np

from uir.calibration.degradations.families.overlay import scattered
from uir.calibration.degradations.families.scene import (
    Effect,
    Family,
    Plane,
    Scene,
    clipped,
    guided,
    light_or_code,
    log_uniform,
    luminance,
    shipped,
    soft,
)
from uir.calibration.degradations.shadow import shadow


def _shaded(mask: Plane, severity: float, rng: np.random.Generator) -> Effect:
    """Leave a share of the light, bluish or neutral, where the mask is 1.

    (The light model of H. Le and D. Samaras, "Shadow Removal via Shadow Image Decomposition", ICCV 2019: a factor and
    an offset for each colour.)
    """
    left = rng.uniform(0.15, 0.45) ** severity
    blue = rng.uniform(-0.03, 0.2) * (1 - left)
    factor = (left * np.array([1 - blue, 1 + rng.normal(0, 0.015), 1 + blue])).astype(np.float32)
    lift = np.float32(rng.choice((0.0, 0.015)) * severity)
    taken = np.clip(mask, 0, 1)[..., None] * (1 - factor)
    raised = lift * np.clip(mask, 0, 1)[..., None]
    return light_or_code(lambda image: clipped(image * (1 - taken) + raised), rng)


def _penumbra(scene: Scene, mask: Plane, rng: np.random.Generator) -> Plane:
    """Soften the mask, to one side more than to the other, as the distance from what casts it grows."""
    near, far = soft(mask, log_uniform(0.7, 5, rng) * scene.size), soft(mask, log_uniform(2, 20, rng) * scene.size)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.float32(np.cos(angle)) * scene.across() + np.float32(np.sin(angle)) * scene.down()
    share = np.clip(along, 0, 1)
    return np.asarray(near + share * (far - near), np.float32)


def polygons(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """What is built: a few corners, straight edges, large against the picture; sometimes several that overlap."""
    height, width = scene.shape
    mask = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(1, 4)):
        middle = rng.random(2) * (width, height)
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 8)))
        reach = rng.uniform(0.15, 0.7, angles.size) * max(min(height, width), 0.4 * scene.lines)
        corners = middle + reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        cv2.fillPoly(mask, [np.rint(corners * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
    return _shaded(_penumbra(scene, mask, rng), severity, rng)


def foliage(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Leaves and clouds: irregular at every scale, dappled where the sun comes through."""
    field = scene.clouds(log_uniform(1.5, 14, rng), rng, octaves=int(rng.integers(1, 5)))
    limit = (
        np.quantile(field[::3, ::3], rng.uniform(0.3, 0.8)) if scene.lines < 2 * scene.shape[0] else rng.normal(0, 0.5)
    )
    mask = np.clip((field - np.float32(limit)) * np.float32(log_uniform(1, 6, rng)) + np.float32(0.5), 0, 1)
    return _shaded(mask, severity, rng)


def figure(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """A person, a tree, a lamp post: round and long limbs that hang together, leaning with the sun."""
    height, width = scene.shape
    mask = np.zeros((height, width), np.float32)
    large = rng.uniform(0.25, 0.8) * max(height, 0.5 * scene.lines)
    x, y = rng.random(2) * (width, height)
    heading = rng.uniform(0, 2 * np.pi)
    for _ in range(rng.integers(2, 8)):
        heading += rng.normal(0, 0.6)
        limb = large * rng.uniform(0.1, 0.5), large * rng.uniform(0.03, 0.25)
        centre = int(16 * x), int(16 * y)
        axes = max(1, int(16 * limb[0])), max(1, int(16 * limb[1]))
        cv2.ellipse(mask, centre, axes, np.degrees(heading), 0, 360, 1.0, -1, cv2.LINE_AA, 4)
        x, y = x + limb[0] * np.cos(heading), y + limb[0] * np.sin(heading)
    return _shaded(_penumbra(scene, mask, rng), severity, rng)


def blinds(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """A fence, blinds or branches: many stripes, even or not."""
    angle = rng.uniform(0, np.pi)
    along = np.float32(np.cos(angle)) * scene.across() + np.float32(np.sin(angle)) * scene.down()
    along = along + np.float32(rng.choice((0, 0.02))) * scene.clouds(3, rng)
    wave = np.sin(along * np.float32(2 * np.pi * log_uniform(3, 25, rng)) + np.float32(rng.uniform(0, 6)))
    mask = np.clip((wave + np.float32(rng.uniform(-0.5, 0.5))) * np.float32(log_uniform(1, 8, rng)), 0, 1)
    return _shaded(_penumbra(scene, mask, rng), severity, rng)


def unlit(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Whole surfaces that the light does not reach, so that the shadow ends where they end."""
    field = scene.clouds(rng.uniform(1, 4), rng, 2) + np.float32(rng.uniform(0, 2)) * luminance(scene.image)
    followed = guided(field, luminance(scene.image), max(2, round(scene.lines / 25)), 2e-4)
    mask = np.clip((followed - followed.mean()) * np.float32(rng.uniform(1.5, 5)) + np.float32(0.5), 0, 1)
    return _shaded(mask, severity, rng)


def leaves(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Single leaves, birds or drops of shade, scattered."""
    mask = np.zeros(scene.shape, np.float32)
    large = log_uniform(0.02, 0.1, rng) * scene.lines
    count = int(rng.uniform(0.1, 0.6) * scene.area / large**2) + 1
    for x, y in zip(*scattered(scene.shape, min(count, 250), large, rng), strict=True):
        axes = int(16 * large * rng.uniform(0.3, 1)), int(16 * large * rng.uniform(0.15, 0.6))
        cv2.ellipse(mask, (int(16 * x), int(16 * y)), axes, rng.uniform(0, 180), 0, 360, 1.0, -1, cv2.LINE_AA, 4)
    return _shaded(_penumbra(scene, mask, rng), severity, rng)


SHADOW: Family = {
    "shipped": (0.2, shipped(shadow)),
    "polygons": (0.22, polygons),
    "foliage": (0.2, foliage),
    "figure": (0.16, figure),
    "blinds": (0.06, blinds),
    "unlit": (0.08, unlit),
    "leaves": (0.08, leaves),
}
