"""Graphs that ask for memory, time or nonsense: found by their shapes, and not by running them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from fuzz.small import constant, node, small, splice
from onnx import ModelProto, TensorProto

from uir.runtime.graph_check import check_graph
from uir.runtime.manifest import FrameContract
from uir.runtime.package import Package

Edit = Callable[[ModelProto], object]
FRAME = FrameContract(multiple_of=4, overlap=8, exact_tiles=True, bytes_per_pixel=64)


def check(model: ModelProto, frame: FrameContract = FRAME) -> ModelProto:
    return onnx.load_from_string(check_graph(model.SerializeToString(), frame, {"weight": (3, 3, 3, 3)}))


def brightest(bomb: onnx.NodeProto, *constants: TensorProto) -> Edit:
    """Add the largest value of `bomb` to the picture: of any size, it is a picture still."""
    cast = node("Cast", ["largest"], ["float"], to=TensorProto.FLOAT)
    most = node("ReduceMax", ["bomb"], ["largest"], keepdims=0)
    return lambda model: splice(
        model, bomb, most, cast, node("Add", ["sum", "float"], ["spliced"]), constants=list(constants)
    )


def test_shapes_are_computed_where_the_frame_tells_them() -> None:
    """As exporters write a view of unknown size."""
    model = small()
    splice(
        model,
        node("Shape", ["sum"], ["shape"]),
        node("Slice", ["shape", "first", "second"], ["batch"]),
        node("Concat", ["batch", "three", "all"], ["flat_shape"], axis=0),
        node("Reshape", ["sum", "flat_shape"], ["flat"]),
        node("Softmax", ["flat"], ["even"], axis=2),
        node("Reshape", ["even", "shape"], ["spliced"]),
        constants=[constant(name, np.array([value])) for name, value in (("first", 0), ("second", 1))]
        + [constant("three", np.array([3])), constant("all", np.array([-1]))],
    )
    check(model)


HUGE = np.array([2**33])
SIZES: dict[str, tuple[Edit, str]] = {
    "constant": (brightest(node("ConstantOfShape", ["n"], ["bomb"]), constant("n", HUGE)), "out of all bounds"),
    "smaller constant": (
        brightest(node("ConstantOfShape", ["n"], ["bomb"]), constant("n", np.array([2**26]))),
        "makes 268435464 bytes of constants",
    ),
    "expand": (
        brightest(node("Expand", ["sum", "n"], ["bomb"]), constant("n", np.array([2**20, 1, 1, 1, 1]))),
        "bytes a",
    ),
    "tile": (brightest(node("Tile", ["sum", "n"], ["bomb"]), constant("n", np.array([1, 999, 1, 1]))), "bytes a pixel"),
    "pad": (
        brightest(node("Pad", ["sum", "n"], ["bomb"]), constant("n", np.array([0, 0, 10**6, 0, 0, 0, 0, 0]))),
        "bytes a pixel",
    ),
    "resize": (
        brightest(node("Resize", ["sum", "", "n"], ["bomb"]), constant("n", np.array([1, 1, 1e9, 1], np.float32))),
        "Resize node_bomb by numbers out of all bounds",
    ),
    "range": (
        brightest(
            node("Range", ["a", "b", "c"], ["bomb"]),
            *(constant(name, np.array(value)) for name, value in (("a", 0), ("b", 2**31 - 1), ("c", 1))),
        ),
        "bytes of constants",
    ),
    "doubled": (
        lambda m: splice(
            m,
            node("Shape", ["sum"], ["d0"]),
            *(node("Concat", [f"d{i}", f"d{i}"], [f"d{i + 1}"], axis=0) for i in range(60)),
            node("ReduceMax", ["d60"], ["largest"], keepdims=0),
            node("Cast", ["largest"], ["cast"], to=1),
            node("Add", ["sum", "cast"], ["spliced"]),
        ),
        "has Concat node_d39, which makes",
    ),
    "attention over all pixels": (
        lambda m: splice(
            m,
            node("Reshape", ["sum", "flat"], ["rows"]),
            node("Transpose", ["rows"], ["columns"], perm=[0, 2, 1]),
            node("MatMul", ["columns", "rows"], ["bomb"]),
            node("ReduceMax", ["bomb"], ["largest"], keepdims=0),
            node("Add", ["sum", "largest"], ["spliced"]),
            constants=[constant("flat", np.array([0, 3, -1]))],
        ),
        "bytes a pixel",
    ),
    "windows": (
        lambda m: splice(
            m,
            node("Identity", ["sum"], ["p0"]),
            *(
                node("AveragePool", [f"p{i}"], [f"p{i + 1}"], kernel_shape=[1001, 1001], pads=[500] * 4)
                for i in range(40)
            ),
            node("Identity", ["p40"], ["spliced"]),
        ),
        "multiplications a pixel",
    ),
    "unknown size": (
        lambda m: splice(
            m,
            node("Cast", ["sum"], ["numbers"], to=TensorProto.INT64),
            node("Reshape", ["numbers", "all"], ["shape"]),
            node("ConstantOfShape", ["shape"], ["bomb"]),
            node("ReduceMax", ["bomb"], ["largest"], keepdims=0),
            node("Add", ["sum", "largest"], ["spliced"]),
            constants=[constant("all", np.array([-1]))],
        ),
        "ConstantOfShape node_bomb, whose result's size depends on the frame's values",
    ),
    "half": (
        lambda m: splice(
            m,
            node("Slice", ["sum", "from", "to", "axis"], ["spliced"]),
            constants=[constant(name, np.array([value])) for name, value in (("from", 0), ("to", 2), ("axis", 2))],
        ),
        "makes (1, 2, 68, 3) of a frame of (1, 64, 68, 3)",
    ),
    "square shape": (
        lambda m: splice(
            m, node("Reshape", ["sum", "n"], ["spliced"]), constants=[constant("n", np.array([[0, 0, 0, -1]]))]
        ),
        "Reshape node_spliced by numbers of 2 dimensions",
    ),
    "no weight": (lambda m: m.graph.node[2].input.__delitem__(1), "Conv node_changed with 1 inputs"),
    "empty weight": (lambda m: m.graph.node[2].input.__setitem__(1, ""), "Conv node_changed without its input W"),
    "no perm": (lambda m: setattr(m.graph.node[1].attribute[0], "name", "axes"), "which it does not have"),
    "wrong perm": (
        lambda m: m.graph.node[1].attribute[0].ints.__setitem__(0, 1),
        "node_planes that makes no sense",
    ),
    "types": (lambda m: m.graph.node[3].input.__setitem__(1, "frame"), "whose input B is of type tensor(uint8)"),
    "channels": (lambda m: m.graph.node[2].input.__setitem__(0, "floats"), "which do not fit"),
    "bias": (lambda m: m.graph.node[2].input.append("zero"), "which do not fit"),
    "outside": (
        lambda m: splice(
            m, node("Gather", ["sum", "i"], ["spliced"], axis=1), constants=[constant("i", np.array([0, 1, 7]))]
        ),
        "which do not fit",
    ),
    "no steps": (
        lambda m: splice(
            m,
            node("Slice", ["sum", "a", "b", "c", "a"], ["spliced"]),
            constants=[constant(name, np.array([value])) for name, value in (("a", 0), ("b", 9), ("c", 2))],
        ),
        "Slice node_spliced by numbers out of all bounds",
    ),
}


@pytest.mark.parametrize(("edit", "words"), SIZES.values(), ids=SIZES)
def test_what_asks_for_too_much_or_makes_no_sense_is_refused(edit: Edit, words: str) -> None:
    model = small()
    edit(model)
    begun = time.monotonic()
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        check(model)
    assert str(caught.value).isprintable()
    assert time.monotonic() - begun < 30  # where it would be computed, it takes hours


@pytest.mark.parametrize("wrong", [6, 1e5])
def test_a_manifest_that_lies_about_memory_is_found(wrong: float) -> None:
    frame = FrameContract(multiple_of=4, overlap=8, exact_tiles=True, bytes_per_pixel=wrong)
    with pytest.raises(ValueError, match=r"takes 36 bytes a pixel, and the manifest says .* \(bytes_per_pixel\)"):
        check(small(), frame)


def test_sides_that_the_network_cannot_divide_are_found(shared_package: Path) -> None:
    package = Package(shared_package)
    shapes = {name: weight.shape for name, weight in package.base_weights.items()}
    wrong = FrameContract(multiple_of=1, overlap=8, exact_tiles=True, bytes_per_pixel=64)
    with pytest.raises(ValueError, match=r"makes no sense|makes \("):
        check_graph(package.graph(), wrong, shapes)
