"""Graphs of strangers: whatever is no network of frames is refused in words, before a runtime sees it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from fuzz.small import constant, node, secret, small, splice
from onnx import GraphProto, ModelProto, TensorProto, helper

from uir.runtime.graph_check import check_embedder, check_graph
from uir.runtime.graph_operators import OPERATORS
from uir.runtime.manifest import FrameContract
from uir.runtime.router import EMBEDDINGS, INPUTS

Edit = Callable[[ModelProto], object]
FRAME = FrameContract(multiple_of=4, overlap=8, exact_tiles=True, bytes_per_pixel=64)


def check(model: ModelProto, frame: FrameContract = FRAME) -> ModelProto:
    return onnx.load_from_string(check_graph(model.SerializeToString(), frame, {"weight": (3, 3, 3, 3)}))


def test_a_graph_comes_through_as_it_was() -> None:
    assert check(small()).graph == small().graph


def test_what_a_graph_says_of_its_values_is_left_out() -> None:
    model = small()
    model.graph.value_info.append(helper.make_tensor_value_info("sum", TensorProto.STRING, [2**40]))
    assert check(model).graph == small().graph


def remove(graph: GraphProto, place: int) -> None:
    graph.node.pop(place)


STRUCTURE: dict[str, tuple[Edit, str]] = {
    "function": (lambda m: m.functions.append(helper.make_function("own", "f", [], [], [], [])), "functions"),
    "sparse": (lambda m: m.graph.sparse_initializer.add(), "sparse_initializer"),
    "training": (lambda m: m.training_info.add(), "training_info"),
    "annotation": (lambda m: m.graph.quantization_annotation.add(), "quantization_annotation"),
    "domain": (lambda m: setattr(m.graph.node[2], "domain", "com.microsoft"), "operator Conv of com.microsoft"),
    "imported domain": (lambda m: m.opset_import.add(domain="evil", version=1), "uses the operators of"),
    "opset": (lambda m: setattr(m.opset_import[0], "version", 9), "those of ONNX 17 to 21 alone"),
    "version": (lambda m: setattr(m, "ir_version", 99), "IR version 99"),
    "loop": (lambda m: setattr(m.graph.node[3], "op_type", "Loop"), "operator Loop"),
    "unknown": (lambda m: setattr(m.graph.node[3], "op_type", "x" * 10**5), "operator xxx"),
    "graph attribute": (
        lambda m: m.graph.node[2].attribute.append(helper.make_attribute("body", m.graph)),
        "Conv with body, of a kind that is not run",
    ),
    "strings": (lambda m: m.graph.node[2].attribute.append(helper.make_attribute("x", ["a"])), "kind that is not run"),
    "reference": (lambda m: setattr(m.graph.node[2].attribute[0], "ref_attr_name", "x"), "kind that is not run"),
    "attribute twice": (lambda m: m.graph.node[2].attribute.append(m.graph.node[2].attribute[0]), "attribute twice"),
    "pads": (lambda m: m.graph.node[2].attribute[1].ints.__setitem__(0, 3000), "pads out of all bounds"),
    "negative pads": (lambda m: m.graph.node[2].attribute[1].ints.__setitem__(0, -1), "pads out of all bounds"),
    "group": (lambda m: m.graph.node[2].attribute.append(helper.make_attribute("group", 0)), "group out of all bounds"),
    "initializer": (lambda m: m.graph.initializer.append(secret()), "files outside the package, for secret"),
    "memory": (lambda m: m.graph.initializer.append(secret("*/_ORT_MEM_ADDR_/*")), "files outside the package"),
    "constant": (
        lambda m: splice(m, node("Constant", [], ["x"], value=secret()), node("Add", ["sum", "x"], ["spliced"])),
        "files outside the package, for secret",
    ),
    "weight elsewhere": (
        lambda m: setattr(m.graph.initializer[0].external_data[0], "value", "../base.safetensors"),
        "files outside the package, for weight",
    ),
    "offset": (lambda m: m.graph.initializer[0].external_data.add(key="offset", value="8"), "files outside"),
    "weight's shape": (lambda m: m.graph.initializer[0].dims.__setitem__(0, 6), "which is of (3, 3, 3, 3) in the base"),
    "weight's type": (lambda m: setattr(m.graph.initializer[0], "data_type", TensorProto.INT8), "of type INT8"),
    "weight inside": (
        lambda m: m.graph.initializer[0].CopyFrom(constant("weight", np.ones((3, 3, 3, 3), np.float32))),
        "does not leave out the base's weights and no others (['weight'])",
    ),
    "short data": (lambda m: setattr(m.graph.initializer[1], "raw_data", b"\0"), "whose data is of another size"),
    "two datas": (lambda m: m.graph.initializer[1].float_data.append(1), "whose data is of another size"),
    "many dimensions": (lambda m: m.graph.initializer[1].dims.extend([1] * 74), "constant zero of type 1"),
    "negative dimension": (lambda m: m.graph.initializer[1].dims.append(-1), "constant zero of type 1"),
    "text": (lambda m: setattr(m.graph.initializer[1], "data_type", TensorProto.STRING), "constant zero of type 8"),
    "NaN": (lambda m: m.graph.initializer[1].CopyFrom(constant("zero", np.float32("nan"))), "holds NaN"),
    "no input": (lambda m: m.graph.ClearField("input"), "has the inputs none"),
    "two outputs": (lambda m: m.graph.output.append(m.graph.output[0]), "has the outputs restored"),
    "two inputs": (
        lambda m: m.graph.input.append(helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, "h", "w", 3])),
        "has the inputs frame",
    ),
    "float": (lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", 1), "has the outputs restored (FLOAT"),
    "grey": (
        lambda m: setattr(m.graph.output[0].type.tensor_type.shape.dim[3], "dim_value", 1),
        "has the outputs restored (UINT8 ? x ? x ? x 1)",
    ),
    "one size": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 8),
        "has the inputs frame (UINT8 ? x 8 x ? x 3)",
    ),
    "sequence": (
        lambda m: setattr(m.graph.input[0].type.sequence_type.elem_type.tensor_type, "elem_type", 2),
        "type with ['sequence_type']",
    ),
    "missing value": (lambda m: remove(m.graph, 1), "before it is made, in Conv"),
    "cycle": (lambda m: m.graph.node[0].input.__setitem__(0, "picture"), "before it is made, in Cast"),
    "made twice": (lambda m: m.graph.node[3].output.__setitem__(0, "planes"), "makes planes twice"),
    "shadowed": (lambda m: m.graph.node[3].output.__setitem__(0, "frame"), "makes frame twice"),
    "nothing is made": (lambda m: m.graph.ClearField("node"), "has an output restored that no node makes"),
    "many nodes": (lambda m: m.graph.node.extend([node("Abs", ["x"], ["y"])] * 10_001), "has 10008 nodes"),
    "many constants": (lambda m: [m.graph.initializer.add() for _ in range(10_001)], "has 10003 constants"),
    "many inputs": (lambda m: m.graph.node[3].input.extend(["sum"] * 1000), "more than 1000 inputs"),
    "lines": (lambda m: setattr(m.graph.node[0], "name", "a\nb"), "has a name that is none"),
}


@pytest.mark.parametrize(("edit", "words"), STRUCTURE.values(), ids=STRUCTURE)
def test_what_is_no_network_of_frames_is_refused(edit: Edit, words: str) -> None:
    model = small()
    edit(model)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        check(model)
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


def test_parts_that_this_onnx_does_not_know_are_refused() -> None:
    with pytest.raises(ValueError, match="does not know; upgrade onnx"):
        check_graph(small().SerializeToString() + b"\xfa\x3f\x02hi", FRAME, {"weight": (3, 3, 3, 3)})


def test_garbage_is_no_graph() -> None:
    for content in (b"", b"garbage", b"\x08\x0a" + b"\xff" * 99, bytes(10**6)):
        with pytest.raises(ValueError, match=r"damaged|uses the operators"):
            check_graph(content, FRAME, {})


@pytest.mark.parametrize("name", [b"frame", b"floats", b"zero", b"restored", b"Clip", b"perm"])
def test_names_that_are_no_text_are_refused(name: bytes) -> None:
    content = small().SerializeToString().replace(name, b"\xff" * len(name))
    with pytest.raises(ValueError, match=r"has a name that is none|has the operator|has Transpose|damaged"):
        check_graph(content, FRAME, {"weight": (3, 3, 3, 3)})


def test_inputs_that_are_no_text_are_refused() -> None:
    model = small()
    model.graph.node[2].input.extend(["other", "names"])
    content = model.SerializeToString().replace(b"other", b"\xff" * 5)
    with pytest.raises(ValueError, match="has a name that is none"):
        check_graph(content, FRAME, {"weight": (3, 3, 3, 3)})


def test_a_million_empty_messages_take_no_time() -> None:
    for field in (b"\x0a", b"\x5a", b"\x2a", b"\x62"):  # nodes, inputs, constants, outputs
        graph = (field + b"\0") * 2**20
        size = bytes([0x80, 0x80, 0x80, 0x01])  # 2**21 as protobuf writes it
        with pytest.raises(
            ValueError, match=r"has 1048576 (nodes|constants)|has a name that is none|has the inputs none"
        ):
            check_graph(b"\x08\x09\x42\x04\x0a\x00\x10\x12\x3a" + size + graph, FRAME, {})


def test_operators_exist() -> None:
    for name in OPERATORS:
        assert not onnx.defs.get_schema(name, 21, "").deprecated


def test_a_routers_network_is_checked_alike(colour_router: Path) -> None:
    content = (colour_router / "router.onnx").read_bytes()
    assert onnx.load_from_string(check_embedder(content, INPUTS, EMBEDDINGS)) == onnx.load_from_string(content)
    model = onnx.load_from_string(content)
    model.graph.initializer.append(secret())
    with pytest.raises(ValueError, match="files outside the package, for secret"):
        check_embedder(model.SerializeToString(), INPUTS, EMBEDDINGS)
    model = onnx.load_from_string(content)
    model.graph.output[0].name = "other"
    with pytest.raises(ValueError, match="has the outputs other"):
        check_embedder(model.SerializeToString(), INPUTS, EMBEDDINGS)
