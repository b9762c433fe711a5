"""The form of an ONNX model: which messages it consists of, and how its values are wired. Nothing is computed here.

Whatever is not known to be harmless is refused: messages that are not used here, functions, subgraphs, sparse tensors,
other domains, data in other files. Weights that are left out are the one exception, in the way that export leaves them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto

from uir.runtime.float16 import GAIN
from uir.runtime.graph_operators import INTEGERS, OPERATORS, OTHER_INTEGERS

WEIGHTS_FILE = "base.safetensors"
"""Where weights that are left out say that they are."""

OPSETS = range(17, 22)
_IR_VERSIONS = range(7, 14)
_MOST = 10_000
"""Nodes, and constants beside the weights."""
_MOST_VALUES = 1000
"""Inputs, outputs and attributes of a node."""
_LONGEST = 300
"""Characters of a name."""
_RANK = 8

ITEMSIZES: dict[int, int] = {
    **dict.fromkeys((TensorProto.UINT8, TensorProto.INT8, TensorProto.BOOL), 1),
    TensorProto.FLOAT16: 2,
    **dict.fromkeys((TensorProto.FLOAT, TensorProto.INT32), 4),
    **dict.fromkeys((TensorProto.DOUBLE, TensorProto.INT64), 8),
}
"""The types that values may have, and their bytes."""

_FIELDS = {
    "model": {
        *("ir_version", "opset_import", "producer_name", "producer_version", "domain", "model_version", "doc_string"),
        *("graph", "metadata_props"),
    },
    "graph": {"node", "name", "initializer", "doc_string", "input", "output", "value_info", "metadata_props"},
    "node": {"input", "output", "name", "op_type", "domain", "attribute", "doc_string", "metadata_props"},
    "tensor": {
        *("dims", "data_type", "float_data", "int32_data", "int64_data", "double_data", "name", "doc_string"),
        *("raw_data", "external_data", "data_location", "metadata_props"),
    },
    "input or output": {"name", "type", "doc_string", "metadata_props"},
    "type": {"tensor_type", "denotation"},
}
_VALUES: dict[int, str] = {
    AttributeProto.FLOAT: "f",
    AttributeProto.INT: "i",
    AttributeProto.STRING: "s",
    AttributeProto.TENSOR: "t",
    AttributeProto.FLOATS: "floats",
    AttributeProto.INTS: "ints",
}
_DATA: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
}


FIXED = -1
"""A dimension of any size, which is always the same."""


class Port(NamedTuple):
    """An input or output that a model must have.

    Attributes:
        name: None for any.
        type: one of ONNX's.
        dims: None for one that is free, `FIXED` for one of any size.
    """

    name: str | None
    type: int
    dims: tuple[int | None, ...]


def parse(content: bytes) -> ModelProto:
    """Parse a serialised model.

    Raises:
        ValueError: it is none, or has parts that this version of ONNX does not know.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as error:  # protobuf's DecodeError lives in a module that moves between its versions
        raise ValueError(f"damaged: {error}") from error
    size = model.ByteSize()
    model.DiscardUnknownFields()
    if model.ByteSize() != size:
        raise ValueError(f"has parts that ONNX {onnx.__version__} does not know; upgrade onnx")
    return model


def check_structure(
    model: ModelProto, inputs: Sequence[Port], outputs: Sequence[Port], weights: Mapping[str, tuple[int, ...]]
) -> None:
    """Hold a model's form against what a network of frames needs.

    Args:
        weights: the shapes of the weights that are left out, by name; all of them must be.

    Raises:
        ValueError: it has anything else.
    """
    graph = model.graph
    _check_fields(model, "model")
    _check_fields(graph, "graph")
    opsets = [(opset.domain, opset.version) for opset in model.opset_import[:9]]
    if len(opsets) != 1 or opsets[0][0] not in ("", "ai.onnx") or opsets[0][1] not in OPSETS:
        raise ValueError(
            f"uses the operators of {_shown(opsets)}, and those of ONNX {OPSETS[0]} to {OPSETS[-1]} alone are run"
        )
    if model.ir_version not in _IR_VERSIONS:
        raise ValueError(f"is of ONNX's IR version {model.ir_version}, not of {_IR_VERSIONS[0]} to {_IR_VERSIONS[-1]}")
    for kind, count in (("nodes", len(graph.node)), ("constants", len(graph.initializer) - len(weights))):
        if count > _MOST:
            raise ValueError(f"has {count} {kind}, more than {_MOST}")
    _check_ports("input", graph.input, inputs)
    _check_ports("output", graph.output, outputs)
    left_out = [tensor for tensor in graph.initializer if tensor.data_location == TensorProto.EXTERNAL]
    for tensor in graph.initializer:
        _check_tensor(tensor, left_out=weights)
    if {tensor.name for tensor in left_out} != weights.keys():
        differing = sorted({tensor.name for tensor in left_out} ^ weights.keys())
        raise ValueError(f"does not leave out the base's weights and no others ({_shown(differing)})")
    for node in graph.node:
        _check_node(node)
    _check_wiring(model)


def _check_fields(message: Any, kind: str) -> None:
    more = {field.name for field, _ in message.ListFields()} - _FIELDS[kind]
    if more:
        raise ValueError(f"has a {kind} with {_shown(sorted(more))}, which no network of frames needs")


def _check_ports(kind: str, values: Sequence[onnx.ValueInfoProto], ports: Sequence[Port]) -> None:
    _check_names([value.name for value in values[:_MOST_VALUES]])
    for value in values[:_MOST_VALUES]:
        _check_fields(value, "input or output")
        _check_fields(value.type, "type")
    found = [_port(value) for value in values[:_MOST_VALUES]]
    in_order = (sorted(each, key=lambda port: port.name or "") for each in (found, ports))
    if len(found) != len(ports) or any(not _fits(*pair) for pair in zip(*in_order, strict=True)):
        wanted = ", ".join(map(_described, ports))
        there = ", ".join(map(_described, found[:9])) or "none"
        raise ValueError(f"has the {kind}s {there}, not {wanted}")


def _port(value: onnx.ValueInfoProto) -> Port:
    tensor = value.type.tensor_type
    dims = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    return Port(value.name, tensor.elem_type, dims)


def _fits(found: Port, port: Port) -> bool:
    if (found.name, found.type, len(found.dims)) != (port.name or found.name, port.type, len(port.dims)):
        return False
    pairs = zip(found.dims, port.dims, strict=True)
    return all((size or 0) > 0 if wanted == FIXED else size == wanted for size, wanted in pairs)


def _described(port: Port) -> str:
    dims = " x ".join("?" if dim in (None, FIXED) else str(dim) for dim in port.dims[:9])
    known = port.type in TensorProto.DataType.values()
    return f"{_shown(port.name or 'one')} ({TensorProto.DataType.Name(port.type) if known else port.type} {dims})"


def _check_tensor(tensor: TensorProto, left_out: Mapping[str, tuple[int, ...]] | None = None) -> None:
    """A tensor's data must be what its type and dimensions ask for.

    Args:
        left_out: the shapes of the weights that may be left out, by name; None where none may be.
    """
    _check_fields(tensor, "tensor")
    name, dims = _shown(tensor.name), tuple(tensor.dims)
    if tensor.data_type not in ITEMSIZES or len(dims) > _RANK or any(dim < 0 for dim in dims):
        raise ValueError(f"has a constant {name} of type {tensor.data_type} and dimensions {_shown(dims[: _RANK + 1])}")
    counts = {field: len(getattr(tensor, field)) for field in ("float_data", "int32_data", "int64_data", "double_data")}
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        if left_out is None or tensor.data_location != TensorProto.EXTERNAL or tensor.raw_data or any(counts.values()):
            raise ValueError(f"names files outside the package, for {name}")
        _check_left_out(tensor, left_out)
        return
    size = math.prod(dims)
    if tensor.HasField("raw_data"):
        whole = len(tensor.raw_data) == size * ITEMSIZES[tensor.data_type] and not any(counts.values())
    else:
        own = counts.pop(_DATA.get(tensor.data_type, "int32_data"))
        whole = own == size and not any(counts.values())
    if not whole:
        raise ValueError(f"has a constant {name} of {_shown(dims)} whose data is of another size")
    if (
        tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16)
        and np.isnan(onnx.numpy_helper.to_array(tensor)).any()
    ):
        raise ValueError(f"has a constant {name} that holds NaN")


def _check_left_out(tensor: TensorProto, weights: Mapping[str, tuple[int, ...]]) -> None:
    name = _shown(tensor.name)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if len(entries) != len(tensor.external_data) or entries.keys() - {"location", GAIN}:
        raise ValueError(f"names files outside the package, for {name}")
    if entries.get("location") != WEIGHTS_FILE:
        raise ValueError(f"names files outside the package, for {name}")
    shape = weights.get(tensor.name)
    if shape != tuple(tensor.dims):
        found = "missing" if shape is None else f"of {shape}"
        raise ValueError(f"leaves out the weight {name} of {tuple(tensor.dims)}, which is {found} in the base")
    if tensor.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
        raise ValueError(f"leaves out the weight {name}, of type {TensorProto.DataType.Name(tensor.data_type)}")


def _check_node(node: NodeProto) -> None:
    _check_fields(node, "node")
    if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
        raise ValueError(
            f"has the operator {_shown(node.op_type)} of {_shown(node.domain or 'ONNX')}, which is not run"
        )
    if max(len(node.input), len(node.output), len(node.attribute)) > _MOST_VALUES:
        raise ValueError(f"has {node.op_type} with more than {_MOST_VALUES} inputs, outputs or attributes")
    if len({attribute.name for attribute in node.attribute}) != len(node.attribute):
        raise ValueError(f"has {node.op_type} with an attribute twice")
    for attribute in node.attribute:
        value = _VALUES.get(attribute.type)
        there = {field.name for field, _ in attribute.ListFields()} - {"name", "type", "doc_string", value}
        if value is None or there:
            raise ValueError(f"has {node.op_type} with {_shown(attribute.name)}, of a kind that is not run")
        least, most = INTEGERS.get(attribute.name, OTHER_INTEGERS)
        numbers = attribute.ints if value == "ints" else [attribute.i] if value == "i" else []
        if any(not least <= number <= most for number in numbers) or len(attribute.s) > _LONGEST:
            raise ValueError(f"has {node.op_type} with {_shown(attribute.name)} out of all bounds")
        if value == "t":
            _check_tensor(attribute.t)


def _check_wiring(model: ModelProto) -> None:
    """Each value is made once, before it is used, and has a name that can be printed."""
    graph = model.graph
    _check_names([node.name or "node" for node in graph.node])
    made: set[str] = set()

    def make(names: Iterable[str]) -> None:
        for name in names:
            if name in made:
                raise ValueError(f"makes {_shown(name)} twice")
            made.add(name)

    sources = [each.name for each in (*graph.input, *graph.initializer)]
    _check_names(sources)
    make(sources)
    constant = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        _check_names([name for name in node.input if name])
        missing = {name for name in node.input if name} - made
        if missing:
            raise ValueError(f"uses {_shown(sorted(missing))} before it is made, in {node.op_type}")
        results = [name for name in node.output if name]
        _check_names(results)
        make(results)
    for value in graph.output:
        if value.name not in made - constant or value.name in {each.name for each in graph.input}:
            raise ValueError(f"has an output {_shown(value.name)} that no node makes")


def _check_names(names: Collection[str]) -> None:
    for name in names:
        # protobuf gives bytes where a text is none
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST or not name.isprintable():
            raise ValueError(f"has a name that is none: {name[:50]!r}")


def _shown(value: object) -> str:
    """A stranger's value, short enough for one line."""
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
