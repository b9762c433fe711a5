"""Which engine serves a composition: its precision, its key, and what runs while it is being built."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from weakref import WeakValueDictionary

from uir.runtime.backends import Backend, Engine, Shape
from uir.runtime.composition import Composition
from uir.runtime.disk_cache import DiskCache, default_budget, default_folder
from uir.runtime.engine_key import EngineKey
from uir.runtime.engines import EngineCache, Recipe
from uir.runtime.framing import Framing
from uir.runtime.instant import InstantEngine, Meanwhile, Weights
from uir.runtime.manifest import PRECISIONS, Precision
from uir.runtime.memory import memory_budget
from uir.runtime.package import Package

log = logging.getLogger(__name__)

WARNINGS = 20
"""Compositions that have not the precision that was asked for, and are named: a router may choose thousands."""

Size = tuple[int, int] | None
"""Height and width, pixels, of the frames that an engine is for; None for all."""


class EngineSource:
    """The engines of a package on one device. Safe to use from many threads.

    Args:
        package: where the network and its adapters are.
        backend: what builds and runs the engines.
        framing: the sizes that they are built for.
        asked: the precision that the user asked for, None for the fastest.
    """

    def __init__(self, package: Package, backend: Backend, framing: Framing, asked: Precision | None) -> None:
        self._package, self._backend, self._framing, self._asked = package, backend, framing, asked
        self._expected: Shape | None = None
        self._refittable = backend.refittable(sorted(package.base_weights)) if backend.durable else None
        disk = DiskCache(default_folder(), default_budget()) if backend.durable else None
        self._cache = EngineCache(disk, memory_budget())
        # The cache alone decides how long a refittable engine stays that serves nothing at the moment.
        self._instants: WeakValueDictionary[EngineKey, InstantEngine] = WeakValueDictionary()
        self._wrapping = threading.Lock()
        self._under_way: dict[EngineKey, Future[Engine]] = {}
        self._told: set[Composition] = set()
        self._first: Composition | None = None  # that was served
        self._switches = False

    def expect(self, height: int, width: int) -> None:
        """Say that frames of this size are coming, pixels, to the engines of all sizes."""
        grid = self._framing.grid(height, width, alone=False)
        self._expected = 1, grid.height, grid.width

    def precision(self, composition: Composition) -> Precision:
        """The asked precision if the composition has it, or the next exacter one; the fastest where none was asked."""
        there = self._package.precisions(composition)
        if self._asked is None:
            return next((precision for precision in self._backend.preferred if precision in there), "fp32")
        if self._asked in there:
            return self._asked
        instead = next(each for each in PRECISIONS[PRECISIONS.index(self._asked) :] if each in there)
        if composition not in self._told and len(self._told) < WARNINGS:
            self._told.add(composition)
            log.warning("%s: %s; %s is used instead", composition.key, self._missing(composition), instead)
        return instead

    def get(self, composition: Composition, size: Size) -> Engine:
        """The composition's engine, or one that serves it until its own is there; built and waited for if need be.

        Raises:
            UsageError: the composition names an adapter that the package does not have.
            BackendError: the engine cannot be built.
        """
        own = self._recipe(composition, size)
        engine = self._cache.find(own.key)
        if engine is None:
            # What is in memory first: an engine takes a while to read.
            engine = self._meanwhile(composition, size, own, self._find) or self._cache.load(own)
        if engine is None:
            engine = self._meanwhile(composition, size, own, self._cache.load) or self._cache.get(own)
            if self._is_switch(composition):  # the next one shall not wait
                self.prepare_instant(composition, size)
        self._switches = self._is_switch(composition)
        if self._first is None:
            self._first = composition
        return engine

    def prepare(self, composition: Composition, size: Size) -> Future[Engine]:
        """Make the composition's own engine in the background, so that `get` need not wait.

        Raises:
            UsageError: the composition names an adapter that the package does not have.
        """
        future = self._prepare(self._recipe(composition, size))
        if self._is_switch(composition):
            self.prepare_instant(composition, size)
        return future

    def ready(self, composition: Composition, size: Size) -> bool:
        """Whether `get` would not wait: the composition's own engine, or the instant one, is in memory."""
        instant = self._instant_recipe(composition, size)
        recipes = [self._recipe(composition, size), *([instant] if instant else [])]
        return any(self._cache.find(recipe.key) for recipe in recipes)

    def prepare_instant(self, composition: Composition, size: Size) -> Future[Engine] | None:
        """Make the refittable engine in the background; None where the backend has no use for one."""
        recipe = self._instant_recipe(composition, size)
        return self._prepare(recipe) if recipe else None

    @property
    def nbytes(self) -> int:
        """Bytes that the engines in memory hold, by what their backends say."""
        return self._cache.nbytes

    def _is_switch(self, composition: Composition) -> bool:
        """Whether another composition was served before."""
        return self._switches or self._first not in (None, composition)

    def _prepare(self, recipe: Recipe) -> Future[Engine]:
        future = self._under_way.get(recipe.key)
        if future is None:
            future = self._under_way[recipe.key] = self._cache.prepare(recipe)
            future.add_done_callback(lambda _: self._under_way.pop(recipe.key, None))
        return future

    def _find(self, recipe: Recipe) -> Engine | None:
        return self._cache.find(recipe.key)

    def _meanwhile(
        self, composition: Composition, size: Size, own: Recipe, find: Callable[[Recipe], Engine | None]
    ) -> Engine | None:
        """What serves the composition at once, where `find` finds a refittable engine."""
        recipe = self._instant_recipe(composition, size)
        if recipe is None:
            return None
        instant = self._instants.get(recipe.key)
        if instant is None:
            engine = find(recipe)
            if engine is None:
                return None
            with self._wrapping:  # two would each think that the engine holds what they gave it last
                instant = self._instants.setdefault(recipe.key, InstantEngine(engine))  # type: ignore[arg-type]
        precision = self._instant_precision(composition)
        return Meanwhile(instant, composition, lambda: self._weights(composition, precision), self._prepare(own))

    def _missing(self, composition: Composition) -> str:
        """Why the asked precision is not there."""
        if composition.key in self._package.manifest.compositions:
            return f"{self._asked} did not pass its gate, or was not exported"
        if self._asked == "int8":
            return "the package has no int8 ranges for this mix (uir-run --calibrate finds them)"
        return f"the package has no {self._asked}"

    def _recipe(self, composition: Composition, size: Size) -> Recipe:
        precision = self.precision(composition)
        return self._recipe_of(composition, precision, size, self._backend)

    def _instant_recipe(self, composition: Composition, size: Size) -> Recipe | None:
        """Of the refittable engine; it is built with the base's own weights, so that all compositions share it."""
        if self._refittable is None:
            return None
        return self._recipe_of(Composition(), self._instant_precision(composition), size, self._refittable)

    def _instant_precision(self, composition: Composition) -> Precision:
        """float16 where the composition may have it: its graph is the same for all, which int8's is not."""
        there = set(self._package.precisions(composition)) & self._package.manifest.graphs.keys()
        return "fp16" if "fp16" in there else "fp32"

    def _recipe_of(self, composition: Composition, precision: Precision, size: Size, backend: Backend) -> Recipe:
        shapes = self._framing.shapes(size)
        expected = self._expected if size is None or shapes is None else shapes.usual
        key = {
            **self._package.identity(composition, precision),
            "precision": precision,
            "shapes": shapes and [list(shape) for shape in (shapes.smallest, shapes.usual, shapes.largest)],
            "backend": backend.identity(),
        }
        return Recipe(
            EngineKey(key),
            lambda: self._model(composition, precision),
            backend,
            shapes,
            expected,
            self._framing.contract.bytes_per_pixel,
        )

    def _model(self, composition: Composition, precision: Precision) -> bytes:
        """The composition's model, merged and serialised."""
        # ONNX takes longer to import than an engine to read from disk, and where that is there it is not needed.
        from uir.runtime.merge import merged_model

        return bytes(merged_model(self._package, composition, precision).SerializeToString())

    def _weights(self, composition: Composition, precision: Precision) -> Weights:
        """The composition's weights as its model holds them: typed, and by their gains."""
        from uir.runtime.merge import merged_weights  # as above

        return merged_weights(self._package, composition, precision)
