"""Typed graphs in TensorRT: each layer is computed in the type that its graph gives it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from uir.export.zoo import zoo_base
from uir.runtime.merge import fill_graph
from uir.runtime.qdq import products
from uir.runtime.quantize import quantize
from uir.runtime.typed import float16_graph

pytestmark = pytest.mark.rtx

KernelTypes = Callable[..., dict[str, str]]
RETURNED = ["intro.weight", "ending.weight"]


@pytest.fixture(scope="module")
def frames() -> list[NDArray[np.uint8]]:
    return [np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)]


def test_all_convolutions_of_a_float16_graph_are_half(kernel_types: KernelTypes) -> None:
    base = zoo_base()
    model = fill_graph(float16_graph(base.graph), base.weights).SerializeToString()
    found = kernel_types(model)
    assert len(found) == len(products(base.graph))
    assert set(found.values()) == {"Half"}


def test_convolutions_are_int8_but_those_that_were_returned(
    kernel_types: KernelTypes, frames: list[NDArray[np.uint8]]
) -> None:
    base = zoo_base()
    graph = quantize(base.graph, base.weights, frames, method="minmax", exclude=RETURNED)
    model = fill_graph(graph, base.weights)
    weights = {
        node.name: node.input[1].removesuffix("_dequantized") for node in model.graph.node if node.op_type == "Conv"
    }
    found = {weights[name]: kind for name, kind in kernel_types(model.SerializeToString()).items()}
    assert found == {
        product.weight: "Half" if product.weight in RETURNED else "Int8" for product in products(base.graph)
    }
    assert onnx.checker.check_model(model) is None
