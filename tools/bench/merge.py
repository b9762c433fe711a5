"""Time the merge, and the switch to another composition.

The merge alone is numpy on weights that are in memory. Switching to a new composition is what a user waits for: its
adapters are read and checked, merged, and the model is compiled. Switching to one in memory is a look-up. Beside the
package's network, the merge of one of 69 million parameters is timed: LoRA-IR's shapes, with random weights.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from tqdm import tqdm

from uir.runtime.composition import DECIMALS, Composition
from uir.runtime.errors import UsageError
from uir.runtime.factors import Adapter
from uir.runtime.merge import Weights, merge
from uir.runtime.package import Package
from uir.runtime.restorer import Restorer
from uir.tools.bench import lorair
from uir.tools.bench.options import add_package_option
from uir.tools.bench.report import Report, Table, median

RUNS, MOST_RUNS = 7, 100


@dataclass(frozen=True)
class MergeTimes:
    """Medians in seconds, and the base's size.

    Attributes:
        switch_new: None where only the merge was timed.
    """

    parameters: int
    merge: float
    switch_new: float | None = None
    switch_known: float | None = None


def add_options(command: argparse.ArgumentParser) -> None:
    """The benchmark's options."""
    add_package_option(command)
    command.add_argument(
        "--runs", type=int, default=RUNS, metavar="N", help="of each time's median (default: %(default)s)"
    )


def measure(options: argparse.Namespace) -> Report:
    """Run the benchmark.

    Raises:
        UirError: the options make no sense, or the package cannot be read.
    """
    if not 1 <= options.runs <= MOST_RUNS:
        raise UsageError(f"--runs {options.runs}: must be from 1 to {MOST_RUNS}")
    package = Package(options.package)
    compositions = [c for key in package.manifest.compositions if (c := Composition.parse(key)).items]
    if not compositions:
        raise UsageError(f"{options.package}: lists no composition of adapters; export it again, with adapters")
    restorer = Restorer(package)
    adapters = {name: package.adapter(name) for name in restorer.adapters}
    large_base, large_adapters = lorair.random_network()
    large_compositions = [Composition.equal_mix(list(large_adapters)[:count]) for count in (1, len(large_adapters))]

    ours: dict[str, MergeTimes] = {}
    large: dict[str, MergeTimes] = {}
    with tqdm(total=len(compositions) + len(large_compositions), unit="composition", disable=None) as bar:
        for composition in compositions:
            ours[composition.key] = _time_package(restorer, adapters, composition, options.runs)
            bar.update()
        for composition in large_compositions:
            seconds = _time_merge(large_base, large_adapters, composition, options.runs)
            large[composition.key] = MergeTimes(_parameters(large_base), seconds)
            bar.update()

    rows = [_row(package.manifest.base.name, key, times) for key, times in ours.items()]
    rows += [_row("LoRA-IR's shapes", key, times) for key, times in large.items()]
    columns = ["composition", "network", "parameters", "merge", "switch to new", "switch to known"]
    table = Table(f"Merging and switching, milliseconds, medians of {options.runs}", columns, rows)
    settings = {"package": str(options.package), "runs": options.runs, "engine": restorer.describe()}
    return Report(settings, {"package": ours, "lora_ir_shapes": large}, [table])


def _time_package(
    restorer: Restorer, adapters: Mapping[str, Adapter], composition: Composition, runs: int
) -> MergeTimes:
    base = restorer.package.base_weights
    merging = _time_merge(base, adapters, composition, runs)
    new, known = [], []
    name, weight = max(composition.items, key=lambda item: item[1])
    for run in range(1, runs + 1):
        # A composition just beside the one that is timed, which costs as much and is in no memory yet.
        other = Composition.of({**composition.weights, name: weight + run * 10**-DECIMALS})
        new.append(_seconds(partial(restorer.compose, other)))
        restorer.compose(composition)
        known.append(_seconds(partial(restorer.compose, other)))
    return MergeTimes(_parameters(base), merging, median(new), median(known))


def _time_merge(base: Weights, adapters: Mapping[str, Adapter], composition: Composition, runs: int) -> float:
    return median([_seconds(partial(merge, base, adapters, composition)) for _ in range(runs)])


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    result = work()
    taken = time.perf_counter() - began
    del result  # freed outside of the time
    return taken


def _parameters(weights: Weights) -> int:
    return sum(weight.size for weight in weights.values())


def _row(network: str, key: str, times: MergeTimes) -> list[str]:
    cells = [
        "" if seconds is None else f"{seconds * 1e3:.{digits}f}"
        for seconds, digits in ((times.merge, 1), (times.switch_new, 1), (times.switch_known, 3))
    ]
    return [key, network, f"{times.parameters / 1e6:.1f} M", *cells]
