"""Folded: a base and adapters that compute what they computed, in a graph that scales no channels by themselves."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uir.export.adapters import compacted, load_adapter, write_peft
from uir.export.bases import save_base
from uir.export.bases.nafnet import NAFNet
from uir.export.cli import main as export
from uir.export.fold import Fold, fold
from uir.export.trace import weights_of
from uir.runtime import Composition, Package
from uir.runtime.errors import AdapterError
from uir.runtime.factors import Adapter, DenseDelta, Factors
from uir.runtime.merge import fill_graph, merge, merge_package

SIZE = (4, (1,), 1, (1,))
BLOCKS = 3
MIXES = ["base", "rain", "haze", "haze=0.3,rain=0.7", "haze=1.5,rain=0.25"]


@pytest.fixture(scope="module")
def network(fill: Callable[[nn.Module, int], nn.Module]) -> NAFNet:
    """Norms and layer scales far from one and zero, or else a fold that forgot them would pass."""
    network = NAFNet(*SIZE)
    fill(network, 5)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name:
                parameter.uniform_(-1.2, 1.2, generator=torch.Generator().manual_seed(len(name)))
    return network


@pytest.fixture(scope="module")
def adapters(
    network: NAFNet, make_factors: Callable[..., Factors], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Two adapters for every convolution, depthwise ones too, as folders in PEFT's format."""
    shapes = {name: tuple(weight.shape) for name, weight in network.state_dict().items() if _is_kernel(name, weight)}
    assert len(shapes) == sum(isinstance(module, nn.Conv2d) for module in network.modules())
    folders = {}
    for seed, name in enumerate(("rain", "haze")):
        rng = np.random.default_rng(seed)
        folders[name] = tmp_path_factory.mktemp("adapters") / name
        factors = {weight: make_factors(shape, 3, rng, 0.3) for weight, shape in shapes.items()}
        write_peft(folders[name], factors, shapes, rank=3, alpha=0.9, base_model="nafnet")
    return folders


def _is_kernel(name: str, weight: Tensor) -> bool:
    return weight.dim() == 4 and name.endswith(".weight")


@pytest.fixture(scope="module")
def package(network: NAFNet, adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("folded")
    save_base(folder / "nafnet.safetensors", "nafnet", network.state_dict())
    named = ",".join(f"{name}={path}" for name, path in adapters.items())
    export(["--base", str(folder / "nafnet.safetensors"), "--adapters", named, "-o", str(folder / "restore.uir")])
    return Package(folder / "restore.uir")


@pytest.mark.parametrize("mix", MIXES)
def test_an_exported_nafnet_computes_what_its_own_weights_do(
    network: NAFNet,
    adapters: dict[str, Path],
    package: Package,
    before_rounding: Callable[[onnx.ModelProto, NDArray[np.uint8]], NDArray[np.float32]],
    mix: str,
) -> None:
    composition = Composition.parse(mix)
    loaded = {name: load_adapter(path) for name, path in adapters.items()}
    unfolded = copy.deepcopy(network)
    merged = merge(weights_of(network), loaded, composition)
    unfolded.load_state_dict({name: torch.from_numpy(weight) for name, weight in merged.items()})
    frame = np.random.default_rng(3).integers(0, 256, (2, 16, 20, 3), np.uint8)
    with torch.no_grad():
        expected = unfolded.double()(torch.from_numpy(frame).double().permute(0, 3, 1, 2) / 255).numpy()

    found = before_rounding(fill_graph(package.graph(), merge_package(package, composition)), frame)

    error = np.abs(found - expected).max()
    assert error < 1e-5, error
    assert 0.1 < np.abs(expected).max() < 20  # or else 1e-5 would say little


def test_nothing_but_convolutions_has_weights(package: Package) -> None:
    graph = onnx.load_from_string(package.graph()).graph
    users = {name: node for node in graph.node for name in node.input}
    counted = Counter(node.op_type for node in graph.node)
    convolutions = {name for node in graph.node if node.op_type == "Conv" for name in node.input[1:]}
    assert set(package.base_weights) <= convolutions
    # In a block two squares, two gates and one attention; at the frame's ends 1/255 and 255.
    assert counted["Mul"] == 5 * BLOCKS + 2
    # In a block two epsilons and two residuals; a skip, the frame itself, and the half code that rounds.
    assert counted["Add"] == 4 * BLOCKS + 3
    assert counted["Reshape"] == 0
    norms = [node for node in graph.node if node.op_type == "Div"]
    assert len(norms) == 2 * BLOCKS
    assert {users[node.output[0]].op_type for node in norms} == {"Conv"}


def test_a_bias_behind_a_norm_changes_with_the_composition(package: Package) -> None:
    """By what a delta makes of the norm's bias; other biases are the base's own."""
    rain, base = (merge_package(package, Composition.parse(mix)) for mix in ("rain", "base"))
    changed = {name for name in base if name.endswith(".bias") and not np.array_equal(rain[name], base[name])}
    assert len(changed) == 2 * BLOCKS
    assert all(name.endswith((".conv1.bias", ".conv4.bias")) for name in changed)


def test_factors_keep_their_rank_and_fold_as_their_deltas_do(network: NAFNet, adapters: dict[str, Path]) -> None:
    rain = load_adapter(adapters["rain"])
    dense = Adapter("rain", {name: DenseDelta(update.delta((-1,))) for name, update in rain.updates.items()})
    shapes = {name: weight.shape for name, weight in weights_of(network).items()}
    before = {name: weight.copy() for name, weight in weights_of(network).items()}
    _, (as_factors, as_deltas, small) = fold(network, [rain, dense, compacted(rain)])
    assert as_factors.updates.keys() == as_deltas.updates.keys() == small.updates.keys()
    for name, update in as_factors.updates.items():
        assert update.rank == 3
        for other in (as_deltas.updates[name], small.updates[name]):
            np.testing.assert_allclose(update.delta(shapes[name]), other.delta(shapes[name]), atol=1e-6)
    after = weights_of(network)
    assert all(np.array_equal(after[name], weight) for name, weight in before.items())
    assert rain.updates.keys() < as_factors.updates.keys()


@pytest.mark.parametrize(
    "name", ["encoders.0.0.norm1.weight", "decoders.0.0.norm2.bias", "middle_blks.0.beta", "middle_blks.0.conv5.bias"]
)
def test_an_adapter_of_what_is_folded_is_refused(network: NAFNet, name: str) -> None:
    adapter = Adapter("rain", {name: DenseDelta(np.ones(weights_of(network)[name].size, np.float32))})
    with pytest.raises(AdapterError, match=f"adapter rain changes {name}: .* train without"):
        fold(network, [adapter])


def test_a_unet_is_given_back_as_it_is(make_unet: Callable[[], nn.Module]) -> None:
    unet, adapter = make_unet(), Adapter("rain", {})
    folded, (same,) = fold(unet, [adapter])
    assert folded is unet
    assert same is adapter


class Strided(nn.Module):
    """A norm's affine before a convolution, and a scale behind the same one: `folds` may be given other layers."""

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)
        self.convolution = convolution
        self.scale = nn.Parameter(torch.randn(6))

    def folds(self) -> Sequence[Fold]:
        return [Fold("convolution", norm="norm", scale="scale")]

    def forward(self, x: Tensor) -> Tensor:
        if self.norm.weight is not None:
            x = self.norm.weight.view(-1, 1, 1) * x + self.norm.bias.view(-1, 1, 1)
        y: Tensor = self.convolution(x)
        return y if self.scale is None else self.scale.view(-1, 1, 1) * y


def test_a_larger_kernel_takes_over_both_sides_at_once(
    fill: Callable[[nn.Module, int], nn.Module], make_factors: Callable[..., Factors]
) -> None:
    network = fill(Strided(nn.Conv2d(4, 6, 3, stride=2)), 1).double()
    picture = torch.randn(1, 4, 9, 9, dtype=torch.float64)
    factors = make_factors((6, 4, 3, 3), 2, np.random.default_rng(1))
    folded, (adapter,) = fold(network, [Adapter("rain", {"convolution.weight": factors})])
    assert "scale" not in folded.state_dict()
    for one, updates in ((network, {"convolution.weight": factors}), (folded, adapter.updates)):
        for name, update in updates.items():
            parameter = one.get_parameter(name)
            parameter.data += torch.from_numpy(update.delta(tuple(parameter.shape)))
    with torch.no_grad():
        assert (folded(picture) - network(picture)).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("convolution", "message"),
    [
        (nn.Conv2d(4, 6, 3, padding=1), "pads, so that norm cannot be folded into it"),
        (nn.Conv2d(4, 6, 1, groups=2), "groups or pads"),
        (nn.Conv2d(4, 6, 1, bias=False), "only a Conv2d with a bias"),
        (nn.ConvTranspose2d(4, 6, 2), "only a Conv2d with a bias"),
    ],
)
def test_what_would_not_be_exact_is_refused(convolution: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fold(Strided(convolution), [])


def test_a_published_network_has_no_padding_behind_a_norm() -> None:
    """Whatever its size: `fold` refuses one that has."""
    for encoders, middle in itertools.product([(1,), (2, 1)], [0, 2]):
        network = NAFNet(2, encoders, middle, [1] * len(encoders))
        folded: Any = fold(network, [])[0]
        assert not [name for name in folded.state_dict() if name.split(".")[-1] in ("beta", "gamma") or "norm" in name]
