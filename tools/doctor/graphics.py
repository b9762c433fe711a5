"""NVIDIA's GPUs, by the driver's own library, which needs no Python package: it is to say which one to install.

CUDA Driver API, "Initialization", "Version Management", "Device Management" and "Error Handling".
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import asdict, dataclass

from uir.tools.doctor.children import PATIENCE, ChildError, answer, ask

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # CUdevice_attribute: COMPUTE_CAPABILITY_MAJOR and _MINOR, INTEGRATED


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: the vendor's, such as `Orin`.
        compute_capability: such as `8.7`.
        memory: bytes in all.
        integrated: it shares the machine's memory (Jetson).
    """

    name: str
    compute_capability: str
    memory: int
    integrated: bool


@dataclass(frozen=True)
class Graphics:
    """What CUDA shows.

    Attributes:
        gpus: engines run on the first; CUDA_VISIBLE_DEVICES chooses which one that is.
        cuda: the newest CUDA that the driver serves, such as `12.6`.
        failure: why there is no GPU, if there is none.
    """

    gpus: list[Gpu]
    cuda: str | None = None
    failure: str | None = None


def find_graphics() -> Graphics:
    """Ask the driver, in a process of its own, which native code may crash where driver and system do not fit."""
    try:
        found = ask(__name__, patience=PATIENCE)
    except ChildError as error:
        return Graphics([], failure=f"asking NVIDIA's driver {error}")
    return Graphics(**{**found, "gpus": [Gpu(**gpu) for gpu in found["gpus"]]})


def run() -> None:
    """What that process does."""
    answer(lambda _: asdict(_ask_driver()))


class _CudaError(Exception):
    """A call failed."""


def _ask_driver() -> Graphics:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        return Graphics([], failure=f"no NVIDIA driver ({error})")
    cuda = None
    try:
        number = _integer(library, "cuDriverGetVersion")
        cuda = f"{number // 1000}.{number % 1000 // 10}"
        _call(library, "cuInit", ctypes.c_uint(0))
        gpus = [_gpu(library, ordinal) for ordinal in range(_integer(library, "cuDeviceGetCount"))]
    except _CudaError as error:
        return Graphics([], cuda, str(error))
    return Graphics(gpus, cuda, None if gpus else "CUDA shows no GPU")


def _gpu(library: ctypes.CDLL, ordinal: int) -> Gpu:
    device = ctypes.c_int(_integer(library, "cuDeviceGet", ctypes.c_int(ordinal)))
    name = ctypes.create_string_buffer(256)
    _call(library, "cuDeviceGetName", name, ctypes.c_int(len(name)), device)
    memory = ctypes.c_size_t()
    _call(library, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    major, minor, integrated = (
        _integer(library, "cuDeviceGetAttribute", ctypes.c_int(attribute), device)
        for attribute in (_MAJOR, _MINOR, _INTEGRATED)
    )
    return Gpu(name.value.decode(errors="replace"), f"{major}.{minor}", memory.value, bool(integrated))


def _integer(library: ctypes.CDLL, name: str, *arguments: object) -> int:
    """The integer that a call writes to its first argument."""
    value = ctypes.c_int()
    _call(library, name, ctypes.byref(value), *arguments)
    return value.value


def _call(library: ctypes.CDLL, name: str, *arguments: object) -> None:
    error = getattr(library, name)(*arguments)
    if error:
        text = ctypes.c_char_p()
        library.cuGetErrorString(ctypes.c_int(error), ctypes.byref(text))
        said = (text.value or b"unknown error").decode(errors="replace")
        raise _CudaError(f"CUDA failed: {said} ({name}: {error})")
