"""ONNX Runtime: on the CPU, where it is always there, and on NVIDIA GPUs by its CUDA and TensorRT providers."""

from __future__ import annotations

import platform
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnxruntime

from uir.runtime.backends import Frames, Shapes
from uir.runtime.errors import BackendError, MissingBackendError, shown


@dataclass(frozen=True)
class _Provider:
    """One of ONNX Runtime's execution providers.

    Attributes:
        name: as ONNX Runtime has it.
        title: as people have it.
        preferred: precisions from the fastest on.
    """

    name: str
    title: str
    preferred: tuple[str, ...]


_PROVIDERS = {
    # On a CPU, its int8 has 0.40 and its float16 0.85 of float32's speed.
    "cpu": _Provider("CPUExecutionProvider", "the CPU", ("fp32",)),
    "cuda": _Provider("CUDAExecutionProvider", "CUDA", ("fp16", "fp32")),
    "tensorrt": _Provider("TensorrtExecutionProvider", "TensorRT", ("int8", "fp16", "fp32")),
}


# L4T, NVIDIA's Linux for Jetsons, has this file; containers need not show it, but share the kernel.
_TEGRA = Path("/etc/nv_tegra_release")


def _remedy() -> str:
    """How to come by a build for GPUs."""
    if platform.machine() == "aarch64" and (_TEGRA.exists() or platform.release().endswith("-tegra")):
        return (
            "on a Jetson no other build is needed: JetPack's own TensorRT runs engines (--device tensorrt; "
            "docs/jetson.md says how to install it); pip's onnxruntime-gpu is not for Jetsons, NVIDIA's Jetson AI Lab "
            "has builds for each JetPack"
        )
    return (
        "on an NVIDIA GPU, install onnxruntime-gpu in its place: pip uninstall onnxruntime, then pip install "
        "onnxruntime-gpu"
    )


class OnnxRuntimeBackend:
    """Runs ONNX Runtime sessions. There is nothing to build: a session is made of the model itself.

    Args:
        provider: `"cpu"`, `"cuda"` or `"tensorrt"`.

    Raises:
        MissingBackendError: this ONNX Runtime was built without that provider.
    """

    static = False
    durable = False
    at_once = most_at_once = 1

    def __init__(self, provider: str = "cpu") -> None:
        self.name = provider
        self._provider = _PROVIDERS[provider]
        self.preferred = self._provider.preferred
        if self._provider.name not in onnxruntime.get_available_providers():
            raise MissingBackendError(
                f"ONNX Runtime {onnxruntime.__version__} was built without {self._provider.title}; {_remedy()}"
            )

    def identity(self) -> dict[str, str]:
        """The provider and the version."""
        return {"backend": f"onnxruntime-{self.name}", "onnxruntime": onnxruntime.__version__}

    def build(self, model: bytes, shapes: Shapes | None) -> bytes:  # noqa: ARG002 - any size will do
        """The model as it is."""
        return model

    def load(self, built: bytes) -> OnnxRuntimeEngine:
        """Make a session of a serialised ONNX model.

        Raises:
            BackendError: ONNX Runtime refuses the model, or would run it on the CPU though a GPU was asked for.
        """
        _share_memory()
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.use_env_allocators", "1")
        # Weights do not go where activations do, so that they make room where an engine is given up.
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        # Its threads else wait for the next frame by spinning, in the way of the engine that a switch leads to.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.log_severity_level = 4  # what is wrong is raised as well
        # A plan of the memory is made at a size's first run and allocated beside that run's own: twice the peak.
        options.enable_mem_pattern = False
        try:
            # Its own fallback would print to stdout, and go on with the CPU.
            session = onnxruntime.InferenceSession(built, options, [self._provider.name], enable_fallback=0)
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise BackendError(
                f"ONNX Runtime {onnxruntime.__version__} cannot compile the model: {shown(error, 600)}"
            ) from error
        given = session.get_providers()[0]
        if given != self._provider.name:  # it says nothing when it falls back
            raise BackendError(
                f"ONNX Runtime {onnxruntime.__version__} fell back to {given}: {self._provider.title} cannot be used "
                "here (no driver, no GPU, or CUDA and cuDNN libraries of another version); uir-doctor says more"
            )
        session._model_bytes = None  # kept for a change of providers, which never comes
        return OnnxRuntimeEngine(session, _cost(built), shared=self.name == "cpu")

    def refittable(self, weights: Collection[str]) -> None:
        """None: a composition's own engine is there in milliseconds."""

    def describe(self) -> str:
        """The backend, its version and its device, in a few words."""
        return f"ONNX Runtime {onnxruntime.__version__} on {self._provider.title}"


@cache
def _share_memory() -> None:
    """One arena for all sessions of the process. One of its own would keep each engine's activations for good."""
    kind, use = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    onnxruntime.create_and_register_allocator(onnxruntime.OrtMemoryInfo("Cpu", kind, 0, use), None)


def _cost(model: bytes) -> int:
    """Bytes that a session takes, activations apart.

    Measured with ONNX Runtime 1.31 on a CPU: weights are there once, float16 as float32, and for int8 mostly as bytes,
    which are given in float16.
    """
    import onnx  # which merging has imported

    types = {tensor.data_type for tensor in onnx.load_from_string(model).graph.initializer}
    copies = 0.9 if b"QuantizeLinear" in model else 2.0 if onnx.TensorProto.FLOAT16 in types else 1.0
    return round(copies * len(model)) + 2**20


class OnnxRuntimeEngine:
    """One session. Sessions may be run from many threads at once.

    Args:
        nbytes: that it takes, activations apart.
        shared: activations lie in memory that all sessions share, and none of it is its own.
    """

    def __init__(self, session: onnxruntime.InferenceSession, nbytes: int, *, shared: bool = True) -> None:
        self.nbytes = nbytes
        self._session, self._shared = session, shared
        self._input = session.get_inputs()[0].name
        self._largest = 0

    @property
    def held_pixels(self) -> float:
        """Of the largest frames, on a GPU."""
        return 0 if self._shared else self._largest

    def run(self, frames: Frames) -> Frames:
        """Restore N x H x W x 3 uint8 RGB frames.

        Raises:
            BackendError: the run fails, such as for want of memory.
        """
        self._largest = max(self._largest, frames.shape[0] * frames.shape[1] * frames.shape[2])
        try:
            restored: Frames = self._session.run(None, {self._input: frames})[0]
        except Exception as error:  # as above
            size = "x".join(str(length) for length in frames.shape)
            raise BackendError(f"ONNX Runtime failed on frames of {size}: {shown(error, 600)}") from error
        return restored
