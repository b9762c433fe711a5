"""A merged model computes what torch computes with base and weighted LoRA branches, unmerged, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from numpy.typing import NDArray
from torch import Tensor, nn

from uir.export.adapters import compacted
from uir.export.fold import fold
from uir.export.package_writer import ExportAdapter, write_package
from uir.runtime import Composition, Package, Restorer
from uir.runtime.factors import Adapter, DenseDelta, Factors
from uir.runtime.merge import fill_graph, merge_package

BeforeRounding = Callable[[onnx.ModelProto, NDArray[np.uint8]], NDArray[np.float32]]

AMOUNTS = [{"rain": 1.0}, {"haze": 1.0}, {"rain": 0.7, "haze": 0.3}, {"rain": 0.25, "haze": 1.5}, {}]
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def branch(layer: nn.Module, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """B(A x) for one layer: the input through A, what comes out of it through B."""
    rank = a.shape[0]
    if isinstance(layer, nn.Linear):
        return F.linear(F.linear(x, a), b)
    shape: tuple[int, ...] = tuple(layer.weight.shape)  # type: ignore[arg-type]
    groups: int = layer.groups  # type: ignore[assignment]
    if isinstance(layer, nn.ConvTranspose2d):
        # Its weight is in x out: B is what meets the input, A what spreads it.
        ups = torch.cat([part.T for part in b.chunk(groups)])
        inner = F.conv2d(x, ups[..., None, None], groups=groups)
        spread = a.reshape(rank, *shape[1:]).repeat(groups, 1, 1, 1)
        return F.conv_transpose2d(inner, spread, None, layer.stride, layer.padding, groups=groups)  # type: ignore[arg-type]
    assert isinstance(layer, nn.Conv2d)
    # Each group sees its own channels through the same A.
    downs = a.reshape(rank, *shape[1:]).repeat(groups, 1, 1, 1)
    inner = F.conv2d(x, downs, None, layer.stride, layer.padding, layer.dilation, groups)  # type: ignore[arg-type]
    return F.conv2d(inner, b[..., None, None], groups=groups)


def with_branches(network: nn.Module, adapters: Mapping[str, Adapter], amounts: Mapping[str, float]) -> nn.Module:
    """The base in float64 whose every layer adds its adapters' branches to what it gives."""
    network = copy.deepcopy(network).double()
    for name, layer in network.named_modules():
        if isinstance(layer, LAYERS):
            updates = [(amount, adapters[adapter].updates[f"{name}.weight"]) for adapter, amount in amounts.items()]

            def add(layer: nn.Module, given: tuple[Tensor], got: Tensor, updates: Any = updates) -> Tensor:
                for amount, update in updates:
                    a, b = torch.from_numpy(update.a).double(), torch.from_numpy(update.b).double()
                    got = got + amount * update.scale * branch(layer, given[0], a, b)
                return got

            layer.register_forward_hook(add)
    return network


@pytest.fixture(scope="module")
def adapters(traced: Any, make_factors: Callable[..., Factors]) -> dict[str, Adapter]:
    """Two adapters with random factors for every layer of the network."""
    rng = np.random.default_rng(4)
    weights = {f"{n}.weight": m.weight for n, m in traced.network.named_modules() if isinstance(m, LAYERS)}
    return {
        # A depthwise weight's factors are larger than itself at rank 8, so that it travels as a dense delta.
        name: Adapter(
            name,
            {w: make_factors(tuple(t.shape), 8 if t.shape[1] == 1 else 3, rng, scale) for w, t in weights.items()},
        )
        for name, scale in (("rain", 0.5), ("haze", 0.8))
    }


@pytest.fixture(scope="module")
def package(traced: Any, adapters: dict[str, Adapter], tmp_path_factory: pytest.TempPathFactory) -> Package:
    path = tmp_path_factory.mktemp("exact") / "restore.uir"
    _, folded = fold(traced.network, adapters.values())
    wanted = [ExportAdapter(compacted(adapter), "unstated") for adapter in folded]
    rain = Composition.parse("rain")
    write_package(path, traced.base, wanted, [rain], rain, command=["uir-export"])
    return Package(path)


@pytest.fixture(scope="module")
def frames(traced: Any) -> NDArray[np.uint8]:
    side = 4 * int(traced.network.multiple_of)
    return np.random.default_rng(6).integers(0, 256, (2, side, side + side // 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("amounts", AMOUNTS, ids=lambda amounts: Composition.of(amounts).key)
def test_a_merged_model_is_the_base_with_its_branches(
    traced: Any,
    adapters: dict[str, Adapter],
    package: Package,
    frames: NDArray[np.uint8],
    before_rounding: BeforeRounding,
    amounts: dict[str, float],
) -> None:
    picture = torch.from_numpy(frames).to(torch.float32).permute(0, 3, 1, 2) * (1 / 255)
    with torch.no_grad():
        base = with_branches(traced.network, adapters, {})(picture.double())
        expected = with_branches(traced.network, adapters, amounts)(picture.double())
    model = fill_graph(package.graph(), merge_package(package, Composition.of(amounts)))
    found = before_rounding(model, frames)
    error = np.abs(found - expected.numpy()).max()
    assert error < 1e-5, error
    assert expected.abs().max() < 20  # or else 1e-5 would be less than float32's own steps
    if amounts:  # the branches matter: a merge that did nothing would not pass
        assert (expected - base).abs().mean() > 0.01


def test_small_weights_travel_as_dense_deltas(traced: Any, package: Package, adapters: dict[str, Adapter]) -> None:
    updates = package.adapter("rain").updates
    assert updates.keys() >= adapters["rain"].updates.keys()  # a fold adds biases
    depthwise = {f"{n}.weight" for n, m in traced.network.named_modules() if getattr(m, "groups", 1) > 3}
    for name in adapters["rain"].updates:
        size = int(np.prod(traced.base.weights[name].shape))
        factors = adapters["rain"].updates[name]
        assert isinstance(factors, Factors)
        assert isinstance(updates[name], DenseDelta) == (factors.a.size + factors.b.size > size)
        assert name not in depthwise or isinstance(updates[name], DenseDelta)


def test_two_adapters_never_give_the_same_output(package: Package, frames: NDArray[np.uint8]) -> None:
    texts = ["rain", "haze", "rain=0.5,haze=0.5", "rain=0.6,haze=0.4", "base"]
    outputs = [Restorer(package, text)(frames[0]) for text in texts]
    for i, one in enumerate(outputs):
        assert all(not np.array_equal(one, other) for other in outputs[i + 1 :]), texts[i]


def test_a_to_b_to_a_is_bit_identical(
    package: Package, frames: NDArray[np.uint8], before_rounding: BeforeRounding
) -> None:
    rain, mix = Composition.parse("rain"), Composition.parse("rain=0.3,haze=0.7")

    def model(composition: Composition) -> onnx.ModelProto:
        return fill_graph(package.graph(), merge_package(package, composition))

    first, between, again = model(rain), model(mix), model(rain)
    assert first.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)
    assert before_rounding(first, frames).tobytes() == before_rounding(again, frames).tobytes()
    assert before_rounding(between, frames).tobytes() != before_rounding(model(rain), frames).tobytes()


def test_the_order_of_adapters_does_not_matter(
    traced: Any, adapters: dict[str, Adapter], package: Package, tmp_path: Path
) -> None:
    """Neither in the composition's text nor in the package."""
    _, folded = fold(traced.network, reversed(adapters.values()))
    wanted = [ExportAdapter(compacted(adapter), "unstated") for adapter in folded]
    rain = Composition.parse("rain")
    write_package(tmp_path / "other.uir", traced.base, wanted, [rain], rain, command=["uir-export"])
    one = merge_package(package, Composition.parse("rain=0.3,haze=0.7"))
    other = merge_package(Package(tmp_path / "other.uir"), Composition.parse("haze=0.7,rain=0.3"))
    assert {name: weight.tobytes() for name, weight in one.items()} == {n: w.tobytes() for n, w in other.items()}
