"""Too little light, in seven ways."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from uir.calibration.degradations._common import Image, to_encoded, to_linear
from uir.calibration.degradations.families.scene import (
    Effect,
    Family,
    Plane,
    Scene,
    clipped,
    guided,
    luminance,
    shipped,
    soft,
)
from uir.calibration.degradations.sensor import lowlight


def _left(severity: float, rng: np.random.Generator) -> float:
    """The share of the light that is left, down to a thirtieth."""
    return float(2.0 ** (-np.log2(20) * severity * rng.uniform(0.7, 1.15)))


def _dimmed(linear: Image, light: Plane | np.float32, headroom: np.float32) -> Image:
    """Dim a linear image, lamps and skies less: they have the light that was clipped, and so stay bright for longer.

    (As the inverse tone curves do that make high dynamic range of one picture: G. Eilertsen et al., "HDR image
    reconstruction from a single image using deep CNNs", SIGGRAPH Asia 2017, section 4.)
    """
    over = np.maximum(linear.max(axis=2, keepdims=True) - np.float32(0.65), 0) * np.float32(2.8)
    return np.asarray(np.minimum(linear * (1 + headroom * over * over) * light, linear), np.float32)


def _headroom(rng: np.random.Generator) -> np.float32:
    return np.float32(rng.choice((0.0, 0.0, 1.0, 4.0, 10.0)))


def exposed(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:  # noqa: ARG001
    """Exposed too short: a share of the linear light; what was clipped may be bright still."""
    left, headroom = np.float32(_left(severity, rng)), _headroom(rng)
    return lambda image: to_encoded(_dimmed(to_linear(image), left, headroom))


def curved(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:  # noqa: ARG001
    """By a gamma and a gain on the codes, as most training sets are darkened.

    (K. Lore et al., "LLNet", Pattern Recognition 2017; F. Lv et al., "Attention Guided Low-Light Image Enhancement",
    IJCV 2021: `y = b * (a * x) ** g`.)
    """
    gamma = 1 + severity * rng.uniform(0.3, 3)
    gain, last = 1 - severity * rng.uniform(0, 0.3), 1 - severity * rng.uniform(0, 0.45)
    return lambda image: clipped((image * np.float32(gain)) ** np.float32(gamma) * np.float32(last))


def developed(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:  # noqa: ARG001
    """As a camera shows a dark exposure: deep blacks or a raised black level, a cast, colours paler than by day."""
    left, headroom = np.float32(_left(severity, rng)), _headroom(rng)
    contrast = np.float32(1 + severity * rng.uniform(-0.2, 0.5))
    black = np.float32(severity * rng.uniform(-0.03, 0.05))
    pale = np.float32(1 - severity * rng.uniform(-0.1, 0.6))
    cast = (1 + severity * rng.normal(0, 0.1, 3)).astype(np.float32)

    def effect(image: Image) -> Image:
        codes = to_encoded(_dimmed(to_linear(image), left, headroom) * cast)
        grey = luminance(codes)[..., None]
        codes = grey + pale * (codes - grey)
        return clipped((np.maximum(codes, 0) ** contrast) * (1 - black) + black)

    return effect


def lamplit(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Night, lit by pools of warm or cold light around what is bright and around lamps out of view."""
    dark, lit = np.float32(_left(severity, rng)), np.float32(_left(0.35 * severity, rng))
    tint = np.array([1 + 0.35 * rng.uniform(-0.4, 1), 1, 1 - 0.5 * rng.uniform(-0.4, 1)])
    tint = (1 + severity * (tint - 1)).astype(np.float32)
    pools = np.zeros(scene.shape, np.float32)
    for _ in range(rng.integers(0, 4)):
        wide = np.float32(rng.uniform(0.08, 0.4))
        away = (scene.across() - np.float32(rng.uniform(-0.1, 1.6))) ** 2
        away = away + (scene.down() - np.float32(rng.uniform(-0.1, 1.1))) ** 2
        np.maximum(pools, np.exp(-away / (wide * wide)), out=pools)
    around = soft(np.maximum(luminance(scene.image) - np.float32(0.7), 0), 0.05 * scene.lines)
    pools = np.clip(pools + np.float32(rng.uniform(0, 6)) * around, 0, 1)
    light = (dark + pools * (lit - dark))[..., None]
    headroom = np.float32(rng.uniform(1, 12))
    return lambda image: to_encoded(_dimmed(to_linear(image), light, headroom) * tint)


def backlit(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Exposed for the window or the sky: what is bright stays so, all else is dark, bordered as the picture is."""
    grey = luminance(scene.image)
    bright = soft(grey, 0.02 * scene.lines)
    limit = np.float32(rng.uniform(0.35, 0.75))
    share = np.clip((bright - limit) * np.float32(rng.uniform(2, 6)) + np.float32(0.5), 0, 1)
    share = np.clip(guided(share, grey, max(2, round(scene.lines / 20)), 1e-3), 0, 1)
    dark = np.float32(_left(severity, rng))
    light = (dark + share * (np.float32(_left(0.2 * severity, rng)) - dark))[..., None]
    return lambda image: to_encoded(to_linear(image) * light)


def unequal(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Darker towards the corners, to one side, or in drifts."""
    x, y = scene.across() - np.float32(0.75), scene.down() - np.float32(0.5)
    field: NDArray[Any] = np.float32(rng.uniform(0, 0.7)) * scene.clouds(rng.uniform(0.7, 2), rng)
    angle = rng.uniform(0, 2 * np.pi)
    field = field + np.float32(rng.uniform(0, 1.5)) * (np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y)
    field = field + np.float32(rng.uniform(0, 1.5)) * (x * x + y * y)
    stops = np.float32(np.log2(20) * severity * rng.uniform(0.6, 1.1))
    light = np.exp2(-stops * np.clip(np.float32(0.6) + field, 0.35, 1.4))[..., None]
    headroom = _headroom(rng)
    return lambda image: to_encoded(_dimmed(to_linear(image), light, headroom))


def noiseless(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """As shipped; but where noise is a degradation of its own, without that of the dark exposure."""
    if "noise" in scene.present:
        return exposed(scene, severity, rng)
    return shipped(lowlight)(scene, severity, rng)


LOWLIGHT: Family = {
    "shipped": (0.16, noiseless),
    "exposed": (0.2, exposed),
    "curved": (0.16, curved),
    "developed": (0.18, developed),
    "lamplit": (0.12, lamplit),
    "backlit": (0.08, backlit),
    "unequal": (0.1, unequal),
}
