"""The smallest network of frames, with a weight that is left out, for those who want to damage one by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper


def node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, outputs, name=f"node_{outputs[0]}", **attributes)


def constant(name: str, value: Any) -> TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)


def small() -> ModelProto:
    """A frame, floats of it, a convolution with a weight that is left out, and a frame again."""
    port = ["n", "h", "w", 3]
    weight = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[3, 3, 3, 3])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="base.safetensors")
    graph = helper.make_graph(
        [
            node("Cast", ["frame"], ["floats"], to=TensorProto.FLOAT),
            node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
            node("Conv", ["planes", "weight"], ["changed"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
            node("Add", ["planes", "changed"], ["sum"]),
            node("Clip", ["sum", "zero", "most"], ["clipped"]),
            node("Transpose", ["clipped"], ["picture"], perm=[0, 2, 3, 1]),
            node("Cast", ["picture"], ["restored"], to=TensorProto.UINT8),
        ],
        "small",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, port)],
        [helper.make_tensor_value_info("restored", TensorProto.UINT8, port)],
        [weight, constant("zero", np.float32(0)), constant("most", np.float32(255))],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def splice(model: ModelProto, *nodes: onnx.NodeProto, constants: list[TensorProto] | None = None) -> None:
    """Put nodes that make `spliced` of `sum` behind the sum."""
    graph = model.graph
    rest = [onnx.NodeProto.FromString(each.SerializeToString()) for each in graph.node]
    rest[4].input[0] = "spliced"
    del graph.node[:]
    graph.node.extend([*rest[:4], *nodes, *rest[4:]])
    graph.initializer.extend(constants or [])


def secret(location: str = "/etc/passwd") -> TensorProto:
    tensor = TensorProto(name="secret", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor
