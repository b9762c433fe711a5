"""OpenVINO on the CPU: the fast one on x86, in bfloat16 where the processor has it."""

from __future__ import annotations

import io
import math
import queue
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from uir.runtime.backends import Frames, Shapes
from uir.runtime.backends.openvino_template import Template
from uir.runtime.errors import BackendError, MissingBackendError, shown
from uir.runtime.version import install


class OpenVinoBackend:
    """Compiles for the CPU's own instructions.

    Args:
        exact: compute in float32 even where the processor has bfloat16.
        throughput: compute two frames at once, each by half of the cores. A frame then takes almost twice as long, but
            no core waits for another at the end of each layer, which is long where cores decode and encode besides.

    Raises:
        MissingBackendError: OpenVINO is not installed.
        BackendError: it cannot be loaded, or has no CPU plugin here.
    """

    name = "openvino"
    static = True  # engines for frames of all sizes take up to 1.5 times as long
    durable = True
    most_at_once = 2

    def __init__(self, *, exact: bool = False, throughput: bool = False) -> None:
        try:
            openvino = _import_openvino()
        except ModuleNotFoundError as error:
            raise MissingBackendError(
                f"OpenVINO is not installed ({error}); install it with: {install('openvino')}"
            ) from error
        except ImportError as error:  # its libraries do not fit this system
            raise BackendError(f"OpenVINO cannot be loaded: {error}; install it again: pip install openvino") from error
        self._core = openvino.Core()
        self._version = str(openvino.__version__).partition("-")[0]
        try:
            self._processor = str(self._core.get_property("CPU", "FULL_DEVICE_NAME"))
            own = self._core.get_property("CPU", "INFERENCE_PRECISION_HINT")
        except Exception as error:  # openvino raises plain RuntimeErrors
            raise BackendError(f"OpenVINO {self._version} has no CPU device here: {shown(error, 600)}") from error
        self.preferred: tuple[str, ...] = ("int8", "fp32") if multiplies_bytes() else ("fp32", "int8")
        # The type that it takes by itself: versions have listed BF16 among its capabilities where that is simulated.
        self.precision = "bf16" if own == openvino.Type.bf16 and not exact else "f32"
        self.at_once = self.most_at_once if throughput else 1
        self._template = Template()
        self._options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": self.precision, "PERFORMANCE_HINT": "LATENCY"}
        if throughput:
            self._options |= {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": self.at_once}

    def identity(self) -> dict[str, str]:
        """Version, processor and precision; how many frames are computed at once is chosen when an engine is loaded."""
        return {
            "backend": self.name,
            "openvino": self._version,
            "device": self._processor,
            "precision": self.precision,
        }

    def build(self, model: bytes, shapes: Shapes | None) -> bytes:
        """Compile a serialised ONNX model.

        Raises:
            BackendError: OpenVINO refuses the model.
        """
        try:
            import onnx  # takes longer to import than an engine to load

            from uir.runtime.backends.openvino_graph import arrange

            arranged = onnx.load_from_string(model)
            arrange(arranged)
            size = shapes.usual[1:] if shapes is not None and shapes.static else None
            return self._template.build(arranged, str(size), lambda: self._compile(arranged, size))
        except Exception as error:  # as above
            raise BackendError(f"OpenVINO {self._version} cannot compile the model: {shown(error, 600)}") from error

    def _compile(self, arranged: Any, size: tuple[int, int] | None) -> bytes:
        """Compile an arranged model for frames of this height and width, or of any, and export it."""
        network = self._core.read_model(arranged.SerializeToString())
        if size is not None:
            channels = network.input(0).partial_shape[1].get_length()
            block = _block(channels)
            network.reshape([1, channels, size[0] // block, size[1] // block])
        exported = self._core.compile_model(network, "CPU", self._options).export_model()
        return exported.getvalue() if isinstance(exported, io.BytesIO) else bytes(exported)

    def load(self, built: bytes) -> OpenVinoEngine:
        """Make an engine of what `build` gave.

        Raises:
            BackendError: these are no bytes of this version of OpenVINO for this processor.
        """
        try:
            return OpenVinoEngine(self._core.import_model(built, "CPU", self._options), len(built), self.at_once)
        except Exception as error:  # as above
            raise BackendError(f"OpenVINO {self._version} cannot load the engine: {shown(error, 600)}") from error

    def refittable(self, weights: Collection[str]) -> None:
        """None: a composition's own engine is there in milliseconds."""

    def describe(self) -> str:
        """The backend, its version, its precision and its device, in a few words."""
        return f"OpenVINO {self._version} in {self.precision} on {self._processor}"


def _import_openvino() -> Any:
    """OpenVINO without its model converter, which it imports with itself but does without.

    The converter takes as long as all the rest, and forks a process that reports the import to its makers.
    """
    with _absent("openvino.tools.ovc"):
        import openvino
    # Its bindings make ready for numpy at their first tensor, and two threads that make theirs at once wait for each
    # other for ever: one holds Python's lock and needs C++'s, the other the reverse. So the first is made here.
    _ = openvino.Tensor(np.zeros(1, np.uint8), shared_memory=True).data
    return openvino


@contextmanager
def _absent(name: str) -> Iterator[None]:
    """Have a module be missing, in the way that Python has for it, unless it was imported before."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


def multiplies_bytes(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor sums products of bytes in 32 bits at once (Intel's VNNI and AMX), as far as Linux tells.

    Without, OpenVINO sums pairs of them in 16 bits, which gains little over float32 and saturates: the frames are then
    not those that the package's gate judged ("Saturation (overflow) Issue Workaround" in OpenVINO's documentation).
    """
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        return False
    flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return bool(flags and {"avx512_vnni", "avx_vnni", "amx_int8"} & set(flags[1].split()))


class _Cost(NamedTuple):
    """What a kind of engine takes in memory.

    Attributes:
        copies: of what was built: the weights as they were given, and as kernels want them.
        stream: bytes of each stream: kernels and threads.
        share: of a frame's activations in float32, for each stream.
    """

    copies: float
    stream: int
    share: float


# Measured with OpenVINO 2026.4 on networks of 2 thousand, 2 million and 8 million parameters, frames from 176x144 to
# 1280x720, one and two streams.
_INT8 = _Cost(2.75, 3 * 2**20, 0.58)
_BF16 = _Cost(1.5, 2 * 2**20, 0.65)
_F32 = _Cost(2.0, 2 * 2**20, 1.06)


def _cost(compiled: Any) -> _Cost:
    """Of a compiled model, by the types that it computes in."""
    nodes = compiled.get_runtime_model().get_ops()
    types = {node.get_rt_info()["runtimePrecision"].astype(str) for node in nodes}
    return _INT8 if "i8" in types else _BF16 if "bf16" in types else _F32


class OpenVinoEngine:
    """One compiled model. Each call takes a request of its own, so threads do not wait for each other.

    A request takes one frame: on a processor a batch gains nothing.
    """

    def __init__(self, compiled: Any, size: int, streams: int) -> None:
        self._compiled = compiled
        self._block = _block(compiled.input(0).partial_shape[1].get_length())
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        cost = _cost(compiled)
        self.nbytes = round(cost.copies * size) + streams * cost.stream
        self._share = streams * cost.share
        self._largest = 0

    @property
    def held_pixels(self) -> float:
        """Of the largest frame, in each stream."""
        return self._share * self._largest

    def run(self, frames: Frames) -> Frames:
        """Restore N x H x W x 3 uint8 RGB frames.

        Raises:
            BackendError: the run fails, such as for want of memory.
        """
        try:
            request = self._idle.get_nowait()
        except queue.Empty:
            request = self._compiled.create_infer_request()
        restored = np.empty_like(frames)
        self._largest = max(self._largest, frames.shape[1] * frames.shape[2])
        try:
            for frame, result in zip(frames, restored, strict=True):
                planes = _split(frame, self._block)
                request.infer([planes[None]], share_inputs=True, share_outputs=True)
                _merge(request.get_output_tensor().data[0], result, self._block)
        except Exception as error:  # as above
            size = "x".join(str(length) for length in frames.shape)
            raise BackendError(f"OpenVINO failed on frames of {size}: {shown(error, 600)}") from error
        self._idle.put(request)
        return restored


def _block(channels: int) -> int:
    """The side of the blocks whose pixels are channels, as `arrange` makes them."""
    return math.isqrt(channels // 3)


def _split(frame: Frames, block: int) -> Frames:
    """H x W x 3 as the planes that an engine takes."""
    height, width = frame.shape[0] // block, frame.shape[1] // block
    planes = np.empty((block, 3 * block, height, width), np.uint8)
    for row, channels in enumerate(planes):
        cv2.split(frame[row::block].reshape(height, width, -1), list(channels))
    return planes.reshape(-1, height, width)


def _merge(planes: Frames, frame: Frames, block: int) -> None:
    """The planes that an engine gives as H x W x 3."""
    height, width = planes.shape[1:]
    for row, channels in enumerate(planes.reshape(block, 3 * block, height, width)):
        cv2.merge(list(channels), frame[row::block].reshape(height, width, -1))
