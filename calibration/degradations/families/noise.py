"""Noise, of sensors, films and files."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.calibration.degradations._common import Image, to_encoded, to_linear
from uir.calibration.degradations.families.scene import (
    Effect,
    Family,
    Plane,
    Scene,
    clipped,
    log_uniform,
    luminance,
    shipped,
    soft,
    soon,
)
from uir.calibration.degradations.sensor import noise

_PATTERNS = (cv2.COLOR_BayerBG2RGB, cv2.COLOR_BayerGB2RGB, cv2.COLOR_BayerRG2RGB, cv2.COLOR_BayerGR2RGB)
_EDGE_AWARE = (cv2.COLOR_BayerBG2RGB_EA, cv2.COLOR_BayerGB2RGB_EA, cv2.COLOR_BayerRG2RGB_EA, cv2.COLOR_BayerGR2RGB_EA)


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    return rng.standard_normal(shape, dtype=np.float32)


def _sigma(severity: float, rng: np.random.Generator) -> np.float32:
    """Of values in [0, 1]: up to about 60/255."""
    return np.float32(60 / 255 * severity * rng.uniform(0.7, 1.1))


def gaussian(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """White noise: equal in the colours, of one strength for each, or the same in all (grey)."""
    way = int(rng.integers(4))
    grain = _normal((*scene.shape, 1 if way == 3 else 3), rng) * _sigma(severity, rng)
    if way == 2:
        grain *= rng.uniform(0.4, 1.3, 3).astype(np.float32)
    return lambda image: clipped(image + grain)


def sensor(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Shot and read noise in raw light, amplified, white-balanced, interpolated from a Bayer mosaic, tone-curved.

    (T. Brooks et al., "Unprocessing Images for Learned Raw Denoising", CVPR 2019; their ranges of shot and read noise,
    wider.) Only the difference that the noise makes after all this is added: the mosaic itself costs no sharpness.
    """
    shot = log_uniform(1e-3, 3e-2, rng) * severity**1.5
    read = np.sqrt(log_uniform(1e-5, 1e-3, rng)) * severity
    height, width = scene.shape
    grain = _normal((height + 8, width + 8), rng)  # the demosaic copies its two outermost rows
    gains = np.array([rng.uniform(1.3, 2.6), 1, rng.uniform(1.3, 2.6)], np.float32)
    kind = int(rng.integers(4))
    code = (_PATTERNS if rng.random() < 0.5 else _EDGE_AWARE)[kind]
    # OpenCV names a pattern by its second row, in BGR: where red lies, (row, column), in each of the four.
    red = ((0, 0), (0, 1), (1, 1), (1, 0))[kind]

    def effect(image: Image) -> Image:
        linear = cv2.copyMakeBorder(to_linear(image), 4, 4, 4, 4, cv2.BORDER_REFLECT_101) / gains
        raw = np.array(linear[..., 1])
        raw[red[0] :: 2, red[1] :: 2] = linear[red[0] :: 2, red[1] :: 2, 0]
        raw[1 - red[0] :: 2, 1 - red[1] :: 2] = linear[1 - red[0] :: 2, 1 - red[1] :: 2, 2]
        noisy = raw + grain * np.sqrt(raw * np.float32(shot) + np.float32(read * read))
        # A pedestal keeps what is below black, as a sensor's does, until the end.
        difference = _demosaiced(noisy, code) - _demosaiced(raw, code)
        return to_encoded(to_linear(image) + difference[4:-4, 4:-4] * gains)

    return effect


def _demosaiced(raw: Plane, code: int) -> Image:
    codes = np.clip((raw + np.float32(0.25)) * np.float32(40000), 0, 65535).astype(np.uint16)
    return np.asarray(cv2.cvtColor(codes, code), np.float32) * np.float32(1 / 40000)


def correlated(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Noise of several grain sizes, fine in brightness and coarse in colour, as scaling and denoising leave it."""
    sigma = np.float32(0.55) * _sigma(severity, rng)  # coarse grains hide more than fine ones
    bright = soft(_normal(scene.shape, rng), rng.uniform(0.3, 1.6))
    bright *= sigma / (bright.std() + np.float32(1e-6))
    colour = soft(_normal((*scene.shape, 3), rng), log_uniform(0.5, 5, rng))
    colour -= luminance(colour)[..., None]
    colour *= sigma * np.float32(rng.uniform(0, 0.7)) / (colour.std() + np.float32(1e-6))
    grain = bright[..., None] + colour
    curve = np.float32(rng.uniform(-0.8, 0.8))
    return lambda image: clipped(image + grain * (1 + curve * (2 * luminance(image)[..., None] - 1)))


def stored(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Noise that a JPEG has kept some of: blocky, and less of it where the file is small."""
    noisy = (gaussian, sensor, correlated)[rng.integers(3)](scene, severity, rng)
    settings = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 96))]

    def effect(image: Image) -> Image:
        codes = np.rint(noisy(image) * np.float32(255)).astype(np.uint8)
        plain = np.rint(image * np.float32(255)).astype(np.uint8)
        return clipped(image + (_round_trip(codes, settings) - _round_trip(plain, settings)))

    return effect


def _round_trip(codes: NDArray[np.uint8], settings: list[int]) -> Image:
    decoded = cv2.imdecode(cv2.imencode(".jpg", codes, settings)[1], cv2.IMREAD_COLOR)
    return np.asarray(decoded, np.float32) * np.float32(1 / 255)


def denoised(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Noise that a camera has smoothed: less of the fine, all of the coarse, and some of what it took for noise."""
    noisy = (gaussian, sensor)[rng.integers(2)](scene, severity, rng)
    share, wide = np.float32(rng.uniform(0.3, 0.9) * soon(severity)), rng.uniform(0.6, 1.4)
    reach = float(rng.uniform(0.1, 0.5) * severity)

    def effect(image: Image) -> Image:
        grainy = noisy(image)
        smooth = cv2.bilateralFilter(grainy, 5, max(reach, 0.01), wide, borderType=cv2.BORDER_REFLECT)
        return clipped(grainy + share * (np.asarray(smooth, np.float32) - grainy))

    return effect


def banded(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Rows and columns that differ, as readout makes them, a hum across the picture, and white noise with it.

    (K. Wei et al., "A Physics-Based Noise Formation Model for Extreme Low-Light Raw Denoising", CVPR 2020.)
    """
    height, width = scene.shape
    sigma = _sigma(severity, rng)
    shape = (height, 1, 3 if rng.random() < 0.4 else 1) if rng.random() < 0.7 else (1, width, 1)
    lines = _normal(shape, rng) * (sigma * np.float32(rng.uniform(0.2, 0.6)))
    hum = np.sin(scene.down() * np.float32(log_uniform(20, 900, rng)) + np.float32(rng.uniform(0, 6)))
    white = _normal((height, width, 3), rng) * (sigma * np.float32(rng.uniform(0.2, 0.8)))
    grain = white + lines + hum[..., None] * (sigma * np.float32(rng.choice((0.0, 0.3))))
    return lambda image: clipped(image + grain)


def impulses(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Salt, pepper and hot pixels, in all colours at once or in one, over a little white noise."""
    shape = (*scene.shape, 1 if rng.random() < 0.5 else 3)
    drawn = rng.random(shape, dtype=np.float32)
    share = np.float32(0.12 * severity**1.5 * rng.uniform(0.3, 1))
    low, high = rng.choice(((0.0, 1.0), (0.0, 1.0), (-1.0, 1.0), (0.0, 2.0)))
    white = _normal((*scene.shape, 3), rng) * (_sigma(severity, rng) * np.float32(0.25))
    salt, pepper = drawn < share * np.float32(min(high, 1)), drawn > 1 - share * np.float32(low == 0)

    def effect(image: Image) -> Image:
        return clipped(np.where(salt, np.float32(1), np.where(pepper, np.float32(0), image + white)))

    return effect


def speckle(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Noise in proportion to the light."""
    grain = soft(_normal((*scene.shape, 1 if rng.random() < 0.3 else 3), rng), rng.choice((0.0, 0.0, 0.7)))
    grain = grain.reshape(*scene.shape, -1) * (_sigma(severity, rng) * np.float32(1.6))
    return lambda image: clipped(image * (1 + grain))


def film(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Photographic grain: soft, strongest in the middle tones, mostly without colour.

    (A. Newson et al., "A Stochastic Film Grain Model for Resolution-Independent Rendering", CGF 2017, in its look.)
    """
    size = rng.uniform(0.5, 1.8)
    grey = soft(_normal(scene.shape, rng), size)
    grain = grey[..., None] + np.float32(rng.uniform(0, 0.5)) * soft(_normal((*scene.shape, 3), rng), size)
    grain *= np.float32(0.6) * _sigma(severity, rng) / (grain.std() + np.float32(1e-6))

    def effect(image: Image) -> Image:
        grey = luminance(image)[..., None]
        return clipped(image + grain * (np.float32(0.25) + np.float32(3) * grey * (1 - grey)))

    return effect


NOISE: Family = {
    "shipped": (0.15, shipped(noise)),
    "gaussian": (0.18, gaussian),
    "sensor": (0.2, sensor),
    "correlated": (0.13, correlated),
    "stored": (0.09, stored),
    "denoised": (0.07, denoised),
    "banded": (0.06, banded),
    "impulses": (0.04, impulses),
    "speckle": (0.04, speckle),
    "film": (0.04, film),
}
