"""The small values of a network that the sizes of others are made of, such as a frame's height: they are computed.

None that is larger than `SMALL` is, so that nothing grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

SMALL = 1024
"""Elements of a value that sizes can be made of."""

Shape = tuple[int, ...]


def attribute_of(node: NodeProto, name: str, default: Any) -> Any:
    """An attribute's value, or its default where the node does not give it."""
    found = next((attribute for attribute in node.attribute if attribute.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def fold(node: NodeProto, shapes: Mapping[str, Shape], known: Mapping[str, NDArray[Any]]) -> NDArray[Any] | None:
    """What a node makes of small values that are known; None where it is not, or is no such node."""
    if math.prod(shapes[node.output[0]]) > SMALL:
        return None
    if node.op_type == "Shape":
        return np.array(
            shapes[node.input[0]][attribute_of(node, "start", 0) : attribute_of(node, "end", None)], np.int64
        )
    if node.op_type == "Size":
        return np.array(math.prod(shapes[node.input[0]]), np.int64)
    compute = _FOLDS.get(node.op_type)
    if compute is None or any(name not in known for name in node.input if name):
        return None
    values = [known[name] if name else None for name in node.input]
    try:
        with np.errstate(all="raise"):
            value = np.asarray(compute(node, *values))
    except (ArithmeticError, ValueError, IndexError, TypeError, KeyError):
        return None
    return value if value.shape == shapes[node.output[0]] else None


def _cast(node: NodeProto, value: NDArray[Any]) -> NDArray[Any]:
    return value.astype(helper.tensor_dtype_to_np_dtype(attribute_of(node, "to", 0)))


def _constant(node: NodeProto) -> NDArray[Any]:
    value = helper.get_attribute_value(node.attribute[0])
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    return np.array(value, np.float32 if node.attribute[0].name.startswith("value_float") else np.int64)


def _slice(
    node: NodeProto,  # noqa: ARG001 - as all of them
    value: NDArray[Any],
    starts: NDArray[Any],
    ends: NDArray[Any],
    axes: NDArray[Any] | None = None,
    steps: NDArray[Any] | None = None,
) -> NDArray[Any]:
    spans = [slice(None)] * value.ndim
    for place, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        step = 1 if steps is None else int(steps[place])
        if step < 0:
            raise ValueError("not computed here")
        spans[place if axes is None else int(axes[place])] = slice(start, end, step)
    return value[tuple(spans)]


def _divide(node: NodeProto, one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:  # noqa: ARG001
    if one.dtype.kind == "f":
        return np.asarray(one / other)
    if (one < 0).any() or (other <= 0).any():
        raise ValueError("ONNX rounds to zero, numpy down")
    return np.asarray(one // other)


def _squeeze(node: NodeProto, value: NDArray[Any], axes: NDArray[Any] | None = None) -> NDArray[Any]:  # noqa: ARG001
    return np.squeeze(value, None if axes is None else tuple(axes.tolist()))


_FOLDS: dict[str, Callable[..., NDArray[Any]]] = {
    "Add": lambda _, one, other: one + other,
    "Cast": _cast,
    "Concat": lambda node, *values: np.concatenate(values, attribute_of(node, "axis", 0)),
    "Constant": _constant,
    "Div": _divide,
    "Gather": lambda node, value, places: np.take(value, places, attribute_of(node, "axis", 0)),
    "Identity": lambda _, value: value,
    "Mul": lambda _, one, other: one * other,
    "Neg": lambda _, value: -value,
    "Reshape": lambda _, value, shape: value.reshape(shape.tolist()),
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": lambda _, one, other: one - other,
    "Unsqueeze": lambda _, value, axes: np.expand_dims(value, tuple(axes.tolist())),
}
"""The operators that sizes are computed by, all of whose results are small."""
