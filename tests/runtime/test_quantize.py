"""Ranges: histograms that grow, the three ways to read them, and the int8 network that comes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from uir.runtime.composition import Composition
from uir.runtime.errors import BackendError, PackageError
from uir.runtime.merge import fill_graph, merge_package
from uir.runtime.package import Package
from uir.runtime.qdq import products
from uir.runtime.quantize import (
    BINS,
    METHODS,
    Histogram,
    Network,
    best_method,
    entropy,
    mean_error,
    minmax,
    open_session,
    percentile,
    quantize,
    ranges,
    run_session,
)


def counted(*parts: NDArray[np.float32]) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part)
    return histogram


def test_a_histogram_counts_what_numpy_counts_however_it_grew() -> None:
    rng = np.random.default_rng(0)
    parts = [(scale * rng.normal(size=(3, 500))).astype(np.float32) for scale in (1e-3, 5.0, 0.1, 70.0)]
    histogram = counted(*parts)
    magnitudes = np.abs(np.concatenate([part.ravel() for part in parts]))
    assert histogram.largest == magnitudes.max() == minmax(histogram)
    assert histogram.limit / 2 <= histogram.largest < histogram.limit
    expected, _ = np.histogram(magnitudes.astype(np.float64), BINS, (0, histogram.limit))
    assert np.array_equal(histogram.counts, expected)


def test_the_order_of_frames_does_not_matter() -> None:
    parts = [np.array([value], np.float32) for value in (0.5, 100.0, 0.0, 3.0)]
    one, other = counted(*parts), counted(*reversed(parts))
    assert one.limit == other.limit
    assert np.array_equal(one.counts, other.counts)


def test_one_value_in_a_hundred_thousand_sets_minmax_alone() -> None:
    values = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    histogram = counted(np.append(values, np.float32(100)))
    assert minmax(histogram) == 100
    assert percentile(histogram) == pytest.approx(np.quantile(np.abs(values), 0.9999), rel=0.02)
    assert 2 < entropy(histogram) < 12


def test_what_is_spread_evenly_is_not_cut_off() -> None:
    histogram = counted(np.linspace(-3, 3, 100_001, dtype=np.float32))
    for method in METHODS.values():
        assert method(histogram) == pytest.approx(3, rel=0.02)


@pytest.mark.parametrize("codes", [0, 255])
def test_pictures_keep_their_white(codes: int) -> None:
    """They take but 256 values, so that most bins are empty: no threshold may hide what it cuts off in one of those."""
    values = np.arange(256, dtype=np.float32).repeat(40) / 255
    values = np.append(values, np.full(5000, codes / 255, np.float32))
    assert entropy(counted(values)) > 0.95


def test_nothing_but_zeros_has_no_range() -> None:
    histogram = counted(np.zeros((2, 3), np.float32))
    assert {method(histogram) for method in METHODS.values()} == {0.0}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(PackageError, match="NaN or infinity"):
        counted(np.array([1, value], np.float32))


@pytest.fixture(scope="module")
def network(shared_package: Path) -> Network:
    package = Package(shared_package)
    return Network(package.graph(), merge_package(package, Composition.parse("haze=0.5,rain=0.5")))


@pytest.fixture(scope="module")
def frames() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (4, 6, 3), np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(3)]


def test_the_histograms_are_of_what_products_take(network: Network, frames: list[NDArray[np.uint8]]) -> None:
    histograms = network.histograms(frames)
    assert histograms.keys() == {product.value for product in products(network.graph)}
    picture = next(product.value for product in products(network.graph) if product.weight == "intro.weight")
    assert histograms[picture].largest == pytest.approx(max(int(frame.max()) for frame in frames) / 255)
    assert histograms[picture].counts.sum() == sum(frame.size for frame in frames)


@pytest.mark.parametrize("method", [None, *METHODS])
def test_a_calibrated_network_is_near_the_float32_one(
    network: Network, frames: list[NDArray[np.uint8]], method: str | None
) -> None:
    graph = quantize(network.graph, network.weights, iter(frames), method=method)
    error = mean_error(network.run(graph, frames), network.run(network.graph, frames))
    assert 0 < error < 255**2 / 10**3.0


def test_the_best_method_is_the_one_that_loses_least(network: Network, frames: list[NDArray[np.uint8]]) -> None:
    histograms = network.histograms(frames)
    exact = network.run(network.graph, frames)
    errors = {
        method: mean_error(network.run(network.int8(ranges(histograms, method), rest="fp32"), frames), exact)
        for method in METHODS
    }
    best = best_method(network, histograms, frames)
    assert errors[best] == min(errors.values()) < max(errors.values())
    assert quantize(network.graph, network.weights, frames) == network.int8(ranges(histograms, best))


def test_an_excluded_layer_loses_nothing(network: Network, frames: list[NDArray[np.uint8]]) -> None:
    every = [product.weight for product in products(network.graph)]
    exact = network.run(network.graph, frames)
    graph = quantize(network.graph, network.weights, frames, method="minmax", exclude=every[1:])
    one = mean_error(network.run(graph, frames), exact)
    all_of_them = mean_error(
        network.run(quantize(network.graph, network.weights, frames, method="minmax"), frames), exact
    )
    assert 0 < one < all_of_them
    typed = onnx.load_from_string(graph)
    assert sum(node.op_type == "QuantizeLinear" for node in typed.graph.node) == 2


def test_a_network_that_overflows_is_said(network: Network, frames: list[NDArray[np.uint8]]) -> None:
    weights = {name: weight * np.float32(1e30) for name, weight in network.weights.items()}
    with pytest.raises(PackageError, match="NaN or infinity"):
        quantize(network.graph, weights, frames)


def test_what_onnx_runtime_refuses_is_said(network: Network) -> None:
    model = fill_graph(network.graph, network.weights)
    session = open_session(model)
    with pytest.raises(BackendError, match="failed on a frame of"):
        run_session(session, np.zeros((5, 5, 4), np.uint8))
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(BackendError, match="cannot compile"):
        open_session(model)
