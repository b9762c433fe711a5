"""What TensorRT refuses is refused with a reason and a remedy, though its calls raise nothing."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import TensorProto, helper

from uir.runtime.backends import Shapes
from uir.runtime.backends.tensorrt import TensorRTBackend
from uir.runtime.backends.tensorrt.bindings import Bindings, load_bindings
from uir.runtime.backends.tensorrt.log import explain
from uir.runtime.errors import BackendError, UsageError

Build = Callable[..., bytes]
Make = Callable[..., bytes]

KERNEL = np.random.default_rng(0).normal(size=(3, 3, 1, 1)).astype(np.float32)


@pytest.mark.rtx
@pytest.mark.parametrize("model", [b"garbage", b"", b"\x00" * 100], ids=["garbage", "nothing", "zeros"])
def test_bytes_that_are_no_model(model: bytes, build: Build) -> None:
    with pytest.raises(BackendError, match=r"cannot take the model: .*; export the package again"):
        build(model)


@pytest.mark.rtx
def test_a_model_cut_short(build: Build, merged: Callable[[str], tuple[bytes, object]]) -> None:
    with pytest.raises(BackendError, match="Failed to parse the ONNX model"):
        build(merged("base")[0][:-1000])


@pytest.mark.rtx
@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (None, "for given sizes of frames"),
        (Shapes((1, 64, 64), (1, 32, 64), (1, 64, 64)), "H must be at least 1, and must not shrink"),
        (Shapes((2, 16, 16), (2, 16, 16), (1, 16, 16)), "N must be at least 1"),
        (Shapes.only((1, 16, 0)), "W must be at least 1"),
    ],
)
def test_sizes_that_make_no_sense(shapes: Shapes | None, words: str, build: Build) -> None:
    with pytest.raises(UsageError, match=words):
        build(b"", shapes)


@pytest.mark.rtx
def test_sizes_that_the_network_cannot_have(build: Build, merged: Callable[[str], tuple[bytes, object]]) -> None:
    with pytest.raises(BackendError, match=r"cannot build an engine: .*conformable; .*must be multiples"):
        build(merged("base")[0], Shapes.only((1, 17, 16)))


@pytest.mark.rtx
def test_an_input_of_another_rank(build: Build) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["frame"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Relu", ["f"], ["restored"]),
        ],
        "planar",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, ("h", "w", 3))],
        [helper.make_tensor_value_info("restored", TensorProto.FLOAT, ("h", "w", 3))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(BackendError, match="frame has 3 dimensions but profile 0 has 4"):
        build(model.SerializeToString())


@pytest.mark.rtx
def test_operands_of_two_types(build: Build, frame_model: Make) -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["y"], name="mixed")
    with pytest.raises(
        BackendError, match=r"Conv node mixed: .*type is Float but `kernel` is of type Half.*; give all .* one type"
    ):
        build(frame_model([conv], {"w": KERNEL.astype(np.float16)}))
    scale = helper.make_node("Mul", ["x", "two"], ["y"], name="scale")
    with pytest.raises(BackendError, match=r"Mul node scale: .*types Float and Half.*; give all .* one type"):
        build(frame_model([scale], {"two": np.array([2], np.float16)}))


@pytest.mark.rtx
@pytest.mark.parametrize("zero", [np.int8(3), np.uint8(128)], ids=["int8", "uint8"])
def test_zero_points_that_are_not_zero(zero: np.integer[object], build: Build, quantized: Make) -> None:
    with pytest.raises(BackendError, match=r"QuantizeLinear node quantize: .*zero point.*; quantize symmetrically"):
        build(quantized(zero))


@pytest.mark.rtx
def test_biases_quantized_to_int32(build: Build, quantized: Make) -> None:
    with pytest.raises(
        BackendError, match=r"DequantizeLinear node dequantize_bias: .*type Int32.*; leave biases unquantized"
    ):
        build(quantized(quantize_bias=True))


@pytest.mark.rtx
def test_uint8_that_is_turned_before_it_is_cast(build: Build, frame_model: Make) -> None:
    before = [
        helper.make_node("Transpose", ["frame"], ["planar"], perm=[0, 3, 1, 2], name="turn"),
        helper.make_node("Cast", ["planar"], ["x"], to=TensorProto.FLOAT),
    ]
    with pytest.raises(BackendError, match=r"Transpose node turn: .*type UInt8.*; cast frames to a float before"):
        build(frame_model([helper.make_node("Relu", ["x"], ["y"])], {}, before))


@pytest.mark.rtx
def test_operators_that_tensorrt_lacks(build: Build, frame_model: Make) -> None:
    with pytest.raises(BackendError, match=r"Det node d: .*UNSUPPORTED_NODE.*; run this model on another backend"):
        build(frame_model([helper.make_node("Det", ["x"], ["y"], name="d")], {}))
    with pytest.raises(BackendError, match=r"Nonsense node n: .*Plugin not found"):
        build(frame_model([helper.make_node("Nonsense", ["x"], ["y"], name="n")], {}))


def test_an_error_is_told_without_its_wrapping_and_its_echoes() -> None:
    echo = (
        "[x.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError at /_src/x.cpp:250 (cudaError 35))"
    )
    error = (
        "IBuilder::buildSerializedNetwork: Error Code 4: API Usage Error (Network must have at least one output. "
        "In validate at /_src/optimizer/api/network.cpp:3810)"
    )
    assert explain([error, echo, error]) == "Network must have at least one output"
    assert "cudaError 35" in explain([echo])
    assert explain([]) == "it gives no reason"


def test_a_tensorrt_that_is_missing_too_old_or_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(found: object) -> None:
        def load(_: str) -> object:
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setattr(importlib, "import_module", load)

    find(ModuleNotFoundError("No module named 'tensorrt'"))
    with pytest.raises(BackendError, match=r"TensorRT is not installed .*--system-site-packages"):
        TensorRTBackend("tensorrt")
    find(ImportError("libnvinfer.so.10: cannot open shared object file"))
    with pytest.raises(BackendError, match=r"cannot be loaded: libnvinfer\.so\.10"):
        load_bindings("tensorrt")
    find(SimpleNamespace(__version__="8.5.2.2"))
    with pytest.raises(BackendError, match=r"8\.5\.2\.2 is too old: 10\.3 or newer .*JetPack 6\.1"):
        load_bindings("tensorrt")
    find(SimpleNamespace(__version__="10.3.0"))
    bindings = load_bindings("tensorrt")
    assert bindings == Bindings("tensorrt", bindings.module, "10.3.0")
    assert (bindings.title, bindings.compute_capabilities) == ("TensorRT 10.3.0", ())
