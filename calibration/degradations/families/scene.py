"""What the families share: the scene that is looked at, and what a member makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.calibration.degradations._common import Image, to_encoded, to_linear

Plane = NDArray[np.float32]
"""H x W."""

Effect = Callable[[Image], Image]
"""A degradation of which everything random is drawn: a pure function from an image to a new one of the same shape."""

_LARGEST = 1440.0
_SMALLEST = 360.0


@dataclass(frozen=True)
class Scene:
    """The clean picture, and where in a larger one it lies.

    A training patch is a crop: drops and flakes in it have the size, and fields the extent, that they have in the whole
    picture. What an effect depends on is drawn from this clean picture, so that it is the same effect whatever else
    is applied before it.

    Attributes:
        image: the clean picture, H x W x 3, sRGB-encoded.
        lines: the height of the whole picture, in pixels of this one.
        top, left: where this one begins, in units of `lines`.
        present: the names of all degradations that it will have.
    """

    image: Image
    lines: float
    top: float = 0.0
    left: float = 0.0
    present: frozenset[str] = frozenset()

    @classmethod
    def draw(
        cls,
        image: Image,
        rng: np.random.Generator,
        lines: float | None = None,
        present: frozenset[str] = frozenset(),
    ) -> Scene:
        """Place the picture in a larger one, of a height between its own and 1440 lines unless `lines` says it."""
        height, width = image.shape[:2]
        if lines is None:
            lines = height * max(1.0, _LARGEST / height) ** rng.random()
        top, left = rng.random(2) * (max(0.0, lines - height) / lines, max(0.0, 1.5 * lines - width) / lines)
        return cls(image, lines, float(top), float(left), present)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def area(self) -> int:
        """In pixels."""
        return int(self.image.shape[0] * self.image.shape[1])

    @property
    def size(self) -> float:
        """How many pixels high a thing is that measures one pixel in a picture of 720 lines.

        No picture is so small that drops and flakes are less than half of that.
        """
        return max(self.lines, _SMALLEST) / 720

    def down(self) -> Plane:
        """How far each row lies from the whole picture's top, in units of `lines`: H x 1."""
        return (np.arange(0.5, self.shape[0], dtype=np.float32) / np.float32(self.lines) + np.float32(self.top))[
            :, None
        ]

    def across(self) -> Plane:
        """The same for columns, from the left: 1 x W."""
        return (np.arange(0.5, self.shape[1], dtype=np.float32) / np.float32(self.lines) + np.float32(self.left))[None]

    def clouds(self, cells: float, rng: np.random.Generator, octaves: int = 1) -> Plane:
        """A smooth irregular field of mean about 0 and deviation about 1, H x W.

        Args:
            cells: how many irregularities the whole picture has from top to bottom.
            octaves: each adds irregularities half as large and a little more than half as strong (K. Perlin, "An Image
                Synthesizer", SIGGRAPH 1985).
        """
        height, width = self.shape
        total = np.zeros((height, width), np.float32)
        power = 0.0
        for octave in range(octaves):
            step = cells * 2**octave / self.lines
            grid = rng.standard_normal((int(height * step) + 5, int(width * step) + 5), dtype=np.float32)
            x, y = rng.random(2) + 1.5
            place = np.array([[step, 0, x], [0, step, y]])
            flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
            field = cv2.warpAffine(grid, place, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT)
            strength = 0.6**octave
            total += np.float32(strength) * np.asarray(field, np.float32)
            power += strength**2
        total *= np.float32(1.3 / power**0.5)
        return total


Member = Callable[[Scene, float, np.random.Generator], Effect]
"""One model of a degradation: draws an effect of a severity in [0, 1], from none to very strong, for a scene."""

Family = Mapping[str, tuple[float, Member]]
"""Independent models of one degradation by name, each with its share of the draws."""


def shipped(function: Callable[[Image, float, int], Image]) -> Member:
    """The function that `uir-degrade` draws, as one member of its family."""

    def member(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:  # noqa: ARG001
        seed = int(rng.integers(2**31))
        return lambda image: function(image, severity, seed)

    return member


def log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    """A number between the two, whose logarithm is uniform."""
    return float(low * (high / low) ** rng.random())


def soon(severity: float) -> float:
    """Grows from 0 to 1 by severity 0.2: it hides at severity 0 what varies in other ways above."""
    return min(1.0, severity / 0.2)


def clipped(image: NDArray[Any]) -> Image:
    """The image within [0, 1], in place, as float32."""
    result = np.asarray(image, np.float32)
    return np.clip(result, 0, 1, out=result)


def light_or_code(effect: Effect, rng: np.random.Generator) -> Effect:
    """The effect on linear light, as physics has it, or on sRGB codes, as many generators do: one half each."""
    if rng.random() < 0.5:
        return lambda image: clipped(effect(image))
    return lambda image: to_encoded(effect(to_linear(image)))


def luminance(image: Image) -> Plane:
    """The mean of the colours, H x W."""
    return np.asarray(image @ np.full(3, 1 / 3, np.float32), np.float32)


def soft(plane: NDArray[np.float32], sigma: float) -> Plane:
    """Blurred by a Gaussian, edges reflected; unchanged for a sigma of a tenth of a pixel or less."""
    if sigma <= 0.1:
        return plane
    if sigma > 8:  # a wide blur of a picture reduced is the same to the eye, and its cost does not grow with sigma
        height, width = plane.shape[:2]
        factor = sigma / 4
        small = cv2.resize(plane, (max(1, round(width / factor)), max(1, round(height / factor))), interpolation=3)
        blurred = cv2.GaussianBlur(small, (0, 0), 4.0, borderType=cv2.BORDER_REFLECT)
        return np.asarray(cv2.resize(blurred, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_REFLECT), np.float32)


def guided(field: Plane, guide: Plane, radius: int, epsilon: float) -> Plane:
    """The field, smoothed but for the guide's edges (K. He, J. Sun and X. Tang, "Guided Image Filtering", 2013)."""

    def mean(plane: NDArray[Any]) -> Plane:
        return np.asarray(cv2.blur(plane, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT), np.float32)

    middle, smooth = mean(guide), mean(field)
    slope = (mean(guide * field) - middle * smooth) / (mean(guide * guide) - middle * middle + np.float32(epsilon))
    return np.asarray(mean(slope) * guide + mean(smooth - slope * middle), np.float32)
