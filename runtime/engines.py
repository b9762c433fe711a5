"""The engine cache: one engine for each composition, the least recently used given up first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from uir.runtime.backends import Engine
from uir.runtime.composition import Composition

CAPACITY = 8


class EngineCache:
    """Engines by composition, in memory.

    Args:
        build: makes the engine of a composition that is not there yet. Two threads that ask for one composition build
            it once; meanwhile, others get the engines that are there.
        capacity: engines kept at the most.
    """

    def __init__(self, build: Callable[[Composition], Engine], capacity: int = CAPACITY) -> None:
        self._build, self._capacity = build, capacity
        self._engines: OrderedDict[Composition, Engine] = OrderedDict()
        self._building: dict[Composition, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, composition: Composition) -> Engine:
        """The composition's engine, built if need be. What `build` raises is passed on, and nothing is kept."""
        engine = self._find(composition)
        if engine is not None:
            return engine
        with self._lock:
            turn = self._building.setdefault(composition, threading.Lock())
        with turn:
            engine = self._find(composition)  # another thread may have built it meanwhile
            if engine is None:
                try:
                    engine = self._build(composition)
                    self._keep(composition, engine)
                finally:
                    self._building.pop(composition, None)
        return engine

    def _find(self, composition: Composition) -> Engine | None:
        with self._lock:
            engine = self._engines.get(composition)
            if engine is not None:
                self._engines.move_to_end(composition)
            return engine

    def _keep(self, composition: Composition, engine: Engine) -> None:
        with self._lock:
            self._engines[composition] = engine
            while len(self._engines) > self._capacity:
                self._engines.popitem(last=False)
