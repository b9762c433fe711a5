"""What a traced graph holds, and what it must not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from uir.export.fold import fold
from uir.export.trace import cut_weights, live_bytes_per_pixel, receptive_radius, trace
from uir.runtime.errors import BaseModelError
from uir.runtime.merge import fill_graph

EXTERNAL = onnx.TensorProto.EXTERNAL


def test_a_graph_names_every_weight_and_holds_none(traced: Any) -> None:
    """The NAFNet was fresh when it was traced: many of its weights were equal, zeros."""
    model = onnx.load_from_string(traced.base.graph)
    names = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer if tensor.data_location == EXTERNAL}
    folded, _ = fold(traced.network, [])
    assert names == {name: tuple(tensor.shape) for name, tensor in folded.state_dict().items()}
    assert all(not tensor.raw_data for tensor in model.graph.initializer if tensor.data_location == EXTERNAL)
    inside = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    assert inside < 4096
    assert traced.base.weights.keys() == names.keys()


def test_a_graph_tells_nothing_of_the_machine(traced: Any) -> None:
    graph = traced.base.graph
    for trail in (
        str(Path.home()),
        str(Path(torch.__file__).parent),
        str(Path(__file__).parents[2]),
        "site-packages",
        ".py",
    ):
        assert trail.encode() not in graph
    assert not re.search(rb"/(home|root|usr|tmp|work)/", graph)
    model = onnx.load_from_string(graph)
    for item in (model, model.graph, *model.graph.node, *model.graph.initializer):
        assert not item.metadata_props
        assert not item.doc_string
    assert not model.graph.value_info


def test_the_graph_takes_and_gives_frames_of_any_batch_and_size(traced: Any) -> None:
    model = fill_graph(traced.base.graph, traced.base.weights)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (given,), (got,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, got.name, got.type) == ("frame", "tensor(uint8)", "restored", "tensor(uint8)")
    multiple = traced.base.frame.multiple_of
    for batch, rows, columns in ((1, 1, 1), (1, 3, 2), (2, 2, 5), (3, 1, 4)):
        frame = np.random.default_rng(rows).integers(0, 256, (batch, rows * multiple, columns * multiple, 3), np.uint8)
        (restored,) = session.run(None, {"frame": frame})
        assert restored.shape == frame.shape
        picture = torch.from_numpy(frame).permute(0, 3, 1, 2).double() / 255
        with torch.no_grad():
            expected = traced.network.double()(picture).clamp(0, 1).permute(0, 2, 3, 1).numpy() * 255
        traced.network.float()
        assert np.abs(restored - expected).max() <= 0.5 + 1e-3  # rounded, not cut off


def test_frames_pass_an_identity_unchanged(every_layer: Any) -> None:
    weights = {name: np.zeros_like(weight) for name, weight in every_layer.base.weights.items()}
    model = fill_graph(every_layer.base.graph, weights)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    frame = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    assert np.array_equal(session.run(None, {"frame": frame})[0], frame)


def test_tracing_again_gives_the_same_graph(zoo: Path, make_unet: Callable[[], nn.Module]) -> None:
    """Whatever the weights are: the zoo's graph was traced from others."""
    assert trace(make_unet()).graph == (zoo / "base" / "graph.onnx").read_bytes()


def seen_by_perturbation(network: nn.Module, centres: tuple[int, int], size: int) -> int:
    """The farthest input pixel that changes an output pixel, found by changing each row and each column in turn."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(3, size, size, dtype=torch.float64, generator=generator)
    others = picture.repeat(2, size, 1, 1, 1)
    for at in range(size):
        others[0, at, :, at, :] += 10 * torch.randn(3, size, dtype=torch.float64, generator=generator)
        others[1, at, :, :, at] += 10 * torch.randn(3, size, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        changed = (network(others.flatten(0, 1)) - network(picture[None])).abs().amax(1).unflatten(0, (2, size))
    return max(abs(at - centre) for centre in centres for at in range(size) if changed[:, at, centre, centre].max() > 0)


class Normed(nn.Module):
    """Convolutions with a normalisation over the channels between them, as transformers have it: no pooling."""

    multiple_of = 2

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 2, stride=2)
        self.norm = nn.LayerNorm(8)
        self.body = nn.Conv2d(8, 8, 5, padding=2)
        self.up = nn.ConvTranspose2d(8, 3, 2, stride=2)

    def forward(self, frame: Tensor) -> Tensor:
        x = self.norm(self.down(frame).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return frame + self.up(self.body(x))


def test_the_radius_is_what_a_perturbation_shows(
    make_unet: Callable[[], nn.Module], every_layer: Any, fill: Callable[[nn.Module, int], nn.Module]
) -> None:
    for network in (fill(make_unet(), 7), every_layer.network, fill(Normed(), 7)):
        multiple = int(network.multiple_of)  # type: ignore[arg-type]
        radius = receptive_radius(network)
        assert radius is not None
        double = network.double()
        assert radius == seen_by_perturbation(double, (32, 32 + multiple - 1), 64), type(network).__name__
        double.float()


def test_a_network_that_looks_everywhere_has_no_radius(nafnet: Any) -> None:
    assert receptive_radius(nafnet.network) is None
    assert not nafnet.base.frame.exact_tiles
    assert nafnet.base.frame.overlap % nafnet.base.frame.multiple_of == 0


def test_the_memory_of_a_run_is_that_of_its_widest_place() -> None:
    """Of a model whose activations can be counted by hand: 12 channels beside 3, and the frame before them."""
    weight = onnx.numpy_helper.from_array(np.zeros((12, 3, 1, 1), np.float32), "w")
    back = onnx.numpy_helper.from_array(np.zeros((3, 12, 1, 1), np.float32), "v")
    nodes = [
        onnx.helper.make_node("Cast", ["frame"], ["cast"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Transpose", ["cast"], ["picture"], perm=[0, 3, 1, 2]),
        onnx.helper.make_node("Conv", ["picture", "w"], ["wide"]),
        onnx.helper.make_node("Relu", ["wide"], ["open"]),
        onnx.helper.make_node("Conv", ["open", "v"], ["narrow"]),
        onnx.helper.make_node("Add", ["narrow", "picture"], ["sum"]),
        onnx.helper.make_node("Transpose", ["sum"], ["back"], perm=[0, 2, 3, 1]),
        onnx.helper.make_node("Cast", ["back"], ["restored"], to=onnx.TensorProto.UINT8),
    ]
    shape = ["n", "h", "w", 3]
    value = onnx.helper.make_tensor_value_info
    given, got = (value(name, onnx.TensorProto.UINT8, shape) for name in ("frame", "restored"))
    graph = onnx.helper.make_graph(nodes, "counted", [given], [got], [weight, back])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    assert live_bytes_per_pixel(model, 16) == 4 * (12 + 12 + 3)  # wide, open and the picture that is added later


@pytest.mark.parametrize("traced_name", ["every_layer", "nafnet", "unet"])
def test_every_activation_is_counted(request: pytest.FixtureRequest, traced_name: str) -> None:
    """A bound from below: the first convolution's input and output are alive at once."""
    traced = request.getfixturevalue(traced_name)
    first = next(layer for layer in traced.network.modules() if isinstance(layer, nn.Conv2d))
    stride = first.stride[0] * first.stride[1]
    assert traced.base.frame.bytes_per_pixel >= 4 * (3 + first.out_channels / stride)


class Tied(nn.Module):
    """Two convolutions with one weight: there is no second one to merge a second adapter's delta into."""

    multiple_of = 1

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.again = nn.Conv2d(3, 3, 3, padding=1)
        self.again.weight = self.conv.weight

    def forward(self, frame: Tensor) -> Tensor:
        return self.again(self.conv(frame))


def test_a_weight_that_is_not_in_the_graph_is_refused() -> None:
    with pytest.raises(BaseModelError, match=r"\w+\.weight .* is not in the graph: .* no adapter can be merged"):
        trace(Tied())


def test_a_weight_that_was_changed_on_the_way_is_refused(every_layer: Any) -> None:
    """A square matrix that an exporter turned over has the right name and the right shape."""
    weights = dict(every_layer.base.weights)
    model = fill_graph(every_layer.base.graph, weights)
    assert cut_weights(model, weights) == every_layer.base.graph
    turned = {**weights, "linear.weight": np.ascontiguousarray(weights["linear.weight"].T)}
    with pytest.raises(BaseModelError, match=r"linear\.weight \(16, 16\) was changed"):
        cut_weights(fill_graph(every_layer.base.graph, turned), weights)
