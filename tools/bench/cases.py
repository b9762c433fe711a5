"""What the quality tables are made of: a case is one way of degrading photos and the methods tried against it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uir.calibration.degradations import DEGRADATIONS
from uir.runtime.composition import Composition
from uir.runtime.restorer import Restorer
from uir.tools.bench.metrics import Frame, Score, mean, score
from uir.tools.degrade import degrade_frame

Method = Callable[[Frame], Frame]
"""A restoration: degraded in, restored out."""

Scores = dict[str, dict[str, Score]]
"""By severity (`0.5`, and `mean` of them all), then by method (`input` and those of the case)."""

INPUT, BASE, ADAPTER, MIX = "input", "base", "adapter", "mix"
MEAN = "mean"


@dataclass(frozen=True)
class Case:
    """Some degradations, and what is tried against them.

    Attributes:
        name: the key of the composition that is meant for it.
        degradations: applied together, at one severity.
        methods: by name; the untouched input is compared as well.
    """

    name: str
    degradations: Sequence[str]
    methods: Mapping[str, Method]

    def degrade(self, clean: Frame, photo: Path, severity: float, seed: int) -> Frame:
        """A clean photo, degraded; it counts by its file's name, so that it looks the same among other photos."""
        entropy = [seed, zlib.crc32(photo.name.encode()), round(severity * 10_000)]
        drawn = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        return degrade_frame(clean, dict.fromkeys(self.degradations, severity), drawn)


def by(restorer: Restorer, composition: Composition) -> Method:
    """Restoration by one composition of the restorer's package."""

    def restore(frame: Frame) -> Frame:
        restorer.compose(composition)
        return restorer(frame)

    return restore


def single_cases(restorer: Restorer) -> list[Case]:
    """A case for each adapter that is named as a degradation is: the base alone and the adapter."""
    base = by(restorer, Composition())
    return [
        Case(name, [name], {BASE: base, ADAPTER: by(restorer, Composition.of({name: 1}))})
        for name in DEGRADATIONS
        if name in restorer.adapters
    ]


def pair_cases(restorer: Restorer) -> list[Case]:
    """A case for each pair of equal weights that the package lists: each adapter alone, by its name, and the mix."""
    cases = []
    for key in restorer.package.manifest.compositions:
        pair = Composition.parse(key)
        names = list(pair.weights)
        if len(names) == 2 and len(set(pair.weights.values())) == 1 and set(names) <= set(DEGRADATIONS):
            alone = {name: by(restorer, Composition.of({name: 1})) for name in names}
            cases.append(Case(key, names, {**alone, MIX: by(restorer, pair)}))
    return cases


def measure_case(
    case: Case,
    photos: Iterable[tuple[Path, Frame]],
    severities: Sequence[float],
    seed: int,
    done: Callable[[], object],
) -> Scores:
    """Mean scores of the input and of each method over the photos, at each severity and over all of them.

    Args:
        photos: paths and clean pictures.
        done: called after each photo at each severity.
    """
    names = (INPUT, *case.methods)
    found: dict[str, dict[str, list[Score]]] = {f"{s:g}": {name: [] for name in names} for s in severities}
    for photo, clean in photos:
        for severity in severities:
            degraded = case.degrade(clean, photo, severity, seed)
            results = found[f"{severity:g}"]
            results[INPUT].append(score(clean, degraded))
            for name, method in case.methods.items():
                results[name].append(score(clean, method(degraded)))
            done()
    scores = {severity: {name: mean(each) for name, each in results.items()} for severity, results in found.items()}
    return {**scores, MEAN: {name: mean([at[name] for at in scores.values()]) for name in names}}


def measure_clean(method: Method, photos: Iterable[Frame], done: Callable[[], object]) -> Score:
    """What a method leaves of pictures that nothing is wrong with."""
    scores = []
    for clean in photos:
        scores.append(score(clean, method(clean)))
        done()
    return mean(scores)
