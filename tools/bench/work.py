"""What a network has to do for one frame, counted from its graph: arithmetic, and values read and written."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx
from onnx import ModelProto, NodeProto

from uir.runtime.errors import UirError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Work:
    """The work of one call.

    Attributes:
        flops: floating-point operations of all products, a multiplication and an addition counting as two.
        weights: values of the weights.
        activations: values that the products read and write, apart from the weights: each reads its input once and
            writes its output once, as where all that lies between two products is done on the way.
    """

    flops: int
    weights: int
    activations: int

    def nbytes(self, width: int) -> int:
        """Bytes that are moved where every value takes `width` bytes and no cache keeps any."""
        return (self.weights + self.activations) * width


def count_work(model: ModelProto, *given: Shape) -> Work:
    """Count the work of a float model for inputs of these shapes.

    Convolutions, transposed ones, matrix products and Gemm are counted, for they are nearly all that networks do:
    2 k operations for each output value that is a sum of k products, those with the zeros of a padding included, and
    none for a bias.

    Args:
        model: with its weights; not quantised, for then these stand behind other nodes.
        given: the shape of each input, such as N x H x W x 3.

    Raises:
        UirError: the shape of a product cannot be told.
    """
    fixed = ModelProto()
    fixed.CopyFrom(model)
    for value, shape in zip(fixed.graph.input, given, strict=True):
        for dim, length in zip(value.type.tensor_type.shape.dim, shape, strict=True):
            dim.dim_value = length
    inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    weights: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in fixed.graph.initializer}
    known = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    shapes = {**known, **weights}
    flops = moved = 0
    parameters: dict[str, int] = {}
    for node in fixed.graph.node:
        product = _PRODUCTS.get(node.op_type)
        if product is None:
            continue
        for name in filter(None, (*node.input, *node.output)):
            # A dimension that could not be inferred reads as zero.
            if name not in shapes or 0 in shapes[name]:
                raise UirError(f"{node.op_type} {node.name}: the shape of {name} cannot be told, nor the work counted")
            if name in weights:
                parameters[name] = math.prod(shapes[name])
            else:
                moved += math.prod(shapes[name])
        flops += 2 * product(node, shapes)
    return Work(flops, sum(parameters.values()), moved)


def _convolution(node: NodeProto, shapes: Mapping[str, Shape]) -> int:
    """Each output value is a sum over one filter: channels of its group x kernel."""
    return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])


def _transposed(node: NodeProto, shapes: Mapping[str, Shape]) -> int:
    """Each input value is spread over one filter: output channels of its group x kernel."""
    return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])


def _matrix(node: NodeProto, shapes: Mapping[str, Shape]) -> int:
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]


def _gemm(node: NodeProto, shapes: Mapping[str, Shape]) -> int:
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else 1]


_PRODUCTS: dict[str, Callable[[NodeProto, Mapping[str, Shape]], int]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "MatMul": _matrix,
    "Gemm": _gemm,
}
"""How many products of two numbers a node adds up, by its kind."""
