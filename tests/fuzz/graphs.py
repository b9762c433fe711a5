"""Mutators of a package's ONNX models, message by message, their hashes renewed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from fuzz.manifest import read_manifest, replace
from fuzz.registry import mutates

Edit = Callable[[ModelProto, random.Random], str]

WILD = [0, 1, -1, 2, 3, 5, 64, 255, 3000, 65536, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**31), -(2**63)]


def _edits(edit: Edit, *, weight: int = 1, router: float = 0.3) -> None:
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


def _first(graph: GraphProto, *nodes: NodeProto) -> None:
    """Put nodes before all others."""
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])


def _splice(graph: GraphProto, rng: random.Random, make: Callable[[str, str], list[NodeProto]]) -> None:
    """Put nodes between a node's result and those that take it."""
    place = rng.randrange(len(graph.node) - 1)
    source = graph.node[place].output[0]
    made = make(source, "spliced")
    for node in list(graph.node)[place + 1 :]:
        node.input[:] = ["spliced" if name == source else name for name in node.input]
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes[: place + 1], *made, *nodes[place + 1 :]])


def _constant(graph: GraphProto, name: str, value: Any) -> str:
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


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


def result(model: ModelProto, rng: random.Random) -> str:
    """A result that is no picture: float, grey, a scalar, the channels first, or nothing of the frame's."""
    graph = model.graph
    source, target = graph.input[0].name, graph.output[0].name
    way = rng.choice(["float", "gray", "scalar", "first", "constant", "string", "half", "bool", "row"])
    del graph.node[:]
    node = helper.make_node
    if way in ("float", "half", "bool", "string"):
        kind = {
            "float": TensorProto.FLOAT,
            "half": TensorProto.FLOAT16,
            "bool": TensorProto.BOOL,
            "string": TensorProto.STRING,
        }
        graph.node.append(node("Cast", [source], [target], to=kind[way]))
    elif way in ("gray", "row"):
        names = [
            _constant(graph, name, np.array([value]))
            for name, value in (("a", 0), ("b", 1), ("c", 3 if way == "gray" else 1))
        ]
        graph.node.append(node("Slice", [source, *names], [target]))
    elif way == "scalar":
        graph.node.append(node("ReduceMax", [source], [target], keepdims=0))
    elif way == "first":
        graph.node.append(node("Transpose", [source], [target], perm=[0, 3, 1, 2]))
    else:
        value = numpy_helper.from_array(np.zeros((1, 48, 64, 3), np.uint8))
        graph.node.append(node("Constant", [], [target], value=value))
    graph.output[0].type.tensor_type.elem_type = rng.choice([2, graph.output[0].type.tensor_type.elem_type, 1])
    return way


def bomb(model: ModelProto, rng: random.Random) -> str:
    """A few bytes that ask for gigabytes, or for hours."""
    graph = model.graph
    way = rng.choice(
        [
            "constant",
            "expand",
            "tile",
            "pad",
            "resize",
            "range",
            "onehot",
            "concat",
            "conv",
            "pool",
            "eye",
            "matmul",
            "loop",
            "sum",
        ]
    )
    node = helper.make_node
    size = rng.choice([2**20, 2**31, 2**33, 2**40, 2**62])

    def make(source: str, target: str) -> list[NodeProto]:
        big = _constant(graph, "big", np.array([size]))
        if way == "constant":
            return [
                node("ConstantOfShape", [big], ["bombed"]),
                node("ReduceMax", ["bombed"], ["most"], keepdims=0),
                node("Add", [source, "most"], [target]),
            ]
        if way == "expand":
            return [
                node("Expand", [source, _constant(graph, "shape", np.array([size, 1, 1, 1, 1]))], ["bombed"]),
                node("ReduceMax", ["bombed"], ["most"], keepdims=0),
                node("Add", [source, "most"], [target]),
            ]
        if way == "tile":
            return [
                node("Tile", [source, _constant(graph, "times", np.array([size, 1, 1, 1]))], ["bombed"]),
                node("ReduceMax", ["bombed"], ["most"], keepdims=0),
                node("Add", [source, "most"], [target]),
            ]
        if way == "pad":
            return [
                node("Pad", [source, _constant(graph, "pads", np.array([0, 0, size, 0, 0, 0, 0, 0]))], ["bombed"]),
                node("ReduceMax", ["bombed"], ["most"], keepdims=0),
                node("Add", [source, "most"], [target]),
            ]
        if way == "resize":
            scales = _constant(graph, "scales", np.array([1, 1, float(size), 1], np.float32))
            return [
                node("Resize", [source, "", scales], ["bombed"]),
                node("ReduceMax", ["bombed"], ["most"], keepdims=0),
                node("Add", [source, "most"], [target]),
            ]
        if way == "range":
            names = [
                _constant(graph, name, np.array(value)) for name, value in (("from", 0), ("to", size), ("step", 1))
            ]
            return [
                node("Range", names, ["bombed"]),
                node("ReduceMax", ["bombed"], ["most"], keepdims=0),
                node("Cast", ["most"], ["cast"], to=1),
                node("Add", [source, "cast"], [target]),
            ]
        if way == "onehot":
            names = [
                _constant(graph, "which", np.array([1])),
                _constant(graph, "depth", np.array(size)),
                _constant(graph, "values", np.array([0, 1], np.float32)),
            ]
            return [
                node("OneHot", names, ["bombed"]),
                node("ReduceMax", ["bombed"], ["most"], keepdims=0),
                node("Add", [source, "most"], [target]),
            ]
        if way == "concat":
            doubled = [node("Shape", [source], ["d0"])] + [
                node("Concat", [f"d{i}"] * 2, [f"d{i + 1}"], axis=0) for i in range(34)
            ]
            return [
                *doubled,
                node("ReduceMax", ["d34"], ["most"], keepdims=0),
                node("Cast", ["most"], ["cast"], to=1),
                node("Add", [source, "cast"], [target]),
            ]
        if way == "conv":
            weight = _constant(graph, "kernel", np.ones((1, 1, 1, 1), np.float32))
            return [
                node("Conv", [source, weight], ["bombed"], pads=[min(size, 2**31)] * 4),
                node("ReduceMax", ["bombed"], ["most"], keepdims=0),
                node("Add", [source, "most"], [target]),
            ]
        if way == "pool":
            side = rng.choice([255, 4097, 2**20 + 1])
            return [node("AveragePool", [source], [target], kernel_shape=[side] * 2, pads=[side // 2] * 4)]
        if way == "eye":
            shape = _constant(graph, "shape", np.array([min(size, 2**40)] * 2))
            return [
                node("ConstantOfShape", [shape], ["zeros"]),
                node("EyeLike", ["zeros"], ["bombed"]),
                node("ReduceMax", ["bombed"], ["most"], keepdims=0),
                node("Add", [source, "most"], [target]),
            ]
        if way == "matmul":
            shape = _constant(graph, "shape", np.array([30000, 30000]))
            return [
                node("ConstantOfShape", [shape], ["zeros"]),
                node("MatMul", ["zeros", "zeros"], ["bombed"]),
                node("ReduceMax", ["bombed"], ["most"], keepdims=0),
                node("Add", [source, "most"], [target]),
            ]
        if way == "loop":
            body = helper.make_graph(
                [node("Identity", ["c"], ["d"]), node("Identity", ["v"], ["w"])],
                "body",
                [
                    helper.make_tensor_value_info("i", 7, []),
                    helper.make_tensor_value_info("c", 9, []),
                    helper.make_tensor_value_info("v", 1, None),
                ],
                [helper.make_tensor_value_info("d", 9, []), helper.make_tensor_value_info("w", 1, None)],
            )
            return [
                node(
                    "Loop",
                    [_constant(graph, "times", np.array(size)), _constant(graph, "yes", np.array(True)), source],
                    [target],
                    body=body,
                )
            ]
        doubled = [node("Add", [source, source], ["s0"])] + [
            node("Add", [f"s{i}"] * 2, [f"s{i + 1}"]) for i in range(20000)
        ]
        return [*doubled, node("Identity", ["s20000"], [target])]

    _splice(graph, rng, make)
    return f"{way} {size}"


def outside(model: ModelProto, rng: random.Random) -> str:
    """Data that lies in other files: in an initializer, an attribute, or a sparse tensor, of any path."""
    where = [
        "/etc/passwd",
        "../../../../etc/passwd",
        "*/_ORT_MEM_ADDR_/*",
        "base.safetensors",
        "manifest.json",
        "",
        "a\0b",
        "x" * 9999,
    ]
    location = rng.choice(where)
    secret = TensorProto(name="secret", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    secret.external_data.add(key="location", value=location)
    if rng.random() < 0.5:
        secret.external_data.add(key="offset", value=rng.choice(["0", "16", "-1", "140737488355328", "x"]))
        secret.external_data.add(key="length", value=rng.choice(["16", "-1", "99999999999", ""]))
    way = rng.choice(["initializer", "used", "attribute", "sparse", "loose"])
    if way == "initializer":
        model.graph.initializer.append(secret)
    elif way == "used":
        name = rng.choice([each.name for each in model.graph.initializer])
        tensor = next(each for each in model.graph.initializer if each.name == name)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        del tensor.external_data[:]
        tensor.external_data.extend(secret.external_data)
    elif way == "attribute":
        _first(model.graph, helper.make_node("Constant", [], ["secret"], value=secret))
    elif way == "sparse":
        model.graph.sparse_initializer.add().values.CopyFrom(secret)
    else:
        secret.data_location = TensorProto.DEFAULT
        model.graph.initializer.append(secret)
    return f"{way} {location[:30]!r}"


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


def functions(model: ModelProto, rng: random.Random) -> str:
    """Functions that call functions: the billion laughs, or one that calls itself."""
    depth = rng.choice([1, 3, 28])
    node = helper.make_node
    for level in range(depth):
        called = f"F{level - 1}" if level else rng.choice(["Identity", f"F{depth - 1}"])
        space = "" if called == "Identity" else "evil"
        body = [node(called, ["x" if i == 0 else f"v{i}"], [f"v{i + 1}"], domain=space) for i in range(2)]
        body.append(node("Identity", ["v2"], ["y"]))
        model.functions.append(helper.make_function("evil", f"F{level}", ["x"], ["y"], body, model.opset_import))
    model.opset_import.add(domain="evil", version=1)
    _splice(model.graph, rng, lambda source, target: [node(f"F{depth - 1}", [source], [target], domain="evil")])
    return f"{depth} deep"


def control(model: ModelProto, rng: random.Random) -> str:
    """Control flow, sequences, optionals, strings."""
    graph = model.graph
    way = rng.choice(["If", "Scan", "SequenceMap", "SplitToSequence", "Optional", "StringConcat", "nested"])
    node = helper.make_node

    def make(source: str, target: str) -> list[NodeProto]:
        if way in ("If", "nested"):
            branch = helper.make_graph(
                [node("Identity", [source], ["b"])], "b", [], [helper.make_tensor_value_info("b", 1, None)]
            )
            for level in range(90 if way == "nested" else 0):
                inner = (
                    node("If", ["yes"], [f"b{level}"], then_branch=branch, else_branch=branch)
                    if level < 12
                    else node("If", ["yes"], [f"b{level}"], then_branch=branch)
                )
                branch = helper.make_graph([inner], "b", [], [helper.make_tensor_value_info(f"b{level}", 1, None)])
                if level > 12 and branch.ByteSize() > 10**6:
                    break
            return [
                node("If", [_constant(graph, "yes", np.array(True))], [target], then_branch=branch, else_branch=branch)
            ]
        if way == "SplitToSequence":
            return [
                node("SplitToSequence", [source], ["parts"], axis=0),
                node("ConcatFromSequence", ["parts"], [target], axis=0),
            ]
        if way == "Optional":
            return [node("Optional", [source], ["maybe"]), node("OptionalGetElement", ["maybe"], [target])]
        return [node(way, [source], [target])]

    _splice(graph, rng, make)
    return way


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
    *((operator, 4), (domain, 1), (wiring, 6), (attribute_number, 6), (attribute_kind, 4), (contract, 4), (result, 3)),
    *((bomb, 6), (outside, 4), (initializer, 5), (functions, 2), (control, 2), (header, 2), (shuffled, 3)),
):
    _edits(_edit, weight=_weight)
