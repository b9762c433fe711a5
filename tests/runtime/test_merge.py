"""The merge, against its own definition in float64."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.numpy
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

from uir.runtime.composition import Composition
from uir.runtime.errors import AdapterError, PackageError
from uir.runtime.factors import Adapter, DenseDelta, Factors
from uir.runtime.float16 import GAIN
from uir.runtime.merge import fill_graph, merge, merge_package
from uir.runtime.package import Package
from uir.runtime.restorer import Restorer
from uir.runtime.typed import float16_graph

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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("update", ["scale", "factors", "dense", "sum"])
def test_a_merge_that_leaves_the_range_of_float32_names_the_adapters(
    base: dict[str, NDArray[np.float32]], adapters: dict[str, Adapter], update: str
) -> None:
    """Each of them is finite by itself."""
    ones = np.ones(35, np.float32)
    huge = {
        "scale": Factors(np.ones((5, 1), np.float32), np.ones((1, 7), np.float32) * 9, 3e38),
        "factors": Factors(np.full((5, 1), 1e30, np.float32), np.full((1, 7), 1e30, np.float32), 1.0),
        "dense": DenseDelta(ones * np.float32(3e38)),
        "sum": DenseDelta(ones * np.float32(1.8e38)),
    }[update]
    adapters["haze"] = Adapter("haze", {"linear.weight": huge})
    with pytest.raises(
        AdapterError, match=r"^haze=2,rain: merging haze, rain takes linear\.weight beyond the range"
    ) as c:
        merge(base, adapters, Composition.parse("haze=2,rain"))
    assert "noise" not in str(c.value)
    assert np.isfinite(merge(base, adapters, Composition.parse("rain"))["linear.weight"]).all()


def test_a_package_whose_adapter_overflows_is_refused_when_it_is_composed(
    package: Path, replace_file: Callable[[str, bytes], None], frame: NDArray[np.uint8]
) -> None:
    """All its weights are finite, and its hashes right; what runs goes on running."""
    tensors = {
        name: np.full_like(values, 1e25)
        for name, values in Package(package).tensors("adapters/haze.safetensors").items()
    }
    replace_file("adapters/haze.safetensors", safetensors.numpy.save(tensors))
    restorer = Restorer(package, "rain", device="cpu")
    before = restorer(frame)
    with pytest.raises(AdapterError, match=r"^haze: merging haze takes .* beyond the range of float32; use smaller"):
        restorer.compose("haze")
        restorer(frame)
    restorer.compose("rain")
    assert np.array_equal(restorer(frame), before)


def with_gain(graph: bytes, gain: str) -> bytes:
    model = onnx.load_from_string(graph)
    (tensor,) = (tensor for tensor in model.graph.initializer if GAIN in {entry.key for entry in tensor.external_data})
    next(entry for entry in tensor.external_data if entry.key == GAIN).value = gain
    return bytes(model.SerializeToString())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("gain", ["nan", "inf", "1e300", "0", "-1", "2", "x", "", "9" * 5000, "0.5"])
def test_a_gain_that_no_export_writes_is_refused(shared_package: Path, gain: str) -> None:
    package = Package(shared_package)
    graph = float16_graph(package.graph())
    fill_graph(graph, package.base_weights)
    with pytest.raises(PackageError, match="has a gain of ") as caught:
        fill_graph(with_gain(graph, gain), package.base_weights)
    assert len(str(caught.value)) < 200


@pytest.mark.filterwarnings("error")
def test_a_gain_that_takes_a_weight_out_of_its_type_is_refused(shared_package: Path) -> None:
    package = Package(shared_package)
    graph = float16_graph(package.graph())
    weights = {name: np.full_like(weight, 5e4) for name, weight in package.base_weights.items()}
    with pytest.raises(PackageError, match=r"reaches 5e.04 in this composition, and float16 ends at 65504; use fp32"):
        fill_graph(with_gain(graph, "1.9"), weights)
