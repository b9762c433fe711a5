"""The backend: TensorRT and TensorRT-RTX behind the interface that all backends have."""

from __future__ import annotations

import platform
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from uir.runtime.backends import Shapes
from uir.runtime.backends.tensorrt.bindings import Flavour, load_bindings
from uir.runtime.backends.tensorrt.build import build_plan, build_targets
from uir.runtime.backends.tensorrt.device_memory import find_device, open_device
from uir.runtime.backends.tensorrt.engine import TensorRTEngine
from uir.runtime.backends.tensorrt.log import Log
from uir.runtime.backends.tensorrt.options import BuildOptions
from uir.runtime.backends.tensorrt.refit import can_refit


class TensorRTBackend:
    """Compiles for NVIDIA GPUs.

    `tensorrt` builds for the GPU that is there; `tensorrt-rtx` also on a machine that has none.

    Args:
        flavour: `"tensorrt"` (10.3 or newer) or `"tensorrt-rtx"`.
        options: of all builds.
        timing_cache: a file in which TensorRT keeps how long kernels took, for quicker builds; None keeps nothing.

    Raises:
        BackendError: this TensorRT is not installed, or too old.
        UsageError: the options name a GPU that it cannot build for.
    """

    static = True
    durable = True
    at_once = most_at_once = 1

    def __init__(
        self, flavour: Flavour = "tensorrt", options: BuildOptions | None = None, timing_cache: Path | None = None
    ) -> None:
        self.name: str = flavour
        self._flavour: Flavour = flavour
        # TensorRT-RTX writes the results of int8 convolutions out as float32, with kernels of their own.
        rtx = flavour == "tensorrt-rtx"
        self.preferred: tuple[str, ...] = ("fp16", "int8", "fp32") if rtx else ("int8", "fp16", "fp32")
        self._bindings = load_bindings(flavour)
        self._options = options or BuildOptions()
        self._timing_cache = timing_cache
        build_targets(self._bindings, self._options, find_device())

    def identity(self) -> dict[str, str]:
        """All that makes engines differ: module and version, GPU, targets, options, operating system, architecture."""
        device = find_device()
        return {
            "backend": self.name,
            "version": self._bindings.version,
            "device": device.name if device else "none",
            "compute_capability": device.compute_capability if device else "none",
            "targets": ",".join(build_targets(self._bindings, self._options, device)) or "device",
            "os": platform.system(),
            "architecture": platform.machine(),
            **self._options.identity(),
        }

    def build(self, model: bytes, shapes: Shapes | None) -> bytes:
        """Build a plan of a serialised ONNX model; builds of more than two seconds show a bar on a terminal.

        Raises:
            UsageError: `shapes` is None, or its sizes are not in order.
            BackendError: TensorRT cannot build the model, or there is no GPU and `tensorrt` needs one.
        """
        device = open_device() if self.name == "tensorrt" else find_device()
        return build_plan(
            self._bindings,
            Log(self._bindings.module),
            model,
            shapes,
            self._options,
            device=device,
            timing_cache=self._timing_cache,
        )

    def load(self, built: bytes) -> TensorRTEngine:
        """Load a plan onto the GPU.

        Raises:
            BackendError: there is no GPU, these bytes are no plan of this version and GPU, or there is no room.
        """
        # CUDA is asked first: without a GPU, TensorRT's runtime may end the process.
        return TensorRTEngine(self._bindings, built, open_device())

    def refittable(self, weights: Collection[str]) -> TensorRTBackend | None:
        """The same for engines whose weights of these names can be exchanged; None without a GPU, which they need.

        None too for a version that loses weights in such engines.
        """
        if find_device() is None or not can_refit(self._bindings):
            return None
        options = replace(self._options, refittable=tuple(sorted(weights)))
        return TensorRTBackend(self._flavour, options, self._timing_cache)

    def describe(self) -> str:
        """The backend, its version and its device, in a few words."""
        device = find_device()
        where = f"on {device.name} (compute capability {device.compute_capability})" if device else "with no GPU"
        return f"{self._bindings.title} {where}"
