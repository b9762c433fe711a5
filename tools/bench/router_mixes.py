"""What the router's weights are worth: degraded pictures restored by them, by fixed mixes, and by the best of all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uir.runtime.composition import Composition
from uir.runtime.restorer import Restorer
from uir.runtime.router import Router
from uir.tools.bench.cases import INPUT, PAIRS, Case, by, degrading, measure_case
from uir.tools.bench.metrics import Frame
from uir.tools.bench.report import Table
from uir.tools.bench.sample import Method, Sample

TRIPLES = (("rain", "haze", "lowlight"), ("noise", "jpeg", "blur"), ("snow", "haze", "lowlight"))

SINGLE, UNIFORM, ROUTED, ORACLE = "best single", "uniform", "by router", "oracle"
METHODS = (INPUT, SINGLE, UNIFORM, ROUTED, ORACLE)

STEPS = {2: 8, 3: 4}
"""Of the oracle's grid, by the number of adapters: weights are multiples of one over this that sum to one."""


@dataclass(frozen=True)
class Mix:
    """Mean PSNR, dB, of one set of degradations, all severities together.

    Attributes:
        psnr: by method. `best single` is the adapter that is best on the mean, `oracle` the best of the grid for each
            picture by itself, for which one must know the truth.
    """

    names: tuple[str, ...]
    psnr: Mapping[str, float]


def mix_cases(restorer: Restorer, router: Router, severities: Sequence[float]) -> list[Case]:
    """The pairs and triples whose adapters the package has, each with every mix of the grid and with the router's."""
    return [
        Case("+".join(names), degrading(*names), severities, _methods(restorer, router, names))
        for names in (*PAIRS, *TRIPLES)
        if set(names) <= set(restorer.adapters)
    ]


def pictures(case: Case) -> int:
    """How many pictures of each photo a case compares."""
    return len(case.levels) * (1 + len(case.methods))


def grid(names: Sequence[str]) -> list[Composition]:
    """All mixes of the oracle's grid, those of fewer adapters and the uniform one among them."""
    steps = STEPS[len(names)]
    parts = itertools.product(range(steps + 1), repeat=len(names))
    mixes = [
        Composition.of({name: part / steps for name, part in zip(names, each, strict=True)})
        for each in parts
        if sum(each) == steps
    ]
    return list(dict.fromkeys([*mixes, Composition.equal_mix(names)]))


def measure_mix(case: Case, photos: Iterable[tuple[Path, Frame]], seed: int, done: Callable[[int], object]) -> Mix:
    """Restore each photo at each severity by every method of a case."""
    names = tuple(case.name.split("+"))
    levels = measure_case(case, photos, seed, done).values()
    scores = {method: [score.psnr for level in levels for score in level[method]] for method in (INPUT, *case.methods)}
    means = {method: math.fsum(found) / len(found) for method, found in scores.items()}
    tried = [scores[mix.key] for mix in grid(names)]
    best = [max(of_one) for of_one in zip(*tried, strict=True)]
    return Mix(
        names,
        {
            INPUT: means[INPUT],
            SINGLE: max(means[name] for name in names),
            UNIFORM: means[Composition.equal_mix(names).key],
            ROUTED: means[ROUTED],
            ORACLE: math.fsum(best) / len(best),
        },
    )


def mix_table(mixes: Sequence[Mix]) -> Table:
    """A row for each set of degradations, and one for the mean of them all."""
    means = {method: math.fsum(mix.psnr[method] for mix in mixes) / len(mixes) for method in METHODS}
    listed = [*mixes, Mix(("mean",), means)]
    rows = [
        [
            "+".join(mix.names),
            *(f"{mix.psnr[method]:.2f}" for method in METHODS),
            f"{mix.psnr[ROUTED] - mix.psnr[UNIFORM]:+.2f}",
            f"{mix.psnr[ROUTED] - mix.psnr[ORACLE]:+.2f}",
        ]
        for mix in listed
    ]
    columns = ["degradations", *METHODS, "over uniform", "over oracle"]
    return Table("What the router's weights are worth: PSNR in dB", columns, rows)


def _methods(restorer: Restorer, router: Router, names: Sequence[str]) -> dict[str, Method]:
    def routed(sample: Sample) -> Frame:
        return restorer(sample.degraded, router.weigh(router.look(sample.degraded)))

    return {**{mix.key: by(restorer, mix) for mix in grid(names)}, ROUTED: routed}
