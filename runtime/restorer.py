"""The `Restorer`: a package and a composition, and then frame in, frame out."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.runtime.backends import Engine, Shapes
from uir.runtime.backends.devices import open_backend
from uir.runtime.composition import Composition
from uir.runtime.disk_cache import DiskCache, default_folder
from uir.runtime.engine_key import EngineKey
from uir.runtime.engines import EngineCache, Recipe
from uir.runtime.errors import FrameError, UsageError
from uir.runtime.merge import fill_graph, merge_package
from uir.runtime.package import PRECISIONS, Package, Precision
from uir.runtime.tiles import Grid, plan, restore_tiled

log = logging.getLogger(__name__)

DEFAULT_MEMORY_LIMIT = 512 * 2**20
USUAL = 720, 1280
"""Height and width, pixels, that an engine for frames of all sizes is tuned for."""


@dataclass(frozen=True)
class _Active:
    """What frames are restored with; replaced as a whole, so that a frame never sees half a switch."""

    composition: Composition
    precision: Precision
    engines: dict[tuple[int, int] | None, Engine]
    """By the height and width of the frames that they are for, None for all; made when the first such frame comes."""


class Restorer:
    """Restores frames with one composition of a package's adapters.

    Example:
        >>> restorer = Restorer("restore.uir", "rain")
        >>> restored = restorer(frame)  # H x W x 3, uint8, RGB
        >>> restorer.compose("haze=0.4,rain=0.6")  # from the next frame on

    Safe to use from many threads: frames under way finish with the composition that they began with.

    Args:
        package: the package's folder, or an opened `Package`.
        composition: `"rain"`, `"haze=0.4,rain=0.6"`, a mapping of weights or a `Composition`; None is the package's
            default.
        device: one of `uir.runtime.backends.devices.DEVICES`; None is `$UIR_DEVICE`, or else `"auto"`.
        precision: `"fp32"`, `"fp16"` or `"int8"`; None is the fastest that the device runs and that passed its gate.
        memory_limit: bytes that the network's activations may take in one call; larger frames are restored in tiles.

    Raises:
        MissingFileError: there is no such package.
        PackageError: the package is damaged or of a newer schema.
        UsageError: an unknown adapter, a malformed composition or an unknown device.
        BackendError: the device cannot be used on this machine, or the engine cannot be built.
    """

    def __init__(
        self,
        package: str | Path | Package,
        composition: str | Mapping[str, float] | Composition | None = None,
        *,
        device: str | None = None,
        precision: Precision | None = None,
        memory_limit: int = DEFAULT_MEMORY_LIMIT,
    ) -> None:
        self.package = package if isinstance(package, Package) else Package(package)
        if precision not in (None, *PRECISIONS):
            raise UsageError(f"{precision}: no such precision; there are {', '.join(PRECISIONS)}")
        self._asked = precision
        chosen = device or os.environ.get("UIR_DEVICE") or "auto"
        self._backend = open_backend(chosen, exact=precision == "fp32")
        self._frame = self.package.manifest.frame
        self._max_pixels = int(memory_limit / self._frame.bytes_per_pixel)
        self._engines = EngineCache(self._backend, DiskCache(default_folder()) if self._backend.durable else None)
        self._size: tuple[int, int] | None = None
        self._warned = False
        self._told: set[Composition] = set()
        wanted = self.package.manifest.default if composition is None else composition
        first = _composition(wanted)
        if self._backend.static:  # for frames whose size is told later, or seen
            self.package.identity(first)
            self._active = _Active(first, self._precision(first), {})
        else:
            self._active = self._activate(first, None)

    @property
    def composition(self) -> Composition:
        """The composition that the next frame is restored with."""
        return self._active.composition

    @property
    def precision(self) -> Precision:
        """The precision that the next frame is restored in."""
        return self._active.precision

    @property
    def adapters(self) -> list[str]:
        """The names of the package's adapters."""
        return sorted(self.package.manifest.adapters)

    @property
    def durable(self) -> bool:
        """Whether this device's engines are kept on disk."""
        return self._backend.durable

    def describe(self) -> str:
        """The backend, its version and its device, in a few words."""
        return self._backend.describe()

    def compose(self, composition: str | Mapping[str, float] | Composition) -> Composition:
        """Switch to another composition, from the next frame on.

        One that was used before is switched to at once; a new one is merged and compiled first (tens of milliseconds).

        Returns:
            The composition in canonical form.

        Raises:
            UsageError: an unknown adapter, or a malformed composition. The restorer keeps the composition that it had.
        """
        wanted = _composition(composition)
        self._active = self._activate(wanted, self._size)
        return wanted

    def expect(self, height: int, width: int) -> None:
        """Say that frames of this size are coming, pixels: a backend that gains by it gets an engine for them alone.

        Frames of other sizes are still restored.

        Raises:
            BackendError: the engine cannot be built.
        """
        if self._backend.static:
            self._size = height, width
            if self._active.engines:
                self.compose(self.composition)

    def __call__(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Restore one frame, H x W x 3 uint8 RGB, or a batch of them, N x H x W x 3; any size.

        Returns:
            A new array of the same shape.

        Raises:
            FrameError: the array is of another type or shape, or empty.
            BackendError: the engine fails.
        """
        _check(frame)
        frames = frame if frame.ndim == 4 else frame[None]
        engine, size = self._engine(self._active, frames.shape[1:3])
        restored = self._restore(frames, engine, size)
        return restored if frame.ndim == 4 else restored[0]

    def _engine(self, active: _Active, size: tuple[int, ...]) -> tuple[Engine, tuple[int, int] | None]:
        """The engine for frames of a size, and the one size that it is for, if there is but one."""
        known = self._size if self._size == size else None
        engine = active.engines.get(known)
        if engine is None:
            recipe = self._recipe(active.composition, active.precision, known)
            engine = active.engines[known] = self._engines.get(recipe)
        return engine, known

    def _restore(self, frames: NDArray[np.uint8], engine: Engine, size: tuple[int, int] | None) -> NDArray[np.uint8]:
        height, width = frames.shape[1:3]
        grid = self._grid(height, width, free=size is None)
        down, across = -height % self._frame.multiple_of, -width % self._frame.multiple_of
        one = grid.rows == grid.columns == 1
        if one and len(frames) * grid.pixels <= self._max_pixels:
            return _crop(engine.run(_pad(frames, down, across)), height, width)
        if not one and not self._frame.exact_tiles and not self._warned:
            self._warned = True
            log.warning(
                "this base looks at whole frames: tiles are an approximation; a larger memory limit avoids them"
            )
        result = np.empty_like(frames)
        for i, frame in enumerate(frames):
            padded = _pad(frame[None], down, across)[0]
            multiple, overlap = self._frame.multiple_of, self._frame.overlap
            tiled = restore_tiled(padded, engine.run, grid, multiple=multiple, overlap=overlap)
            result[i] = tiled[:height, :width]
        return result

    def _grid(self, height: int, width: int, *, free: bool) -> Grid:
        """How a frame is cut into windows; in one where it fits.

        Args:
            free: for the engine that takes all sizes, which on some backends has a longest side.
        """
        multiple = self._frame.multiple_of
        return plan(
            height + -height % multiple,
            width + -width % multiple,
            multiple=multiple,
            overlap=self._frame.overlap,
            max_pixels=self._max_pixels,
            max_side=self._longest if free and self._backend.static else None,
        )

    @property
    def _longest(self) -> int:
        """The longest side that an engine for all sizes takes: of the largest square within the memory limit."""
        multiple = self._frame.multiple_of
        return max(multiple, math.isqrt(self._max_pixels) // multiple * multiple)

    def _shapes(self, size: tuple[int, int] | None) -> Shapes | None:
        """The frames that an engine is built for: those of one size, or all; None where the backend takes any."""
        if not self._backend.static:
            return None
        if size is not None:
            grid = self._grid(*size, free=False)
            return Shapes.only((1, grid.height, grid.width))
        multiple, longest = self._frame.multiple_of, self._longest
        usual = tuple(min(longest, length + -length % multiple) for length in USUAL)
        return Shapes((1, multiple, multiple), (1, usual[0], usual[1]), (1, longest, longest))

    def _activate(self, composition: Composition, size: tuple[int, int] | None) -> _Active:
        precision = self._precision(composition)
        engine = self._engines.get(self._recipe(composition, precision, size))
        return _Active(composition, precision, {size: engine})

    def _precision(self, composition: Composition) -> Precision:
        """The asked precision if the composition has it, or the next exacter one; the fastest where none was asked."""
        there = self.package.precisions(composition)
        if self._asked is None:
            return next((precision for precision in self._backend.preferred if precision in there), "fp32")
        if self._asked in there:
            return self._asked
        instead = next(each for each in PRECISIONS[PRECISIONS.index(self._asked) :] if each in there)
        if composition not in self._told:
            self._told.add(composition)
            log.warning("%s: %s; %s is used instead", composition.key, self._missing(composition), instead)
        return instead

    def _missing(self, composition: Composition) -> str:
        """Why the asked precision is not there."""
        if composition.key in self.package.manifest.compositions:
            return f"{self._asked} did not pass its gate, or was not exported"
        if self._asked == "int8":
            return "the package has no int8 ranges for this mix (uir-run --calibrate finds them)"
        return f"the package has no {self._asked}"

    def _recipe(self, composition: Composition, precision: Precision, size: tuple[int, int] | None) -> Recipe:
        shapes = self._shapes(size)
        key = {
            **self.package.identity(composition, precision),
            "precision": precision,
            "shapes": shapes and [list(shape) for shape in (shapes.smallest, shapes.usual, shapes.largest)],
            "backend": self._backend.identity(),
        }
        return Recipe(EngineKey(key), lambda: self._model(composition, precision), shapes)

    def _model(self, composition: Composition, precision: Precision) -> bytes:
        graph = self.package.graph(precision, composition)
        return bytes(fill_graph(graph, merge_package(self.package, composition)).SerializeToString())


def _composition(value: str | Mapping[str, float] | Composition) -> Composition:
    if isinstance(value, Composition):
        return value
    if isinstance(value, str):
        return Composition.parse(value)
    if isinstance(value, Mapping):
        return Composition.of(value)
    raise UsageError(f"{value!r}: not a composition; write it as 'rain', 'rain=0.7,haze=0.3' or {{'rain': 0.7}}")


def _check(frame: NDArray[np.uint8]) -> None:
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


def _pad(frames: NDArray[np.uint8], down: int, across: int) -> NDArray[np.uint8]:
    """Extend frames at the bottom and the right by mirroring, which invents no edge."""
    if not down and not across:
        return np.ascontiguousarray(frames)
    # BORDER_REFLECT_101 repeats the mirror where a frame is smaller than what is added to it.
    padded = [cv2.copyMakeBorder(frame, 0, down, 0, across, cv2.BORDER_REFLECT_101) for frame in frames]
    return np.stack(padded) if len(padded) > 1 else padded[0][None]


def _crop(frames: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if frames.shape[1:3] == (height, width):
        return frames
    return np.ascontiguousarray(frames[:, :height, :width])
