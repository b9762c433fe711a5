"""Real builds: TensorRT-RTX compiles on a machine that has no GPU. What needs one is skipped where there is none."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from uir.export.adapters import load_adapter
from uir.export.zoo import zoo_adapters, zoo_base
from uir.runtime.backends import Shapes
from uir.runtime.backends.tensorrt.bindings import Bindings, load_bindings
from uir.runtime.backends.tensorrt.build import build_plan
from uir.runtime.backends.tensorrt.device_memory import Device, open_device
from uir.runtime.backends.tensorrt.log import Log
from uir.runtime.backends.tensorrt.options import BuildOptions
from uir.runtime.composition import Composition
from uir.runtime.errors import BackendError
from uir.runtime.merge import fill_graph, merge

SMALL = Shapes.only((1, 16, 16))
ONE_GPU = "8.6"  # a build for all of them takes longer, and says no more

ZERO = np.int8(0)

Weights = dict[str, NDArray[np.float32]]


@pytest.fixture(scope="session")
def rtx() -> Bindings:
    """The bindings of TensorRT-RTX."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    return load_bindings("tensorrt-rtx")


@pytest.fixture(scope="session")
def device() -> Device:
    """The GPU, for tests that need one."""
    try:
        return open_device()
    except BackendError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def build(rtx: Bindings) -> Callable[..., bytes]:
    """A function that builds a model, on no GPU and for one kind of them, and returns the plan."""

    def call(model: bytes, shapes: Shapes | None = SMALL, log: Log | None = None, **options: Any) -> bytes:
        wanted = BuildOptions(**{"compute_capabilities": (ONE_GPU,), **options})
        return build_plan(rtx, log or Log(rtx.module), model, shapes, wanted, device=None)

    return call


@pytest.fixture(scope="session")
def kernel_types(rtx: Bindings, build: Callable[..., bytes]) -> Callable[..., dict[str, str]]:
    """A function that builds a model, and says in which type each of its convolutions is computed: by the name of the
    ONNX node, `Float`, `Half` or `Int8`. It is what TensorRT's own log says of the built engine.
    """

    def call(model: bytes, shapes: Shapes = SMALL) -> dict[str, str]:
        log = Log(rtx.module, verbose=True)
        build(model, shapes, log, layer_details=True)
        (listed,) = (text for text in log.lines if text.startswith("Layers:"))
        found: dict[str, str] = {}
        for kind, inputs, constants, nodes in map(_layer, listed.splitlines()[1:]):
            if kind != "kgen":  # generated code, which only prepares and finishes what convolutions do
                assert constants[0] in inputs, "a kernel and its input are of one type"
                found |= dict.fromkeys(nodes, constants[0])
        graph = onnx.load_from_string(model).graph
        return {node.name: found[node.name] for node in graph.node if node.op_type == "Conv"}

    return call


def _layer(line: str) -> tuple[str, list[str], list[str], list[str]]:
    """A layer in the log: its kind, the types of its inputs and of its constants, the names of the ONNX nodes in it."""
    parts = re.match(r"Name: .*?, LayerType: (\w+), Inputs: \[(.*?)\], Constants: \[(.*?)\], Outputs: ", line)
    if not parts:
        return "kgen", [], [], []  # what follows the layers
    inputs, constants = (re.findall(r"Datatype: (\w+)", parts[number]) for number in (2, 3))
    return parts[1], inputs, constants, re.findall(r"ONNX Layer: (\S+?)\]", line)


@pytest.fixture(scope="session")
def merged() -> Callable[[str], tuple[bytes, Weights]]:
    """A function that merges a composition of the shipped adapters: the model, and its weights."""
    base = zoo_base()
    adapters = {name: load_adapter(folder) for name, folder in zoo_adapters().items()}

    def call(composition: str) -> tuple[bytes, Weights]:
        weights = merge(base.weights, adapters, Composition.parse(composition))
        return fill_graph(base.graph, weights).SerializeToString(deterministic=True), weights

    return call


@pytest.fixture(scope="session")
def frame_model() -> Callable[..., bytes]:
    """A function that makes a model of frames: float planar `x`, some nodes that make `y` of it, and back to uint8.

    `before` and `after` replace what stands at its ends.
    """

    def make(
        nodes: Sequence[onnx.NodeProto],
        constants: dict[str, NDArray[Any]],
        before: Sequence[onnx.NodeProto] | None = None,
        shape: Sequence[str | int] = ("n", "h", "w", 3),
    ) -> bytes:
        if before is None:
            before = [
                helper.make_node("Cast", ["frame"], ["floats"], to=TensorProto.FLOAT),
                helper.make_node("Transpose", ["floats"], ["x"], perm=[0, 3, 1, 2]),
            ]
        after = [
            helper.make_node("Transpose", ["y"], ["interleaved"], perm=[0, 2, 3, 1]),
            helper.make_node("Cast", ["interleaved"], ["restored"], to=TensorProto.UINT8),
        ]
        graph = helper.make_graph(
            [*before, *nodes, *after],
            "frames",
            [helper.make_tensor_value_info("frame", TensorProto.UINT8, shape)],
            [helper.make_tensor_value_info("restored", TensorProto.UINT8, shape)],
            [numpy_helper.from_array(values, name) for name, values in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        return bytes(model.SerializeToString())

    return make


@pytest.fixture(scope="session")
def small_model(frame_model: Callable[..., bytes]) -> bytes:
    """A model of one convolution, 1x1."""
    kernel = np.random.default_rng(0).normal(size=(3, 3, 1, 1)).astype(np.float32)
    return frame_model([helper.make_node("Conv", ["x", "w"], ["y"], name="conv")], {"w": kernel})


@pytest.fixture(scope="session")
def quantized(frame_model: Callable[..., bytes]) -> Callable[..., bytes]:
    """A function that makes a model of one int8 convolution, `quantized`, and one in float32, `plain`."""
    rng = np.random.default_rng(0)

    def make(zero: np.integer[Any] = ZERO, *, quantize_bias: bool = False) -> bytes:
        constants: dict[str, NDArray[Any]] = {
            "scale": np.array(1.0, np.float32),
            "zero": np.asarray(zero),
            "kernel": rng.integers(-127, 128, (16, 3, 3, 3), dtype=np.int8),
            "scales": np.full(16, 0.01, np.float32),
            "zeros": np.zeros(16, np.int8),
            "bias": rng.normal(size=16).astype(np.float32),
            "bias_codes": np.arange(16, dtype=np.int32),
            "int32_zeros": np.zeros(16, np.int32),
            "last": rng.normal(size=(3, 16, 1, 1)).astype(np.float32),
        }
        bias = "rounded_bias" if quantize_bias else "bias"
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"], name="quantize"),
            helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["rounded"], name="dequantize"),
            helper.make_node("DequantizeLinear", ["kernel", "scales", "zeros"], ["rounded_kernel"], axis=0),
            helper.make_node("Conv", ["rounded", "rounded_kernel", bias], ["c"], name="quantized", pads=[1] * 4),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("Conv", ["r", "last"], ["y"], name="plain"),
        ]
        if quantize_bias:
            inputs = ["bias_codes", "scales", "int32_zeros"]
            nodes.insert(0, helper.make_node("DequantizeLinear", inputs, [bias], axis=0, name="dequantize_bias"))
        return frame_model(nodes, constants)

    return make
