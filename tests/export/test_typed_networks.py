"""Typing what is really traced: every kind of layer, a NAFNet, the small base."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from uir.runtime.backends import Shapes
from uir.runtime.graph_check import check_graph
from uir.runtime.merge import fill_graph
from uir.runtime.qdq import products
from uir.runtime.quantize import METHODS, Network, mean_error, ranges
from uir.runtime.typed import float16_graph

FLOAT, HALF, INT8, UINT8 = (getattr(onnx.TensorProto, name) for name in ("FLOAT", "FLOAT16", "INT8", "UINT8"))


@pytest.fixture
def frames() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (4, 6, 3), np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(3)]


@pytest.fixture
def network(traced: Any) -> Network:
    return Network(traced.base.graph, traced.base.weights)


def types_of(graph: bytes) -> tuple[onnx.GraphProto, dict[str, int]]:
    model = onnx.load_from_string(graph)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    values = [*inferred.input, *inferred.output, *inferred.value_info]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return model.graph, types | {tensor.name: tensor.data_type for tensor in inferred.initializer}


def test_products_are_float16_and_normalisations_float32(network: Network) -> None:
    graph, types = types_of(float16_graph(network.graph))
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul", "Relu"):
            assert {types[name] for name in (*node.input, *node.output) if name} == {HALF}, node.name
        if node.op_type in ("ReduceMean", "Sub", "Sqrt", "Div"):
            assert types[node.output[0]] == FLOAT, node.name
    assert (types[graph.input[0].name], types[graph.output[0].name]) == (UINT8, UINT8)


def test_every_axis_and_shape_is_a_number(network: Network) -> None:
    """TensorRT's parser does not compute them."""
    graph, types = types_of(network.graph)
    assert not [node.name for node in graph.node if node.op_type in ("Constant", "CastLike", "Shape", "Expand")]
    inside = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        for name in node.input:
            assert types[name] in (FLOAT, UINT8) or name in inside, node.name


def test_every_type_of_graph_is_one_that_is_run(traced: Any, network: Network, frames: list[NDArray[np.uint8]]) -> None:
    shapes = {name: weight.shape for name, weight in traced.base.weights.items()}
    int8 = network.int8(ranges(network.histograms(frames), "minmax"))
    for graph in (network.graph, float16_graph(network.graph), int8):
        checked = onnx.load_from_string(check_graph(graph, traced.base.frame, shapes))
        assert checked.graph.node == onnx.load_from_string(graph).graph.node


def test_float16_computes_the_same(network: Network, frames: list[NDArray[np.uint8]]) -> None:
    error = mean_error(network.run(float16_graph(network.graph), frames), network.run(network.graph, frames))
    assert error < 0.3


@pytest.mark.parametrize("method", METHODS)
def test_int8_computes_nearly_the_same(network: Network, frames: list[NDArray[np.uint8]], method: str) -> None:
    graph = network.int8(ranges(network.histograms(frames), method))
    _, types = types_of(graph)
    assert INT8 in types.values()
    error = mean_error(network.run(graph, frames), network.run(network.graph, frames))
    assert 0 < error < 400


def test_every_layer_that_can_be_is_int8(every_layer: Any) -> None:
    found = {product.weight for product in products(every_layer.base.graph)}
    weights = {name for name in every_layer.base.weights if name.endswith(".weight")}
    assert weights - found == {"grouped_transposed.weight", "linear.weight"}  # the second is turned before it is used


def test_a_frame_of_any_size_fits_a_typed_graph(network: Network, frames: list[NDArray[np.uint8]]) -> None:
    graph = network.int8(ranges(network.histograms(frames), "minmax"))
    model = fill_graph(graph, network.weights)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for shape in ((1, 16, 24, 3), (2, 8, 8, 3)):
        assert session.run(None, {"frame": np.zeros(shape, np.uint8)})[0].shape == shape


@pytest.mark.rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_tensorrt_builds_the_same_graph(network: Network, frames: list[NDArray[np.uint8]], precision: str) -> None:
    pytest.importorskip("tensorrt_rtx")
    from uir.runtime.backends.tensorrt.bindings import load_bindings
    from uir.runtime.backends.tensorrt.build import build_plan
    from uir.runtime.backends.tensorrt.log import Log
    from uir.runtime.backends.tensorrt.options import BuildOptions

    graph = network.graph if precision == "fp32" else float16_graph(network.graph)
    if precision == "int8":
        graph = network.int8(ranges(network.histograms(frames), "minmax"))
    bindings = load_bindings("tensorrt-rtx")
    options = BuildOptions(compute_capabilities=("8.6",))
    model = fill_graph(graph, network.weights).SerializeToString()
    shapes = Shapes((1, 16, 16), (1, 32, 48), (2, 64, 64))
    assert build_plan(bindings, Log(bindings.module), model, shapes, options, device=None)
