"""Torch to ONNX, once for a base: the graph that every composition of it shares.

The exporter keeps parameter names as initializer names, so that the merge can go by name. Weights are cut out of the
graph; a package stores them beside it.
"""

from __future__ import annotations

import copy
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.reference
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uir.runtime.errors import BaseModelError
from uir.runtime.manifest import FrameContract

OPSET = 18
WEIGHTS_FILE = "base.safetensors"
APPROXIMATE_OVERLAP = 64  # pixels, for a network that looks at the whole frame


class FrameModel(nn.Module):
    """A base that eats frames: uint8 RGB N x H x W x 3 in and out, so that neither caller nor copies handle floats.

    The cast stands before the transpose, and behind it at the output: TensorRT allows uint8 tensors nothing but casts.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def forward(self, frame: Tensor) -> Tensor:
        picture = frame.to(torch.float32).permute(0, 3, 1, 2) * (1 / 255)
        restored = torch.clamp(self.base(picture), 0.0, 1.0)
        # The cast truncates: half a code more makes it round.
        return (restored * 255.0 + 0.5).permute(0, 2, 3, 1).to(torch.uint8)


@dataclass(frozen=True)
class TracedBase:
    """A base as a package holds it.

    Attributes:
        graph: the ONNX model, its weights left out (marked as external).
        weights: float32, by initializer name.
        frame: what the graph takes.
    """

    graph: bytes
    weights: dict[str, NDArray[np.float32]]
    frame: FrameContract


def trace(network: nn.Module) -> TracedBase:
    """Trace a base network (N x 3 x H x W in [0, 1] to the same shape) into a graph of frames.

    Raises:
        BaseModelError: the exporter renamed or folded a weight, so that adapters could not be merged into it.
    """
    multiple = int(network.multiple_of)  # type: ignore[arg-type]
    distinct = _with_distinct_weights(network)
    model = to_onnx(FrameModel(distinct), (3, 2 * multiple, 2 * multiple), multiple)
    _rename(model, "base.")
    _fold_constants(model)
    radius = receptive_radius(network)
    frame = FrameContract(
        multiple_of=multiple,
        overlap=multiple * math.ceil((APPROXIMATE_OVERLAP if radius is None else radius) / multiple),
        exact_tiles=radius is not None,
        bytes_per_pixel=live_bytes_per_pixel(model, 16 * multiple),
    )
    return TracedBase(cut_weights(model, weights_of(distinct)), weights_of(network), frame)


def weights_of(network: nn.Module) -> dict[str, NDArray[np.float32]]:
    """A copy of a network's weights, float32, by their names in its state dict."""
    return {name: tensor.numpy(force=True).astype(np.float32) for name, tensor in network.state_dict().items()}


def _with_distinct_weights(network: nn.Module) -> nn.Module:
    """A float32 copy with random weights: the exporter would join weights that are equal, such as fresh biases."""
    double = copy.deepcopy(network).eval().float()
    with torch.random.fork_rng(), torch.no_grad():
        for tensor in double.state_dict().values():
            tensor.normal_()
    return double


def to_onnx(network: nn.Module, shape: tuple[int, int, int], multiple: int) -> onnx.ModelProto:
    """Export a frame model with free batch, height and width, unoptimised: an optimiser would fold weights away.

    Args:
        network: takes uint8 N x H x W x 3.
        shape: channels, height and width of the example.
        multiple: what height and width are multiples of.
    """
    channels, height, width = shape
    # An example batch of one would be taken for a constant.
    example = torch.zeros(2, height, width, channels, dtype=torch.uint8)
    batch, rows, columns = (torch.export.Dim(name, min=1, max=4096) for name in ("n", "rows", "columns"))
    with quiet():
        program = torch.onnx.export(
            network.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=({0: batch, 1: multiple * rows, 2: multiple * columns},),
            input_names=["frame"],
            output_names=["restored"],
            optimize=False,
            verbose=False,
        )
    assert program is not None
    return without_notes(onnx.load_from_string(program.model_proto.SerializeToString()))


def without_notes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model itself, rid of the exporter's notes, which name source files of this machine."""
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.initializer, model.graph, model):
        del item.metadata_props[:]
        item.doc_string = ""
    del model.graph.value_info[:]
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporter's notes about packages that it could use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _rename(model: onnx.ModelProto, prefix: str) -> None:
    """Take the wrapper's prefix off the initializers' names: adapters speak of the base's own."""
    short = {tensor.name: tensor.name.removeprefix(prefix) for tensor in model.graph.initializer}
    for tensor in model.graph.initializer:
        tensor.name = short[tensor.name]
    for node in model.graph.node:
        node.input[:] = [short.get(name, name) for name in node.input]


def _fold_constants(model: onnx.ModelProto) -> None:
    """Compute what depends on no frame and no weight's values, such as shapes and axes: TensorRT wants them as numbers.

    The exporter's own optimiser would fold weights too. What becomes of the numbers is an initializer with its values.
    """
    graph = model.graph
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    dims = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    known: set[str] = set()
    folded: list[onnx.NodeProto] = []
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "CastLike":
            node = onnx.helper.make_node("Cast", node.input[:1], node.output, node.name, to=types[node.input[1]])
        elif node.op_type == "Shape" and node.input[0] in dims:
            span = {attribute.name: attribute.i for attribute in node.attribute}
            shape = dims[node.input[0]][span.get("start", 0) : span.get("end")]
            node = onnx.helper.make_node("Constant", [], node.output, node.name, value_ints=shape)
        if node.op_type == "Constant" or (node.input and known.issuperset(filter(None, node.input))):
            known.update(node.output)
            folded.append(node)
        else:
            kept.append(node)
    used = {name for node in kept for name in node.input}
    results = [onnx.ValueInfoProto(name=name) for node in folded for name in node.output if name in used]
    numbers = onnx.helper.make_model(
        onnx.helper.make_graph(folded, "numbers", [], results), opset_imports=model.opset_import
    )
    values = onnx.reference.ReferenceEvaluator(numbers).run(None, {})
    graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(value), result.name)
        for result, value in zip(results, values, strict=True)
    )
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]  # deleting empties those in place
    del graph.node[:]
    graph.node.extend(kept)


def cut_weights(model: onnx.ModelProto, weights: Mapping[str, NDArray[np.float32]]) -> bytes:
    """The model without its weights' values, serialised; they are marked as external data.

    Args:
        weights: what the model was traced with, all of them different.

    Raises:
        BaseModelError: a weight is not in the model as it is, under its own name.
    """
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, weight in weights.items():
        tensor = initializers.get(name)
        if tensor is None or not np.array_equal(onnx.numpy_helper.to_array(tensor), weight):
            found = "is not in the graph" if tensor is None else f"was changed into {tuple(tensor.dims)}"
            raise BaseModelError(
                f"{name} {weight.shape} {found}: it is unused, tied to another weight or folded into one, so that no "
                "adapter can be merged into it"
            )
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=WEIGHTS_FILE)
    return bytes(model.SerializeToString(deterministic=True))


def receptive_radius(network: nn.Module) -> int | None:
    """How many pixels away an input pixel can still change an output pixel; None where that is the whole frame.

    Found by differentiation: with all weights positive nothing cancels and every ReLU is open, so the gradient of an
    output pixel is non-zero wherever it looks. They are random, since a normalisation takes equal channels to zero.
    """
    probe = copy.deepcopy(network).eval().float()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in probe.state_dict().values():
            # Halfway between keeping the sum of all paths at one and keeping each outermost one: both stay in float32.
            mean = math.prod(tensor.shape[2:]) ** 0.5 / tensor[0].numel() if tensor.dim() > 1 else 1.0
            tensor.uniform_(0.5 * mean, 1.5 * mean, generator=generator)
    multiple = int(probe.multiple_of)  # type: ignore[arg-type]
    size = 32 * multiple
    radius = 0
    picture = torch.ones(1, 3, size, size, requires_grad=True)
    restored = probe(picture)
    # The response differs with a pixel's place in the coarsest cell: look at the cell's two corners.
    for centre in (size // 2, size // 2 + multiple - 1):
        (gradient,) = torch.autograd.grad(restored[0, :, centre, centre].sum(), picture, retain_graph=True)
        seen = gradient[0].abs().sum(0).nonzero() - centre
        radius = max(radius, int(seen.abs().max()))
    return radius if radius < size // 2 - multiple else None


def live_bytes_per_pixel(model: onnx.ModelProto, side: int) -> float:
    """The memory of the largest set of activations alive at once, for each pixel of a `side` x `side` frame.

    The sizes are those of a real run with every value as an output: ONNX's own inference of shapes gives up too early.
    """
    probe = copy.deepcopy(model)
    given = {value.name for value in probe.graph.output}
    inner = [name for node in probe.graph.node for name in node.output if name and name not in given]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    frame = np.zeros((1, side, side, 3), np.uint8)
    names = [value.name for value in session.get_outputs()]
    sizes = {name: value.nbytes for name, value in zip(names, session.run(None, {"frame": frame}), strict=True)}
    sizes["frame"] = frame.nbytes
    last_use = {name: i for i, node in enumerate(model.graph.node) for name in node.input}
    live = peak = frame.nbytes
    for i, node in enumerate(model.graph.node):
        live += sum(sizes.get(name, 0) for name in node.output)
        peak = max(peak, live)
        live -= sum(sizes.get(name, 0) for name in {*node.input} if last_use[name] == i)
    return peak / side**2
