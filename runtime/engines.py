"""The engine cache: one engine for each composition, in memory over disk, the least recently used given up first."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import numpy as np

from uir.runtime.backends import Backend, Engine, Shape, Shapes
from uir.runtime.backlog import Backlog
from uir.runtime.disk_cache import DiskCache
from uir.runtime.engine_key import EngineKey
from uir.runtime.errors import BackendError
from uir.runtime.memory import MOST, gather_memory, return_memory

log = logging.getLogger(__name__)

WAITING = 32
"""Engines that wait to be made in the background: a stream that changes faster than that asks for ever more."""


@dataclass(frozen=True)
class Recipe:
    """How to make an engine, and what makes it differ from all others.

    Attributes:
        key: of the engine, as `EngineKey` says.
        model: merges and serialises the ONNX model; called only where the engine must be built.
        backend: builds and loads it.
        shapes: the frames that it is for; None for any.
        expected: the frames that are coming, where that is known.
        bytes_per_pixel: of a frame's activations in float32.
    """

    key: EngineKey
    model: Callable[[], bytes]
    backend: Backend
    shapes: Shapes | None = None
    expected: Shape | None = None
    bytes_per_pixel: float = 0.0


class EngineCache:
    """Engines by key. Safe to use from many threads, and with a disk from many processes.

    Args:
        disk: keeps what was built for the next process, where its backend's engines are worth it.
        budget: bytes of engines kept in memory, with the activations that they hold between frames. The one last asked
            for is kept whatever its size.
    """

    def __init__(self, disk: DiskCache | None = None, budget: int = MOST) -> None:
        gather_memory()
        self._disk, self._budget = disk, budget
        self._engines: OrderedDict[str, _Kept] = OrderedDict()
        self._turns: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        # One at a time: a second build would take the memory and the cores that the stream needs.
        self._backlog = Backlog("engine", WAITING)

    def get(self, recipe: Recipe) -> Engine:
        """The recipe's engine, built if need be. Threads that ask for the same one build it once; others do not wait.

        Raises:
            BackendError: it cannot be built, or not loaded even when fresh; nothing is kept.
        """
        engine = self._obtain(recipe, self._make, wait=True)
        assert engine is not None
        return engine

    def load(self, recipe: Recipe) -> Engine | None:
        """The recipe's engine if it is in memory or on disk; it is not built, nor waited for while it is."""
        return self._obtain(recipe, self._from_disk, wait=False)

    def find(self, key: EngineKey) -> Engine | None:
        """The engine if it is in memory."""
        with self._lock:
            kept = self._engines.get(key.digest)
            if kept is None:
                return None
            self._engines.move_to_end(key.digest)
        if kept.has_grown():
            self._give_up()
        return kept.engine

    def prepare(self, recipe: Recipe) -> Future[Engine]:
        """Make the recipe's engine in the background, so that `get` finds it later.

        It has run once before it is found, where frames are expected: some backends prepare for a size at its first
        frame, and a stream would wait for that. The thread does not keep the process from ending: a build can take
        minutes. Engines are made one after another, the one asked for last first; of more than `WAITING`, the one asked
        for first is given up, and its future cancelled.
        """

        def work() -> Engine:
            if sys.platform == "linux":  # where threads have priorities of their own: the stream's go first
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
            engine = self._obtain(recipe, partial(self._make, run=True), wait=True)
            assert engine is not None
            return engine

        return self._backlog.add(work)

    def _obtain(self, recipe: Recipe, source: Callable[[Recipe], Engine | None], *, wait: bool) -> Engine | None:
        """The engine from memory, or from its source, which one thread asks at a time: the others wait, or get None."""
        digest = recipe.key.digest
        engine = self.find(recipe.key)
        if engine is not None:
            return engine
        with self._lock:
            turn = self._turns.setdefault(digest, threading.Lock())
        if not turn.acquire(blocking=wait):
            return None
        try:
            engine = self.find(recipe.key)  # another thread may have built it meanwhile
            if engine is None:
                engine = source(recipe)
            if engine is not None:
                self._keep(recipe, engine)
        finally:
            with self._lock:
                self._turns.pop(digest, None)
            turn.release()
        return engine

    def _make(self, recipe: Recipe, *, run: bool = False) -> Engine:
        """The engine from disk, or built; where asked it has run once on what is expected."""

        def ran(engine: Engine) -> Engine:
            if run and recipe.expected is not None:
                engine.run(np.zeros((*recipe.expected, 3), np.uint8))
            return engine

        backend, disk = recipe.backend, self._disk if recipe.backend.durable else None
        if disk is None:
            return ran(backend.load(backend.build(recipe.model(), recipe.shapes)))
        engine = self._from_disk(recipe)
        if engine is not None:
            return ran(engine)
        with disk.building(recipe.key):
            engine = self._from_disk(recipe)  # another process may have built it meanwhile
            if engine is not None:
                return ran(engine)
            built = backend.build(recipe.model(), recipe.shapes)
            engine = ran(backend.load(built))
            self._keep(recipe, engine)  # a stream that looks out for it need not wait for the disk
            disk.put(recipe.key, built)
        return engine

    def _from_disk(self, recipe: Recipe) -> Engine | None:
        built = self._disk.get(recipe.key) if self._disk and recipe.backend.durable else None
        if self._disk is None or built is None:
            return None
        try:
            return recipe.backend.load(built)
        except BackendError as error:
            log.warning("a cached engine cannot be loaded and is built again: %s", error)
            self._disk.remove(recipe.key)
            return None

    @property
    def nbytes(self) -> int:
        """Bytes that the engines in memory hold, by what their backends say."""
        with self._lock:
            return sum(kept.now() for kept in self._engines.values())

    def _keep(self, recipe: Recipe, engine: Engine) -> None:
        with self._lock:
            self._engines[recipe.key.digest] = _Kept(engine, recipe.bytes_per_pixel)
            self._engines.move_to_end(recipe.key.digest)
        self._give_up()

    def _give_up(self) -> None:
        """Give up the least recently used until the others fit the budget, as much as they hold by now."""
        given_up = []
        with self._lock:
            sizes = {digest: kept.now() for digest, kept in self._engines.items()}
            total = sum(sizes.values())
            for digest in list(sizes)[:-1]:
                if total <= self._budget:
                    break
                given_up.append(self._engines.pop(digest))
                total -= sizes[digest]
        given_up.clear()
        return_memory()  # of what was given up, and of the making of what came: more than it keeps


class _Kept:
    """An engine in memory, and how much of it was counted last: it grows with the frames that it runs."""

    def __init__(self, engine: Engine, bytes_per_pixel: float) -> None:
        self.engine, self._bytes_per_pixel = engine, bytes_per_pixel
        self._counted = self.now()

    def now(self) -> int:
        """Bytes that it holds."""
        return self.engine.nbytes + math.ceil(self.engine.held_pixels * self._bytes_per_pixel)

    def has_grown(self) -> bool:
        """Whether it holds more than when this was last asked."""
        before, self._counted = self._counted, self.now()
        return self._counted > before
