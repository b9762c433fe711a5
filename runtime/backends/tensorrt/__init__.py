"""TensorRT and TensorRT-RTX, for NVIDIA GPUs: one path for both, and for TensorRT 10.3 to 11.

The precision of an engine is that of the graph's types (strongly typed networks; int8 is Q/DQ), since TensorRT 11
knows no other way. Where a graph is float32, GPUs of compute capability 8.0 and newer may multiply in TF32, TensorRT's
default.
"""

from __future__ import annotations

from uir.runtime.backends.tensorrt.backend import TensorRTBackend
from uir.runtime.backends.tensorrt.options import BuildOptions

__all__ = ["BuildOptions", "TensorRTBackend"]
