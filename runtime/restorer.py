"""The `Restorer`: a package and a composition, and then frame in, frame out."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uir.runtime.backends import Engine
from uir.runtime.backends.devices import open_backend
from uir.runtime.composition import Composition
from uir.runtime.errors import UsageError
from uir.runtime.framing import Framing, check_frame, crop, pad
from uir.runtime.package import PRECISIONS, Package, Precision
from uir.runtime.serving import EngineSource, Size
from uir.runtime.tiles import restore_tiled

log = logging.getLogger(__name__)

DEFAULT_MEMORY_LIMIT = 512 * 2**20


@dataclass(frozen=True)
class _Active:
    """What frames are restored with; replaced as a whole, so that a frame never sees half a switch."""

    composition: Composition
    precision: Precision
    engines: dict[Size, Engine]
    """Made when the first frame of a size comes."""


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
        memory_limit: bytes that the network's activations may take; larger frames are restored in tiles.
        throughput: as many frames a second as can be, each of which may take longer, for files. They are to be given by
            `at_once` threads.

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
        throughput: bool = False,
    ) -> None:
        self.package = package if isinstance(package, Package) else Package(package)
        if precision not in (None, *PRECISIONS):
            raise UsageError(f"{precision}: no such precision; there are {', '.join(PRECISIONS)}")
        chosen = device or os.environ.get("UIR_DEVICE") or "auto"
        self._backend = open_backend(chosen, exact=precision == "fp32", throughput=throughput)
        contract = self.package.manifest.frame
        pixels = int(memory_limit / contract.bytes_per_pixel / self._backend.at_once)
        self._framing = Framing(contract, pixels, self._backend.static)
        self._source = EngineSource(self.package, self._backend, self._framing, precision)
        self._size: Size = None
        self._mixed = False
        self._warned = False
        first = _composition(self.package.manifest.default if composition is None else composition)
        if self._backend.static:  # for frames whose size is told later, or seen
            self.package.identity(first)
            self._active = _Active(first, self._source.precision(first), {})
        else:
            self._active = self._activate(first)

    @property
    def composition(self) -> Composition:
        """The composition that the next frame is restored with."""
        return self._active.composition

    @property
    def precision(self) -> Precision:
        """The precision that the next frame is restored in."""
        return self._active.precision

    def precision_of(self, composition: Composition) -> Precision:
        """The precision that a composition would be restored in."""
        return self._source.precision(composition)

    @property
    def adapters(self) -> list[str]:
        """The names of the package's adapters."""
        return sorted(self.package.manifest.adapters)

    @property
    def durable(self) -> bool:
        """Whether this device's engines are kept on disk."""
        return self._backend.durable

    @property
    def at_once(self) -> int:
        """How many frames, of as many threads, it is fastest with.

        Where the engine computes several at once, it is one more, so that the engine never waits for the next.
        """
        return 1 if self._backend.at_once == 1 else self._backend.at_once + 1

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
        self._active = self._activate(wanted)
        return wanted

    def prepare(self, composition: str | Mapping[str, float] | Composition) -> Future[Engine]:
        """Make a composition's engine in the background, so that `compose` need not wait for it.

        Raises:
            UsageError: an unknown adapter, or a malformed composition.
        """
        return self._source.prepare(_composition(composition), self._size)

    def prepare_instant(self) -> Future[Engine] | None:
        """Make in the background what serves any composition at once while its own engine is built.

        None where the device builds engines in no time.
        """
        return self._source.prepare_instant(self.composition, self._size)

    def ready(self, composition: str | Mapping[str, float] | Composition) -> bool:
        """Whether `compose` would switch to a composition at once.

        Raises:
            UsageError: an unknown adapter, or a malformed composition.
        """
        return self._source.ready(_composition(composition), self._size)

    def expect(self, height: int, width: int, *, still: bool = False) -> None:
        """Say that frames of this size are coming, pixels: engines that are prepared are made ready for them.

        A backend that gains by it gets an engine for them alone, made with the first of them. Frames of other sizes are
        still restored.

        Args:
            still: it is but one frame. Pictures of many sizes shall not have an engine built for each: once there are
                two sizes, all pictures share the engine for any.
        """
        self._mixed |= still and self._size not in (None, (height, width))
        alone = self._backend.static and not (still and self._mixed)
        self._source.expect(height, width, alone=alone)
        size = (height, width) if alone else None
        if self._size != size:
            self._size = size
            self._active = replace(self._active, engines={})

    def __call__(self, frame: NDArray[np.uint8], composition: Composition | None = None) -> NDArray[np.uint8]:
        """Restore one frame, H x W x 3 uint8 RGB, or a batch of them, N x H x W x 3; any size.

        Args:
            composition: for this call alone; None is the one that was switched to.

        Returns:
            A new array of the same shape.

        Raises:
            FrameError: the array is of another type or shape, or empty.
            UsageError: an unknown adapter.
            BackendError: the engine fails.
        """
        check_frame(frame)
        frames = frame if frame.ndim == 4 else frame[None]
        active = self._active
        if composition is not None and composition != active.composition:
            active = _Active(composition, self._source.precision(composition), {})
        engine, size = self._engine(active, frames.shape[1:3])
        restored = self._restore(frames, engine, size)
        return restored if frame.ndim == 4 else restored[0]

    def _engine(self, active: _Active, size: tuple[int, ...]) -> tuple[Engine, Size]:
        """The engine for frames of a size, and the one size that it is for, if there is but one."""
        known = self._size if self._size == size else None
        engine = active.engines.get(known)
        if engine is None:
            engine = active.engines[known] = self._source.get(active.composition, known)
        return engine, known

    def _restore(self, frames: NDArray[np.uint8], engine: Engine, size: Size) -> NDArray[np.uint8]:
        height, width = frames.shape[1:3]
        contract, framing = self._framing.contract, self._framing
        grid = framing.grid(height, width, alone=size is not None)
        down, across = framing.missing(height, width)
        one = grid.rows == grid.columns == 1
        if one and len(frames) * grid.pixels <= framing.max_pixels:
            return crop(engine.run(pad(frames, down, across)), height, width)
        if not one and not contract.exact_tiles and not self._warned:
            self._warned = True
            log.warning(
                "this base looks at whole frames: tiles are an approximation; a larger memory limit avoids them"
            )
        result = np.empty_like(frames)
        for i, frame in enumerate(frames):
            padded = pad(frame[None], down, across)[0]
            tiled = restore_tiled(padded, engine.run, grid, multiple=contract.multiple_of, overlap=contract.overlap)
            result[i] = tiled[:height, :width]
        return result

    def _activate(self, composition: Composition) -> _Active:
        engine = self._source.get(composition, self._size)
        return _Active(composition, self._source.precision(composition), {self._size: engine})


def _composition(value: str | Mapping[str, float] | Composition) -> Composition:
    if isinstance(value, Composition):
        return value
    if isinstance(value, str):
        return Composition.parse(value)
    if isinstance(value, Mapping):
        return Composition.of(value)
    raise UsageError(f"{value!r}: not a composition; write it as 'rain', 'rain=0.7,haze=0.3' or {{'rain': 0.7}}")
