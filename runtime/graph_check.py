"""ONNX models of strangers, held to what networks of frames are made of before any runtime is given them.

A runtime's own reader is no guard: it reads files that a model names, expands its functions, allocates what its
constants ask for, and has crashed on nodes that lack an input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from onnx import ModelProto, TensorProto

from uir.runtime.graph_sizes import Sizes, measure
from uir.runtime.graph_structure import FIXED, ITEMSIZES, Port, check_structure, parse
from uir.runtime.manifest import FrameContract

_SIDES = 64, 2048
"""Least sides, pixels, of the frames that sizes are found for: the largest are beyond what any device takes at once."""
_SLACK = 3.0
"""How far the memory that the manifest tells may be from what the graph takes: narrower types need more casts."""
_FIXED = 64 * 2**20
"""Bytes of activations or constants that need not be in proportion to anything."""
_PRODUCTS = 10**8
"""Multiplications for a pixel of the frame: a thousand times those of the shipped base."""
_EMBEDDER_BYTES, _EMBEDDER_PRODUCTS = 1000, 10**5
"""Bytes and multiplications for a number that a router's network is given: a hundred times the shipped one's."""


def check_graph(content: bytes, frame: FrameContract, weights: Mapping[str, tuple[int, ...]]) -> bytes:
    """Check a package's graph.

    Args:
        content: serialised, its weights left out.
        frame: what the package says that it takes.
        weights: the shapes of the base's weights by name.

    Returns:
        The graph, serialised again: what is run is what was checked.

    Raises:
        ValueError: it is no graph of such frames.
    """
    model = parse(content)
    port = Port(None, TensorProto.UINT8, (None, None, None, 3))
    check_structure(model, [port], [port], weights)
    source, target = model.graph.input[0].name, model.graph.output[0].name
    for batch, side in enumerate(_SIDES, start=1):
        cells = -(-side // frame.multiple_of)
        given = batch, frame.multiple_of * cells, frame.multiple_of * (cells + 1), 3
        sizes = measure(model, {source: given})
        if sizes.shapes[target] != given:
            raise ValueError(f"makes {sizes.shapes[target]} of a frame of {given}")
        _check_sizes(model, sizes)
        pixels = math.prod(given[:3])
        wanted = frame.bytes_per_pixel
        if sizes.live > _SLACK * wanted * pixels + _FIXED or wanted * pixels > _SLACK * sizes.live + _FIXED:
            raise ValueError(
                f"takes {sizes.live / pixels:.3g} bytes a pixel, and the manifest says {wanted:.3g} (bytes_per_pixel)"
            )
        if sizes.products > _PRODUCTS * pixels:
            raise ValueError(f"takes {sizes.products / pixels:.3g} multiplications a pixel")
    return _cleaned(model)


def check_embedder(content: bytes, inputs: Mapping[str, Sequence[int]], output: str) -> bytes:
    """Check a router's network.

    Args:
        content: serialised, its weights inside.
        inputs: the shapes of its inputs by name, each behind the number of frames; they are uint8.
        output: the name of its one output, float32, frames x dimensions.

    Returns:
        The network, serialised again.

    Raises:
        ValueError: it is none.
    """
    model = parse(content)
    ports = [Port(name, TensorProto.UINT8, (None, *shape)) for name, shape in inputs.items()]
    check_structure(model, ports, [Port(output, TensorProto.FLOAT, (None, FIXED))], {})
    sizes = measure(model, {name: (1, *shape) for name, shape in inputs.items()})
    _check_sizes(model, sizes)
    (result,) = model.graph.output
    if sizes.shapes[output] != (1, result.type.tensor_type.shape.dim[1].dim_value):
        raise ValueError(f"makes {sizes.shapes[output]} of one frame")
    pixels = sum(map(math.prod, inputs.values()))
    if sizes.live > _FIXED + _EMBEDDER_BYTES * pixels or sizes.products > _EMBEDDER_PRODUCTS * pixels:
        raise ValueError(f"takes {sizes.live} bytes and {sizes.products} multiplications for one frame")
    return _cleaned(model)


def _check_sizes(model: ModelProto, sizes: Sizes) -> None:
    tensors = sum(math.prod(tensor.dims) * ITEMSIZES[tensor.data_type] for tensor in model.graph.initializer)
    if sizes.constant > _FIXED + 8 * tensors:
        raise ValueError(f"makes {sizes.constant} bytes of constants")


def _cleaned(model: ModelProto) -> bytes:
    """The model without what it says of its values between, which runtimes would take its word for."""
    del model.graph.value_info[:]
    return bytes(model.SerializeToString(deterministic=True))
