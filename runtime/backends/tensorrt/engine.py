"""Running: a plan loaded onto the GPU, frames in and frames out."""

from __future__ import annotations

import logging
import math
import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uir.runtime.backends import Frames
from uir.runtime.backends.tensorrt.bindings import Bindings
from uir.runtime.backends.tensorrt.device_memory import Buffer, Bytes, Device, Stream
from uir.runtime.backends.tensorrt.log import Log
from uir.runtime.backends.tensorrt.refit import refit
from uir.runtime.errors import BackendError

log = logging.getLogger(__name__)

LANES = 2
"""Calls under way at once: while one computes, the other's frames are copied. Each is made when first needed."""


class TensorRTEngine:
    """A plan on the GPU. Safe to use from many threads.

    Args:
        bindings: those that the plan was built with, of the same version.
        plan: what the build gave.
        device: the GPU, which must be there: TensorRT's runtime may crash without one.

    Attributes:
        held_pixels: none: activations are part of `nbytes`, since TensorRT says what they take.

    Raises:
        BackendError: this is no plan of this version and GPU, or there is no room for it.
    """

    def __init__(self, bindings: Bindings, plan: bytes, device: Device) -> None:
        trt = bindings.module
        self._size = len(plan)  # nearly all of it weights
        self._bindings, self._device, self._log = bindings, device, Log(trt)
        with device.active():
            self._runtime = trt.Runtime(self._log.native)
            self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise BackendError(
                f"{bindings.title} cannot load the engine: {self._log.reason()}; if it was built by another version or "
                "for another GPU, delete it, and it is built anew"
            )
        self._input, self._output = self._tensors()
        self._smallest, _, self._largest = (
            tuple(shape)[:3] for shape in self._engine.get_tensor_profile_shape(self._input, 0)
        )
        self._lanes: queue.LifoQueue[_Lane | None] = queue.LifoQueue()  # the last one used is the warmest
        for _ in range(LANES):
            self._lanes.put(None)
        self._made: set[_Lane] = set()
        self._refitting = threading.Lock()

    def __del__(self) -> None:
        # TensorRT wants its objects gone in this order.
        self._lanes = self._made = self._engine = self._runtime = None  # type: ignore[assignment]

    held_pixels = 0.0

    @property
    def nbytes(self) -> int:
        """The plan, and what each lane takes on the GPU and for copies, bytes; one lane counts before it is made."""
        lanes = list(self._made)
        contexts = max(1, len(lanes)) * int(self._engine.device_memory_size_v2)
        return self._size + contexts + sum(lane.nbytes for lane in lanes)

    def run(self, frames: Frames) -> Frames:
        """Restore N x H x W x 3 uint8 RGB frames. More frames than the engine takes at once go one part after another.

        Raises:
            BackendError: the engine was not built for frames of this size, or the run fails.
        """
        self._check(frames)
        self._log.errors.clear()
        restored = np.empty_like(frames)
        most = self._largest[0]
        under_way: deque[tuple[_Lane, Frames]] = deque()
        with self._device.active():
            try:
                for start in range(0, len(frames), most):
                    lane = self._take(under_way)
                    under_way.append((lane, restored[start : start + most]))
                    lane.submit(frames[start : start + most])
                while under_way:
                    self._finish(under_way)
            finally:
                for lane, _ in under_way:  # something failed; what is left of these lanes is not to be trusted
                    self._made.discard(lane)
                    self._lanes.put(None)
        return restored

    def refit(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Exchange the engine's weights, between two runs; see `refit.refit`.

        Raises:
            BackendError: the engine is not refittable, or not with these weights.
        """
        if not self._engine.refittable:
            raise BackendError("this engine was not built to be refitted; build it with BuildOptions(refittable=...)")
        with self._refitting:
            lanes = [self._lanes.get() for _ in range(LANES)]
            try:
                with self._device.active():
                    refit(self._bindings, self._log, self._engine, weights)
            finally:
                for lane in lanes:
                    if lane is not None:
                        lane.forget()
                    self._lanes.put(lane)

    def _tensors(self) -> tuple[str, str]:
        """The names of the one input and the one output."""
        trt = self._bindings.module
        names = [self._engine.get_tensor_name(number) for number in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        outputs = [name for name in names if name not in inputs]
        if len(inputs) != 1 or len(outputs) != 1:
            raise BackendError(f"not an engine of frames: it takes {inputs} and gives {outputs}; build it anew")
        return inputs[0], outputs[0]

    def _check(self, frames: Frames) -> None:
        shape = frames.shape[:3]
        low, high = self._smallest, self._largest
        last = shape[0] % high[0] or high[0]  # the last part is the smallest
        if last < low[0] or any(not a <= b <= c for a, b, c in zip(low[1:], shape[1:], high[1:], strict=True)):
            raise BackendError(f"the engine takes frames (N, H, W) from {low} to {high}, and was given {shape}")

    def _take(self, under_way: deque[tuple[_Lane, Frames]]) -> _Lane:
        """A lane that is free. A call that has one under way does not wait for others, which may wait for it."""
        if not under_way:
            lane = self._lanes.get()
        else:
            try:
                lane = self._lanes.get_nowait()
            except queue.Empty:
                self._finish(under_way)
                return self._take(under_way)
        if lane is None:
            try:
                lane = _Lane(self._bindings, self._engine, self._device, self._log, self._input, self._output)
            except BaseException:
                self._lanes.put(None)
                raise
            self._made.add(lane)
        return lane

    def _finish(self, under_way: deque[tuple[_Lane, Frames]]) -> None:
        lane, target = under_way[0]
        lane.collect(target)
        under_way.popleft()
        self._lanes.put(lane)


class _Lane:
    """What one call under way needs: an execution context, a stream, and memory for frames of the last size."""

    def __init__(
        self, bindings: Bindings, engine: Any, device: Device, native_log: Log, input_name: str, output_name: str
    ) -> None:
        self._title, self._device, self._log = bindings.title, device, native_log
        self._input, self._output = input_name, output_name
        self._context = engine.create_execution_context()
        if self._context is None:
            raise BackendError(
                f"{bindings.title} has no room to run the engine: {native_log.reason()}; close other programs, lower "
                "the memory limit, or give smaller frames"
            )
        self._stream: Stream = device.stream()
        self._shape: tuple[int, ...] = ()
        self._launch: Callable[[], None] | None = None
        self.forget()

    @property
    def nbytes(self) -> int:
        """Of frames, spoilt and restored, on the machine and on the GPU, bytes."""
        return 4 * math.prod(self._shape)

    def submit(self, frames: Frames) -> None:
        """Queue frames. All copies and kernels of a size are recorded at its second run, and then launched at once."""
        if frames.shape != self._shape:
            self._resize(frames.shape)
        np.copyto(self._source.reshape(frames.shape), frames)
        if self._runs == 1:
            self._launch = self._record()
        self._runs += 1
        if self._launch:
            self._launch()
        else:
            self._queue()

    def collect(self, target: Frames) -> None:
        """Wait for what was queued, and take the result."""
        self._device.wait(self._stream)
        np.copyto(target, self._target.reshape(target.shape))

    def forget(self) -> None:
        """Record anew: what was recorded may hold addresses of weights that are no more."""
        self._launch, self._runs = None, 0

    def _queue(self) -> None:
        self._device.upload(self._taken, self._source, self._stream)
        if not self._context.execute_async_v3(self._stream.handle):
            raise BackendError(f"{self._title} failed on frames of {self._shape}: {self._log.reason()}")
        self._device.download(self._target, self._given, self._stream)

    def _record(self) -> Callable[[], None] | None:
        """The work as a CUDA graph, where that can be had: it costs one launch instead of one a kernel."""
        # TensorRT-RTX says whether what it queues may be recorded; a first run has warmed it up.
        capturable = getattr(self._context, "is_stream_capturable", None)
        if capturable is not None and not capturable(self._stream.handle):
            return None
        try:
            return self._device.record(self._stream, self._queue)
        except BackendError as error:
            log.debug("runs without a CUDA graph: %s", error)
            self._log.errors.clear()
            return None

    def _resize(self, shape: tuple[int, ...]) -> None:
        self.forget()
        self._shape = ()
        if not self._context.set_input_shape(self._input, shape):
            raise BackendError(f"{self._title} does not take frames of {shape}: {self._log.reason()}")
        given = tuple(self._context.get_tensor_shape(self._output))
        if given != shape:
            raise BackendError(f"not an engine of frames: it makes {given} of {shape}; export the package again")
        nbytes = int(np.prod(shape))
        self._source: Bytes = self._device.pinned(nbytes)
        self._target: Bytes = self._device.pinned(nbytes)
        self._taken: Buffer = self._device.allocate(nbytes)
        self._given: Buffer = self._device.allocate(nbytes)
        self._context.set_tensor_address(self._input, self._taken.pointer)
        self._context.set_tensor_address(self._output, self._given.pointer)
        self._shape = shape
