"""Switches to compositions that a restorer has never seen, and what they spend their time on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from uir.runtime.backends.devices import open_backend
from uir.runtime.composition import DECIMALS, Composition
from uir.runtime.disk_cache import VARIABLE
from uir.runtime.framing import Framing
from uir.runtime.merge import merged_model
from uir.runtime.package import Package
from uir.runtime.restorer import DEFAULT_MEMORY_LIMIT, Restorer
from uir.tools.bench.options import Size
from uir.tools.bench.report import median


@dataclass(frozen=True)
class SwitchTimes:
    """Medians in seconds.

    Attributes:
        model: of filling the graph with merged weights, and serialising it.
        build: of compiling it.
        load: of making an engine of what was compiled.
        new: of a whole switch to a composition that is neither in memory nor on disk.
        known: of one to a composition in memory.
        first_frame: of the first frame after a switch to a new one.
        frame: of those that follow.
    """

    model: float
    build: float
    load: float
    new: float
    known: float
    first_frame: float
    frame: float


class Switching:
    """A restorer that is switched, its engines kept in a folder of their own.

    Args:
        device: as `--device` has it, or None.
        size: width and height of the frames, pixels.
        folder: an empty one.

    Raises:
        UirError: the device cannot be used, or the package is damaged.
    """

    def __init__(self, package: Package, device: str | None, size: Size, folder: Path) -> None:
        self._package = package
        width, height = size
        self._frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        named = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = str(folder)
        try:
            self.restorer = Restorer(package, device=device)
        finally:
            del os.environ[VARIABLE]
            if named is not None:
                os.environ[VARIABLE] = named
        self.restorer.expect(height, width)
        self._backend = open_backend(device or os.environ.get("UIR_DEVICE") or "auto")
        contract = package.manifest.frame
        framing = Framing.within(DEFAULT_MEMORY_LIMIT, contract, self._backend)
        self._shapes = framing.shapes((height, width))

    def time(self, composition: Composition, merge: float, runs: int) -> SwitchTimes:
        """Medians over the compositions just beside this one, which cost as much, and are in no memory yet.

        Args:
            merge: seconds that the merge takes, which no part of the switch is to hold twice.
        """
        name, weight = max(composition.items, key=lambda item: item[1])
        steps = range(1, 2 * runs + 1)
        beside = [Composition.of({**composition.weights, name: weight + step * 10**-DECIMALS}) for step in steps]
        parts = [self._parts(other) for other in beside[runs:]]
        new, known, first, frame = [], [], [], []
        for other in beside[:runs]:
            new.append(seconds_of(partial(self.restorer.compose, other)))
            first.append(seconds_of(partial(self.restorer, self._frame)))
            frame.append(seconds_of(partial(self.restorer, self._frame)))
            self.restorer.compose(composition)
            known.append(seconds_of(partial(self.restorer.compose, other)))
        model, build, load = (median(list(each)) for each in zip(*parts, strict=True))
        return SwitchTimes(
            max(0.0, model - merge), build, load, median(new), median(known), median(first), median(frame)
        )

    def _parts(self, composition: Composition) -> list[float]:
        """Seconds of the model with its merge, of its build and of its load."""
        precision = self.restorer.precision_of(composition)
        moments = [time.perf_counter()]
        model = bytes(merged_model(self._package, composition, precision).SerializeToString())
        moments.append(time.perf_counter())
        built = self._backend.build(model, self._shapes)
        moments.append(time.perf_counter())
        engine = self._backend.load(built)
        moments.append(time.perf_counter())
        del engine
        return [after - before for before, after in pairwise(moments)]


def seconds_of(work: Callable[[], object]) -> float:
    """How long some work takes; its result is freed outside of the time."""
    began = time.perf_counter()
    result = work()
    taken = time.perf_counter() - began
    del result
    return taken
