"""Backends: what compiles a merged model and runs it. One file each, one interface."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]

Shape = tuple[int, int, int]
"""N, H and W of the frames that an engine is given in one call."""


@dataclass(frozen=True)
class Shapes:
    """The frames that an engine takes: from `smallest` to `largest`, fastest at `usual`. All equal: a static engine."""

    smallest: Shape
    usual: Shape
    largest: Shape

    @classmethod
    def only(cls, shape: Shape) -> Shapes:
        """One size alone."""
        return cls(shape, shape, shape)

    @property
    def static(self) -> bool:
        """Whether there is but one size."""
        return self.smallest == self.largest


class Engine(Protocol):
    """What a backend compiles for one composition.

    Attributes:
        nbytes: memory that it holds now, bytes, activations apart: on the machine and on the GPU together.
        held_pixels: of frames, as many as have their activations in float32 take the memory that it holds for
            activations now. It grows with the largest frame that was run.
    """

    @property
    def nbytes(self) -> int: ...

    @property
    def held_pixels(self) -> float: ...

    def run(self, frames: Frames) -> Frames:
        """Restore N x H x W x 3 uint8 RGB frames. Safe to call from many threads.

        H and W are as the package's frame contract says, and within the shapes that the engine was built for.

        Raises:
            BackendError: the run fails, such as for want of memory.
        """
        ...


class RefittableEngine(Engine, Protocol):
    """An engine whose weights can be exchanged."""

    def refit(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Exchange all the weights that it was built to exchange, by their names in the model, between two runs.

        Raises:
            BackendError: these are other weights, or the exchange fails; the engine is then not to be used.
        """
        ...


class Backend(Protocol):
    """Compiles merged ONNX models for one device.

    Attributes:
        name: as `--device` and the engine's key have it.
        preferred: the precisions that it runs, the fastest first.
        static: it needs to be told the sizes of frames, and is fastest with one size alone.
        durable: building takes so long that the built bytes are worth a file on disk.
        at_once: how many frames an engine computes at once, of as many threads.
        most_at_once: the same if it was opened for throughput. Engines are built alike for both.
    """

    name: str
    preferred: tuple[str, ...]
    static: bool
    durable: bool
    at_once: int
    most_at_once: int

    def identity(self) -> dict[str, str]:
        """All that makes this backend's engines differ from another's: versions, device, options, OS, architecture."""
        ...

    def build(self, model: bytes, shapes: Shapes | None) -> bytes:
        """Compile a serialised ONNX model to the bytes that `load` takes; for frames of any size if `shapes` is None.

        Raises:
            BackendError: the model cannot be compiled; the message carries the backend's own reason.
        """
        ...

    def load(self, built: bytes) -> Engine:
        """Make an engine of what `build` gave, here or in another process with the same `identity`.

        Raises:
            BackendError: these are no bytes of this backend, or the device has no room for them.
        """
        ...

    def refittable(self, weights: Collection[str]) -> Backend | None:
        """The same for engines whose weights of these names can be exchanged: its `load` gives a `RefittableEngine`.

        None where that gains nothing, since building is as quick, or cannot be had.
        """
        ...

    def describe(self) -> str:
        """The backend, its version and its device, in a few words."""
        ...
