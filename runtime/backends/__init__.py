"""Backends: what compiles a merged model and runs it. One file each, one interface."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from uir.runtime.errors import UsageError

Frames = NDArray[np.uint8]


class Engine(Protocol):
    """What a backend compiles for one composition."""

    def run(self, frames: Frames) -> Frames:
        """Restore N x H x W x 3 uint8 RGB frames. Safe to call from many threads.

        H and W are as the package's frame contract says.
        """
        ...


class Backend(Protocol):
    """Compiles merged ONNX models for one device."""

    def compile(self, model: bytes) -> Engine:
        """Make an engine of a serialised ONNX model.

        Raises:
            BackendError: the model cannot be compiled; the message carries the backend's own reason.
        """
        ...

    def describe(self) -> str:
        """The backend, its version and its device, in a few words."""
        ...


DEVICES = ("auto", "cpu")


def open_backend(device: str) -> Backend:
    """The backend for a device.

    Raises:
        UsageError: there is no such device.
    """
    if device not in DEVICES:
        raise UsageError(f"{device}: no such device; there are {', '.join(DEVICES)}")
    from uir.runtime.backends.onnx_runtime import OnnxRuntimeBackend

    return OnnxRuntimeBackend()
