"""The arithmetic of a device with float16, on one that has none."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from uir.calibration.simulate import simulated
from uir.runtime.composition import Composition
from uir.runtime.merge import fill_graph, merge_package
from uir.runtime.package import Package
from uir.runtime.qdq import products
from uir.runtime.typed import float16_graph, int8_graph

HALF = TensorProto.FLOAT16


def chain(weight: NDArray[np.float16]) -> onnx.ModelProto:
    """Three float16 products by one number each: no sum is rounded within them, only their results."""
    nodes = [helper.make_node("Cast", ["frame"], ["narrow"], to=HALF)]
    names = ["narrow", "x", "y", "z"]
    nodes += [helper.make_node("Conv", [a, "w"], [b]) for a, b in itertools.pairwise(names)]
    nodes.append(helper.make_node("Cast", ["z"], ["restored"], to=TensorProto.FLOAT))
    value = helper.make_tensor_value_info
    given, got = (value(name, TensorProto.FLOAT, [1, 1, "h", "w"]) for name in ("frame", "restored"))
    graph = helper.make_graph(
        nodes, "chain", [given], [got], [numpy_helper.from_array(weight.reshape(1, 1, 1, 1), "w")]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(model: onnx.ModelProto, values: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"frame": values})[0])


def test_every_result_is_rounded() -> None:
    model = chain(np.float16([1.1]))
    values = np.random.default_rng(0).normal(size=(1, 1, 40, 40)).astype(np.float32)
    expected = values.astype(np.float16)
    for _ in range(3):
        expected = (expected.astype(np.float32) * np.float32(np.float16(1.1))).astype(np.float16)
    assert np.array_equal(run(simulated(model), values), expected.astype(np.float32))


def test_what_is_too_large_becomes_infinite() -> None:
    model = chain(np.float16([100]))
    assert np.isinf(run(simulated(model), np.full((1, 1, 1, 1), 1, np.float32))).all()
    assert run(simulated(model), np.full((1, 1, 1, 1), 0.0625, np.float32)).item() == np.float16(62500) == 62496


def test_the_model_itself_is_left_alone() -> None:
    model = chain(np.float16([1.1]))
    before = model.SerializeToString()
    simulated(model)
    assert model.SerializeToString() == before


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_simulated_network_is_near_the_real_one(shared_package: Path, precision: str) -> None:
    package = Package(shared_package)
    weights = merge_package(package, Composition.parse("rain"))
    graph = float16_graph(package.graph())
    if precision == "int8":
        graph = int8_graph(package.graph(), {product.value: 8.0 for product in products(package.graph())}, weights)
    model = fill_graph(graph, weights)
    frame = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    real, rounded = (run(one, frame).astype(int) for one in (model, simulated(model)))
    assert np.abs(real - rounded).mean() < (0.2 if precision == "fp16" else 1.5)
    kinds = {tensor.data_type for tensor in simulated(model).graph.initializer}
    assert HALF not in kinds
