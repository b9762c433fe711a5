"""The instant tier: one refittable engine serves any composition at once, until that has an engine of its own.

Where building takes minutes (TensorRT), a composition that was never seen need not wait for it: all weights of a
refittable engine are exchanged, which takes milliseconds. Such an engine is slower, since its kernels cannot be chosen
for its weights, and never int8, whose scales are of one composition; so the own engine is built meanwhile, and swapped
in between two frames.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from typing import Any

from numpy.typing import NDArray

from uir.runtime.backends import Engine, Frames, RefittableEngine
from uir.runtime.composition import Composition
from uir.runtime.errors import BackendError

log = logging.getLogger(__name__)

Weights = Mapping[str, NDArray[Any]]


class InstantEngine:
    """A refittable engine that several compositions share. Safe to use from many threads.

    Args:
        engine: all of whose weights can be exchanged. No one else may run or refit it.
    """

    def __init__(self, engine: RefittableEngine) -> None:
        self._engine = engine
        self._holds: Composition | None = None
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Memory that it holds, bytes, activations apart."""
        return self._engine.nbytes

    @property
    def held_pixels(self) -> float:
        """Frames' pixels whose activations it holds, as `Engine` has it."""
        return self._engine.held_pixels

    def run(self, composition: Composition, weights: Callable[[], Weights], frames: Frames) -> Frames:
        """Restore frames with a composition.

        Args:
            weights: all that the engine exchanges, by name; asked for where it holds another composition's.

        Raises:
            BackendError: the refit or the run fails.
        """
        with self._lock:
            if self._holds != composition:
                self._holds = None  # a refit that fails leaves nothing that could be trusted
                self._engine.refit(weights())
                self._holds = composition
            return self._engine.run(frames)


class Meanwhile:
    """An engine for one composition: the instant one first, its own as soon as that is there.

    Where its own cannot be built, the instant one goes on, with a warning; where the instant one fails, its own is
    waited for.

    Args:
        instant: shared by the compositions.
        composition: what to serve.
        weights: the composition's, by name, as the instant engine takes them.
        own: the composition's own engine, under way.
    """

    def __init__(
        self, instant: InstantEngine, composition: Composition, weights: Callable[[], Weights], own: Future[Engine]
    ) -> None:
        self._instant, self._composition, self._weights, self._own = instant, composition, weights, own
        self._warned = False

    @property
    def nbytes(self) -> int:
        """Memory that the engine in use holds, bytes, activations apart."""
        return self._in_use.nbytes

    @property
    def held_pixels(self) -> float:
        """Frames' pixels whose activations the engine in use holds, as `Engine` has it."""
        return self._in_use.held_pixels

    @property
    def _in_use(self) -> Engine | InstantEngine:
        return self._own.result() if self._own_is_there() else self._instant

    def run(self, frames: Frames) -> Frames:
        """Restore N x H x W x 3 uint8 RGB frames.

        Raises:
            BackendError: the engine in use fails, and there is no other.
        """
        if self._own_is_there():
            return self._own.result().run(frames)
        try:
            return self._instant.run(self._composition, self._weights, frames)
        except BackendError as error:
            if self._own.done():
                raise
            log.warning("%s waits for its own engine: %s", self._composition.key, error)
            try:
                own = self._own.result()
            except CancelledError:
                raise error from None
            return own.run(frames)

    def _own_is_there(self) -> bool:
        if not self._own.done() or self._own.cancelled():
            return False
        error = self._own.exception()
        if error is not None and not self._warned:
            self._warned = True
            log.warning("%s stays with the instant engine, which is slower: %s", self._composition.key, error)
        return error is None
