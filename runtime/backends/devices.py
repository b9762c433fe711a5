"""Which devices there are, which of them this machine can use, and why not the others."""

from __future__ import annotations

from collections.abc import Callable

from uir.runtime.backends import Backend
from uir.runtime.errors import BackendError, UsageError


def _tensorrt(_: bool) -> Backend:
    """TensorRT by itself, or else as ONNX Runtime's provider."""
    from uir.runtime.backends.onnx_runtime import OnnxRuntimeBackend
    from uir.runtime.backends.tensorrt import TensorRTBackend
    from uir.runtime.backends.tensorrt.device_memory import open_device

    try:
        backend = TensorRTBackend("tensorrt")
        open_device()
    except BackendError as error:
        try:
            return OnnxRuntimeBackend("tensorrt")
        except BackendError as other:
            raise BackendError(f"{error}; nor by way of ONNX Runtime: {other}") from error
    return backend


def _rtx(_: bool) -> Backend:
    from uir.runtime.backends.tensorrt import TensorRTBackend
    from uir.runtime.backends.tensorrt.device_memory import open_device

    backend = TensorRTBackend("tensorrt-rtx")
    open_device()
    return backend


def _cuda(_: bool) -> Backend:
    from uir.runtime.backends.onnx_runtime import OnnxRuntimeBackend

    return OnnxRuntimeBackend("cuda")


def _openvino(exact: bool) -> Backend:
    from uir.runtime.backends.openvino import OpenVinoBackend

    return OpenVinoBackend(exact=exact)


def _cpu(_: bool) -> Backend:
    from uir.runtime.backends.onnx_runtime import OnnxRuntimeBackend

    return OnnxRuntimeBackend("cpu")


_OPENERS: dict[str, Callable[[bool], Backend]] = {
    "tensorrt": _tensorrt,
    "rtx": _rtx,
    "cuda": _cuda,
    "openvino": _openvino,
    "cpu": _cpu,
}

DEVICES = ("auto", *_OPENERS)
"""What `--device` takes. `auto` is the first of the others, in this order, that the machine can use."""


def open_backend(device: str, *, exact: bool = False) -> Backend:
    """The backend for a device.

    Args:
        device: one of `DEVICES`.
        exact: compute float32 graphs in float32, where the backend would otherwise take a faster type of its own.

    Raises:
        UsageError: there is no such device.
        BackendError: this machine cannot use it; the message says why, and what to install.
    """
    if device not in DEVICES:
        raise UsageError(f"{device}: no such device; there are {', '.join(DEVICES)}")
    if device != "auto":
        return _OPENERS[device](exact)
    for opener in _OPENERS.values():
        try:
            return opener(exact)
        except BackendError as error:
            failure = error
    raise failure


def unusable(device: str) -> str | None:
    """Why this machine cannot use a device, or None where it can."""
    try:
        _OPENERS[device](False)
    except BackendError as error:
        return str(error)
    return None
