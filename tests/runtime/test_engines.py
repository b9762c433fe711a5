"""The engine cache: built once, used at once, given up in order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from uir.runtime.backends import Frames
from uir.runtime.composition import Composition
from uir.runtime.engines import EngineCache

RAIN, HAZE, NOISE = (Composition.parse(name) for name in ("rain", "haze", "noise"))


class Named:
    """An engine that only knows what it was built for."""

    def __init__(self, composition: Composition) -> None:
        self.composition = composition

    def run(self, frames: Frames) -> Frames:
        return np.copy(frames)


def counting(built: list[Composition]) -> Callable[[Composition], Named]:
    def build(composition: Composition) -> Named:
        built.append(composition)
        return Named(composition)

    return build


def test_an_engine_is_built_once_and_kept() -> None:
    built: list[Composition] = []
    cache = EngineCache(counting(built))
    first = cache.get(RAIN)
    assert cache.get(Composition.parse("rain=1.0")) is first
    assert cache.get(HAZE) is not first
    assert built == [RAIN, HAZE]


def test_the_least_recently_used_engine_is_given_up() -> None:
    built: list[Composition] = []
    cache = EngineCache(counting(built), capacity=2)
    for composition in (RAIN, HAZE, RAIN, NOISE, RAIN, HAZE):
        assert cache.get(composition).composition == composition  # type: ignore[attr-defined]
    assert built == [RAIN, HAZE, NOISE, HAZE]


def test_a_build_that_fails_leaves_nothing_and_is_tried_again() -> None:
    failures = [RuntimeError("no memory")]
    built: list[Composition] = []

    def build(composition: Composition) -> Named:
        if failures:
            raise failures.pop()
        return counting(built)(composition)

    cache = EngineCache(build)
    with pytest.raises(RuntimeError, match="no memory"):
        cache.get(RAIN)
    assert cache.get(RAIN) is cache.get(RAIN)
    assert built == [RAIN]


def test_many_threads_build_one_composition_once() -> None:
    built: list[Composition] = []
    begun, go = threading.Event(), threading.Event()

    def build(composition: Composition) -> Named:
        begun.set()
        assert go.wait(30)
        return counting(built)(composition)

    cache = EngineCache(build)
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(cache.get, RAIN) for _ in range(8)]
        assert begun.wait(30)
        go.set()
        assert len({id(future.result(30)) for future in found}) == 1
    assert built == [RAIN]


def test_what_is_there_is_had_while_another_is_built() -> None:
    begun, go = threading.Event(), threading.Event()

    def build(composition: Composition) -> Named:
        if composition == HAZE:
            begun.set()
            assert go.wait(30)
        return Named(composition)

    cache = EngineCache(build)
    rain = cache.get(RAIN)
    with ThreadPoolExecutor(2) as pool:
        haze = pool.submit(cache.get, HAZE)
        assert begun.wait(30)
        assert pool.submit(cache.get, RAIN).result(30) is rain
        assert not haze.done()
        go.set()
        assert haze.result(30) is cache.get(HAZE)
