"""What the degradations share: checks, light and randomness."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.runtime.errors import UsageError

Image = NDArray[np.float32]
"""H x W x 3, RGB, sRGB-encoded, in [0, 1]."""

_REFERENCE_LINES = 720.0
_FEWEST_LINES = 540.0


def check(name: str, image: Image, severity: float, seed: int) -> None:
    """Refuse what no degradation can work on.

    Raises:
        UsageError: the image is not float32 H x W x 3 with at least one pixel, the severity is not a number in
            [0, 1], or the seed is negative.
    """
    check_image(name, image)
    check_severity(name, severity)
    check_seed(name, seed)


def check_image(name: str, image: Image) -> None:
    """Raise `UsageError` unless the image is float32 H x W x 3 with at least one pixel."""
    if image.dtype != np.float32 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise UsageError(f"{name}: wants a float32 H x W x 3 image, not {image.dtype} {image.shape}")


def check_severity(name: str, severity: float) -> None:
    """Raise `UsageError` unless the severity is a finite number in [0, 1]."""
    if not (math.isfinite(severity) and 0 <= severity <= 1):
        raise UsageError(f"{name}={severity:g}: severity must be a number from 0 (unchanged) to 1 (heavy)")


def check_seed(name: str, seed: int) -> None:
    """Raise `UsageError` for a negative seed, which numpy takes none of."""
    if seed < 0:
        raise UsageError(f"{name}: seed {seed} is negative; give 0 or more")


def to_linear(image: Image) -> Image:
    """Decode sRGB (IEC 61966-2-1) to linear light; any shape, values in [0, 1]."""
    powered = cv2.pow((image.reshape(-1, 1) + np.float32(0.055)) * np.float32(1 / 1.055), 2.4)
    linear = np.asarray(powered, np.float32).reshape(image.shape)
    np.copyto(linear, image * np.float32(1 / 12.92), where=image <= 0.04045)
    return linear


def to_encoded(linear: Image) -> Image:
    """Encode linear light as sRGB (IEC 61966-2-1), clipped to [0, 1]; any shape."""
    linear = np.clip(linear, 0, 1)
    encoded = np.asarray(cv2.pow(linear.reshape(-1, 1), 1 / 2.4), np.float32).reshape(linear.shape)
    encoded *= np.float32(1.055)
    encoded -= np.float32(0.055)
    np.copyto(encoded, linear * np.float32(12.92), where=linear <= 0.0031308)
    np.clip(encoded, 0, 1, out=encoded)
    return encoded


def relative_size(lines: int) -> float:
    """How many pixels high a thing is that measures one pixel in a picture of 720 lines.

    Things grow with the picture, and below 540 lines they shrink no further: so small a picture is taken for a crop.
    """
    return max(lines, _FEWEST_LINES) / _REFERENCE_LINES


def brightness(linear: Image) -> float:
    """The light of the scene's bright parts, from a thumbnail, so that it hardly changes from frame to frame."""
    thumbnail = cv2.resize(linear, (16, 16), interpolation=cv2.INTER_AREA)
    return float(np.percentile(thumbnail.mean(axis=2), 90))


def scene_rng(seed: int) -> np.random.Generator:
    """The generator of what stays fixed over a whole video."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 0])))


def frame_rng(seed: int, seconds: float) -> np.random.Generator:
    """The generator of what is fresh in each frame; frames are told apart to the microsecond."""
    tick = round(seconds * 1e6) & 0xFFFF_FFFF_FFFF_FFFF
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 1, tick])))


def spread(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """So many random points in the unit square, as a 2 x count array, the first few of them as evenly spread as all.

    They are those of a low-discrepancy sequence (M. Roberts, "The Unreasonable Effectiveness of Quasirandom
    Sequences", 2018), jittered: a small picture gets its share too, and yet no pattern shows.
    """
    steps = np.array([[0.7548776662466927], [0.5698402909980532]])
    points: NDArray[np.float64] = (np.arange(count) * steps + 0.25 * rng.random((2, count)) + rng.random((2, 1))) % 1.0
    return points


def veil(image: Image, clear: NDArray[np.float32], light: Callable[[float], float]) -> Image:
    """Cover an image with drops or flakes that shine by the sky's light, mixed in linear light.

    Args:
        image: sRGB-encoded, H x W x 3.
        clear: the share of the scene's light that passes, H x W.
        light: the scene's `brightness` to that of what covers it.
    """
    linear = to_linear(image)
    colour = np.array([0.97, 1.0, 1.03], np.float32) * np.float32(min(light(brightness(linear)), 0.95))
    linear -= colour
    linear *= clear[..., None]
    linear += colour
    return to_encoded(linear)
