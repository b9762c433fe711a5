"""How an engine shares out its calls, on a stand-in for the GPU: what is queued there happens when it is waited for.

What TensorRT and CUDA do themselves is not tested here; see test_tensorrt_engine.py, which needs a GPU.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import Enum
from types import SimpleNamespace

import numpy as np
import pytest

from uir.runtime.backends import Frames
from uir.runtime.backends.tensorrt.bindings import Bindings
from uir.runtime.backends.tensorrt.device_memory import Buffer, Bytes, Stream
from uir.runtime.backends.tensorrt.engine import LANES, TensorRTEngine
from uir.runtime.errors import BackendError

Mode = Enum("Mode", ["INPUT", "OUTPUT"])
PROFILE = [(1, 8, 8, 3), (1, 16, 16, 3), (2, 32, 32, 3)]


class Gpu:
    """A device whose streams are lists of what is still to be done; memory is arrays by address."""

    name, compute_capability, integrated = "stand-in", "0.0", False

    def __init__(self) -> None:
        self.memory: dict[int, Bytes] = {}
        self.queues: dict[int, list[Callable[[], None]]] = {}
        self.recordings = self.launches = 0
        self.numbers = itertools.count(1)  # no two threads draw the same

    @contextmanager
    def active(self) -> Iterator[None]:
        yield

    def allocate(self, nbytes: int) -> Buffer:
        pointer = next(self.numbers)
        self.memory[pointer] = np.zeros(nbytes, np.uint8)
        return Buffer(pointer)

    def pinned(self, nbytes: int) -> Bytes:
        return np.zeros(nbytes, np.uint8)

    def stream(self) -> Stream:
        handle = next(self.numbers)
        self.queues[handle] = []
        return Stream(handle, handle)

    def upload(self, buffer: Buffer, source: Bytes, stream: Stream) -> None:
        self.queues[stream.handle].append(lambda: np.copyto(self.memory[buffer.pointer], source))

    def download(self, target: Bytes, buffer: Buffer, stream: Stream) -> None:
        self.queues[stream.handle].append(lambda: np.copyto(target, self.memory[buffer.pointer]))

    def wait(self, stream: Stream) -> None:
        while self.queues[stream.handle]:
            self.queues[stream.handle].pop(0)()

    def record(self, stream: Stream, work: Callable[[], None]) -> Callable[[], None]:
        waiting, self.queues[stream.handle] = self.queues[stream.handle], []
        work()
        recorded, self.queues[stream.handle] = self.queues[stream.handle], waiting
        self.recordings += 1

        def launch() -> None:
            self.launches += 1
            self.queues[stream.handle].extend(recorded)

        return launch


class Context:
    """Inverts frames, or fails."""

    def __init__(self, gpu: Gpu, faults: list[str]) -> None:
        self.gpu, self.faults, self.shape, self.addresses = gpu, faults, (0,), {}  # type: ignore[var-annotated]

    def set_input_shape(self, _: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return True

    def get_tensor_shape(self, _: str) -> tuple[int, ...]:
        return self.shape

    def set_tensor_address(self, name: str, pointer: int) -> None:
        self.addresses[name] = pointer

    def execute_async_v3(self, handle: int) -> bool:
        if self.faults:
            self.faults.pop()
            return False
        source, target = (self.gpu.memory[self.addresses[name]] for name in ("frame", "restored"))
        self.gpu.queues[handle].append(lambda: np.copyto(target, 255 - source))
        return True


class Native:
    """TensorRT's engine."""

    num_io_tensors, refittable = 2, False
    device_memory_size_v2 = 1000

    def __init__(self, gpu: Gpu, faults: list[str], contexts: list[Context]) -> None:
        self.gpu, self.faults, self.contexts = gpu, faults, contexts

    def get_tensor_name(self, number: int) -> str:
        return ("frame", "restored")[number]

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.INPUT if name == "frame" else Mode.OUTPUT

    def get_tensor_profile_shape(self, *_: object) -> list[tuple[int, ...]]:
        return PROFILE

    def create_execution_context(self) -> Context:
        self.contexts.append(Context(self.gpu, self.faults))
        return self.contexts[-1]


class Logger:
    """TensorRT's base of loggers."""


class Module:
    """TensorRT's module."""

    ILogger, TensorIOMode = Logger, Mode

    def __init__(self, native: Native) -> None:
        self.native = native

    def Runtime(self, _: Logger) -> SimpleNamespace:  # noqa: N802 - TensorRT's name
        return SimpleNamespace(deserialize_cuda_engine=lambda plan: self.native if plan else None)


@pytest.fixture
def rig() -> SimpleNamespace:
    """An engine on a stand-in, with what it runs on."""
    gpu = Gpu()
    faults: list[str] = []
    contexts: list[Context] = []
    bindings = Bindings("tensorrt", Module(Native(gpu, faults, contexts)), "10.3.0")
    engine = TensorRTEngine(bindings, b"plan", gpu)  # type: ignore[arg-type]
    return SimpleNamespace(engine=engine, gpu=gpu, faults=faults, contexts=contexts, bindings=bindings)


def frames(number: int, seed: int = 0, side: int = 16) -> Frames:
    return np.random.default_rng(seed).integers(0, 256, (number, side, side, 3), dtype=np.uint8)


def test_a_size_is_recorded_at_its_second_run_and_launched_from_then_on(rig: SimpleNamespace) -> None:
    for run in range(5):
        given = frames(1, run)
        assert np.array_equal(rig.engine.run(given), 255 - given)
    assert (rig.gpu.recordings, rig.gpu.launches) == (1, 4)
    assert len(rig.gpu.memory) == 2, "nothing is allocated after the first frame"
    larger = frames(1, 9, side=32)
    assert np.array_equal(rig.engine.run(larger), 255 - larger)
    assert (rig.gpu.recordings, rig.gpu.launches) == (1, 4)
    assert len(rig.contexts) == 1, "calls one after another share a lane"


def test_what_it_holds_is_the_plan_and_what_its_lanes_hold(rig: SimpleNamespace) -> None:
    assert (rig.engine.nbytes, rig.engine.held_pixels) == (len(b"plan") + 1000, 0)
    one, two = (4 * 3 * side**2 for side in (16, 32))
    rig.engine.run(frames(1))
    assert rig.engine.nbytes == len(b"plan") + 1000 + one
    rig.engine.run(frames(1, side=32))
    assert rig.engine.nbytes == len(b"plan") + 1000 + two
    rig.engine.run(frames(4))
    assert rig.engine.nbytes == len(b"plan") + LANES * (1000 + 2 * one)
    rig.faults.append("once")
    with pytest.raises(BackendError):
        rig.engine.run(frames(4, side=32))
    assert rig.engine.nbytes == len(b"plan") + (LANES - 1) * 1000 + (LANES - 1) * 2 * one


@pytest.mark.parametrize("number", [1, 2, 3, 5, 8])
def test_many_frames_go_in_parts_over_both_lanes(number: int, rig: SimpleNamespace) -> None:
    given = frames(number)
    assert np.array_equal(rig.engine.run(given), 255 - given)
    assert np.array_equal(rig.engine.run(given[::-1]), 255 - given[::-1])
    assert len(rig.contexts) == min(LANES, -(-number // PROFILE[-1][0]))


def test_threads_with_many_frames_neither_wait_for_ever_nor_mix_them_up(rig: SimpleNamespace) -> None:
    given = [frames(1 + seed % 7, seed) for seed in range(60)]
    with ThreadPoolExecutor(6) as pool:
        results = [pool.submit(rig.engine.run, each) for each in given]
        for each, result in zip(given, results, strict=True):
            assert np.array_equal(result.result(60), 255 - each)
    assert len(rig.contexts) <= LANES
    assert threading.active_count() < 10


def test_a_run_that_fails_leaves_the_engine_usable(rig: SimpleNamespace) -> None:
    given = frames(5)
    rig.engine.run(given)
    for _ in range(3 * LANES):
        rig.faults.append("once")
        with pytest.raises(BackendError, match=r"TensorRT 10\.3\.0 failed on frames of"):
            rig.engine.run(frames(5, side=32))
        rig.faults.clear()
        assert np.array_equal(rig.engine.run(given), 255 - given)


@pytest.mark.parametrize("shape", [(1, 40, 16), (1, 16, 4), (0, 40, 16)])
def test_sizes_outside_of_the_engines_are_refused(shape: tuple[int, int, int], rig: SimpleNamespace) -> None:
    with pytest.raises(BackendError, match=r"from \(1, 8, 8\) to \(2, 32, 32\), and was given"):
        rig.engine.run(np.zeros((*shape, 3), np.uint8))


def test_what_does_not_load_and_what_cannot_be_refitted(rig: SimpleNamespace) -> None:
    with pytest.raises(BackendError, match=r"cannot load the engine: it gives no reason; .*delete it"):
        TensorRTEngine(rig.bindings, b"", rig.gpu)
    with pytest.raises(BackendError, match="not built to be refitted"):
        rig.engine.refit({})
