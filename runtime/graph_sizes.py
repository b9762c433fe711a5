"""How large the values of a network become for a frame of some size, found without running it.

Node by node, ONNX's own rules for shapes are asked, which are data in, data out: nothing is allocated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper

from uir.runtime.graph_operators import SIZES
from uir.runtime.graph_structure import ITEMSIZES
from uir.runtime.graph_values import SMALL, Shape, attribute_of, fold

_MOST_ELEMENTS = 2**40
_SCALES = (2.0**-6, 2.0**6)
"""The least and the most that a picture within the network is resized by."""


@dataclass
class Sizes:
    """What a network comes to for a frame of one size.

    Attributes:
        shapes: of its values by name.
        live: bytes of the values made of the frame, when most of them are needed at once.
        constant: bytes of all values that are made of constants alone.
        products: multiplications and additions.
    """

    shapes: dict[str, Shape] = field(default_factory=dict)
    live: int = 0
    constant: int = 0
    products: int = 0


def measure(model: ModelProto, inputs: Mapping[str, Shape]) -> Sizes:
    """Find the sizes of all values of a model whose structure was checked.

    Args:
        inputs: the shapes of what it is given, by name.

    Raises:
        ValueError: a node has no such inputs or attributes, or the size of what it makes cannot be told.
    """
    return _Walk(model, inputs).sizes


class _Walk:
    def __init__(self, model: ModelProto, inputs: Mapping[str, Shape]) -> None:
        graph = model.graph
        self.sizes = Sizes()
        self._opsets, self._version = list(model.opset_import), int(model.opset_import[0].version)
        self._types: dict[str, int] = {value.name: value.type.tensor_type.elem_type for value in graph.input}
        self._known: dict[str, NDArray[Any]] = {}
        self.sizes.shapes.update(inputs)
        for tensor in graph.initializer:
            self._types[tensor.name] = tensor.data_type
            self.sizes.shapes[tensor.name] = tuple(tensor.dims)
            if tensor.data_location != TensorProto.EXTERNAL and math.prod(tensor.dims) <= SMALL:
                self._known[tensor.name] = numpy_helper.to_array(tensor)
        self._of_frame = set(inputs)
        last = {name: place for place, node in enumerate(graph.node) for name in node.input}
        live = sum(map(self._bytes, inputs))
        for place, node in enumerate(graph.node):
            self._visit(node)
            made = {name for name in node.output if name}
            if self._of_frame.isdisjoint(node.input):
                self.sizes.constant += sum(map(self._bytes, made))
                continue
            self._of_frame |= made
            live += sum(map(self._bytes, made))
            self.sizes.live = max(self.sizes.live, live)
            gone = {name for name in node.input if last.get(name) == place} | {
                name for name in made if name not in last
            }
            live -= sum(map(self._bytes, gone & self._of_frame))
        for value in graph.output:
            if self._types[value.name] != value.type.tensor_type.elem_type:
                raise ValueError(f"gives {value.name} in another type than it says")

    def _bytes(self, name: str) -> int:
        return math.prod(self.sizes.shapes[name]) * ITEMSIZES[self._types[name]]

    def _visit(self, node: NodeProto) -> None:
        schema = onnx.defs.get_schema(node.op_type, self._version, "")
        _check_signature(schema, node, self._types)
        for place in SIZES.get(node.op_type, ()):
            if place < len(node.input) and node.input[place] and node.input[place] not in self._known:
                raise ValueError(f"has {node.op_type} {_name(node)}, whose result's size depends on the frame's values")
        known = {name: self._known[name] for name in node.input if name in self._known}
        _check_known(node, self._known)
        _check_fit(node, self.sizes.shapes, self._known)
        given = {name: self._type(name) for name in node.input if name}
        data = {name: numpy_helper.from_array(value, name) for name, value in known.items()}
        try:
            inferred = onnx.shape_inference.infer_node_outputs(schema, node, given, data, opset_imports=self._opsets)
        except Exception as error:  # of a class that ONNX does not promise
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"has {node.op_type} {_name(node)} that makes no sense: {reason}") from error
        for name in filter(None, node.output):
            self._note(node, name, inferred.get(name))
        self.sizes.products += _products(node, self.sizes.shapes)
        value = fold(node, self.sizes.shapes, self._known)
        if value is not None:
            self._known[node.output[0]] = value

    def _type(self, name: str) -> TypeProto:
        return helper.make_tensor_type_proto(self._types[name], self.sizes.shapes[name])

    def _note(self, node: NodeProto, name: str, found: TypeProto | None) -> None:
        tensor = found.tensor_type if found is not None and found.HasField("tensor_type") else None
        dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim] if tensor else []
        if tensor is None or not tensor.HasField("shape") or min(dims, default=0) < 0:
            raise ValueError(f"has {node.op_type} {_name(node)}, and the size of what it makes cannot be told")
        if tensor.elem_type not in ITEMSIZES or math.prod(dims) > _MOST_ELEMENTS:
            raise ValueError(f"has {node.op_type} {_name(node)}, which makes {' x '.join(map(str, dims))[:200]} values")
        self._types[name], self.sizes.shapes[name] = tensor.elem_type, tuple(dims)


def _name(node: NodeProto) -> str:
    return str(node.name or next(iter(node.output), ""))


def _check_signature(schema: Any, node: NodeProto, types: Mapping[str, int]) -> None:
    """Numbers and types of what a node is given, and its attributes, as ONNX has them for its operator."""
    what = f"has {node.op_type} {_name(node)}"
    if not schema.min_input <= len(node.input) <= schema.max_input:
        raise ValueError(f"{what} with {len(node.input)} inputs")
    if not max(1, schema.min_output) <= len(node.output) <= schema.max_output or not node.output[0]:
        raise ValueError(f"{what} with {len(node.output)} outputs")
    there = {attribute.name: attribute.type for attribute in node.attribute}
    for name, kind in there.items():
        if name not in schema.attributes or schema.attributes[name].type.value != kind:
            raise ValueError(f"{what} with {name[:100]!r}, which it does not have")
    missing = [name for name, attribute in schema.attributes.items() if attribute.required and name not in there]
    if missing:
        raise ValueError(f"{what} without {', '.join(missing)}")
    bound: dict[str, int] = {}
    for place, name in enumerate(node.input):
        formal = schema.inputs[min(place, len(schema.inputs) - 1)]
        if not name:
            if formal.option != onnx.defs.OpSchema.FormalParameterOption.Optional:
                raise ValueError(f"{what} without its input {formal.name}")
            continue
        kind = types[name]
        shown = f"tensor({TensorProto.DataType.Name(kind).lower()})"
        if shown not in formal.types or (formal.is_homogeneous and bound.setdefault(formal.type_str, kind) != kind):
            raise ValueError(f"{what} whose input {formal.name} is of type {shown}")


def _check_known(node: NodeProto, known: Mapping[str, NDArray[Any]]) -> None:
    """Numbers that sizes are made of lie within what a frame's network can need."""
    places = SIZES.get(node.op_type, ())
    for place in places:
        if place >= len(node.input) or not node.input[place]:
            continue
        value = known[node.input[place]]
        if value.ndim > 1 and node.op_type != "Gather":
            raise ValueError(f"has {node.op_type} {_name(node)} by numbers of {value.ndim} dimensions")
        if node.op_type == "Slice":  # whose ends may lie at infinity
            wrong = place == 4 and bool((value == 0).any())
        elif value.dtype.kind == "f":
            scales = node.op_type == "Resize" and place == 2
            least, most = _SCALES if scales else (-(2.0**20), 2.0**20)
            wrong = not bool(np.all((value >= least) & (value <= most)))
        else:
            wrong = bool(np.any((value < -(2**20)) | (value > 2**31 - 1)))
        if wrong:
            raise ValueError(f"has {node.op_type} {_name(node)} by numbers out of all bounds")
    if node.op_type == "Range" and not known[node.input[2]].all():
        raise ValueError(f"has Range {_name(node)} in steps of nothing")


def _check_fit(node: NodeProto, shapes: Mapping[str, Shape], known: Mapping[str, NDArray[Any]]) -> None:
    """What ONNX's rules take on trust, and some runtimes as well: that weights fit what they are applied to."""
    given = [shapes[name] if name else () for name in node.input]
    if node.op_type in ("Conv", "ConvTranspose"):
        value, weight, group = given[0], given[1], attribute_of(node, "group", 1)
        made, taken = (weight[:1], weight[1:2]) if node.op_type == "Conv" else (weight[1:2], weight[:1])
        fits = len(value) == len(weight) > 2 and 0 not in weight
        if node.op_type == "Conv":
            fits = fits and value[1] == taken[0] * group and made[0] % group == 0
        else:
            fits = fits and value[1] == taken[0] and taken[0] % group == 0
            made = tuple(size * group for size in made)
        fits = fits and (len(given) < 3 or not node.input[2] or given[2] == made)
    elif node.op_type in ("BatchNormalization", "InstanceNormalization"):
        fits = len(given[0]) > 1 and all(shape == given[0][1:2] for shape in given[1:])
    elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        axis = attribute_of(node, "axis", 1)
        own = given[0][axis : axis + 1 or None] if -len(given[0]) <= axis < len(given[0]) else None
        fits = given[1] in ((), (1,), own) and all(shape == given[1] for shape in given[2:])
    elif node.op_type == "Gather":
        axis, places = attribute_of(node, "axis", 0), known[node.input[1]]
        size = given[0][axis] if -len(given[0]) <= axis < len(given[0]) else 0
        fits = bool(np.all((places >= -size) & (places < size)))
    else:
        fits = True
    if not fits:
        raise ValueError(f"has {node.op_type} {_name(node)} of {', '.join(map(str, given))}, which do not fit")


def _products(node: NodeProto, shapes: Mapping[str, Shape]) -> int:
    """Multiplications and additions that a node takes, about."""
    made = math.prod(shapes[node.output[0]])
    if node.op_type == "Conv":
        return made * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "ConvTranspose":
        return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type in ("Gemm", "MatMul"):
        first = shapes[node.input[0]]
        return made * (max(first) if node.op_type == "Gemm" else first[-1])
    if node.op_type in ("AveragePool", "MaxPool"):
        window: list[int] = attribute_of(node, "kernel_shape", [])
        return made * math.prod(window)
    return made + sum(math.prod(shapes[name]) for name in node.input if name)
