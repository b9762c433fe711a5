"""The Restorer on a real package: any size, any batch, any number of threads."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from uir.runtime import Composition, Package, Restorer, UirError
from uir.runtime.backends.devices import open_backend
from uir.runtime.backends.onnx_runtime import OnnxRuntimeEngine
from uir.runtime.errors import BackendError, FrameError, MissingFileError, UsageError
from uir.runtime.merge import fill_graph, merge_package

Frame = NDArray[np.uint8]


def noise(*shape: int) -> Frame:
    return np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def restorer(shared_package: Path) -> Restorer:
    return Restorer(shared_package, "rain")


def test_a_frame_comes_back_in_its_size_and_not_as_it_was(restorer: Restorer, frame: Frame) -> None:
    given = frame.copy()
    restored = restorer(frame)
    assert restored.shape == frame.shape
    assert restored.dtype == np.uint8
    assert restored.flags.c_contiguous
    assert not np.shares_memory(restored, frame)
    assert np.array_equal(frame, given)
    assert np.abs(restored.astype(int) - frame).mean() > 1


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (3, 1), (4, 4), (5, 7), (8, 12), (13, 64), (37, 53)])
def test_any_size_is_what_the_mirrored_frame_gives(restorer: Restorer, size: tuple[int, int]) -> None:
    frame, multiple = noise(*size), restorer.package.manifest.frame.multiple_of
    down, across = (-length % multiple for length in size)
    padded = np.pad(frame, [(0, down), (0, across), (0, 0)], mode="reflect")
    assert np.array_equal(restorer(frame), restorer(padded)[: size[0], : size[1]])


def test_a_batch_is_its_frames(restorer: Restorer, shared_package: Path) -> None:
    batch = noise(3, 21, 34)
    restored = restorer(batch)
    assert restored.shape == batch.shape
    for given, got in zip(batch, restored, strict=True):
        assert np.array_equal(restorer(given), got)
    one = int(24 * 36 * restorer.package.manifest.frame.bytes_per_pixel)
    for limit in (one, one // 4):
        assert np.array_equal(Restorer(shared_package, "rain", memory_limit=limit)(batch), restored)


@pytest.mark.parametrize(
    "view",
    [lambda f: f[..., ::-1], lambda f: f[::-1], lambda f: f.swapaxes(0, 1), lambda f: f[::2, ::3], np.asfortranarray],
)
def test_views_of_arrays_are_restored_like_copies(restorer: Restorer, view: Callable[[Frame], Frame]) -> None:
    for size in ((16, 24), (15, 22)):
        frame = view(noise(*size))
        assert np.array_equal(restorer(frame), restorer(frame.copy(order="C")))
    locked = noise(15, 22)
    locked.setflags(write=False)
    assert np.array_equal(restorer(locked), restorer(locked.copy()))


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (np.zeros((8, 8, 3), np.float32), "this is float32; convert"),
        (np.zeros((8, 8, 3), np.uint16), "uint16"),
        (np.zeros((8, 8, 3), np.int8), "int8"),
        ([[[0, 0, 0]]], "list"),
        (None, "NoneType"),
        (np.zeros((8, 8), np.uint8), "this is 8 x 8"),
        (np.zeros((8, 8, 4), np.uint8), "this is 8 x 8 x 4"),
        (np.zeros((3, 8, 8), np.uint8), "this is 3 x 8 x 8"),
        (np.zeros((1, 1, 8, 8, 3), np.uint8), "1 x 1 x 8 x 8 x 3"),
        (np.zeros((0, 8, 3), np.uint8), "0 x 8 x 3"),
        (np.zeros((0, 8, 8, 3), np.uint8), "0 x 8 x 8 x 3"),
    ],
)
def test_what_is_no_frame_is_refused(restorer: Restorer, frame: Any, words: str) -> None:
    with pytest.raises(FrameError, match=words):
        restorer(frame)


def test_what_is_asked_for_is_what_runs(shared_package: Path, frame: Frame) -> None:
    texts = ["rain", "haze", "noise", "haze=0.4,rain=0.6", "haze=0.6,rain=0.4", "base"]
    outputs = {text: Restorer(shared_package, text)(frame) for text in texts}
    for i, one in enumerate(texts):
        for other in texts[i + 1 :]:
            assert not np.array_equal(outputs[one], outputs[other]), (one, other)
    restorer = Restorer(shared_package, {"rain": 0.6, "haze": 0.4})
    assert np.array_equal(restorer(frame), outputs["haze=0.4,rain=0.6"])
    for text in (*texts, *texts):
        assert restorer.compose(text) == Composition.parse(text) == restorer.composition
        assert np.array_equal(restorer(frame), outputs[text])
    assert Restorer(Package(shared_package)).composition.key == "haze=0.3333,noise=0.3333,rain=0.3333"
    assert restorer.adapters == ["haze", "noise", "rain"]


def test_the_output_is_the_merged_models(shared_package: Path) -> None:
    package = Package(shared_package)
    model = fill_graph(package.graph(), merge_package(package, Composition.parse("rain=0.7,haze=0.3")))
    backend = open_backend("cpu")
    engine = backend.load(backend.build(model.SerializeToString(), None))
    frame = noise(16, 24)
    assert np.array_equal(Restorer(package, "rain=0.7,haze=0.3")(frame), engine.run(frame[None])[0])


@pytest.mark.parametrize(
    "wanted", ["fog", "rain=-1", "rain,,", {"fog": 1.0}, ["rain"], None, Composition.parse("rain,fog")]
)
def test_a_switch_that_fails_leaves_the_composition(restorer: Restorer, frame: Frame, wanted: Any) -> None:
    before = restorer(frame)
    with pytest.raises(UsageError):
        restorer.compose(wanted)
    assert restorer.composition.key == "rain"
    assert np.array_equal(restorer(frame), before)


def test_impossible_restorers_are_refused(shared_package: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gpu9: no such device; there are auto, tensorrt, rtx, cuda, openvino, cpu"):
        Restorer(shared_package, device="gpu9")
    with pytest.raises(UsageError, match="rian"):
        Restorer(shared_package, "rian")
    with pytest.raises(MissingFileError, match="no such package"):
        Restorer(tmp_path / "restore.uir")


def test_a_backend_says_what_it_cannot_compile() -> None:
    backend = open_backend("cpu")
    assert "ONNX Runtime" in backend.describe()
    with pytest.raises(BackendError, match="cannot compile the model"):
        backend.load(backend.build(b"no model", None))
    assert issubclass(BackendError, UirError)


def test_an_engine_says_what_it_cannot_run(shared_package: Path) -> None:
    package = Package(shared_package)
    model = fill_graph(package.graph(), merge_package(package, Composition()))
    backend = open_backend("cpu")
    engine = backend.load(backend.build(model.SerializeToString(), None))
    with pytest.raises(BackendError, match="frames of 1x8x8x4"):
        engine.run(np.zeros((1, 8, 8, 4), np.uint8))


def test_frames_never_see_half_a_switch(shared_package: Path) -> None:
    """Threads restore while another switches: each frame is one composition's or the other's, whole."""
    frame = noise(45, 62)
    restorer = Restorer(shared_package, "rain", memory_limit=90_000)  # in tiles, so that a switch could cut in
    expected = {text: Restorer(shared_package, text)(frame) for text in ("rain", "haze=0.5,noise=0.5")}
    done = threading.Event()

    def switch() -> int:
        count = 0
        while not done.is_set():
            for text in expected:
                restorer.compose(text)
                count += 1
        return count

    def restore(_: int) -> str:
        restored = restorer(frame)
        matches = [text for text, output in expected.items() if np.array_equal(restored, output)]
        assert len(matches) == 1
        return matches[0]

    with ThreadPoolExecutor(5) as pool:
        switching = pool.submit(switch)
        try:
            seen = set(pool.map(restore, range(150)))
        finally:
            done.set()
        assert switching.result(30) > 2
    assert seen == set(expected)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_many_compositions_need_the_activations_of_one(shared_package: Path) -> None:
    """In a process of its own. Each composition's engine is kept; what it computed with must not be."""
    code = """
import re, sys
from pathlib import Path
import numpy as np
from uir.runtime import Restorer
restorer, frame = Restorer(sys.argv[1]), np.zeros((1600, 1600, 3), np.uint8)
for i in range(6):
    restorer.compose({"rain": 1 - i / 10})
    restorer(frame)
    print(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(restorer.package.manifest.frame.bytes_per_pixel * frame.size // 3 // 1024)
"""
    command = [sys.executable, "-c", code, str(shared_package)]
    answered = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout.split()
    first, *_, last, activations = (int(float(word)) for word in answered)
    assert activations > 50_000
    assert last - first < 2 * activations  # five engines more


def test_many_threads_may_ask_for_many_compositions(shared_package: Path, frame: Frame) -> None:
    texts = [f"rain={i / 10},haze={1 - i / 10}" for i in range(0, 11, 2)]
    expected = {text: Restorer(shared_package, text)(frame) for text in texts}
    shared = Package(shared_package)

    def work(number: int) -> None:
        restorer = Restorer(shared, texts[number % len(texts)])
        for text in (texts[(number * 7) % len(texts)], texts[(number * 3 + 1) % len(texts)]):
            restorer.compose(text)
            assert np.array_equal(restorer(frame), expected[text])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(12)))


def test_a_base_that_looks_at_whole_frames_says_that_its_tiles_are_approximate(
    package: Path, edit_manifest: Callable[..., None], frame: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    edit_manifest(lambda manifest: manifest["frame"].update({"exact_tiles": False}))
    Restorer(package)(frame)
    assert not caplog.messages
    tiled = Restorer(package, memory_limit=1)
    tiled(frame)
    tiled(frame)
    assert [message for message in caplog.messages if "approximation" in message] == caplog.messages[:1] != []


def test_what_is_prepared_has_run_before_it_serves(shared_package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[int, ...]] = []
    run = OnnxRuntimeEngine.run

    def watched(engine: OnnxRuntimeEngine, frames: Frame) -> Frame:
        ran.append(frames.shape)
        return run(engine, frames)

    restorer = Restorer(shared_package, "haze")
    monkeypatch.setattr(OnnxRuntimeEngine, "run", watched)
    restorer.prepare("noise").result()
    assert ran == []  # for frames of what size, nobody has said
    restorer.expect(45, 61)
    restorer.prepare("rain").result()
    assert ran == [(1, 48, 64, 3)]
    assert restorer.ready("rain")
    restorer.compose("rain")
    assert len(ran) == 1


def test_frames_at_once_are_the_frames_one_by_one(
    shared_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("UIR_CACHE", str(tmp_path / "engines"))
    one, several = (
        Restorer(shared_package, "rain", device="openvino", precision="fp32", throughput=wanted)
        for wanted in (False, True)
    )
    assert (one.at_once, several.at_once) == (1, 3)
    frames = [noise(48 + i, 64) for i in range(6)]
    with ThreadPoolExecutor(several.at_once) as pool:
        together = list(pool.map(several, frames))
    assert all(np.array_equal(one(frame), each) for frame, each in zip(frames, together, strict=True))
