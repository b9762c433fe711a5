"""The `Restorer`: a package and a composition, and then frame in, frame out."""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uir.runtime.arguments import Composable, FrameSize, as_composition, as_frame_size, is_number
from uir.runtime.backends import Engine
from uir.runtime.backends.devices import open_backend
from uir.runtime.composition import Composition
from uir.runtime.decision import CLEAN
from uir.runtime.errors import UsageError
from uir.runtime.framing import Framing, check_frame, crop, pad
from uir.runtime.manifest import PRECISIONS, Precision
from uir.runtime.no_picture import restores
from uir.runtime.package import Package
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
    judged: threading.Event = field(default_factory=threading.Event)
    """Set once a frame has shown that it restores pictures."""


class Restorer:
    """Restores frames with one composition of a package's adapters.

    Example:
        >>> restorer = Restorer("restore.uir", "rain")
        >>> restored = restorer(frame)  # H x W x 3, uint8, RGB
        >>> restorer.compose("haze=0.4,rain=0.6")  # from the next frame on

    Safe to use from many threads: frames under way finish with the composition that they began with.

    Args:
        package: the package's folder, or an opened `Package`.
        composition: what to restore with; None is the package's default.
        device: one of `uir.runtime.backends.devices.DEVICES`; None is `$UIR_DEVICE`, or else `"auto"`.
        precision: `"fp32"`, `"fp16"` or `"int8"`; None is the fastest that the device runs and that passed its gate.
        memory_limit: bytes that the network's activations may take; larger frames are restored in tiles.
        throughput: as many frames a second as can be, each of which may take longer, for files. They are to be given by
            `at_once` threads.
        frame_size: of the frames to come; None takes it from the first. Where engines are built for one size, which
            `uir-run --engines build` does ahead of time, the engine is then made here and not at the first frame.

    Raises:
        MissingFileError: there is no such package.
        PackageError: the package is damaged or of a newer schema.
        UsageError: an unknown adapter, a malformed composition, an unknown device, or any other argument that makes no
            sense.
        BackendError: the device cannot be used on this machine, or the engine cannot be built.
    """

    def __init__(
        self,
        package: str | Path | Package,
        composition: Composable | None = None,
        *,
        device: str | None = None,
        precision: Precision | None = None,
        memory_limit: int = DEFAULT_MEMORY_LIMIT,
        throughput: bool = False,
        frame_size: FrameSize | None = None,
    ) -> None:
        if not isinstance(package, (str, os.PathLike, Package)):
            raise UsageError(f"a Restorer takes a package or its folder first, and this is {type(package).__name__}")
        if precision is not None and (not isinstance(precision, str) or precision not in PRECISIONS):
            raise UsageError(f"{precision}: no such precision; there are {', '.join(PRECISIONS)}")
        if not is_number(memory_limit) or memory_limit <= 0:
            raise UsageError(
                f"memory_limit: a number of bytes above 0, such as 512 * 2**20; {memory_limit!r} was given"
            )
        frame_size = None if frame_size is None else as_frame_size(frame_size)
        self.package = package if isinstance(package, Package) else Package(package)
        chosen = device or os.environ.get("UIR_DEVICE") or "auto"
        self._backend = open_backend(chosen, exact=precision == "fp32", throughput=throughput)
        self._framing = Framing.within(memory_limit, self.package.manifest.frame, self._backend)
        self._source = EngineSource(self.package, self._backend, self._framing, precision)
        self._size: Size = None
        self._settled = not self._backend.static or frame_size == "any"
        """Whether it is known what size of frames engines are for."""
        self._settling = threading.Lock()
        self._mixed = False
        self._warned = False
        first = as_composition(self.package.manifest.default if composition is None else composition)
        self._active = _Active(first, self._source.precision(first), {})
        if isinstance(frame_size, tuple):
            self.expect(*frame_size)
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

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the engines take which are kept, by what their backends say of themselves."""
        return self._source.nbytes

    def describe(self) -> str:
        """The backend, its version and its device, in a few words."""
        return self._backend.describe()

    def compose(self, composition: Composable) -> Composition:
        """Switch to another composition, from the next frame on.

        One that was used before is switched to at once; a new one is merged and compiled first (tens of milliseconds).
        Where engines are for one size of frames, and that is not known yet, the first frame makes it.

        Returns:
            The composition in canonical form.

        Raises:
            UsageError: an unknown adapter, a malformed composition, or the decision to leave a picture alone, which is
                none: give it with the frame. The restorer keeps the composition that it had.
        """
        wanted = as_composition(composition)
        self._active = self._activate(wanted)
        return wanted

    def prepare(self, composition: Composable, frame_size: FrameSize | None = None) -> Future[Engine]:
        """Make a composition's engine in the background, so that `compose` need not wait for it.

        Args:
            frame_size: of the frames that it is for; None for those that are expected or have come.

        Raises:
            UsageError: an unknown adapter, a malformed composition, or no size is given and none is known.
        """
        return self._source.prepare(as_composition(composition), self._sized(frame_size))

    def prepare_instant(self, frame_size: FrameSize | None = None) -> Future[Engine] | None:
        """Make in the background what serves any composition at once while its own engine is built.

        None where the device builds engines in no time.

        Raises:
            UsageError: no size is given and none is known.
        """
        return self._source.prepare_instant(self.composition, self._sized(frame_size))

    def ready(self, composition: Composable) -> bool:
        """Whether frames of the expected size would be restored with a composition at once.

        Raises:
            UsageError: an unknown adapter, or a malformed composition.
        """
        return self._source.ready(as_composition(composition), self._size)

    def expect(self, height: int, width: int, *, still: bool = False) -> None:
        """Say that a stream of frames of this size begins, pixels; without it, the first frame of all says so.

        A backend that gains by it gets an engine for them alone, made with the first of them. Frames of other sizes are
        still restored, by the engine for all sizes.

        Args:
            still: it is but one frame. Pictures of many sizes shall not have an engine built for each: once there are
                two sizes, all pictures share the engine for any.
        """
        self._mixed |= still and self._size not in (None, (height, width))
        alone = self._backend.static and not (still and self._mixed)
        self._source.expect(height, width)
        size = (height, width) if alone else None
        if self._size != size:
            self._size = size
            self._active = replace(self._active, engines={})
        self._settled = True  # last: other threads' frames go on from here

    def __call__(self, frame: NDArray[np.uint8], composition: Composable | None = None) -> NDArray[np.uint8]:
        """Restore one frame, H x W x 3 uint8 RGB, or a batch of them, N x H x W x 3; any size.

        Args:
            composition: for this call alone; None is the one that was switched to. A router's decision may be to leave
                the frame as it is.

        Returns:
            A new array of the same shape.

        Raises:
            FrameError: the array is of another type or shape, or empty.
            UsageError: an unknown adapter, or a malformed composition.
            AdapterError: nothing is left of the picture, since the composition's weights are too large.
            PackageError: tiles do not join, since the package says wrongly how far its network looks.
            BackendError: the engine fails.
        """
        check_frame(frame)
        if composition == CLEAN:
            return frame.copy()
        frames = frame if frame.ndim == 4 else frame[None]
        if not self._settled:
            self._settle(*frames.shape[1:3])
        active = self._active
        if composition is not None and (asked := as_composition(composition)) != active.composition:
            active = _Active(asked, self._source.precision(asked), {})
        engine, size = self._engine(active, frames.shape[1:3])
        restored = self._restore(frames, engine, size)
        # Export has judged the compositions that it lists, and no other mix.
        if not active.judged.is_set() and restores(active.composition, frames[0], restored[0]):
            active.judged.set()
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
            tiled = restore_tiled(
                padded,
                engine.run,
                grid,
                multiple=contract.multiple_of,
                overlap=framing.overlap,
                exact=contract.exact_tiles,
            )
            result[i] = tiled[:height, :width]
        return result

    def _settle(self, height: int, width: int) -> None:
        """The first frame says what size all are, unless another thread's was quicker."""
        with self._settling:
            if not self._settled:
                self.expect(height, width)

    def _sized(self, frame_size: FrameSize | None) -> Size:
        """The size that an engine is to be made for."""
        if frame_size is None:
            if not self._settled:
                raise UsageError(
                    f"{self.describe()} builds engines for one size of frames, and none is known yet; give frame_size, "
                    "or the first frame"
                )
            return self._size
        size = as_frame_size(frame_size)
        return size if self._backend.static and isinstance(size, tuple) else None

    def _activate(self, composition: Composition) -> _Active:
        self.package.identity(composition)  # refuses adapters that are not there
        engines = {self._size: self._source.get(composition, self._size)} if self._settled else {}
        return _Active(composition, self._source.precision(composition), engines)
