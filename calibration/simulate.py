"""A typed graph's arithmetic on a CPU that has no float16.

ONNX Runtime runs float16 convolutions in float32 there, and leaves out the roundings between them: its result is better
than a GPU's. So each float16 value of the graph becomes a float32 one that is cast to float16 and back, which it does
not leave out. What a GPU adds up in float16 within one convolution is not simulated.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper


def simulated(model: ModelProto) -> ModelProto:
    """A model with its weights inside, whose float16 values are float32 ones rounded to float16."""
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    inferred = onnx.shape_inference.infer_shapes(result).graph.value_info
    half = {value.name for value in inferred if value.type.tensor_type.elem_type == TensorProto.FLOAT16}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type == "Cast" and node.output[0] in half:
            next(attribute for attribute in node.attribute if attribute.name == "to").i = TensorProto.FLOAT
        nodes.append(node)
        # What a DequantizeLinear gives goes into the int8 product behind it as codes, and is never rounded.
        for i, name in enumerate(node.output):
            if name in half and node.op_type != "DequantizeLinear":
                exact, rounded = f"{name}_exact", f"{name}_rounded"
                node.output[i] = exact
                nodes.append(helper.make_node("Cast", [exact], [rounded], to=TensorProto.FLOAT16))
                nodes.append(helper.make_node("Cast", [rounded], [name], to=TensorProto.FLOAT))
    fresh = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(fresh)
    return result
