"""The `Restorer`: a package and a composition, and then frame in, frame out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.runtime.backends import Engine, open_backend
from uir.runtime.composition import Composition
from uir.runtime.engines import EngineCache
from uir.runtime.errors import FrameError, UsageError
from uir.runtime.merge import fill_graph, merge_package
from uir.runtime.package import Package
from uir.runtime.tiles import plan, restore_tiled

log = logging.getLogger(__name__)

DEFAULT_MEMORY_LIMIT = 512 * 2**20


@dataclass(frozen=True)
class _Active:
    """What frames are restored with; replaced as a whole, so that a frame never sees half a switch."""

    composition: Composition
    engine: Engine


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
        device: `"auto"` or `"cpu"`.
        memory_limit: bytes that the network's activations may take in one call; larger frames are restored in tiles.

    Raises:
        MissingFileError: there is no such package.
        PackageError: the package is damaged or of a newer schema.
        UsageError: an unknown adapter, a malformed composition or an unknown device.
    """

    def __init__(
        self,
        package: str | Path | Package,
        composition: str | Mapping[str, float] | Composition | None = None,
        *,
        device: str = "auto",
        memory_limit: int = DEFAULT_MEMORY_LIMIT,
    ) -> None:
        self.package = package if isinstance(package, Package) else Package(package)
        self._backend = open_backend(device)
        self._frame = self.package.manifest.frame
        self._max_pixels = int(memory_limit / self._frame.bytes_per_pixel)
        self._engines = EngineCache(self._build)
        self._warned = False
        wanted = self.package.manifest.default if composition is None else composition
        first = _composition(wanted)
        self._active = _Active(first, self._engines.get(first))

    @property
    def composition(self) -> Composition:
        """The composition that the next frame is restored with."""
        return self._active.composition

    @property
    def adapters(self) -> list[str]:
        """The names of the package's adapters."""
        return sorted(self.package.manifest.adapters)

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
        engine = self._engines.get(wanted)
        self._active = _Active(wanted, engine)
        return wanted

    def __call__(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Restore one frame, H x W x 3 uint8 RGB, or a batch of them, N x H x W x 3; any size.

        Returns:
            A new array of the same shape.

        Raises:
            FrameError: the array is of another type or shape, or empty.
            BackendError: the engine fails.
        """
        _check(frame)
        engine = self._active.engine
        frames = frame if frame.ndim == 4 else frame[None]
        restored = self._restore(frames, engine)
        return restored if frame.ndim == 4 else restored[0]

    def _restore(self, frames: NDArray[np.uint8], engine: Engine) -> NDArray[np.uint8]:
        height, width = frames.shape[1:3]
        multiple, overlap = self._frame.multiple_of, self._frame.overlap
        down, across = -height % multiple, -width % multiple
        area = (height + down) * (width + across)
        if len(frames) * area <= self._max_pixels:
            whole = engine.run(_pad(frames, down, across))
            return _crop(whole, height, width)
        if not self._frame.exact_tiles and not self._warned:
            self._warned = True
            log.warning(
                "this base looks at whole frames: tiles are an approximation; a larger memory limit avoids them"
            )
        grid = plan(height + down, width + across, multiple=multiple, overlap=overlap, max_pixels=self._max_pixels)
        result = np.empty_like(frames)
        for i, frame in enumerate(frames):
            padded = _pad(frame[None], down, across)[0]
            tiled = restore_tiled(padded, engine.run, grid, multiple=multiple, overlap=overlap)
            result[i] = tiled[:height, :width]
        return result

    def _build(self, composition: Composition) -> Engine:
        model = fill_graph(self.package.graph(), merge_package(self.package, composition))
        return self._backend.compile(model.SerializeToString())


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
