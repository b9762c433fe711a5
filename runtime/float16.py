"""float16 in an ONNX graph: which values may be it, and the casts where they meet the others.

Written here because onnxruntime's converter puts float16 between two nodes that were to stay float32, so that the
frame itself would be rounded, and wants the weights in the graph.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from uir.runtime.qdq import PRODUCTS, replace_nodes

GAIN = "gain"
"""What a weight that is left out is multiplied by, among the entries of its tensor that say where its values are."""

_PRODUCTS = PRODUCTS | {"QuantizeLinear", "DequantizeLinear"}
_SUMS = {
    *("ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "GlobalAveragePool", "AveragePool"),
    *("LayerNormalization", "GroupNormalization", "InstanceNormalization", "BatchNormalization", "RMSNormalization"),
    *("LpNormalization", "MeanVarianceNormalization", "Softmax", "LogSoftmax", "ReduceLogSumExp", "CumSum"),
    *("Pow", "Sqrt", "Reciprocal", "Exp", "Log", "Div"),
}
"""Normalisations and what they are made of: their sums of squares overflow float16, which ends at 65504."""
_ELEMENTWISE = {"Add", "Sub", "Mul", "Neg", "Abs", "Max", "Min", "Clip"}
_MOVES = {
    *("DepthToSpace", "SpaceToDepth", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split"),
    *("Concat", "Expand", "Tile", "Gather", "Identity"),
}
"""What only moves values keeps their type."""
_OWN_TYPE = {"Constant", "ConstantOfShape", "Range", "EyeLike", "RandomNormal", "RandomUniform", "If", "Loop", "Scan"}
_FLOAT32_INPUTS = {"Resize": {1, 2}}


def to_float16(model: ModelProto) -> None:
    """Make a float32 model's products, and what lies between them, float16.

    float32 stay the model's ends, which are what comes before the first product and after the last, and its
    normalisations. Weights that are left out have their types changed alike.
    """
    graph = model.graph
    floats = _float_values(model)
    kinds = _kinds(graph, floats)
    types: dict[str, int] = dict.fromkeys(floats, int(TensorProto.FLOAT))
    users: dict[str, set[int]] = {}
    for node, kind in zip(graph.node, kinds, strict=True):
        for i, name in enumerate(node.input):
            users.setdefault(name, set()).add(_wanted(node, i, kind))
    for tensor in graph.initializer:
        if tensor.name in floats and users.get(tensor.name) == {TensorProto.FLOAT16}:
            types[tensor.name] = TensorProto.FLOAT16
            _retype(tensor)
    nodes: list[NodeProto] = []
    casts: dict[tuple[str, int], str] = {}
    for node, kind in zip(graph.node, kinds, strict=True):
        for i, name in enumerate(node.input):
            wanted = _wanted(node, i, kind)
            if name not in floats or types[name] == wanted:
                continue
            if (name, wanted) not in casts:
                casts[name, wanted] = result = f"{name}_{'float16' if wanted == TensorProto.FLOAT16 else 'float32'}"
                nodes.append(helper.make_node("Cast", [name], [result], name=f"{result}_node", to=wanted))
            node.input[i] = casts[name, wanted]
        types.update(dict.fromkeys(floats.intersection(node.output), kind))
        if node.op_type == "Cast" and types.get(node.output[0]) == TensorProto.FLOAT16:
            next(attribute for attribute in node.attribute if attribute.name == "to").i = TensorProto.FLOAT16
        nodes.append(node)
    replace_nodes(graph, nodes)
    del graph.value_info[:]


def feed_codes(graph: GraphProto) -> None:
    """Give the products that take the frame k/256 for a code of k/255, and their weights a `GAIN` of 256/255.

    float16 holds k/256 exactly, but not k/255, and the network makes much of a wrong tone where contrast is stretched.
    A product whose value is quantised is left alone.
    """
    makers = {name: node for node in graph.node for name in node.output}
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    frames = {value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.UINT8}
    uses = Counter(name for node in graph.node for name in node.input)

    def scaling(node: NodeProto) -> tuple[str, float] | None:
        """The codes that a product takes, and the number that it takes them by; None where it takes something else."""
        maker = makers.get(node.input[0]) if node.op_type in PRODUCTS else None
        weight = initializers.get(node.input[1]) if maker and maker.op_type == "Mul" else None
        if not maker or not weight or weight.data_location != TensorProto.EXTERNAL or uses[weight.name] > 1:
            return None
        source = makers.get(maker.input[0])
        while source and source.op_type in _MOVES:
            source = makers.get(source.input[0])
        factor = _number(initializers.get(maker.input[1]))
        of_codes = source and source.op_type == "Cast" and source.input[0] in frames
        return (maker.input[0], factor) if of_codes and factor > 0 else None

    nodes: list[NodeProto] = []
    for node in graph.node:
        found = scaling(node)
        if found:
            codes, factor = found
            power = 2.0 ** math.floor(math.log2(factor))
            name = f"{node.output[0]}_codes"
            graph.initializer.append(numpy_helper.from_array(np.array(power, np.float32), f"{name}_scale"))
            nodes.append(helper.make_node("Mul", [codes, f"{name}_scale"], [name], name=f"{name}_node"))
            initializers[node.input[1]].external_data.add(key=GAIN, value=repr(factor / power))
            node.input[0] = name
        nodes.append(node)
    replace_nodes(graph, nodes)


def _number(tensor: TensorProto | None) -> float:
    """The one float32 number that an initializer holds; 0 where it holds something else."""
    if tensor is None or tensor.data_type != TensorProto.FLOAT or tensor.data_location == TensorProto.EXTERNAL:
        return 0.0
    value = numpy_helper.to_array(tensor)
    return float(value.item()) if value.size == 1 else 0.0


def _retype(tensor: TensorProto) -> None:
    """Make an initializer float16; of one that is left out, only its type is known."""
    if tensor.data_location != TensorProto.EXTERNAL:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    tensor.data_type = TensorProto.FLOAT16


def _wanted(node: NodeProto, index: int, kind: int) -> int:
    """The float type that a node of one kind takes at an input."""
    return TensorProto.FLOAT if index in _FLOAT32_INPUTS.get(node.op_type, ()) else kind


def _float_values(model: ModelProto) -> set[str]:
    """The names of a graph's float32 values."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = [*inferred.input, *inferred.output, *inferred.value_info]
    found = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return found | {tensor.name for tensor in inferred.initializer if tensor.data_type == TensorProto.FLOAT}


def _kinds(graph: GraphProto, floats: set[str]) -> list[int]:
    """The float type that each node works in."""
    inner = _flow(graph, _PRODUCTS) & _flow(graph, _PRODUCTS, backwards=True)
    normed = _flow(graph, _SUMS, _ELEMENTWISE) & _flow(graph, _SUMS, _ELEMENTWISE, backwards=True)
    of_frames = {value.name for value in graph.input}
    types: dict[str, int] = {}
    kinds: list[int] = []
    for i, node in enumerate(graph.node):
        of_frame = not of_frames.isdisjoint(node.input)
        if of_frame:
            of_frames.update(node.output)
        if node.op_type in _MOVES:
            moved = {types.get(name) for name in node.input if name in floats}
            kind = TensorProto.FLOAT if TensorProto.FLOAT in moved else TensorProto.FLOAT16
        elif node.op_type in _PRODUCTS:
            kind = TensorProto.FLOAT16
        elif node.op_type in _SUMS | _OWN_TYPE or i in normed or (of_frame and i not in inner):
            kind = TensorProto.FLOAT
        else:
            kind = TensorProto.FLOAT16
        kinds.append(kind)
        types.update(dict.fromkeys(node.output, kind))
    return kinds


def _flow(
    graph: GraphProto, seeds: Collection[str], through: Collection[str] | None = None, *, backwards: bool = False
) -> set[int]:
    """The nodes that a seed's result reaches, or that reach a seed `backwards`, by way of such nodes alone.

    Args:
        seeds: operators to begin at.
        through: operators that pass it on; None is any.
    """
    reached: set[str] = set()
    found = set()
    order = list(enumerate(graph.node))
    for i, node in reversed(order) if backwards else order:
        sources, results = (node.output, node.input) if backwards else (node.input, node.output)
        passed = (through is None or node.op_type in through) and not reached.isdisjoint(sources)
        if passed:
            found.add(i)
        if passed or node.op_type in seeds:
            reached.update(filter(None, results))
    return found
