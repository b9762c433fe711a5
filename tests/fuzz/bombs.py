"""Mutators of a package's ONNX models that mean it: memory, time, other files, functions, control flow, no picture."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from fuzz.graphs import edits


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
            for level in range(20 if way == "nested" else 0):  # protobuf itself ends at a depth of 100 messages
                branches = {"then_branch": branch} | ({"else_branch": branch} if level < 10 else {})
                inner = node("If", ["yes"], [f"b{level}"], **branches)
                branch = helper.make_graph([inner], "b", [], [helper.make_tensor_value_info(f"b{level}", 1, None)])
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


for _edit, _weight in ((result, 3), (bomb, 6), (outside, 4), (functions, 2), (control, 2)):
    edits(_edit, weight=_weight)
