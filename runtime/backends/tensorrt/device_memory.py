"""The one door to CUDA: the GPU, its memory, streams and recorded work, through cuda-python or else PyCUDA.

The GPU is the first one that CUDA shows; CUDA_VISIBLE_DEVICES chooses.
"""

from __future__ import annotations

import ctypes
import importlib
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uir.runtime.errors import BackendError

Bytes = NDArray[np.uint8]

_NO_DRIVER = (
    "no NVIDIA driver that this CUDA can use ({}); install or update it (nvidia-smi must show the GPU), "
    "or run on the CPU (--device cpu)"
)


@dataclass
class Buffer:
    """Memory of the GPU, given back when the object goes.

    Attributes:
        pointer: its address there.
        native: the bindings' own object, if they have one.
    """

    pointer: int
    native: object = None


@dataclass
class Stream:
    """A queue of work, done in order; what is in two of them may overlap.

    Attributes:
        handle: as TensorRT takes it.
        native: as the bindings take it.
    """

    handle: int
    native: Any


class CudaPython:
    """The GPU through `cuda.bindings.runtime` (cuda-python 12.6 and newer).

    Attributes:
        name: the vendor's, such as `Orin`.
        compute_capability: such as `8.7`.
        integrated: it shares the machine's memory (Jetson).

    Raises:
        ModuleNotFoundError: cuda-python is not installed.
        BackendError: there is no GPU or no driver; so may all methods, where CUDA fails.
    """

    def __init__(self) -> None:
        self._runtime = _load("cuda.bindings.runtime")
        try:
            (count,) = self._check(self._runtime.cudaGetDeviceCount())
        except (BackendError, RuntimeError) as error:  # RuntimeError: older bindings' word for a missing driver
            raise BackendError(_NO_DRIVER.format(str(error).removeprefix("CUDA failed: "))) from error
        if not count:
            raise BackendError(_NO_DRIVER.format("it shows no GPU"))
        attribute = self._runtime.cudaDeviceAttr
        major, minor, integrated = (
            self._check(self._runtime.cudaDeviceGetAttribute(wanted, 0))[0]
            for wanted in (
                attribute.cudaDevAttrComputeCapabilityMajor,
                attribute.cudaDevAttrComputeCapabilityMinor,
                attribute.cudaDevAttrIntegrated,
            )
        )
        name: bytes = self._check(self._runtime.cudaGetDeviceProperties(0))[0].name
        self.name, self.compute_capability = name.decode().rstrip("\0"), f"{major}.{minor}"
        self.integrated = bool(integrated)

    @contextmanager
    def active(self) -> Iterator[None]:
        """A block in which this thread may use the GPU."""
        self._check(self._runtime.cudaSetDevice(0))
        yield

    def free_memory(self) -> int:
        """Bytes of its memory that nobody has taken."""
        return int(self._check(self._runtime.cudaMemGetInfo())[0])

    def allocate(self, nbytes: int) -> Buffer:
        """Memory of the GPU."""
        buffer = Buffer(int(self._check(self._runtime.cudaMalloc(nbytes))[0]))
        weakref.finalize(buffer, self._runtime.cudaFree, buffer.pointer)
        return buffer

    def pinned(self, nbytes: int) -> Bytes:
        """Memory of the machine that is copied to and from the GPU without a detour, and while other work goes on."""
        pointer = int(self._check(self._runtime.cudaHostAlloc(nbytes, self._runtime.cudaHostAllocDefault))[0])
        memory = (ctypes.c_uint8 * nbytes).from_address(pointer)
        weakref.finalize(memory, self._runtime.cudaFreeHost, pointer)  # every view of the array holds `memory`
        return np.frombuffer(memoryview(memory), np.uint8)

    def stream(self) -> Stream:
        """A new stream."""
        (native,) = self._check(self._runtime.cudaStreamCreateWithFlags(self._runtime.cudaStreamNonBlocking))
        stream = Stream(int(native), native)
        weakref.finalize(stream, self._runtime.cudaStreamDestroy, native)
        return stream

    def upload(self, buffer: Buffer, source: Bytes, stream: Stream) -> None:
        """Queue a copy of pinned memory to the GPU."""
        kind, pointer = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice, source.ctypes.data
        self._check(self._runtime.cudaMemcpyAsync(buffer.pointer, pointer, source.nbytes, kind, stream.native))

    def download(self, target: Bytes, buffer: Buffer, stream: Stream) -> None:
        """Queue a copy from the GPU to pinned memory."""
        kind, pointer = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost, target.ctypes.data
        self._check(self._runtime.cudaMemcpyAsync(pointer, buffer.pointer, target.nbytes, kind, stream.native))

    def wait(self, stream: Stream) -> None:
        """Wait until all that is queued is done."""
        self._check(self._runtime.cudaStreamSynchronize(stream.native))

    def record(self, stream: Stream, work: Callable[[], None]) -> Callable[[], None] | None:
        """Record what `work` queues, without doing it, as a CUDA graph; returned is what queues it all by one call.

        None where the bindings cannot.
        """
        # Of the calling thread alone: other threads may allocate meanwhile.
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._check(self._runtime.cudaStreamBeginCapture(stream.native, mode))
        try:
            work()
        finally:  # a stream that is not told to end would record for ever
            ended = self._runtime.cudaStreamEndCapture(stream.native)
        (graph,) = self._check(ended)
        (program,) = self._check(self._runtime.cudaGraphInstantiate(graph, 0))
        self._check(self._runtime.cudaGraphDestroy(graph))

        def launch() -> None:
            self._check(self._runtime.cudaGraphLaunch(program, stream.native))

        weakref.finalize(launch, self._runtime.cudaGraphExecDestroy, program)
        return launch

    def _check(self, answer: tuple[Any, ...]) -> tuple[Any, ...]:
        """What a call gave, without the error code that all of them begin with."""
        error, *values = answer
        if error != self._runtime.cudaError_t.cudaSuccess:
            text = self._runtime.cudaGetErrorString(error)[1].decode()
            raise BackendError(f"CUDA failed: {text} ({error.name})")
        return tuple(values)


class PyCuda:
    """The GPU through PyCUDA, which Jetsons often have; as `CudaPython`, but that it records no work."""

    def __init__(self) -> None:
        self._driver = _load("pycuda.driver")
        try:
            self._driver.init()
            device = self._driver.Device(0)
            self._context = device.retain_primary_context()  # the one that TensorRT uses too
        except self._driver.Error as error:
            raise BackendError(_NO_DRIVER.format(error)) from error
        self.name = str(device.name())
        self.compute_capability = "{}.{}".format(*device.compute_capability())
        self.integrated = bool(device.get_attribute(self._driver.device_attribute.INTEGRATED))

    @contextmanager
    def active(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        except self._driver.Error as error:
            raise BackendError(f"CUDA failed: {error}") from error
        finally:
            self._driver.Context.pop()

    def free_memory(self) -> int:
        with self.active():
            return int(self._driver.mem_get_info()[0])

    def allocate(self, nbytes: int) -> Buffer:
        native = self._driver.mem_alloc(nbytes)
        return Buffer(int(native), native)

    def pinned(self, nbytes: int) -> Bytes:
        memory: Bytes = self._driver.pagelocked_empty(nbytes, np.uint8)
        return memory

    def stream(self) -> Stream:
        native = self._driver.Stream()
        return Stream(int(native.handle), native)

    def upload(self, buffer: Buffer, source: Bytes, stream: Stream) -> None:
        self._driver.memcpy_htod_async(buffer.pointer, source, stream.native)

    def download(self, target: Bytes, buffer: Buffer, stream: Stream) -> None:
        self._driver.memcpy_dtoh_async(target, buffer.pointer, stream.native)

    def wait(self, stream: Stream) -> None:
        stream.native.synchronize()

    def record(self, stream: Stream, work: Callable[[], None]) -> Callable[[], None] | None:  # noqa: ARG002
        return None


Device = CudaPython | PyCuda


@cache
def open_device() -> Device:
    """The GPU of this machine.

    Raises:
        BackendError: there is no GPU, no driver, or neither cuda-python nor PyCUDA; the message says what to install.
    """
    failures = []
    for bindings in (CudaPython, PyCuda):
        try:
            return bindings()
        except ModuleNotFoundError:
            continue
        except BackendError as error:  # the other may have been made for the driver that is here
            failures.append(error)
    if failures:
        raise failures[0]
    raise BackendError(
        "neither cuda-python nor PyCUDA is installed, and TensorRT's engines need one of them to run; install one: "
        "pip install cuda-python (of the CUDA version that nvidia-smi shows), or pip install pycuda"
    )


def find_device() -> Device | None:
    """The GPU of this machine, if there is one that can be used."""
    with suppress(BackendError):
        return open_device()
    return None


def available_memory(device: Device, meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes that can be had on the GPU.

    Where it shares the machine's memory, that is what Linux can make available without swapping (proc(5),
    MemAvailable): CUDA counts the page cache as taken.
    """
    if not device.integrated:
        return device.free_memory()
    (line,) = (line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise
    except ImportError as error:  # PyCUDA is linked to the driver
        raise BackendError(_NO_DRIVER.format(error)) from error
