"""A model as OpenVINO's kernels for processors like it best: the same function, its values laid out otherwise.

Three things take it time that no arithmetic needs, and all of them are exchanged for an order of channels that is
chosen when the engine is built:

- transposing bytes, at a tenth of OpenCV's speed: the engine takes and gives planes;
- a network that works at 1/b of the frame's size: its first convolution, of stride b, has but three channels to sum
  over, and its last shuffle moves every value of the frame. On planes of each b x b block's own pixels, the first is a
  convolution of stride 1 over 3 b b channels, and the last is none;
- pixel shuffles that take each channel apart: with the channels of one pixel side by side they copy whole runs.

An int8 model's first product takes the frame's own bytes: TensorRT, which has no such type, has them rounded to 127.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

Values = NDArray[Any]

_OF_EACH_VALUE = {"Cast", "Mul", "Add", "Sub", "Clip", "Min", "Max", "QuantizeLinear", "DequantizeLinear"}


def arrange(model: ModelProto) -> None:
    """Rearrange a model of frames, N x H x W x 3 in and out, to one of N x 3 b b x H/b x W/b, its weights inside.

    Of a b x b block's pixels, row by row, come the colours of the first, of the second, and so on. b is 1 where the
    network does not begin with a convolution of stride b and end with a pixel shuffle of b.

    Raises:
        ValueError: it does not begin with a uint8 frame's Cast and Transpose, and end with a Transpose and Cast.
    """
    graph = model.graph
    _take_planes(graph)
    _take_bytes(graph)
    for shuffle in [node for node in graph.node if node.op_type == "DepthToSpace"]:
        _copy_runs(graph, shuffle)
    ends = _ends(graph)
    if ends is not None:
        for convolution in ends.openings:
            _fold_opening(graph, convolution, ends.block)
        for shuffle in ends.closings:
            _bypass(graph, shuffle)
        for value in (graph.input[0], graph.output[0]):
            value.type.tensor_type.shape.dim[1].dim_value = 3 * ends.block**2


def _take_planes(graph: GraphProto) -> None:
    """Take the transposes off both ends."""
    frame, restored = graph.input[0], graph.output[0]
    first = _only(graph, frame.name, "Cast")
    second = _only(graph, first.output[0], "Transpose")
    makers = _makers(graph)
    last = _expect(makers[restored.name], "Cast")
    before = _expect(makers[last.input[0]], "Transpose")
    for value in (frame, restored):
        batch, height, width, channels = value.type.tensor_type.shape.dim
        batch.Clear()
        height.CopyFrom(channels)
        width.Clear()  # sides were multiples of what they need not be any longer
        channels.Clear()
    _bypass(graph, second)
    _bypass(graph, before)
    del graph.value_info[:]


def _take_bytes(graph: GraphProto) -> None:
    """Take the pairs off the frame: a byte by 1/255 is what a dequantised code is, and OpenVINO multiplies bytes."""
    of_frame = {graph.input[0].name}
    for node in list(graph.node):
        if node.op_type in _OF_EACH_VALUE and node.input[0] in of_frame:
            of_frame.update(node.output)
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                _bypass(graph, node)


def _copy_runs(graph: GraphProto, shuffle: NodeProto) -> None:
    """Have a pixel shuffle take its channels pixel by pixel, and the convolution before it give them so."""
    convolution = _makers(graph).get(shuffle.input[0])
    if convolution is None or _mode(shuffle) != b"CRD" or not _rearrangeable(graph, convolution):
        return
    places = _number(shuffle, "blocksize", 0) ** 2

    def rows(values: Values) -> Values:
        return values.reshape(-1, places, *values.shape[1:]).swapaxes(0, 1).reshape(values.shape)

    for tensor in _constants(graph, convolution.input[1:]):
        if tensor.dims:  # not a scale that all rows have in common
            _change(tensor, rows)
    next(attribute for attribute in shuffle.attribute if attribute.name == "mode").s = b"DCR"


class _Ends(NamedTuple):
    """Where the network leaves the frame's own size, and where it comes back to it."""

    block: int
    openings: list[NodeProto]
    closings: list[NodeProto]


def _ends(graph: GraphProto) -> _Ends | None:
    """The ends of a network that does nothing at the frame's own size that looks at more than a single value."""
    makers = _makers(graph)
    single = {tensor.name for tensor in graph.initializer if math.prod(tensor.dims) == 1}
    full = {graph.input[0].name}  # values of the frame's own size
    openings, closings = [], []
    for node in graph.node:
        if full.isdisjoint(node.input):
            continue
        if node.op_type == "Conv" and node.input[0] in full:
            openings.append(node)
            continue
        if node.op_type not in _OF_EACH_VALUE:
            return None
        for name in set(filter(None, node.input)) - full - single:
            maker = makers.get(name)
            while maker is not None and maker.op_type == "Cast":
                maker = makers.get(maker.input[0])
            if maker is None or maker.op_type != "DepthToSpace" or _mode(maker) != b"DCR":
                return None
            closings.append(maker)
        full.update(node.output)
    blocks = {_number(node, "blocksize", 0) for node in closings}
    if len(blocks) != 1 or graph.output[0].name not in full:
        return None
    (block,) = blocks
    uses = Counter(name for node in graph.node for name in node.input)
    fit = all(_opens(graph, node, block) for node in openings)
    return _Ends(block, openings, closings) if fit and all(uses[node.output[0]] == 1 for node in closings) else None


def _opens(graph: GraphProto, node: NodeProto, block: int) -> bool:
    """Whether a convolution of the frame has an output value for each block."""
    if not _rearrangeable(graph, node) or _numbers(node, "strides", [1, 1]) != [block, block]:
        return False
    if _numbers(node, "dilations", [1, 1]) != [1, 1] or _padded(node) is None:
        return False
    kernel, pads = _kernel(graph, node).dims[2:], _padded(node) or []
    sides = list(zip(kernel, pads[:2], pads[2:], strict=True))
    return all(-block <= before + after - side < 0 and side > before for side, before, after in sides)


def _fold_opening(graph: GraphProto, node: NodeProto, block: int) -> None:
    """Make a convolution of stride b one over blocks: its kernel, filled up with zeros, cut into cells of b x b."""
    pads = _padded(node) or []
    weight = _kernel(graph, node)
    sizes = list(weight.dims[2:])
    before = [-(-pad // block) for pad in pads[:2]]
    front = [block * cells - pad for cells, pad in zip(before, pads[:2], strict=True)]
    cells = [-(-(gap + size) // block) for gap, size in zip(front, sizes, strict=True)]

    def cut(values: Values) -> Values:
        gaps = [(gap, block * n - gap - size) for gap, n, size in zip(front, cells, sizes, strict=True)]
        filled = np.pad(values, ((0, 0), (0, 0), *gaps))
        filters, channels = values.shape[:2]
        parts = filled.reshape(filters, channels, cells[0], block, cells[1], block)
        return parts.transpose(0, 3, 5, 1, 2, 4).reshape(filters, -1, *cells)

    _change(weight, cut)
    after = [n - 1 - gap for n, gap in zip(cells, before, strict=True)]
    kept = [a for a in node.attribute if a.name == "group"]
    made = {"kernel_shape": cells, "pads": [*before, *after], "strides": [1, 1]}
    attributes = [*kept, *(helper.make_attribute(name, value) for name, value in made.items())]
    del node.attribute[:]
    node.attribute.extend(attributes)


def _rearrangeable(graph: GraphProto, node: NodeProto) -> bool:
    """Whether this is a convolution whose filters, and what each of them gives, nothing else uses."""
    if node.op_type != "Conv" or _number(node, "group", 1) != 1:
        return False
    uses = Counter(name for other in graph.node for name in {*other.input})
    halves = Counter(name for other in graph.node if other.op_type == "DequantizeLinear" for name in other.input[1:])
    weights = [tensor for tensor in _constants(graph, node.input[1:]) if tensor.dims]
    return (
        uses[node.output[0]] == 1
        and any(len(tensor.dims) == 4 for tensor in weights)
        and all(uses[tensor.name] - halves[tensor.name] == 1 for tensor in weights)
    )


def _kernel(graph: GraphProto, node: NodeProto) -> onnx.TensorProto:
    """The weight of a convolution that is rearrangeable."""
    return next(tensor for tensor in _constants(graph, node.input[1:2]) if len(tensor.dims) == 4)


def _constants(graph: GraphProto, names: Any) -> Iterator[onnx.TensorProto]:
    """The initializers that values are made of, by pairs at the most."""
    makers, tensors = _makers(graph), {tensor.name: tensor for tensor in graph.initializer}
    wanted, seen = list(names), set()
    while wanted:
        name = wanted.pop()
        if name in tensors and name not in seen:
            seen.add(name)
            yield tensors[name]
        elif name in makers and makers[name].op_type in ("QuantizeLinear", "DequantizeLinear"):
            wanted += makers[name].input


def _change(tensor: onnx.TensorProto, change: Callable[[Values], Values]) -> None:
    values = np.ascontiguousarray(change(numpy_helper.to_array(tensor)))
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _bypass(graph: GraphProto, gone: NodeProto) -> None:
    """Take a node out: those that take its result are given what it takes itself."""
    graph.node.remove(gone)
    for node in graph.node:
        node.input[:] = [gone.input[0] if name == gone.output[0] else name for name in node.input]


def _makers(graph: GraphProto) -> dict[str, NodeProto]:
    return {name: node for node in graph.node for name in node.output}


def _only(graph: GraphProto, value: str, kind: str) -> NodeProto:
    """The one node that takes a value, which must be of a kind."""
    takers = [node for node in graph.node if value in node.input]
    return _expect(takers[0] if len(takers) == 1 else None, kind)


def _expect(node: NodeProto | None, kind: str) -> NodeProto:
    if node is None or node.op_type != kind:
        found = "nothing" if node is None else node.op_type
        raise ValueError(f"the graph has {found} where {kind} is expected; export the package again")
    return node


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    found = next((attribute for attribute in node.attribute if attribute.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def _number(node: NodeProto, name: str, default: int) -> int:
    return int(_attribute(node, name, default))


def _numbers(node: NodeProto, name: str, default: list[int]) -> list[int]:
    return list(_attribute(node, name, default))


def _mode(shuffle: NodeProto) -> bytes:
    return bytes(_attribute(shuffle, "mode", b"DCR"))


def _padded(node: NodeProto) -> list[int] | None:
    """What a convolution pads, as four numbers; None where it leaves that to be found out."""
    return _numbers(node, "pads", [0] * 4) if _attribute(node, "auto_pad", b"NOTSET") == b"NOTSET" else None
