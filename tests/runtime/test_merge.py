"""The merge, against its own definition in float64."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

from uir.runtime.composition import Composition
from uir.runtime.errors import PackageError
from uir.runtime.factors import Adapter, DenseDelta, Factors
from uir.runtime.merge import fill_graph, merge, merge_package
from uir.runtime.package import Package

SHAPES = {"conv.weight": (6, 4, 3, 3), "depthwise.weight": (8, 1, 3, 3), "linear.weight": (5, 7), "bias": (5,)}


@pytest.fixture
def base() -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


@pytest.fixture
def adapters(make_factors: Callable[..., Factors]) -> dict[str, Adapter]:
    """Three adapters: factors of different ranks and cuts, a dense delta, weights that not all of them touch."""
    rng = np.random.default_rng(1)
    cut = make_factors((24, 9), 2, rng)  # loralib cuts a convolution as (out * k) x (in * k)
    rain = {
        "conv.weight": make_factors((6, 36), 3, rng, 0.7),
        "depthwise.weight": DenseDelta(rng.normal(size=72).astype(np.float32)),
        "linear.weight": make_factors((5, 7), 1, rng, 2.0),
    }
    haze = {"conv.weight": cut, "depthwise.weight": make_factors((8, 9), 2, rng)}
    noise = {"conv.weight": make_factors((6, 36), 4, rng, 0.3), "linear.weight": make_factors((5, 7), 2, rng)}
    return {name: Adapter(name, u) for name, u in (("rain", rain), ("haze", haze), ("noise", noise))}


@pytest.mark.parametrize("text", ["rain", "rain=0.7,haze=0.3", "haze=2,noise=0.25,rain=1.5", "noise,rain", "base"])
def test_a_merge_is_the_sum_of_the_deltas(
    base: dict[str, NDArray[np.float32]], adapters: dict[str, Adapter], text: str
) -> None:
    composition = Composition.parse(text)
    merged = merge(base, adapters, composition)
    for name, weight in base.items():
        expected = weight.astype(np.float64)
        for adapter, amount in composition.items:
            update = adapters[adapter].updates.get(name)
            if isinstance(update, Factors):
                product = update.b.astype(np.float64) @ update.a.astype(np.float64)
                expected = expected + amount * update.scale * product.reshape(weight.shape)
            elif isinstance(update, DenseDelta):
                expected = expected + amount * update.values.reshape(weight.shape)
        assert merged[name].dtype == np.float32
        np.testing.assert_allclose(merged[name], expected, atol=2e-6)
        assert np.array_equal(merged[name], weight) == all(
            name not in adapters[adapter].updates for adapter, _ in composition.items
        )


def test_switching_back_is_bit_identical(base: dict[str, NDArray[np.float32]], adapters: dict[str, Adapter]) -> None:
    pristine = {name: weight.tobytes() for name, weight in base.items()}
    first = merge(base, adapters, Composition.parse("rain"))
    other = merge(base, adapters, Composition.parse("haze=0.4,noise=0.6"))
    again = merge(base, adapters, Composition.parse("rain"))
    assert {name: weight.tobytes() for name, weight in base.items()} == pristine
    assert {n: w.tobytes() for n, w in first.items()} == {n: w.tobytes() for n, w in again.items()}
    assert any(first[name].tobytes() != other[name].tobytes() for name in base)


def test_the_order_of_adapters_does_not_matter(
    base: dict[str, NDArray[np.float32]], adapters: dict[str, Adapter]
) -> None:
    one = merge(base, adapters, Composition.parse("rain=0.7,haze=0.2,noise=0.1"))
    other = merge(base, dict(reversed(adapters.items())), Composition.parse("noise=0.1,haze=0.2,rain=0.7"))
    assert all(one[name].tobytes() == other[name].tobytes() for name in base)


def test_merges_leave_the_processs_threads_as_they_were(make_factors: Callable[..., Factors]) -> None:
    shape, rng = (64, 64), np.random.default_rng(0)
    many = {f"{number}.weight": np.zeros(shape, np.float32) for number in range(60)}
    rain = {"rain": Adapter("rain", {name: make_factors(shape, 8, rng) for name in many})}
    before = threadpool_info()

    def work(_: int) -> None:
        for _ in range(30):
            merge(many, rain, Composition.parse("rain"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert threadpool_info() == before


def test_an_adapter_of_another_base_is_refused(
    base: dict[str, NDArray[np.float32]], adapters: dict[str, Adapter]
) -> None:
    lacking = {name: weight for name, weight in base.items() if name != "linear.weight"}
    with pytest.raises(ValueError, match=r"linear\.weight: the base has no such weight"):
        merge(lacking, adapters, Composition.parse("rain"))
    wider = {**base, "linear.weight": np.zeros((5, 8), np.float32)}
    with pytest.raises(ValueError, match=r"linear\.weight: adapter rain has 35 entries, the base's weight 40"):
        merge(wider, adapters, Composition.parse("rain"))


def test_a_filled_graph_holds_the_weights_and_no_reference_to_files(shared_package: Path) -> None:
    package = Package(shared_package)
    merged = merge_package(package, Composition.parse("rain=0.7,haze=0.3"))
    model = fill_graph(package.graph(), merged)
    onnx.checker.check_model(model, full_check=True)
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name, weight in merged.items():
        np.testing.assert_array_equal(found[name], weight)
    assert not any(tensor.external_data for tensor in model.graph.initializer)


def test_weights_that_are_not_the_graphs_own_are_refused(shared_package: Path) -> None:
    package = Package(shared_package)
    name = "intro.weight"
    right = package.base_weights[name]
    for wrong, words in (
        ({}, "is missing"),
        ({name: right[:1]}, r"is float32 \(1, 3, 6, 6\)"),
        ({name: right.astype(np.float64)}, "is float64"),
    ):
        weights = {k: v for k, v in package.base_weights.items() if k != name}
        with pytest.raises(PackageError, match=rf"intro\.weight \(4, 3, 6, 6\) {words}"):
            fill_graph(package.graph(), {**weights, **wrong})
