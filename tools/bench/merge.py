"""Time the merge, and the switch to another composition, on the device in use.

The merge alone is numpy on weights that are in memory. Switching to a new composition is what a user waits for: its
adapters are merged, the model is filled and serialised, the device compiles it, loads what it compiled and, where
that took long, keeps it on disk. The first frame may take longer than those that follow, where a device prepares for
a frame's size. Switching to a composition in memory is a look-up. Beside the package's network, the merge of one of 69
million parameters is timed: LoRA-IR's shapes, with random weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

from tqdm import tqdm

from uir.runtime.backends.devices import DEVICES
from uir.runtime.composition import Composition
from uir.runtime.errors import UsageError
from uir.runtime.factors import Adapter
from uir.runtime.merge import Weights, merge
from uir.runtime.package import Package
from uir.tools.bench import lorair
from uir.tools.bench.options import add_package_option, add_size_option
from uir.tools.bench.report import Report, Table, median
from uir.tools.bench.switching import Switching, SwitchTimes, seconds_of
from uir.tools.scratch import scratch_folder

RUNS, MOST_RUNS = 7, 100


@dataclass(frozen=True)
class MergeTimes:
    """The base's size, the median of the merge in seconds, and what a switch takes, unless only the merge was timed."""

    parameters: int
    merge: float
    switch: SwitchTimes | None = None


def add_options(command: argparse.ArgumentParser) -> None:
    """The benchmark's options."""
    add_package_option(command)
    add_size_option(command)
    command.add_argument("--device", choices=DEVICES, help="default: $UIR_DEVICE, or else auto")
    command.add_argument(
        "--runs", type=int, default=RUNS, metavar="N", help="of each time's median (default: %(default)s)"
    )


def measure(options: argparse.Namespace) -> Report:
    """Run the benchmark.

    Raises:
        UirError: the options make no sense, the package cannot be read, or the device cannot be used.
    """
    if not 1 <= options.runs <= MOST_RUNS:
        raise UsageError(f"--runs {options.runs}: must be from 1 to {MOST_RUNS}")
    package = Package(options.package)
    compositions = [c for key in package.manifest.compositions if (c := Composition.parse(key)).items]
    if not compositions:
        raise UsageError(f"{options.package}: lists no composition of adapters; export it again, with adapters")
    large_base, large_adapters = lorair.random_network()
    large_compositions = [Composition.equal_mix(list(large_adapters)[:count]) for count in (1, len(large_adapters))]

    ours: dict[str, MergeTimes] = {}
    large: dict[str, MergeTimes] = {}
    with (
        scratch_folder() as folder,
        tqdm(total=len(compositions) + len(large_compositions), unit="composition", disable=None) as bar,
    ):
        switching = Switching(package, options.device, options.size, Path(folder))
        base = package.base_weights
        for composition in compositions:
            adapters = {name: package.adapter(name) for name, _ in composition.items}
            seconds = _time_merge(base, adapters, composition, options.runs)
            switch = switching.time(composition, seconds, options.runs)
            ours[composition.key] = MergeTimes(_parameters(base), seconds, switch)
            bar.update()
        for composition in large_compositions:
            seconds = _time_merge(large_base, large_adapters, composition, options.runs)
            large[composition.key] = MergeTimes(_parameters(large_base), seconds)
            bar.update()

    settings = {
        "package": str(options.package),
        "runs": options.runs,
        "size": f"{options.size[0]}x{options.size[1]}",
        "engine": switching.restorer.describe(),
    }
    tables, notes = _tables(package.manifest.base.name, ours, large, options.runs)
    return Report(settings, {"package": ours, "lora_ir_shapes": large}, tables, notes)


def _time_merge(base: Weights, adapters: Mapping[str, Adapter], composition: Composition, runs: int) -> float:
    return median([seconds_of(partial(merge, base, adapters, composition)) for _ in range(runs)])


def _parameters(weights: Weights) -> int:
    return sum(weight.size for weight in weights.values())


def _tables(
    base: str, ours: Mapping[str, MergeTimes], large: Mapping[str, MergeTimes], runs: int
) -> tuple[list[Table], list[str]]:
    rows = [
        [key, network, f"{times.parameters / 1e6:.1f} M", f"{times.merge * 1e3:.1f}"]
        for network, found in ((base, ours), ("LoRA-IR's shapes", large))
        for key, times in found.items()
    ]
    merging = Table(
        f"Merging, milliseconds, medians of {runs}", ["composition", "network", "parameters", "merge"], rows
    )
    switches = {key: times.switch for key, times in ours.items() if times.switch}
    rows = [
        [
            key,
            *(f"{seconds * 1e3:.1f}" for seconds in (ours[key].merge, s.model, s.build, s.load, s.new)),
            f"{s.known * 1e3:.3f}",
            *(f"{seconds * 1e3:.1f}" for seconds in (s.first_frame, s.frame)),
        ]
        for key, s in switches.items()
    ]
    columns = ["composition", "merge", "model", "compile", "load", "to new", "to known", "first frame", "frame"]
    title = f"Switching, milliseconds, medians of {runs}; to new: merge, model, compile, load, and keeping it on disk"
    return [merging, Table(title, columns, rows)], [_dominant(ours)]


def _dominant(ours: Mapping[str, MergeTimes]) -> str:
    """What a switch to a new composition spends its time on."""
    switches = [(times.merge, times.switch) for times in ours.values() if times.switch]
    parts = {
        "the merge": fmean(merging for merging, _ in switches),
        "the model": fmean(s.model for _, s in switches),
        "compiling": fmean(s.build for _, s in switches),
        "loading": fmean(s.load for _, s in switches),
    }
    name = max(parts, key=lambda part: parts[part])
    whole = fmean(s.new for _, s in switches)
    return f"Of a switch to a new composition, {name} takes most: {parts[name] * 1e3:.0f} of {whole * 1e3:.0f} ms."
