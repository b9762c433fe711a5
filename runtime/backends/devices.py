"""Which devices there are, which of them this machine can use, and why not the others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from uir.runtime.backends import Backend
from uir.runtime.backends.nvidia import nvidia_gpu
from uir.runtime.errors import BackendError, MissingBackendError, UsageError

if TYPE_CHECKING:
    from uir.runtime.backends.tensorrt.bindings import Flavour

log = logging.getLogger(__name__)


class _Wish(NamedTuple):
    """What `open_backend` was asked for, of which a backend grants what it can."""

    exact: bool = False
    throughput: bool = False


def _tensorrt(_: _Wish) -> Backend:
    """TensorRT by itself, or else as ONNX Runtime's provider."""
    try:
        return _native("tensorrt")
    except BackendError as error:
        try:
            return _provider("tensorrt")
        except BackendError as other:
            missing = isinstance(error, MissingBackendError) and isinstance(other, MissingBackendError)
            kind = MissingBackendError if missing else BackendError
            raise kind(f"{error}; nor by way of ONNX Runtime: {other}") from error


def _rtx(_: _Wish) -> Backend:
    return _native("tensorrt-rtx")


def _cuda(_: _Wish) -> Backend:
    return _provider("cuda")


def _native(flavour: Flavour) -> Backend:
    """TensorRT, and a GPU for it. No more is tried: to build even a small engine takes a second."""
    from uir.runtime.backends.tensorrt import TensorRTBackend
    from uir.runtime.backends.tensorrt.device_memory import open_device

    backend = TensorRTBackend(flavour)
    open_device()
    return backend


def _provider(name: str) -> Backend:
    """One of ONNX Runtime's for GPUs, tried: it lists what it was built with, whether that can run here or not.

    That costs little beside the start of CUDA, which the first frame needs anyway.
    """
    from uir.runtime.backends.onnx_runtime import OnnxRuntimeBackend
    from uir.runtime.backends.trial import try_backend

    backend = OnnxRuntimeBackend(name)
    try_backend(backend)
    return backend


def _openvino(wish: _Wish) -> Backend:
    from uir.runtime.backends.openvino import OpenVinoBackend

    return OpenVinoBackend(exact=wish.exact, throughput=wish.throughput)


def _cpu(_: _Wish) -> Backend:
    from uir.runtime.backends.onnx_runtime import OnnxRuntimeBackend

    return OnnxRuntimeBackend("cpu")


_OPENERS: dict[str, Callable[[_Wish], Backend]] = {
    "tensorrt": _tensorrt,
    "rtx": _rtx,
    "cuda": _cuda,
    "openvino": _openvino,
    "cpu": _cpu,
}

DEVICES = ("auto", *_OPENERS)
"""What `--device` takes. `auto` is the first of the others, in this order, that the machine can use; one that is
installed and should work, but fails, is passed over with a warning that says why."""

_ON_NVIDIA = ("tensorrt", "rtx", "cuda")


def open_backend(device: str, *, exact: bool = False, throughput: bool = False) -> Backend:
    """The backend for a device.

    Args:
        device: one of `DEVICES`.
        exact: compute float32 graphs in float32, where the backend would otherwise take a faster type of its own.
        throughput: as many frames a second as can be, each of which may take longer, where the backend has the choice.

    Raises:
        UsageError: there is no such device.
        BackendError: this machine cannot use it; the message says why, and what to install.
    """
    if device not in DEVICES:
        raise UsageError(f"{device}: no such device; there are {', '.join(DEVICES)}")
    wish = _Wish(exact, throughput)
    if device != "auto":
        return _OPENERS[device](wish)
    failing: list[str] = []
    gpu = nvidia_gpu()
    for name, opener in _OPENERS.items():
        if name in _ON_NVIDIA and not gpu:
            log.debug("auto passes over %s: there is no NVIDIA GPU, or no driver for it", name)
            continue
        try:
            backend = opener(wish)
        except BackendError as error:
            failure = error
            if not isinstance(error, MissingBackendError):
                failing.append(f"{name}: {' '.join(str(error).split())}")
            continue
        if failing:
            log.warning("auto takes %s, since what is installed for others fails: %s", name, "; ".join(failing))
        return backend
    raise failure


def unusable(device: str) -> str | None:
    """Why this machine cannot use a device, or None where it can."""
    try:
        _OPENERS[device](_Wish())
    except BackendError as error:
        return str(error)
    return None
