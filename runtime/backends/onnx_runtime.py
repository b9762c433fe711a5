"""ONNX Runtime on the CPU: the backend that is always there."""

from __future__ import annotations

from functools import cache

import onnxruntime

from uir.runtime.backends import Frames
from uir.runtime.errors import BackendError


class OnnxRuntimeBackend:
    """Compiles to ONNX Runtime sessions on the CPU, straight from memory."""

    def compile(self, model: bytes) -> OnnxRuntimeEngine:
        """Make a session of a serialised ONNX model.

        Raises:
            BackendError: ONNX Runtime refuses the model.
        """
        _share_memory()
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.log_severity_level = 3  # errors only: its warnings are about its own optimiser
        # A plan of the memory is made at a size's first run and allocated beside that run's own: twice the peak.
        options.enable_mem_pattern = False
        try:
            return OnnxRuntimeEngine(onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]))
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise BackendError(f"ONNX Runtime {onnxruntime.__version__} cannot compile the model: {error}") from error

    def describe(self) -> str:
        """The backend, its version and its device, in a few words."""
        return f"ONNX Runtime {onnxruntime.__version__} on the CPU"


@cache
def _share_memory() -> None:
    """One arena for all sessions of the process. One of its own would keep each engine's activations for good."""
    kind, use = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    onnxruntime.create_and_register_allocator(onnxruntime.OrtMemoryInfo("Cpu", kind, 0, use), None)


class OnnxRuntimeEngine:
    """One session. Sessions may be run from many threads at once."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name

    def run(self, frames: Frames) -> Frames:
        """Restore N x H x W x 3 uint8 RGB frames.

        Raises:
            BackendError: the run fails, such as for want of memory.
        """
        try:
            restored: Frames = self._session.run(None, {self._input: frames})[0]
        except Exception as error:  # as above
            size = "x".join(str(length) for length in frames.shape)
            raise BackendError(f"ONNX Runtime failed on frames of {size}: {error}") from error
        return restored
