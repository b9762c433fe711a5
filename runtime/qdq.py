"""int8 products in an ONNX graph, as TensorRT's guide to explicit quantisation has them.

A symmetric QuantizeLinear and DequantizeLinear pair stands at both inputs of a convolution or matrix product, with one
scale for the value and one for each output channel of the weight. None stands at its output, so that bias, activation
and residual sum fuse into it. A sum whose result is quantised takes its operands as products do, so that no value
between them is kept in two types. Biases are not quantised, and zero points are zero: TensorRT takes nothing else.

Written here because onnxruntime's `quantize_static` wants the weights in the graph, runs over all frames once for each
method, holding every value of each in memory, and gives entropy no more bins than int8 has levels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

LEVELS = 127  # the largest int8 code; -128 is not used, since the code is symmetric
PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_OPSET = 19  # the first in which QuantizeLinear and DequantizeLinear take float16
_SMALLEST_SCALE = 2.0**-20  # float16 has some bits of it yet; a channel of zeros needs some scale


class Product(NamedTuple):
    """A convolution or matrix product that can be int8, by the names of its weight and of what it is applied to."""

    weight: str
    value: str


def products(graph: bytes) -> list[Product]:
    """The products of a serialised graph that can be int8, in the order in which they run."""
    model = onnx.load_from_string(graph)
    return [Product(node.input[1], node.input[0]) for node in _quantizable(model.graph)]


def quantize_products(
    model: ModelProto,
    ranges: Mapping[str, float],
    weights: Mapping[str, NDArray[np.float32]],
    exclude: Collection[str],
) -> None:
    """Put pairs at the inputs of a float32 model's products, all but those of the weights in `exclude`.

    Args:
        ranges: by the name of a product's value, the largest magnitude that int8 tells from larger ones.
        weights: float32, by initializer name; the model's own may be left out.
    """
    graph = model.graph
    chosen = [node for node in _quantizable(graph) if node.input[1] not in exclude]
    wanted, quantized = {node.output[0] for node in chosen}, {node.input[0] for node in chosen}
    nodes: list[NodeProto] = []
    pairs: dict[str, str] = {}

    def paired(value: str, largest: NDArray[np.float32], axis: int | None) -> str:
        """The name of a value behind its pair, which is added before its first use."""
        if value not in pairs:
            scale, zero, codes, pairs[value] = (f"{value}_{part}" for part in ("scale", "zero", "int8", "dequantized"))
            scales = np.maximum(largest / LEVELS, _SMALLEST_SCALE).astype(np.float32)
            graph.initializer.append(numpy_helper.from_array(scales, scale))
            graph.initializer.append(numpy_helper.from_array(np.zeros(scales.shape, np.int8), zero))
            for kind, source, result in (("QuantizeLinear", value, codes), ("DequantizeLinear", codes, pairs[value])):
                node = helper.make_node(kind, [source, scale, zero], [result], name=f"{result}_node")
                if axis is not None:
                    node.attribute.append(helper.make_attribute("axis", axis))
                nodes.append(node)
        return pairs[value]

    for node in graph.node:
        if node.output[0] in wanted:
            value, weight = node.input[:2]
            axis = _channel_axis(node)
            others = tuple(i for i in range(weights[weight].ndim) if i != axis)
            node.input[0] = paired(value, np.asarray(ranges[value], np.float32), None)
            node.input[1] = paired(weight, np.abs(weights[weight]).max(axis=others), axis)
        elif node.op_type == "Add" and node.output[0] in quantized:
            node.input[:] = [pairs.get(value, value) for value in node.input]
        nodes.append(node)
    replace_nodes(graph, nodes)
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = max(entry.version, _OPSET)  # no operator's meaning changed from 18 to 19


def replace_nodes(graph: GraphProto, nodes: Iterable[NodeProto]) -> None:
    """Give a graph other nodes, some of which may be its own."""
    fresh = [NodeProto.FromString(node.SerializeToString()) for node in nodes]  # deleting empties those in place
    del graph.node[:]
    graph.node.extend(fresh)


def _quantizable(graph: GraphProto) -> list[NodeProto]:
    """The products of a value and a weight whose output channels are one axis of the weight."""
    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    return [
        node
        for node in graph.node
        if node.op_type in PRODUCTS
        and node.input[1] in ranks
        and node.input[0] not in ranks
        and (node.op_type != "MatMul" or ranks[node.input[1]] == 2)
        and (node.op_type != "ConvTranspose" or _attribute(node, "group", 1) == 1)
    ]


def _channel_axis(node: NodeProto) -> int:
    """The axis of a product's weight along which its output channels lie."""
    if node.op_type == "Gemm":
        return 0 if _attribute(node, "transB", 0) else 1
    return 0 if node.op_type == "Conv" else 1


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)
