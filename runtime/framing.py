"""Frames as an engine takes them: checked, padded to what it can divide, and cut where they are too large."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.runtime.backends import Backend, Shapes
from uir.runtime.errors import FrameError
from uir.runtime.manifest import FrameContract
from uir.runtime.tiles import Grid, plan

USUAL = 720, 1280
"""Height and width, pixels, that an engine for frames of all sizes is tuned for."""


@dataclass(frozen=True)
class Framing:
    """What sizes a package's engines are given.

    Attributes:
        contract: the package's.
        max_pixels: how many an engine is given at once; larger frames are cut into windows.
        static: the backend builds for given sizes.
    """

    contract: FrameContract
    max_pixels: int
    static: bool

    @classmethod
    def within(cls, memory: int, contract: FrameContract, backend: Backend) -> Framing:
        """The sizes for which a backend's activations take so many bytes at most.

        They are the same however many frames are computed at once: engines and tiles shall not depend on that.
        """
        return cls(contract, int(memory / contract.bytes_per_pixel / backend.most_at_once), backend.static)

    def grid(self, height: int, width: int, *, alone: bool) -> Grid:
        """How a frame is cut into windows; in one where it fits.

        Args:
            alone: for an engine of this size alone; those for all sizes have, on some backends, a longest side.
        """
        down, across = self.missing(height, width)
        return plan(
            height + down,
            width + across,
            multiple=self.contract.multiple_of,
            overlap=self.overlap,
            max_pixels=self.max_pixels,
            max_side=self._longest if self.static and not alone else None,
        )

    @property
    def overlap(self) -> int:
        """How far tiles overlap on each side, pixels: a little in any case, so that they can be compared."""
        return max(self.contract.overlap, self.contract.multiple_of)

    def missing(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns that a frame lacks to be one that the network can divide."""
        return -height % self.contract.multiple_of, -width % self.contract.multiple_of

    def shapes(self, size: tuple[int, int] | None) -> Shapes | None:
        """The frames that an engine is built for: of one height and width, or all; None where the backend takes any."""
        if not self.static:
            return None
        if size is not None:
            grid = self.grid(*size, alone=True)
            return Shapes.only((1, grid.height, grid.width))
        multiple, longest = self.contract.multiple_of, self._longest
        usual = tuple(min(longest, length + -length % multiple) for length in USUAL)
        return Shapes((1, multiple, multiple), (1, usual[0], usual[1]), (1, longest, longest))

    @property
    def _longest(self) -> int:
        """The longest side that an engine for all sizes takes: of the largest square within the limit."""
        multiple = self.contract.multiple_of
        return max(multiple, math.isqrt(self.max_pixels) // multiple * multiple)


def check_frame(frame: NDArray[np.uint8]) -> None:
    """Raise a FrameError that says what to do, unless this is one frame, or a batch of them, uint8 RGB."""
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8:
        found = frame.dtype if isinstance(frame, np.ndarray) else type(frame).__name__
        raise FrameError(
            f"a frame is a uint8 array, and this is {found}; convert floats in [0, 1] with "
            "(x * 255).round().astype('uint8')"
        )
    if frame.ndim not in (3, 4) or frame.shape[-1] != 3 or frame.size == 0:
        raise FrameError(
            f"a frame is H x W x 3 RGB, or N x H x W x 3 for a batch; this is {' x '.join(map(str, frame.shape))}"
        )


def pad(frames: NDArray[np.uint8], down: int, across: int) -> NDArray[np.uint8]:
    """Extend frames (N x H x W x 3) at the bottom and the right by mirroring, which invents no edge."""
    if not down and not across:
        return np.ascontiguousarray(frames)
    # BORDER_REFLECT_101 repeats the mirror where a frame is smaller than what is added to it.
    padded = [cv2.copyMakeBorder(frame, 0, down, 0, across, cv2.BORDER_REFLECT_101) for frame in frames]
    return np.stack(padded) if len(padded) > 1 else padded[0][None]


def crop(frames: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Take off what `pad` added."""
    if frames.shape[1:3] == (height, width):
        return frames
    return np.ascontiguousarray(frames[:, :height, :width])
