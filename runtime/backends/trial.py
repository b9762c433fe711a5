"""A small network that changes nothing, to try a backend with: some open, and fail when they are to run."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from uir.runtime.backends import Backend, Shapes
from uir.runtime.errors import BackendError

_SIDE = 32  # pixels, of the frame


def try_backend(backend: Backend) -> None:
    """Build an engine of the small network and run it on one frame.

    Raises:
        BackendError: the backend fails, or gives another frame.
    """
    shapes = Shapes.only((1, _SIDE, _SIDE)) if backend.static else None
    engine = backend.load(backend.build(small_network(), shapes))
    frame = np.random.default_rng(0).integers(0, 256, (1, _SIDE, _SIDE, 3), np.uint8)
    if not np.array_equal(engine.run(frame), frame):
        raise BackendError(
            f"{backend.describe()} gave another frame for a network that changes nothing; update driver and "
            "libraries, or do without it"
        )


def small_network() -> bytes:
    """A graph as packages have them, N x H x W x 3 uint8 on both sides, whose one convolution changes nothing."""
    kernel = np.zeros((3, 3, 3, 3), np.float32)
    kernel[range(3), range(3), 1, 1] = 1
    frame, restored = (
        helper.make_tensor_value_info(name, TensorProto.UINT8, ["n", "h", "w", 3]) for name in ("frame", "restored")
    )
    nodes = [
        helper.make_node("Cast", ["frame"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["numbers"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["same"], pads=[1, 1, 1, 1]),
        helper.make_node("Transpose", ["same"], ["pixels"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["pixels"], ["restored"], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(nodes, "same", [frame], [restored], [numpy_helper.from_array(kernel, "kernel")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
