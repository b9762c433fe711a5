"""Whether there is an NVIDIA GPU, by the driver's own library, which needs no Python package.

CUDA Driver API, "Initialization" and "Device Management".
"""

from __future__ import annotations

import ctypes
import sys

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_NO_DEVICE = 100  # CUresult: CUDA_ERROR_NO_DEVICE


def nvidia_gpu() -> bool:
    """Whether there is a GPU and a driver for it. One that the driver fails at counts as there: it should work."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return False
    count = ctypes.c_int()
    error: int = library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count))
    return error != _NO_DEVICE and bool(error or count.value)
