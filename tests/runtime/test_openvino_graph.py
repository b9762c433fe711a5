"""The rearranged model: the same numbers, whatever network it is, and what is left out of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from uir.runtime.backends.openvino_graph import arrange
from uir.runtime.composition import Composition
from uir.runtime.merge import fill_graph, merge_package
from uir.runtime.package import Package
from uir.runtime.qdq import products
from uir.runtime.quantize import Network
from uir.runtime.typed import float16_graph

Frame = NDArray[np.uint8]


@pytest.fixture(scope="module")
def network(shared_package: Path) -> Network:
    package = Package(shared_package)
    return Network(package.graph(), merge_package(package, Composition.parse("haze=0.5,rain=0.5")))


@pytest.fixture(scope="module")
def frames() -> Frame:
    return np.random.default_rng(0).integers(0, 256, (2, 8, 16, 3), np.uint8).repeat(4, 1).repeat(4, 2)


def arranged(model: ModelProto) -> tuple[ModelProto, int]:
    """A rearranged copy, and the side of its blocks."""
    copy = ModelProto.FromString(model.SerializeToString())
    arrange(copy)
    onnx.checker.check_model(copy)
    channels = copy.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    assert channels == copy.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    return copy, round((channels / 3) ** 0.5)


def run(model: ModelProto, values: Frame) -> Frame:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: Frame = session.run(None, {model.graph.input[0].name: values})[0]
    return result


def both(model: ModelProto, frames: Frame) -> tuple[Frame, Frame, int]:
    """What a model makes of frames, what its rearranged copy does, and the side of the blocks."""
    copy, b = arranged(model)
    count, height, width, _ = frames.shape
    cells = frames.reshape(count, height // b, b, width // b, b, 3).transpose(0, 2, 4, 5, 1, 3)
    planes = run(copy, np.ascontiguousarray(cells).reshape(count, 3 * b * b, height // b, width // b))
    back = planes.reshape(count, b, b, 3, height // b, width // b).transpose(0, 4, 1, 5, 2, 3)
    return run(model, frames), back.reshape(frames.shape), b


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_shipped_base_is_the_same_on_blocks(network: Network, frames: Frame, precision: str) -> None:
    graph = network.graph if precision == "fp32" else float16_graph(network.graph)
    model = fill_graph(graph, network.weights)
    expected, found, block = both(model, frames)
    assert block == 2
    assert np.ptp(expected) > 100
    off = np.abs(found.astype(int) - expected)
    assert off.max() <= 1
    assert off.mean() < 1e-3  # the order of a sum rounds one code in thousands to the other side
    nodes = arranged(model)[0].graph.node
    assert not any(node.op_type == "Transpose" for node in nodes)
    shuffles = sum(node.op_type == "DepthToSpace" for node in model.graph.node)
    assert sum(node.op_type == "DepthToSpace" for node in nodes) == shuffles - 1


def test_int8_takes_the_frame_as_its_bytes(network: Network, frames: Frame) -> None:
    ranges = {name: histogram.largest for name, histogram in network.histograms(frames).items()}
    graph = network.int8(ranges, rest="fp32")
    expected, found, block = both(fill_graph(graph, network.weights), frames)
    exact = run(fill_graph(network.graph, network.weights), frames)
    assert block == 2
    assert np.square(found.astype(float) - exact).mean() < np.square(expected.astype(float) - exact).mean()
    pairs = sum(node.op_type == "QuantizeLinear" for node in arranged(fill_graph(graph, network.weights))[0].graph.node)
    assert pairs == 2 * len(products(network.graph)) - 1


def made(nodes: list[NodeProto], weights: dict[str, tuple[int, ...]]) -> ModelProto:
    """A model of frames that takes `picture` and adds `change`; its weights are random."""
    around = [
        helper.make_node("Cast", ["frame"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["cast"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "scale"], ["picture"]),
        *nodes,
        helper.make_node("Add", ["picture", "change"], ["sum"]),
        helper.make_node("Clip", ["sum", "zero", "one"], ["clipped"]),
        helper.make_node("Mul", ["clipped", "back"], ["codes"]),
        helper.make_node("Transpose", ["codes"], ["turned"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["turned"], ["restored"], to=TensorProto.UINT8),
    ]
    numbers = {"scale": 1 / 255, "zero": 0, "one": 1, "back": 255}
    rng = np.random.default_rng(1)
    constants = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in numbers.items()]
    for name, shape in weights.items():
        values = rng.normal(0, 0.3 / np.prod(shape[1:]) ** 0.5, shape).astype(np.float32)
        constants.append(numpy_helper.from_array(values, name))
    given, got = (
        helper.make_tensor_value_info(name, TensorProto.UINT8, ["n", "h", "w", 3]) for name in ("frame", "restored")
    )
    graph = helper.make_graph(around, "made", [given], [got], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def ends(pads: list[int], block: int, mode: str = "CRD", change: str = "change") -> list[NodeProto]:
    return [
        helper.make_node("Conv", ["picture", "a", "p"], ["x"], strides=[block] * 2, pads=pads),
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Conv", ["y", "b", "q"], ["z"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("DepthToSpace", ["z"], [change], blocksize=block, mode=mode),
    ]


def of_ends(kernel: int, block: int) -> dict[str, tuple[int, ...]]:
    out = 3 * block**2
    return {"a": (5, 3, kernel, kernel), "p": (5,), "b": (out, 5, 3, 3), "q": (out,)}


@pytest.mark.parametrize(
    ("kernel", "pads", "block", "mode"),
    [
        (6, [2, 2, 2, 2], 2, "CRD"),
        (6, [2, 2, 2, 2], 2, "DCR"),
        (2, [0, 0, 0, 0], 2, "CRD"),
        (3, [1, 1, 0, 0], 2, "CRD"),
        (4, [1, 1, 1, 1], 2, "CRD"),
        (8, [2, 2, 2, 2], 4, "CRD"),
        (12, [4, 4, 4, 4], 4, "DCR"),
        (5, [0, 3, 3, 1], 4, "CRD"),
    ],
)
def test_any_opening_of_the_blocks_stride_is_folded(
    frames: Frame, kernel: int, pads: list[int], block: int, mode: str
) -> None:
    expected, found, side = both(made(ends(pads, block, mode), of_ends(kernel, block)), frames)
    assert side == block
    assert np.abs(expected.astype(int) - frames).max() > 5
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("nodes", "weights"),
    [
        ([helper.make_node("Conv", ["picture", "a"], ["change"], pads=[1] * 4)], {"a": (3, 3, 3, 3)}),
        (
            [
                *ends([2] * 4, 2, change="large"),
                helper.make_node("Conv", ["large", "c"], ["change"], pads=[1] * 4),
            ],
            {**of_ends(6, 2), "c": (3, 3, 3, 3)},
        ),
        (
            [
                *ends([2] * 4, 2, change="large"),
                helper.make_node("ReduceMean", ["picture"], ["mean"]),
                helper.make_node("Add", ["large", "mean"], ["change"]),
            ],
            of_ends(6, 2),
        ),
    ],
    ids=["a convolution of stride 1", "a convolution behind the shuffle", "a mean of the frame"],
)
def test_a_network_that_works_at_the_frames_own_size_gets_its_planes(
    frames: Frame, nodes: list[NodeProto], weights: dict[str, tuple[int, ...]]
) -> None:
    expected, found, side = both(made(nodes, weights), frames)
    assert side == 1
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_what_others_use_too_is_left_alone(frames: Frame) -> None:
    """A weight that two convolutions share, one of them before a shuffle, and groups, whose rows may not be mixed."""
    nodes = [
        helper.make_node("Conv", ["picture", "a"], ["x"], strides=[2, 2]),
        helper.make_node("Conv", ["x", "b"], ["y"]),
        helper.make_node("Conv", ["y", "b"], ["z"]),
        helper.make_node("DepthToSpace", ["z"], ["d"], blocksize=2, mode="CRD"),
        helper.make_node("Conv", ["x", "c"], ["g"], group=3),
        helper.make_node("DepthToSpace", ["g"], ["e"], blocksize=2, mode="CRD"),
        helper.make_node("Add", ["d", "e"], ["change"]),
    ]
    model = made(nodes, {"a": (12, 3, 2, 2), "b": (12, 12, 1, 1), "c": (12, 4, 1, 1)})
    expected, found, side = both(model, frames)
    assert side == 1
    assert np.abs(found.astype(int) - expected).max() <= 1
    modes = [node.attribute for node in arranged(model)[0].graph.node if node.op_type == "DepthToSpace"]
    assert [{a.name: a.s for a in found}["mode"] for found in modes] == [b"CRD", b"CRD"]
