"""Two more networks, each traced once a session: one with every kind of layer, and a NAFNet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uir.export.bases import load_base
from uir.export.bases.nafnet import NAFNet
from uir.export.fold import fold
from uir.export.package_writer import ExportBase
from uir.export.trace import trace, weights_of
from uir.export.zoo import zoo_base


class EveryLayer(nn.Module):
    """N x 3 x H x W to the same shape, through every kind of layer that an adapter can touch."""

    multiple_of = 8

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(3, 8, 3, padding=1)
        self.dilated = nn.Conv2d(8, 8, 3, padding=2, dilation=2, bias=False)
        self.strided = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.grouped = nn.Conv2d(12, 12, 3, padding=1, groups=3)
        self.pointwise = nn.Conv2d(12, 10, 1)
        self.patches = nn.Conv2d(10, 16, 2, stride=2)
        self.linear = nn.Linear(16, 16)
        self.transposed = nn.ConvTranspose2d(16, 10, 2, stride=2)
        self.grouped_transposed = nn.ConvTranspose2d(10, 6, 4, stride=2, padding=1, groups=2)
        self.ending = nn.Conv2d(6, 3, 5, padding=2)

    def forward(self, frame: Tensor) -> Tensor:
        x = torch.relu(self.dilated(torch.relu(self.plain(frame))))
        x = torch.relu(self.pointwise(self.grouped(self.depthwise(self.strided(x)))))
        x = torch.relu(self.linear(self.patches(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return frame + self.ending(self.grouped_transposed(torch.relu(self.transposed(x))))


@dataclass(frozen=True)
class Traced:
    """A network and what export made of it, which is folded where the network can be."""

    network: nn.Module
    base: ExportBase


def _traced(name: str, network: nn.Module) -> Traced:
    traced = trace(network)
    return Traced(network, ExportBase(name, name, "unstated", traced.graph, traced.weights, traced.frame))


@pytest.fixture(scope="session")
def every_layer(fill: Callable[[nn.Module, int], nn.Module]) -> Traced:
    return _traced("every-layer", fill(EveryLayer(), 2))


@pytest.fixture(scope="session")
def nafnet(fill: Callable[[nn.Module, int], nn.Module]) -> Traced:
    """Folded and traced while it is fresh, many of its weights zeros, and then filled with others."""
    network = NAFNet(4, (1,), 1, (1,))
    traced = trace(fold(network, [])[0])
    fill(network, 3)
    weights = weights_of(fold(network, [])[0])
    return Traced(network, ExportBase("nafnet", "nafnet", "unstated", traced.graph, weights, traced.frame))


@pytest.fixture(scope="session")
def before_rounding() -> Callable[[onnx.ModelProto, NDArray[np.uint8]], NDArray[np.float32]]:
    """A function that says what a merged model computes ahead of its clamp and its rounding to codes, N x 3 x H x W."""

    def call(model: onnx.ModelProto, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        clips = [node for node in model.graph.node if node.op_type == "Clip"]
        assert len(clips) == 1
        model.graph.output.append(onnx.helper.make_tensor_value_info(clips[0].input[0], onnx.TensorProto.FLOAT, None))
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        found: NDArray[np.float32] = session.run([clips[0].input[0]], {"frame": frame})[0]
        return found

    return call


@pytest.fixture(scope="session")
def unet(zoo: Path) -> Traced:
    """The small zoo's base, with the network of its weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uir.export.zoo.ZOO", zoo)
        return Traced(load_base(zoo / "base" / "base.safetensors").network, zoo_base())


@pytest.fixture(scope="session", params=["every_layer", "nafnet", "unet"])
def traced(request: pytest.FixtureRequest) -> Traced:
    """Each of the three networks in turn."""
    found: Traced = request.getfixturevalue(request.param)
    return found
