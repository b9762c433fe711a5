"""Which precisions a composition may be run in: typed, calibrated, judged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from uir.calibration.frames import Frames
from uir.calibration.gate import FLOAT16_PSNR, INT8_LARGEST_LOSS, INT8_LOSS, Cost, Judge
from uir.runtime.manifest import PRECISIONS, Precision
from uir.runtime.qdq import products
from uir.runtime.quantize import Frame, Network, best_method, mean_error, ranges
from uir.runtime.typed import float16_graph

SENSITIVITY_FRAMES = 3


@dataclass(frozen=True)
class Trial:
    """One precision of one composition, tried.

    Attributes:
        cost: None where it cannot be run for want of range.
        graph: of int8, the composition's own graph, its weights left out.
        method: of int8, how its ranges were chosen.
        returned: of int8, the weights whose layers were left in float16.
    """

    passed: bool
    cost: Cost | None
    graph: bytes | None = None
    method: str | None = None
    returned: tuple[str, ...] = ()


Trials = dict[Precision, Trial]


def try_precisions(
    network: Network, frames: Frames, precisions: Collection[Precision], stage: Callable[[str], object]
) -> Trials:
    """Type a composition, and measure what each precision costs it.

    Args:
        stage: told what is being done, in a word.

    Raises:
        PackageError: the network gives NaN or infinity.
        BackendError: ONNX Runtime refuses it.
    """
    stage("fp32")
    judge = Judge(network, frames)
    trials: Trials = {}
    if "fp16" in precisions:
        stage("fp16")
        cost = judge.cost(float16_graph(network.graph))
        trials["fp16"] = Trial(cost is not None and cost.psnr >= FLOAT16_PSNR, cost)
    if "int8" in precisions:
        stage("int8")
        trials["int8"] = _try_int8(network, frames, judge, stage)
    return trials


def recommended(trials: Trials) -> Precision:
    """The fastest precision that passed; float32 needs no trial."""
    return next((precision for precision in PRECISIONS if precision in trials and trials[precision].passed), "fp32")


def hold_the_mean(tried: Sequence[Trials]) -> list[Trials]:
    """Fail the worst of a package's int8 compositions until the others lose no more than `INT8_LOSS` on average."""
    found = [dict(trials) for trials in tried]
    while True:
        passing = {
            i: trial.cost.restoration
            for i, trials in enumerate(found)
            if (trial := trials.get("int8")) and trial.passed and trial.cost and trial.cost.restoration is not None
        }
        if not passing or -sum(passing.values()) / len(passing) <= INT8_LOSS:
            return found
        worst = min(passing, key=lambda i: passing[i])
        found[worst]["int8"] = replace(found[worst]["int8"], passed=False)


def _try_int8(network: Network, frames: Frames, judge: Judge, stage: Callable[[str], object]) -> Trial:
    """int8 by the method that loses least, with as few layers returned to float16 as the gate asks for.

    They are returned in the order of what each costs alone, and at most half of them: with more, float16 is as good.
    How many it takes is found by bisection.
    """
    histograms = network.histograms(frames.calibration)
    method = best_method(network, histograms, frames.calibration)
    chosen = ranges(histograms, method)

    def trial(returned: Sequence[str]) -> Trial:
        graph = network.int8(chosen, returned)
        cost = judge.cost(graph)
        return Trial(cost is not None and cost.holds(INT8_LARGEST_LOSS), cost, graph, method, tuple(returned))

    best = trial(())
    if best.cost is None or best.cost.holds(INT8_LOSS):
        return best
    stage("int8, layer by layer")
    few = frames.calibration[
        :: len(frames.calibration) // SENSITIVITY_FRAMES + 1
    ]  # of other photos, and other severities
    order = sensitivity(network, chosen, few)
    too_few, enough = 0, len(order) // 2
    best = trial(order[:enough])
    while enough - too_few > 1 and best.cost is not None and best.cost.holds(INT8_LOSS):
        middle = (too_few + enough) // 2
        fewer = trial(order[:middle])
        if fewer.cost is not None and fewer.cost.holds(INT8_LOSS):
            best, enough = fewer, middle
        else:
            too_few = middle
    return best


def sensitivity(network: Network, chosen: Mapping[str, float], frames: Sequence[Frame]) -> list[str]:
    """The weights of a network by what their layers cost where they alone are int8, the dearest first."""
    exact = network.run(network.graph, frames)
    weights = list(dict.fromkeys(product.weight for product in products(network.graph)))

    def cost(weight: str) -> float:
        others = [other for other in weights if other != weight]
        return mean_error(network.run(network.int8(chosen, others, rest="fp32"), frames), exact)

    return sorted(weights, key=cost, reverse=True)
