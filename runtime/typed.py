"""Typed graphs: an ONNX graph's precision is in the types of its values, and nowhere else.

TensorRT's strongly typed networks, TensorRT-RTX, ONNX Runtime and OpenVINO all read float16 and int8 from these types,
so that one graph serves them all. Both functions take a float32 graph whose weights are left out, and leave them out:
the merge by name is the same for each precision.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto

from uir.runtime.float16 import feed_codes, to_float16
from uir.runtime.qdq import quantize_products, replace_nodes


def float16_graph(graph: bytes) -> bytes:
    """A float32 graph with float16 for all but its ends and its normalisations.

    The ends, which are what comes before the first product and after the last, stay in float32: the frame that the
    network's change is added to would lose its last bits in float16.

    Args:
        graph: a serialised ONNX graph, its weights left out.
    """
    model = onnx.load_from_string(graph)
    _hoist_constants(model.graph)
    feed_codes(model.graph)
    to_float16(model)
    return bytes(model.SerializeToString(deterministic=True))


def int8_graph(
    graph: bytes,
    ranges: Mapping[str, float],
    weights: Mapping[str, NDArray[np.float32]],
    exclude: Collection[str] = (),
    *,
    rest: str = "fp16",
) -> bytes:
    """A float32 graph with int8 products, and float16 for the rest as in `float16_graph`.

    Args:
        graph: a serialised ONNX graph, its weights left out.
        ranges: by the name of a product's value, the largest magnitude that int8 tells from larger ones.
        weights: the merged weights that the graph will run with, by initializer name.
        exclude: weights whose products are not int8.
        rest: `"fp32"` leaves the rest as it is.
    """
    model = onnx.load_from_string(graph)
    _hoist_constants(model.graph)
    quantize_products(model, ranges, weights, exclude)
    if rest == "fp16":
        feed_codes(model.graph)
        to_float16(model)
    return bytes(model.SerializeToString(deterministic=True))


def _hoist_constants(graph: GraphProto) -> None:
    """Make the Constant nodes' tensors initializers, so that they are typed as those are."""
    nodes = []
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
        else:
            nodes.append(node)
    replace_nodes(graph, nodes)
