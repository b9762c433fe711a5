"""Typed graphs: what is float16, what is int8, what stays float32, and that they still compute the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from uir.runtime.composition import Composition
from uir.runtime.errors import PackageError
from uir.runtime.merge import fill_graph, merge_package
from uir.runtime.package import Package
from uir.runtime.qdq import Product, products
from uir.runtime.typed import float16_graph, int8_graph

FLOAT, HALF, INT8, UINT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.UINT8


def types_of(graph: bytes | onnx.ModelProto) -> dict[str, int]:
    """The element type of every value in a graph, as strict inference has it: a graph of mixed operands is refused."""
    model = onnx.load_from_string(graph) if isinstance(graph, bytes) else graph
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    values = [*inferred.input, *inferred.output, *inferred.value_info]
    found = {value.name: value.type.tensor_type.elem_type for value in values}
    return found | {tensor.name: tensor.data_type for tensor in inferred.initializer}


def run(model: onnx.ModelProto, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    restored: NDArray[np.uint8] = session.run(None, {"frame": frame[None]})[0][0]
    return restored


def psnr(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((one.astype(float) - other) ** 2), 1e-9)))


@dataclass
class Small:
    """The small package's network with rain merged in."""

    graph: bytes
    weights: dict[str, NDArray[np.float32]]
    frame: NDArray[np.uint8]
    ranges: dict[str, float]
    restored: NDArray[np.uint8]


@pytest.fixture(scope="module")
def small(shared_package: Path) -> Small:
    """Ranges are what the values reach on the frame itself: nothing is cut off."""
    package = Package(shared_package)
    graph, weights = package.graph(), merge_package(package, Composition.parse("rain"))
    frame = np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    model = fill_graph(graph, weights)
    names = list(dict.fromkeys(product.value for product in products(graph)))
    probe = onnx.ModelProto.FromString(model.SerializeToString())
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    values = session.run(names, {"frame": frame[None]})
    return Small(
        graph,
        weights,
        frame,
        {name: float(np.abs(value).max()) for name, value in zip(names, values, strict=True)},
        run(model, frame),
    )


def test_products_are_named_by_weight_and_value(small: Small) -> None:
    found = products(small.graph)
    convolutions = [node for node in onnx.load_from_string(small.graph).graph.node if node.op_type == "Conv"]
    assert found == [Product(node.input[1], node.input[0]) for node in convolutions]
    assert {product.weight for product in found} == {name for name in small.weights if name.endswith(".weight")}


def test_float16_lies_between_the_ends(small: Small) -> None:
    graph = float16_graph(small.graph)
    types = types_of(graph)
    model = onnx.load_from_string(graph)
    kinds: dict[str, set[int]] = {}
    for node in model.graph.node:
        kinds.setdefault(node.op_type, set()).add(types[node.output[0]])
    assert kinds["Conv"] == kinds["Relu"] == kinds["DepthToSpace"] == {HALF}
    assert kinds["Clip"] == kinds["Mul"] == kinds["Transpose"] == {FLOAT}
    assert {types[name] for name in small.weights} == {HALF}
    assert (types["frame"], types["restored"]) == (UINT8, UINT8)
    # The frame that the change is added to comes from its codes without having been narrowed.
    makers = {name: node for node in model.graph.node for name in node.output}
    (clip,) = (node for node in model.graph.node if node.op_type == "Clip")
    node = makers[clip.input[0]]
    assert node.op_type == "Add"
    while node.op_type != "Cast":
        node = makers[node.input[0]]
        assert types[node.output[0]] == FLOAT
    assert node.input[0] == "frame"


def test_weights_stay_out_of_typed_graphs(small: Small) -> None:
    for graph in (float16_graph(small.graph), int8_graph(small.graph, small.ranges, small.weights)):
        tensors = onnx.load_from_string(graph).graph.initializer
        left_out = {tensor.name for tensor in tensors if tensor.data_location == TensorProto.EXTERNAL}
        assert left_out == small.weights.keys()
        assert not any(tensor.raw_data for tensor in tensors if tensor.name in left_out)


def test_typing_again_gives_the_same_bytes(small: Small) -> None:
    assert float16_graph(small.graph) == float16_graph(small.graph)
    one, two = (int8_graph(small.graph, small.ranges, small.weights) for _ in range(2))
    assert one == two


def test_float16_computes_the_same(small: Small) -> None:
    restored = run(fill_graph(float16_graph(small.graph), small.weights), small.frame)
    assert psnr(restored, small.restored) > 55


def pair_before(model: onnx.ModelProto, name: str) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    """The QuantizeLinear and DequantizeLinear that a value comes through."""
    makers = {output: node for node in model.graph.node for output in node.output}
    second = makers[name]
    assert second.op_type == "DequantizeLinear"
    first = makers[second.input[0]]
    assert first.op_type == "QuantizeLinear"
    assert list(first.input[1:]) == list(second.input[1:])
    return first, second


@pytest.mark.parametrize(("rest", "kind"), [("fp16", HALF), ("fp32", FLOAT)])
def test_int8_is_symmetric_and_per_output_channel(small: Small, rest: str, kind: int) -> None:
    graph = int8_graph(small.graph, small.ranges, small.weights, rest=rest)
    types = types_of(graph)
    model = onnx.load_from_string(graph)
    inside = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_location != TensorProto.EXTERNAL
    }
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == len(products(small.graph))
    for node in convolutions:
        value, weight = (pair_before(model, name)[0] for name in node.input[:2])
        assert node.input[2] in small.weights  # the bias, as it is
        source = weight.input[0]
        largest = np.abs(small.weights[source]).max(axis=(1, 2, 3))
        assert largest.shape == inside[weight.input[1]].shape == (len(small.weights[source]),)
        np.testing.assert_allclose(inside[weight.input[1]], largest / 127, rtol=1e-3)
        assert [attribute.i for attribute in weight.attribute if attribute.name == "axis"] == [0]
        assert inside[value.input[1]].shape == ()
        for pair in (value, weight):
            assert types[pair.output[0]] == INT8
            assert not inside[pair.input[2]].any()
            assert inside[pair.input[2]].dtype == np.int8
            assert types[pair.input[1]] == kind
        assert types[node.output[0]] == kind
    assert not any(types[name] == HALF for name in types if rest == "fp32")
    assert model.opset_import[0].version >= 19


def test_a_value_that_two_products_take_is_quantised_once() -> None:
    graph = network(
        [
            helper.make_node("Conv", ["picture", "a"], ["x"]),
            helper.make_node("Conv", ["x", "b"], ["y"]),
            helper.make_node("Conv", ["x", "c"], ["z"]),
            helper.make_node("Add", ["y", "z"], ["change"]),
        ],
        {"a": (3, 3, 1, 1), "b": (3, 3, 1, 1), "c": (3, 3, 1, 1)},
    )
    typed = onnx.load_from_string(int8_graph(graph, {"picture": 1, "x": 2}, ones(graph)))
    types_of(typed)
    assert sum(node.op_type == "QuantizeLinear" for node in typed.graph.node) == 2 + 3


def test_a_sum_between_products_takes_what_they_take(small: Small) -> None:
    """Only the last one, of the frame itself, is exact: nothing quantises what it gives."""
    model = onnx.load_from_string(int8_graph(small.graph, small.ranges, small.weights))
    makers = {name: node for node in model.graph.node for name in node.output}
    quantised = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    plain = onnx.load_from_string(small.graph).graph
    sums = [node for node in plain.node if node.op_type == "Add" and node.output[0] in quantised]
    assert len(sums) > 3
    for node in sums:
        kinds = [makers[name].op_type for name in makers[node.output[0]].input]
        assert kinds.count("DequantizeLinear") == 1, node.output  # the other operand goes into nothing else
    for node in model.graph.node:
        if node.op_type == "Add" and node.output[0] not in quantised:
            assert "DequantizeLinear" not in {makers[name].op_type for name in node.input if name in makers}


def test_an_excluded_layer_is_float16(small: Small) -> None:
    weight = "middle.0.conv1.weight"
    graph = int8_graph(small.graph, small.ranges, small.weights, [weight])
    types = types_of(graph)
    model = onnx.load_from_string(graph)
    (node,) = (node for node in model.graph.node if weight in node.input)
    assert (node.op_type, types[node.output[0]]) == ("Conv", HALF)
    makers = {name: maker for maker in model.graph.node for name in maker.output}
    assert makers[node.input[0]].op_type != "DequantizeLinear"
    assert sum(node.op_type == "DequantizeLinear" for node in model.graph.node) == 2 * (len(products(small.graph)) - 1)


def test_all_layers_excluded_is_the_float16_graph(small: Small) -> None:
    every = [product.weight for product in products(small.graph)]
    excluded = onnx.load_from_string(int8_graph(small.graph, small.ranges, small.weights, every))
    assert excluded.graph == onnx.load_from_string(float16_graph(small.graph)).graph


@pytest.mark.parametrize("rest", ["fp16", "fp32"])
def test_int8_computes_nearly_the_same(small: Small, rest: str) -> None:
    graph = int8_graph(small.graph, small.ranges, small.weights, rest=rest)
    assert 33 < psnr(run(fill_graph(graph, small.weights), small.frame), small.restored) < 60


def test_int8_is_what_onnxruntimes_own_quantiser_makes(small: Small, tmp_path: Path) -> None:
    """An independent oracle, where both may take the extremes of one frame."""
    from onnxruntime import quantization

    left = [{"frame": small.frame[None]}]

    class OneFrame(quantization.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            return left.pop() if left else None

    onnx.save(fill_graph(small.graph, small.weights), tmp_path / "fp32.onnx")
    quantization.quantize_static(
        tmp_path / "fp32.onnx",
        tmp_path / "int8.onnx",
        OneFrame(),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        activation_type=quantization.QuantType.QInt8,
        weight_type=quantization.QuantType.QInt8,
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "AddQDQPairToWeight": True,
            "OpTypesToExcludeOutputQuantization": ["Conv"],
        },
    )
    theirs = onnx.load(tmp_path / "int8.onnx")
    ours = fill_graph(int8_graph(small.graph, small.ranges, small.weights, rest="fp32"), small.weights)
    one, other = scales(theirs), scales(ours)
    assert one.keys() == other.keys() == {name for product in products(small.graph) for name in product}
    for name, scale in one.items():
        np.testing.assert_allclose(scale, other[name], rtol=5e-3)  # they divide by 127.5, for which there is no code
    errors = [psnr(run(model, small.frame), small.restored) for model in (theirs, ours)]
    assert abs(errors[0] - errors[1]) < 3


def scales(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    """The scale of every value that a model quantises, by its name."""
    inside = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {node.input[0]: inside[node.input[1]] for node in model.graph.node if node.op_type == "QuantizeLinear"}


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_openvino_runs_the_same_graph(small: Small, precision: str) -> None:
    openvino = pytest.importorskip("openvino")
    graph = float16_graph(small.graph)
    if precision == "int8":
        graph = int8_graph(small.graph, small.ranges, small.weights)
    model = fill_graph(graph, small.weights)
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()),
        "CPU",
        {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1},
    )
    restored = compiled(small.frame[None])[0][0]
    assert psnr(restored, small.restored) > (55 if precision == "fp16" else 33)


def network(nodes: list[onnx.NodeProto], weights: dict[str, tuple[int, ...]]) -> bytes:
    """A graph of frames around some nodes that take `picture` and give `change`, its weights left out."""
    around = [
        helper.make_node("Cast", ["frame"], ["cast"], to=FLOAT),
        helper.make_node("Transpose", ["cast"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "scale"], ["picture"]),
        *nodes,
        helper.make_node("Add", ["picture", "change"], ["sum"]),
        helper.make_node("Mul", ["sum", "back"], ["codes"]),
        helper.make_node("Transpose", ["codes"], ["turned"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["turned"], ["restored"], to=UINT8),
    ]
    constants = [
        numpy_helper.from_array(np.array(1 / 255, np.float32), "scale"),
        numpy_helper.from_array(np.array(255, np.float32), "back"),
        numpy_helper.from_array(np.array([1], np.int64), "channels"),
        numpy_helper.from_array(np.array(1e-6, np.float32), "epsilon"),
    ]
    for name, shape in weights.items():
        tensor = TensorProto(name=name, data_type=FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="base.safetensors")
        constants.append(tensor)
    given, got = (helper.make_tensor_value_info(name, UINT8, ["n", "h", "w", 3]) for name in ("frame", "restored"))
    graph = helper.make_graph(around, "network", [given], [got], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def ones(graph: bytes) -> dict[str, NDArray[np.float32]]:
    tensors = onnx.load_from_string(graph).graph.initializer
    return {t.name: np.ones(tuple(t.dims), np.float32) for t in tensors if t.data_location == TensorProto.EXTERNAL}


def normed(before: str, after: str) -> list[onnx.NodeProto]:
    """Layer normalisation over the channels, in its parts."""
    return [
        helper.make_node("ReduceMean", [before, "channels"], ["mean"]),
        helper.make_node("Sub", [before, "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "centred"], ["squares"]),
        helper.make_node("ReduceMean", ["squares", "channels"], ["variance"]),
        helper.make_node("Add", ["variance", "epsilon"], ["more"]),
        helper.make_node("Sqrt", ["more"], ["deviation"]),
        helper.make_node("Div", ["centred", "deviation"], [after]),
    ]


NORMED = network(
    [
        helper.make_node("Conv", ["picture", "a"], ["x"]),
        *normed("x", "normed"),
        helper.make_node("Mul", ["normed", "gain"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "b"], ["change"]),
    ],
    {"a": (8, 3, 1, 1), "gain": (1, 8, 1, 1), "b": (3, 8, 1, 1)},
)


def test_a_normalisation_is_float32_whole_and_nothing_around_it() -> None:
    types = types_of(float16_graph(NORMED))
    inner = ("mean", "centred", "squares", "variance", "more", "deviation", "normed")
    assert {types[name] for name in inner} == {FLOAT}
    assert {types[name] for name in ("x", "scaled", "change", "a", "gain", "b")} == {HALF}


def test_a_normalisation_of_large_values_survives_float16() -> None:
    """Its squares reach 10^8: float16 ends at 65504."""
    rng = np.random.default_rng(0)
    weights = {
        "a": rng.normal(0, 2e4, (8, 3, 1, 1)).astype(np.float32),
        "gain": np.ones((1, 8, 1, 1), np.float32),
        "b": rng.normal(0, 0.05, (3, 8, 1, 1)).astype(np.float32),
    }
    frame = rng.integers(60, 190, (16, 16, 3), np.uint8)
    exact = run(fill_graph(NORMED, weights), frame)
    assert psnr(run(fill_graph(float16_graph(NORMED), weights), frame), exact) > 50


def test_one_operator_for_a_normalisation_is_float32_too() -> None:
    graph = network(
        [
            helper.make_node("Conv", ["picture", "a"], ["x"]),
            helper.make_node("InstanceNormalization", ["x", "gain", "bias"], ["normed"]),
            helper.make_node("Conv", ["normed", "b"], ["change"]),
        ],
        {"a": (3, 3, 1, 1), "gain": (3,), "bias": (3,), "b": (3, 3, 1, 1)},
    )
    types = types_of(float16_graph(graph))
    assert {types[name] for name in ("normed", "gain", "bias")} == {FLOAT}
    assert {types[name] for name in ("x", "change")} == {HALF}


@pytest.mark.parametrize(
    ("node", "shape", "axis"),
    [
        (helper.make_node("Conv", ["picture", "w"], ["change"], group=3), (3, 1, 1, 1), 0),
        (helper.make_node("ConvTranspose", ["picture", "w"], ["change"]), (3, 3, 1, 1), 1),
        (helper.make_node("MatMul", ["picture", "w"], ["change"]), (8, 8), 1),
    ],
)
def test_scales_lie_along_the_output_channels(node: onnx.NodeProto, shape: tuple[int, ...], axis: int) -> None:
    graph = network([node], {"w": shape})
    weight = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    typed = int8_graph(graph, {"picture": 1.0}, {"w": weight})
    types_of(typed)
    model = onnx.load_from_string(typed)
    (product,) = (found for found in model.graph.node if found.op_type == node.op_type)
    first, _ = pair_before(model, product.input[1])
    assert [attribute.i for attribute in first.attribute] == [axis]
    (scale,) = (tensor for tensor in model.graph.initializer if tensor.name == first.input[1])
    others = tuple(i for i in range(len(shape)) if i != axis)
    np.testing.assert_allclose(numpy_helper.to_array(scale), np.abs(weight).max(axis=others) / 127, rtol=1e-3)
    frame = np.random.default_rng(1).integers(0, 100, (8, 8, 3), np.uint8)
    assert psnr(run(fill_graph(typed, {"w": weight}), frame), run(fill_graph(graph, {"w": weight}), frame)) > 25


def test_a_grouped_transposed_convolution_stays_float16() -> None:
    node = helper.make_node("ConvTranspose", ["picture", "w"], ["change"], group=3)
    assert products(network([node], {"w": (3, 1, 1, 1)})) == []


def test_a_channel_of_zeros_has_a_scale() -> None:
    graph = network([helper.make_node("Conv", ["picture", "w"], ["change"])], {"w": (3, 3, 1, 1)})
    weights = {"w": np.zeros((3, 3, 1, 1), np.float32)}
    model = fill_graph(int8_graph(graph, {"picture": 0.0}, weights), weights)
    frame = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert np.abs(run(model, frame).astype(int) - frame).max() <= 1


def test_the_first_product_takes_codes_that_float16_holds_exactly() -> None:
    graph = network([helper.make_node("Conv", ["picture", "w"], ["change"])], {"w": (3, 3, 1, 1)})
    weights = {"w": np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)}
    model = fill_graph(float16_graph(graph), weights)
    (product,) = (node for node in model.graph.node if node.op_type == "Conv")
    model.graph.output.append(onnx.ValueInfoProto(name=product.input[0]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    frame = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    _, codes = session.run(None, {"frame": frame})
    assert codes.dtype == np.float16
    assert np.array_equal(codes.transpose(0, 2, 3, 1).astype(np.float64), frame / 256)
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == "w")
    np.testing.assert_allclose(numpy_helper.to_array(tensor)[0, 0], 256 / 255, rtol=1e-3)


def test_kernels_on_the_frame_keep_their_sums() -> None:
    graph = network([helper.make_node("Conv", ["picture", "w"], ["change"], pads=[2] * 4)], {"w": (3, 3, 5, 5)})
    weight = np.random.default_rng(0).normal(size=(3, 3, 5, 5)).astype(np.float32)
    model = fill_graph(float16_graph(graph), {"w": weight})
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == "w")
    wanted = weight.astype(np.float64) * 256 / 255
    rounded = numpy_helper.to_array(tensor).astype(np.float64)
    plain = wanted.astype(np.float16).astype(np.float64)
    lost, lost_plainly = (np.abs((found - wanted).sum((2, 3))).max() for found in (rounded, plain))
    assert lost < lost_plainly / 10
    np.testing.assert_allclose(rounded, wanted, rtol=2e-3, atol=1e-3)  # and no entry is far from its own


def test_a_weight_too_large_for_float16_is_refused(small: Small) -> None:
    for name in ("intro.weight", "ending.weight", "ending.bias"):
        weights = {**small.weights, name: small.weights[name] * np.float32(1e8)}
        fill_graph(small.graph, weights)
        with pytest.raises(PackageError, match=rf"{name} reaches .*, and float16 ends at 65504; use fp32"):
            fill_graph(float16_graph(small.graph), weights)


@pytest.mark.parametrize("gain", ["", "much", "nan", "inf", "1e30"])
def test_a_gain_that_is_none_is_refused(small: Small, gain: str) -> None:
    model = onnx.load_from_string(float16_graph(small.graph))
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == "intro.weight")
    (entry,) = (entry for entry in tensor.external_data if entry.key == "gain")
    entry.value = gain
    with pytest.raises(PackageError, match=r"intro\.weight"):
        fill_graph(model.SerializeToString(), small.weights)


def test_a_weight_of_another_type_is_refused(small: Small) -> None:
    model = onnx.load_from_string(small.graph)
    model.graph.initializer[0].data_type = TensorProto.INT8
    with pytest.raises(PackageError, match=r"is of type INT8; export the package again"):
        fill_graph(model.SerializeToString(), small.weights)
