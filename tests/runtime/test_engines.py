"""The engine cache: built once, used at once, given up in order, kept on disk, built again where the disk lies."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from uir.runtime.backends import Frames, Shapes
from uir.runtime.disk_cache import DiskCache
from uir.runtime.engine_key import EngineKey
from uir.runtime.engines import WAITING, EngineCache, Recipe
from uir.runtime.errors import BackendError


class Echo:
    """An engine that only knows what it was built from, and weighs a hundred bytes besides its largest frame."""

    nbytes = 100

    def __init__(self, built: bytes) -> None:
        self.built = built
        self.held_pixels = 0.0

    def run(self, frames: Frames) -> Frames:
        self.held_pixels = max(self.held_pixels, frames.shape[1] * frames.shape[2])
        return np.copy(frames)


class Counting:
    """A backend whose builds are counted, and may be held up or fail. Its bytes end with `!`; others are refused."""

    name, preferred, static, durable, at_once = "counting", ("fp32",), False, True, 1

    def __init__(self, before: Callable[[bytes], object] = lambda _: None) -> None:
        self.built: list[bytes] = []
        self.before = before

    def identity(self) -> dict[str, str]:
        return {}

    def build(self, model: bytes, shapes: Shapes | None) -> bytes:
        assert shapes is None
        self.before(model)
        self.built.append(model)
        return model + b"!"

    def load(self, built: bytes) -> Echo:
        if not built.endswith(b"!"):
            raise BackendError(f"no engine: {built!r}")
        return Echo(built)

    def refittable(self, weights: Collection[str]) -> None:
        """None."""

    def describe(self) -> str:
        return self.name


RAIN, HAZE, NOISE = (EngineKey({"name": name}) for name in ("rain", "haze", "noise"))


def recipe(key: EngineKey, backend: Counting) -> Recipe:
    name: str = key.parts["name"]
    return Recipe(key, name.encode, backend)


def test_an_engine_is_built_once_and_kept() -> None:
    backend = Counting()
    cache = EngineCache()
    assert cache.find(RAIN) is None
    first = cache.get(recipe(RAIN, backend))
    assert cache.get(recipe(RAIN, backend)) is cache.find(RAIN) is first
    assert cache.get(recipe(HAZE, backend)) is not first
    assert backend.built == [b"rain", b"haze"]


def test_the_least_recently_used_engine_is_given_up() -> None:
    backend = Counting()
    cache = EngineCache(budget=250)
    for wanted in (RAIN, HAZE, RAIN, NOISE, RAIN, HAZE):
        assert cache.get(recipe(wanted, backend)).built == wanted.parts["name"].encode() + b"!"  # type: ignore[attr-defined]
    assert backend.built == [b"rain", b"haze", b"noise", b"haze"]


def test_an_engine_above_the_budget_is_kept_alone() -> None:
    backend = Counting()
    cache = EngineCache(budget=10)
    assert cache.get(recipe(RAIN, backend)) is cache.get(recipe(RAIN, backend))
    cache.get(recipe(HAZE, backend))
    assert cache.find(RAIN) is None
    assert backend.built == [b"rain", b"haze"]


def test_what_engines_hold_between_frames_counts_as_soon_as_they_hold_it() -> None:
    cache = EngineCache(budget=350)
    rain, haze = (replace(recipe(key, Counting()), bytes_per_pixel=2.5) for key in (RAIN, HAZE))
    cache.get(haze)
    engine = cache.get(rain)
    assert cache.nbytes == 200
    engine.run(np.zeros((1, 6, 10, 3), np.uint8))
    assert cache.nbytes == 350
    assert cache.get(rain) is engine
    assert cache.find(HAZE) is not None
    cache.get(rain)
    engine.run(np.zeros((1, 6, 11, 3), np.uint8))
    cache.get(rain)
    assert (cache.find(HAZE), cache.find(RAIN), cache.nbytes) == (None, engine, 265)


def test_an_engine_beyond_the_budget_is_kept_while_it_is_the_last() -> None:
    cache = EngineCache(budget=0)
    rain = cache.get(recipe(RAIN, Counting()))
    assert cache.find(RAIN) is rain
    cache.get(recipe(HAZE, Counting()))
    assert cache.find(RAIN) is None


def test_a_build_that_fails_leaves_nothing_and_is_tried_again() -> None:
    failures = [RuntimeError("no memory")]

    def fail(_: bytes) -> None:
        if failures:
            raise failures.pop()

    backend = Counting(fail)
    cache = EngineCache()
    with pytest.raises(RuntimeError, match="no memory"):
        cache.get(recipe(RAIN, backend))
    assert cache.get(recipe(RAIN, backend)) is cache.get(recipe(RAIN, backend))
    assert backend.built == [b"rain"]


def test_many_threads_build_one_engine_once() -> None:
    begun, go = threading.Event(), threading.Event()

    def wait(_: bytes) -> None:
        begun.set()
        assert go.wait(30)

    backend = Counting(wait)
    cache = EngineCache()
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(cache.get, recipe(RAIN, backend)) for _ in range(8)]
        assert begun.wait(30)
        go.set()
        assert len({id(future.result(30)) for future in found}) == 1
    assert backend.built == [b"rain"]


def test_what_is_there_is_had_while_another_is_prepared() -> None:
    begun, go = threading.Event(), threading.Event()

    def wait(model: bytes) -> None:
        if model == b"haze":
            begun.set()
            assert go.wait(30)

    backend = Counting(wait)
    cache = EngineCache()
    rain = cache.get(recipe(RAIN, backend))
    haze = cache.prepare(recipe(HAZE, backend))
    assert begun.wait(30)
    assert cache.get(recipe(RAIN, backend)) is rain
    assert not haze.done()
    assert cache.find(HAZE) is None
    go.set()
    assert haze.result(30) is cache.find(HAZE)


def test_what_is_there_is_loaded_and_nothing_is_built_for_it(tmp_path: Path) -> None:
    backend = Counting()
    cache = EngineCache(DiskCache(tmp_path))
    assert cache.load(recipe(RAIN, backend)) is None
    built = cache.get(recipe(RAIN, backend))
    assert cache.load(recipe(RAIN, backend)) is built
    other = EngineCache(DiskCache(tmp_path))
    loaded = other.load(recipe(RAIN, backend))
    assert loaded is not built
    assert other.find(RAIN) is loaded
    assert backend.built == [b"rain"]


def test_what_another_thread_builds_is_not_waited_for() -> None:
    begun, go = threading.Event(), threading.Event()

    def wait(_: bytes) -> None:
        begun.set()
        assert go.wait(30)

    wanted, cache = recipe(RAIN, Counting(wait)), EngineCache()
    rain = cache.prepare(wanted)
    assert begun.wait(30)
    assert cache.load(wanted) is None
    go.set()
    assert cache.get(wanted) is rain.result(30)


def test_a_stream_that_changes_faster_than_engines_are_made_leaves_no_backlog() -> None:
    begun, go = threading.Event(), threading.Event()

    def wait(_: bytes) -> None:
        begun.set()
        assert go.wait(30)

    backend, cache, before = Counting(wait), EngineCache(), threading.active_count()
    first = cache.prepare(recipe(RAIN, backend))
    assert begun.wait(30)
    others = [cache.prepare(recipe(EngineKey({"name": f"mix{number}"}), backend)) for number in range(10 * WAITING)]
    assert threading.active_count() == before + 1
    assert [future.cancelled() for future in others] == [True] * 9 * WAITING + [False] * WAITING
    go.set()
    others[-WAITING].result(30)
    assert first.done()
    assert backend.built[:2] == [b"rain", f"mix{10 * WAITING - 1}".encode()]
    assert len(backend.built) == 1 + WAITING


def test_a_preparation_that_fails_says_so() -> None:
    def fail(_: bytes) -> None:
        raise BackendError("no memory")

    future = EngineCache().prepare(recipe(RAIN, Counting(fail)))
    with pytest.raises(BackendError, match="no memory"):
        future.result(30)


def test_the_next_process_finds_what_was_built(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    EngineCache(DiskCache(tmp_path)).get(recipe(RAIN, first))
    engine = EngineCache(DiskCache(tmp_path)).get(recipe(RAIN, second))
    assert engine.built == b"rain!"  # type: ignore[attr-defined]
    assert (first.built, second.built) == ([b"rain"], [])


def test_what_is_built_in_no_time_is_not_kept_on_disk(tmp_path: Path) -> None:
    backend = Counting()
    backend.durable = False
    EngineCache(DiskCache(tmp_path)).get(recipe(RAIN, backend))
    assert DiskCache(tmp_path).entries() == []


def test_an_engine_that_does_not_load_is_built_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    DiskCache(tmp_path).put(RAIN, b"whole, but of another device")
    backend = Counting()
    with caplog.at_level(logging.WARNING):
        EngineCache(DiskCache(tmp_path)).get(recipe(RAIN, backend))
    assert backend.built == [b"rain"]
    assert "cannot be loaded and is built again: no engine: b'whole, but" in caplog.text
    assert DiskCache(tmp_path).get(RAIN) == b"rain!"


def test_a_fresh_engine_that_does_not_load_is_reported(tmp_path: Path) -> None:
    class Broken(Counting):
        def build(self, model: bytes, shapes: Shapes | None) -> bytes:
            return super().build(model, shapes)[:-1]

    backend = Broken()
    cache = EngineCache(DiskCache(tmp_path))
    with pytest.raises(BackendError, match="no engine: b'rain'"):
        cache.get(recipe(RAIN, backend))
    assert backend.built == [b"rain"]
    assert DiskCache(tmp_path).get(RAIN) is None
