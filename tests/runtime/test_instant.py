"""The instant tier: an engine of exchanged weights serves what has none of its own yet.

No machine without a GPU builds TensorRT's refittable engines, so ONNX Runtime stands in for it: what is computed is
real, and the graph's weights are what is exchanged.
"""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from uir.runtime import Composition, Package, Restorer
from uir.runtime.backends import Frames, Shapes
from uir.runtime.backends.onnx_runtime import OnnxRuntimeBackend
from uir.runtime.errors import BackendError
from uir.runtime.framing import Framing
from uir.runtime.instant import Meanwhile
from uir.runtime.serving import EngineSource

Frame = NDArray[np.uint8]
SIZE = 16, 24


@dataclass
class SlowBackend(OnnxRuntimeBackend):
    """Takes any time to build: own engines of all compositions but the first wait for `go`, or fail."""

    names: tuple[str, ...] = ()
    go: threading.Event = field(default_factory=threading.Event)
    built: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    static = durable = True
    at_once = most_at_once = 1

    def __post_init__(self) -> None:
        super().__init__("cpu")

    def identity(self) -> dict[str, str]:
        return {**super().identity(), "refittable": ",".join(self.names)}

    def build(self, model: bytes, shapes: Shapes | None) -> bytes:
        kind = "instant" if self.names else "own"
        if kind == "own" and "own" in self.built:
            assert self.go.wait(30)
        self.built.append(kind)
        if kind in self.broken:
            raise BackendError(f"no room for the {kind} engine")
        return super().build(model, shapes)

    def load(self, built: bytes) -> Any:
        return Refittable(self, built) if self.names else super().load(built)

    def refittable(self, weights: Collection[str]) -> SlowBackend:  # type: ignore[override]
        return SlowBackend(tuple(weights), self.go, self.built, self.broken)


class Refittable:
    """All the named weights of its model are exchanged, or it refuses."""

    held_pixels = 0.0

    def __init__(self, backend: SlowBackend, built: bytes) -> None:
        self.backend, self.model, self.nbytes = backend, onnx.load_from_string(built), len(built)
        self.engine = OnnxRuntimeBackend("cpu").load(built)

    def refit(self, weights: Mapping[str, NDArray[Any]]) -> None:
        if "refit" in self.backend.broken:
            raise BackendError("the weights are not taken")
        assert set(weights) == set(self.backend.names)
        for tensor in self.model.graph.initializer:
            if tensor.name in weights:
                assert onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type) == weights[tensor.name].dtype
                tensor.raw_data = weights[tensor.name].tobytes()
        self.engine = OnnxRuntimeBackend("cpu").load(self.model.SerializeToString())

    def run(self, frames: Frames) -> Frames:
        return self.engine.run(frames)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UIR_CACHE", str(tmp_path / "engines"))
    return tmp_path / "engines"


@pytest.fixture
def backend() -> Iterator[SlowBackend]:
    made = SlowBackend()
    yield made
    made.go.set()  # whatever still builds ends with the test


@pytest.fixture
def package(shared_package: Path) -> Package:
    return Package(shared_package)


@pytest.fixture
def expected(shared_package: Path, frame: Frame) -> Callable[[str], Frame]:
    return lambda text: Restorer(shared_package, text)(frame[: SIZE[0], : SIZE[1]])


def source_of(package: Package, backend: SlowBackend) -> EngineSource:
    return EngineSource(package, backend, Framing(package.manifest.frame, 10**6, static=True), None)


def restore(source: EngineSource, text: str, frame: Frame) -> Frame:
    engine = source.get(Composition.parse(text), SIZE)
    return engine.run(np.ascontiguousarray(frame[None, : SIZE[0], : SIZE[1]]))[0]


def warm(package: Package, backend: SlowBackend) -> EngineSource:
    """A source whose first composition, rain, and whose instant engine are built."""
    source = source_of(package, backend)
    source.get(Composition.parse("rain"), SIZE)
    future = source.prepare_instant(Composition.parse("rain"), SIZE)
    assert future is not None
    future.result(30)
    return source


def test_a_composition_never_seen_is_served_at_once_and_its_own_engine_swapped_in(
    package: Package, backend: SlowBackend, frame: Frame, expected: Callable[[str], Frame]
) -> None:
    source = warm(package, backend)
    haze = Composition.parse("haze")
    engine = source.get(haze, SIZE)
    assert isinstance(engine, Meanwhile)
    given = np.ascontiguousarray(frame[None, : SIZE[0], : SIZE[1]])
    assert np.array_equal(engine.run(given)[0], expected("haze"))
    assert backend.built == ["own", "instant"]
    own = source.prepare(haze, SIZE)  # the one that is under way
    backend.go.set()
    assert own.result(30).nbytes == engine.nbytes
    backend.broken.append("refit")  # so that the instant engine could not serve any longer
    assert np.array_equal(engine.run(given)[0], expected("haze"))
    assert source.ready(haze, SIZE)
    assert backend.built == ["own", "instant", "own"]


def test_there_and_back_leaves_nothing_of_the_other(
    package: Package, backend: SlowBackend, frame: Frame, expected: Callable[[str], Frame]
) -> None:
    source = warm(package, backend)
    for text in ("haze", "noise", "haze", "haze=0.4,rain=0.6", "base", "haze"):
        assert np.array_equal(restore(source, text, frame), expected(text))
    assert backend.built == ["own", "instant"]


def test_threads_share_the_instant_engine_each_with_its_own_composition(
    package: Package, backend: SlowBackend, frame: Frame, expected: Callable[[str], Frame]
) -> None:
    source = warm(package, backend)
    texts = ["haze", "noise", "haze=0.5,noise=0.5"] * 4
    truths = {text: expected(text) for text in set(texts)}
    with ThreadPoolExecutor(4) as pool:
        for text, result in zip(texts, pool.map(lambda text: restore(source, text, frame), texts), strict=True):
            assert np.array_equal(result, truths[text])


def test_the_first_switch_waits_and_makes_the_next_one_instant(package: Package, backend: SlowBackend) -> None:
    source = source_of(package, backend)
    backend.go.set()
    source.get(Composition.parse("rain"), SIZE)
    assert backend.built == ["own"]  # one composition for good needs no second engine
    assert not isinstance(source.get(Composition.parse("haze"), SIZE), Meanwhile)
    future = source.prepare_instant(Composition.parse("haze"), SIZE)
    assert future is not None
    future.result(30)
    backend.go.clear()
    assert isinstance(source.get(Composition.parse("noise"), SIZE), Meanwhile)


def test_the_next_process_has_it_on_disk(package: Package, backend: SlowBackend) -> None:
    warm(package, backend)
    source = source_of(package, backend)
    assert isinstance(source.get(Composition.parse("haze"), SIZE), Meanwhile)
    assert backend.built == ["own", "instant"]


def test_where_its_own_cannot_be_built_the_instant_one_goes_on(
    package: Package,
    backend: SlowBackend,
    frame: Frame,
    expected: Callable[[str], Frame],
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = warm(package, backend)
    engine = source.get(Composition.parse("haze"), SIZE)
    own = source.prepare(Composition.parse("haze"), SIZE)
    backend.broken.append("own")
    backend.go.set()
    with pytest.raises(BackendError):
        own.result(30)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            given = np.ascontiguousarray(frame[None, : SIZE[0], : SIZE[1]])
            assert np.array_equal(engine.run(given)[0], expected("haze"))
    said = [record.message for record in caplog.records]
    assert said == ["haze stays with the instant engine, which is slower: no room for the own engine"]
    backend.broken.append("refit")
    with pytest.raises(BackendError, match=r"not taken|no room"):
        restore(source, "noise", frame)


def test_where_the_weights_are_not_taken_its_own_engine_is_waited_for(
    package: Package,
    backend: SlowBackend,
    frame: Frame,
    expected: Callable[[str], Frame],
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = warm(package, backend)
    backend.broken.append("refit")
    with ThreadPoolExecutor(1) as pool, caplog.at_level(logging.WARNING):
        result = pool.submit(restore, source, "haze", frame)
        while not caplog.records:  # it waits now
            assert not result.done()
        backend.go.set()
        assert np.array_equal(result.result(30), expected("haze"))
    assert "haze waits for its own engine: the weights are not taken" in caplog.text


def test_a_backend_that_builds_in_no_time_has_no_instant_tier(package: Package) -> None:
    source = EngineSource(
        package, OnnxRuntimeBackend("cpu"), Framing(package.manifest.frame, 10**6, static=False), None
    )
    assert source.prepare_instant(Composition.parse("rain"), None) is None
    assert not isinstance(source.get(Composition.parse("rain"), None), Meanwhile)


def test_a_refittable_engine_is_kept_by_the_cache_alone(
    package: Package, backend: SlowBackend, frame: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once nothing is served by it, it makes room like any other."""
    monkeypatch.setenv("UIR_MEMORY", "0")
    backend.go.set()
    source = source_of(package, backend)
    rain, haze = map(Composition.parse, ("rain", "haze"))
    prepared = source.prepare_instant(rain, SIZE)
    assert prepared is not None
    engine = weakref.ref(prepared.result(30))
    del prepared
    serving = source.get(haze, SIZE)
    assert isinstance(serving, Meanwhile)
    serving.run(frame[None, : SIZE[0], : SIZE[1]])
    source.prepare(rain, SIZE).result(30)
    gc.collect()
    assert engine() is not None
    del serving
    gc.collect()
    assert engine() is None
