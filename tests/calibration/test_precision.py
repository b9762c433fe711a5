"""The gate: what passes, what is returned to float16, what fails and is not recommended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from uir.calibration.frames import Frames, Pair
from uir.calibration.gate import INT8_LARGEST_LOSS, INT8_LOSS, Cost, Judge
from uir.calibration.precision import Trial, Trials, hold_the_mean, recommended, sensitivity, try_precisions
from uir.runtime.composition import Composition
from uir.runtime.manifest import Precision
from uir.runtime.merge import merge_package
from uir.runtime.package import Package
from uir.runtime.qdq import products
from uir.runtime.quantize import METHODS, Network, enough_psnr, ranges
from uir.runtime.typed import float16_graph

Weights = Mapping[str, NDArray[np.float32]]
BOTH: list[Precision] = ["fp16", "int8"]


def network_of(package: Path) -> Network:
    opened = Package(package)
    return Network(opened.graph(), merge_package(opened, Composition.parse("rain")))


@pytest.fixture(scope="module")
def network(shared_package: Path) -> Network:
    return network_of(shared_package)


def quietened(network: Network, scale: float) -> Network:
    """A network that changes frames by less: nearer to what a trained one does."""
    weights = dict(network.weights)
    for name in ("ending.weight", "ending.bias"):
        weights[name] = weights[name] * np.float32(scale)
    return Network(network.graph, weights)


@pytest.fixture(scope="module")
def frames(network: Network) -> Frames:
    """What the network itself makes of the degraded frames, off by some noise, is the truth here."""
    rng = np.random.default_rng(0)
    given = [rng.integers(40, 216, (6, 6, 3), np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(6)]
    restored = quietened(network, 0.2).run(network.graph, given)
    noise = rng.normal(0, 6, (6, 48, 48, 3))
    clean = [np.clip(frame + error, 0, 255).astype(np.uint8) for frame, error in zip(restored, noise, strict=True)]
    pairs = [Pair(*pair) for pair in zip(given[4:], clean[4:], strict=True)]
    return Frames(given[:4], given[4:], pairs)


def judged(network: Network, frames: Frames) -> Trials:
    return try_precisions(network, frames, BOTH, [].append)


def test_what_costs_little_passes_whole(network: Network, frames: Frames) -> None:
    trials = judged(quietened(network, 0.05), frames)
    half, eight = trials["fp16"], trials["int8"]
    assert half.passed
    assert eight.passed
    assert half.cost
    assert eight.cost
    assert 60 <= half.cost.psnr < 90
    assert 30 < eight.cost.psnr < half.cost.psnr
    assert half.cost.restoration == pytest.approx(0, abs=0.02)
    assert eight.cost.restoration is not None
    assert -INT8_LOSS <= eight.cost.restoration < 0.05
    assert half.graph is None
    assert eight.graph
    assert eight.method in METHODS
    assert eight.returned == ()
    assert recommended(trials) == "int8"


def with_one_giant_channel(network: Network, weight: str, factor: float) -> Network:
    """The same function of frames, with one input channel of a layer that is far larger than the others.

    A channel grows and the next layer's weights for it shrink: an adapter could do that, and no scale for the whole of
    a value suits it.
    """
    before = weight.replace("conv2", "conv1")
    weights = {name: np.array(values) for name, values in network.weights.items()}
    for name in (before, before.replace("weight", "bias")):
        weights[name][0] *= np.float32(factor)
    weights[weight][:, 0] /= np.float32(factor)
    return Network(network.graph, weights)


GIANT = "encoders.0.0.conv2.weight"


def test_a_layer_that_costs_too_much_is_returned_to_float16(network: Network, frames: Frames) -> None:
    odd = with_one_giant_channel(quietened(network, 0.2), GIANT, 2000)
    trials = judged(odd, frames)
    eight = trials["int8"]
    assert eight.passed
    assert eight.graph
    assert GIANT in eight.returned
    assert len(eight.returned) <= len(products(odd.graph)) // 2
    assert eight.cost
    assert eight.cost.holds(INT8_LOSS)
    typed = onnx.load_from_string(eight.graph)
    quantised = {node.input[0] for node in typed.graph.node if node.op_type == "QuantizeLinear"}
    assert not quantised & set(eight.returned)
    assert {product.weight for product in products(odd.graph)} - set(eight.returned) <= quantised
    # One layer fewer would not have done.
    chosen = ranges(odd.histograms(frames.calibration), eight.method or "")
    cost = Judge(odd, frames).cost(odd.int8(chosen, eight.returned[:-1]))
    assert cost
    assert not cost.holds(INT8_LOSS)


def test_a_giant_channel_changes_no_frame(network: Network, frames: Frames) -> None:
    odd = with_one_giant_channel(network, GIANT, 2000)
    for one, other in zip(odd.run(odd.graph, frames.judged), network.run(network.graph, frames.judged), strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


def test_the_dearest_layer_comes_first(network: Network, frames: Frames) -> None:
    odd = with_one_giant_channel(network, GIANT, 2000)
    chosen = ranges(odd.histograms(frames.calibration), "minmax")
    order = sensitivity(odd, chosen, frames.calibration)
    assert order[0] == GIANT
    assert sorted(order) == sorted(product.weight for product in products(odd.graph))


def test_what_is_too_dear_everywhere_fails_and_is_not_recommended(network: Network, frames: Frames) -> None:
    """The truth is what float32 gives, so that nothing may be lost."""
    odd = network
    for weight in [product.weight for product in products(network.graph) if ".conv2." in product.weight]:
        odd = with_one_giant_channel(odd, weight, 3000)
    exact = odd.run(odd.graph, frames.judged)
    pairs = [Pair(*pair) for pair in zip(frames.judged, exact, strict=True)]
    trials = judged(odd, Frames(frames.calibration, frames.judged, pairs))
    eight = trials["int8"]
    assert not eight.passed
    assert eight.graph
    assert eight.cost
    assert eight.cost.restoration is not None
    assert eight.cost.restoration < -INT8_LARGEST_LOSS
    assert recommended(trials) == "fp16"


def test_a_weight_that_float16_cannot_hold_fails(network: Network, frames: Frames) -> None:
    trials = judged(with_one_giant_channel(network, GIANT, 1e7), frames)
    assert trials["fp16"] == Trial(passed=False, cost=None)
    assert trials["int8"].cost is None
    assert not trials["int8"].passed
    assert recommended(trials) == "fp32"


def test_a_value_that_float16_cannot_hold_fails(network: Network, frames: Frames) -> None:
    """The weights are below 65504, and what they give is not."""
    values = {product.weight: product.value for product in products(network.graph)}
    found = []
    for weight in (name for name in values if ".conv2." in name):
        largest = float(np.abs(network.weights[weight.replace("conv2", "conv1")][0]).max())
        odd = with_one_giant_channel(network, weight, 60_000 / largest)
        if odd.histograms(frames.judged)[values[weight]].largest > 65504:
            found.append(judged(odd, frames)["fp16"])
    assert found
    for trial in found:
        assert trial.cost
        assert trial.cost.psnr < 30
        assert not trial.passed


def test_without_a_truth_int8_is_held_to_the_float32_frames(network: Network, frames: Frames) -> None:
    footage = Frames(frames.calibration, frames.judged, [])
    quiet = judged(quietened(network, 0.01), footage)["int8"]
    assert quiet.cost
    assert quiet.cost.restoration is None
    assert quiet.cost.psnr >= quiet.cost.enough == 45
    assert quiet.passed
    odd = with_one_giant_channel(network, GIANT, 3000)
    cost = Judge(odd, footage).cost(odd.int8(ranges(odd.histograms(frames.calibration), "minmax")))
    assert cost
    assert cost.psnr < cost.enough
    assert not cost.holds(INT8_LARGEST_LOSS)


def test_a_truth_counts_for_more_than_the_float32_frames() -> None:
    assert Cost(30, -0.1, 45).holds(0.2)
    assert not Cost(50, -0.3, 45).holds(0.2)
    assert Cost(45, None, 45).holds(0.2)
    assert not Cost(44.9, None, 45).holds(0.2)


def test_what_changes_much_may_be_off_by_more(network: Network, frames: Frames) -> None:
    """Against the definition: 25 dB below the change that the network makes, and 45 dB at the most."""
    restored = network.run(network.graph, frames.judged)
    change = np.mean([np.mean((a.astype(float) - b) ** 2) for a, b in zip(frames.judged, restored, strict=True)])
    expected = 10 * np.log10(255**2 / change) + 25
    assert expected < 42
    assert enough_psnr(frames.judged, restored) == pytest.approx(expected, abs=1e-4)
    assert enough_psnr(frames.judged, frames.judged) == 45


def test_frames_that_are_the_same_count_as_100_db(network: Network, frames: Frames) -> None:
    cost = Judge(network, frames).cost(network.graph)
    assert cost
    assert (cost.psnr, cost.restoration) == (100.0, 0.0)


def test_a_change_of_restoration_is_the_mean_of_the_frames(network: Network, frames: Frames) -> None:
    """Against its own definition, on a graph that is far off."""
    graph = network.int8(ranges(network.histograms(frames.calibration), "minmax"), rest="fp32")
    exact, narrow = (network.run(one, [pair.degraded for pair in frames.pairs]) for one in (network.graph, graph))

    def psnr(frame: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
        return float(10 * np.log10(255**2 / np.mean((frame.astype(float) - truth) ** 2)))

    truths = [pair.clean for pair in frames.pairs]
    expected = np.mean([psnr(b, t) - psnr(a, t) for a, b, t in zip(exact, narrow, truths, strict=True)])
    cost = Judge(network, frames).cost(graph)
    assert cost
    assert cost.restoration == pytest.approx(expected, abs=1e-6)
    errors = [np.mean((a.astype(float) - b) ** 2) for a, b in zip(exact, narrow, strict=True)]
    assert cost.psnr == pytest.approx(10 * np.log10(255**2 / np.mean(errors)), abs=1e-4)


def test_only_what_is_asked_for_is_tried(network: Network, frames: Frames) -> None:
    stages: list[str] = []
    trials = try_precisions(network, frames, ["fp16"], stages.append)
    assert trials.keys() == {"fp16"}
    assert stages == ["fp32", "fp16"]
    assert recommended({}) == "fp32"
    assert float16_graph(network.graph)


def trials_of(restoration: float | None, passed: bool = True) -> Trials:
    return {"fp16": Trial(True, Cost(65, 0, 45)), "int8": Trial(passed, Cost(50, restoration, 45), b"graph")}


@pytest.mark.parametrize(
    ("losses", "passing"),
    [
        ([0.1, 0.2, 0.29], [True, True, True]),
        ([0.1, 0.2, 0.35], [True, True, False]),
        ([0.3, 0.35, 0.39], [False, False, False]),
        ([-0.4, 0.3, 0.39], [True, True, True]),
        ([None, 0.39, 0.1], [True, False, True]),
        ([], []),
    ],
)
def test_the_mean_holds_or_the_worst_fail(losses: list[float | None], passing: list[bool]) -> None:
    tried = [trials_of(None if loss is None else -loss) for loss in losses]
    found = hold_the_mean(tried)
    assert [trials["int8"].passed for trials in found] == passing
    assert [recommended(trials) for trials in found] == ["int8" if passed else "fp16" for passed in passing]
    assert all(trials["int8"].graph for trials in found)


def test_what_failed_already_does_not_count_towards_the_mean() -> None:
    found = hold_the_mean([trials_of(-3, passed=False), trials_of(-0.15), {}])
    assert [trials["int8"].passed for trials in found[:2]] == [False, True]
