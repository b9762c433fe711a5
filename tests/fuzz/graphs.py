"""Mutators of a package's ONNX models, message by message, their hashes renewed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper

from fuzz.manifest import read_manifest, replace
from fuzz.registry import mutates

Edit = Callable[[ModelProto, random.Random], str]

WILD = [0, 1, -1, 2, 3, 5, 64, 255, 3000, 65536, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**31), -(2**63)]


def edits(edit: Edit, *, weight: int = 1, router: float = 0.3) -> None:
    """List an edit of a model as a mutator. It changes the network, so the picture may change as well."""

    def mutate(package: Path, rng: random.Random) -> str:
        names = [name for name in sorted(read_manifest(package)["files"]) if name.endswith(".onnx")]
        graphs = [name for name in names if name != "router.onnx"]
        name = "router.onnx" if "router.onnx" in names and rng.random() < router else rng.choice(graphs)
        model = onnx.load_from_string((package / name).read_bytes())
        done = edit(model, rng)
        replace(package, name, model.SerializeToString())
        return f"{name}: {done}"

    mutate.__name__ = f"graph_{edit.__name__}"
    mutate.__doc__ = edit.__doc__
    mutates("package", picture="any", weight=weight)(mutate)


def operator(model: ModelProto, rng: random.Random) -> str:
    """Another operator in a node."""
    node = rng.choice(model.graph.node)
    names = ["Conv", "Relu", "Add", "Cast", "If", "Loop", "Scan", "Nothing", "", "x" * 9999, "Einsum", "ConvTranspose"]
    names += [
        "Range",
        "NonZero",
        "Unique",
        "SequenceAt",
        "StringSplit",
        "MaxUnpool",
        "RandomNormal",
        "LSTM",
        "Det",
        "Tile",
    ]
    was, node.op_type = node.op_type, rng.choice(names)
    return f"{was} to {node.op_type[:20]}"


def domain(model: ModelProto, rng: random.Random) -> str:
    """An operator of another domain."""
    node = rng.choice(model.graph.node)
    node.domain = rng.choice(
        ["com.microsoft", "ai.onnx.ml", "evil", "ai.onnx", "ai.onnx.preview.training", "com.ms.internal.nhwc"]
    )
    if rng.random() < 0.5:
        model.opset_import.add(domain=node.domain, version=1)
    return node.domain


def wiring(model: ModelProto, rng: random.Random) -> str:
    """Another value at a node's input or output."""
    graph = model.graph
    node = rng.choice(graph.node)
    names = [name for each in graph.node for name in (*each.input, *each.output)] + ["", "nothing", "x" * 9999]
    side = rng.choice([node.input, node.output])
    if not side:
        return "none"
    place, way = rng.randrange(len(side)), rng.choice(["other", "gone", "more"])
    if way == "other":
        side[place] = rng.choice(names)
    elif way == "gone":
        del side[place]
    else:
        side.extend(rng.choices(names, k=rng.choice([1, 2, 100])))
    return f"{node.op_type} {way}"


def attribute_number(model: ModelProto, rng: random.Random) -> str:
    """Numbers of an attribute that are out of all proportion."""
    found = [(node, each) for node in model.graph.node for each in node.attribute if each.ints or each.type == each.INT]
    node, attribute = rng.choice(found)
    value = rng.choice(WILD)
    if attribute.type == AttributeProto.INT:
        attribute.i = value
    elif rng.random() < 0.5:
        attribute.ints[rng.randrange(len(attribute.ints))] = value
    else:
        attribute.ints[:] = [value] * rng.choice([len(attribute.ints), 1, 0, 9])
    return f"{node.op_type} {attribute.name} {value}"


def attribute_kind(model: ModelProto, rng: random.Random) -> str:
    """An attribute of another type, with another name, gone, or twice."""
    node = rng.choice([node for node in model.graph.node if node.attribute])
    attribute = rng.choice(node.attribute)
    way = rng.choice(["type", "name", "gone", "twice", "string", "float", "reference", "untyped"])
    if way == "type":
        attribute.type = rng.choice(range(15))
    elif way == "name":
        attribute.name = rng.choice(["", "x", "x" * 9999, "then_branch"])
    elif way == "gone":
        node.attribute.remove(attribute)
    elif way == "twice":
        node.attribute.add().CopyFrom(attribute)
    elif way == "string":
        attribute.CopyFrom(helper.make_attribute(attribute.name, rng.choice(["", "x", "SAME_UPPER", "y" * 10**5])))
    elif way == "float":
        attribute.CopyFrom(helper.make_attribute(attribute.name, rng.choice([float("nan"), 1e38, -1.0])))
    elif way == "reference":
        attribute.ref_attr_name = "x"
    else:
        attribute.ClearField("type")
    return f"{node.op_type} {way}"


def contract(model: ModelProto, rng: random.Random) -> str:
    """Another type, shape or number of the inputs and outputs."""
    graph = model.graph
    side = rng.choice([graph.input, graph.output])
    way = rng.choice(["type", "rank", "size", "more", "none", "name", "sequence", "untyped", "symbol"])
    value = side[0]
    tensor = value.type.tensor_type
    if way == "type":
        tensor.elem_type = rng.choice(range(24))
    elif way == "rank":
        tensor.shape.dim.add(dim_value=1) if rng.random() < 0.5 else tensor.shape.dim.pop()
    elif way == "size":
        rng.choice(tensor.shape.dim).dim_value = rng.choice(WILD)
    elif way == "more":
        side.add().CopyFrom(value)
        side[-1].name = rng.choice([value.name, "other", graph.node[0].output[0]])
    elif way == "none":
        del side[:]
    elif way == "name":
        value.name = rng.choice(["", "x", graph.node[0].output[0], graph.initializer[0].name])
    elif way == "sequence":
        value.type.sequence_type.elem_type.tensor_type.elem_type = 2
    elif way == "untyped":
        value.ClearField("type")
    else:
        rng.choice(tensor.shape.dim).dim_param = rng.choice(["", "x", "n", "x" * 9999])
    return way


def initializer(model: ModelProto, rng: random.Random) -> str:
    """A tensor that is not what it says."""
    tensor = rng.choice(model.graph.initializer)
    way = rng.choice(["dims", "rank", "type", "cut", "name", "twice", "string", "int_data", "segment", "nan"])
    if way == "dims":
        tensor.dims[:] = [rng.choice(WILD) for _ in tensor.dims] or [rng.choice(WILD)]
    elif way == "rank":
        tensor.dims[:] = [1] * rng.choice([1, 9, 74, 10**5]) + list(tensor.dims)
    elif way == "type":
        tensor.data_type = rng.choice(range(26))
    elif way == "cut":
        tensor.raw_data = tensor.raw_data[: rng.randrange(4)]
    elif way == "name":
        tensor.name = rng.choice(["", "x", model.graph.input[0].name, model.graph.node[0].output[0], "x" * 9999])
    elif way == "twice":
        model.graph.initializer.add().CopyFrom(tensor)
    elif way == "string":
        tensor.data_type = TensorProto.STRING
        tensor.string_data.extend([b"x"] * 3)
    elif way == "int_data":
        tensor.int64_data.extend([1] * rng.choice([1, 10**5]))
    elif way == "segment":
        tensor.segment.begin, tensor.segment.end = 0, 2**40
    else:
        tensor.raw_data = b"\xff" * len(tensor.raw_data)
    return f"{tensor.name[:30]} {way}"


def header(model: ModelProto, rng: random.Random) -> str:
    """Another version, operator set or note."""
    way = rng.choice(["ir", "opset", "no opset", "two opsets", "notes", "training", "annotation", "text"])
    if way == "ir":
        model.ir_version = rng.choice(WILD)
    elif way == "opset":
        model.opset_import[0].version = rng.choice([*WILD, 6, 11, 13, 17, 23, 25])
    elif way == "no opset":
        del model.opset_import[:]
    elif way == "two opsets":
        model.opset_import.add(domain="", version=rng.choice([9, 18, 21]))
    elif way == "notes":
        for i in range(10**4):
            model.metadata_props.add(key=str(i % 7), value="x" * 10)
    elif way == "training":
        model.training_info.add().algorithm.CopyFrom(model.graph)
    elif way == "annotation":
        model.graph.quantization_annotation.add(tensor_name=model.graph.node[0].output[0])
    else:
        model.doc_string = model.graph.doc_string = "x" * 10**6
    return way


def shuffled(model: ModelProto, rng: random.Random) -> str:
    """Nodes in another order, twice, or missing."""
    nodes = list(model.graph.node)
    way = rng.choice(["order", "twice", "gone", "all gone", "cycle"])
    if way == "order":
        rng.shuffle(nodes)
    elif way == "twice":
        nodes.append(rng.choice(nodes))
    elif way == "gone":
        nodes.remove(rng.choice(nodes))
    elif way == "all gone":
        nodes = []
    else:
        nodes[0].input[0] = nodes[-1].output[0]
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return way


for _edit, _weight in (
    *((operator, 4), (domain, 1), (wiring, 6), (attribute_number, 6), (attribute_kind, 4), (contract, 4)),
    *((initializer, 5), (header, 2), (shuffled, 3)),
):
    edits(_edit, weight=_weight)
