"""What a look costs beside what it decides about: time, and multiplications and additions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from uir.runtime.composition import Composition
from uir.runtime.looks import look
from uir.runtime.merge import merged_model
from uir.runtime.package import LARGEST_ROUTER, Package
from uir.runtime.restorer import Restorer
from uir.runtime.router import INPUTS, Router
from uir.tools.bench.report import Table, median
from uir.tools.bench.work import count_work

RUNS = 30
WARM_UP = 5


@dataclass(frozen=True)
class Cost:
    """What one frame costs.

    Attributes:
        milliseconds: medians; of `look` (the router's, all of it), of `seeing` (its part before the network), and of
            `restore` (one run of the engine).
        gflop: 10^9 multiplications and additions in convolutions and matrix products, of the router's network and of
            the restorer's.
    """

    size: tuple[int, int]
    engine: str
    milliseconds: Mapping[str, float]
    gflop: Mapping[str, float]


def measure_cost(package: Package, router: Router, restorer: Restorer, size: tuple[int, int]) -> Cost:
    """Time a look and a restoration, in turns, on a frame of noise: neither depends on what is in it.

    Args:
        size: of the frame, width and height, pixels.
    """
    width, height = size
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    tasks: dict[str, Callable[[], object]] = {
        "look": lambda: router.look(frame),
        "seeing": lambda: look(frame),
        "restore": lambda: restorer(frame),
    }
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for run in range(WARM_UP + RUNS):
        for name, task in tasks.items():
            began = time.perf_counter()
            task()
            if run >= WARM_UP:
                seconds[name].append(time.perf_counter() - began)
    entry = package.manifest.router
    assert entry is not None  # there is a Router
    network = onnx.load_from_string(package.read(entry.file, LARGEST_ROUTER))
    multiple = package.manifest.frame.multiple_of
    padded = 1, height + -height % multiple, width + -width % multiple, 3
    gflop = {
        "look": count_work(network, *((1, *INPUTS[value.name]) for value in network.graph.input)).flops / 1e9,
        "restore": count_work(merged_model(package, Composition(), "fp32"), padded).flops / 1e9,
    }
    return Cost(size, restorer.describe(), {name: 1000 * median(each) for name, each in seconds.items()}, gflop)


def cost_table(cost: Cost) -> Table:
    """The router's share of what a frame costs."""
    times, work = cost.milliseconds, cost.gflop
    rows = [
        ["a look", f"{times['look']:.2f}", f"{work['look']:.3f}"],
        ["  of it, seeing", f"{times['seeing']:.2f}", "-"],
        ["a restoration", f"{times['restore']:.1f}", f"{work['restore']:.2f}"],
        ["look / restoration", f"{times['look'] / times['restore']:.2%}", f"{work['look'] / work['restore']:.2%}"],
    ]
    shape = "x".join(map(str, cost.size))
    title = f"Cost of a frame of {shape}, the look on one thread, the restoration by {cost.engine}"
    return Table(title, ["", "ms", "GFLOP"], rows)
