"""The quality benchmark's numbers as tables, and what they come to in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from uir.runtime.composition import Composition
from uir.tools.bench.cases import ADAPTER, BASE, FULL, INPUT, MEAN, MIX, PEER, SIGMA, Scores
from uir.tools.bench.foreign import LEVELS, ForeignScores
from uir.tools.bench.metrics import Score, mean
from uir.tools.bench.oracle import ORACLE
from uir.tools.bench.peers import PEERS
from uir.tools.bench.report import Table

At = Mapping[str, Score]
"""Scores by method."""


@dataclass(frozen=True)
class Measure:
    """One number of a score, and how it is shown."""

    name: str
    unit: str
    of: Callable[[Score], float]
    digits: int

    @property
    def title(self) -> str:
        """Name and unit: `PSNR in dB`."""
        return f"{self.name} in {self.unit}" if self.unit else self.name

    def shown(self, at: At, method: str) -> str:
        """A method's number, or a dash where it was not tried."""
        return f"{self.of(at[method]):.{self.digits}f}" if method in at else "-"

    def gain(self, at: At, method: str, over: str) -> str:
        """One method's number less the other's, with its sign."""
        return f"{self.over(at, method, over):+.{self.digits}f}" if method in at and over in at else "-"

    def over(self, at: At, method: str, other: str) -> float:
        """One method's number less the other's."""
        return self.of(at[method]) - self.of(at[other])

    def best(self, at: At, methods: Iterable[str]) -> str:
        """The method that does best."""
        return max(methods, key=lambda name: self.of(at[name]))


PSNR = Measure("PSNR", "dB", lambda score: score.psnr, 2)
SSIM = Measure("SSIM", "", lambda score: score.ssim, 4)
MEASURES = (PSNR, SSIM)


@dataclass(frozen=True)
class Results:
    """All that was measured.

    Attributes:
        degradations: by adapter.
        gaussian: against Gaussian noise of sigma 25; empty where there is no adapter for noise.
        clean: what is left of clean photos by adapter, and by the base alone as `base`.
        pairs: by the pair's name, `rain+haze`.
        foreign: the operators of other libraries.
    """

    degradations: Mapping[str, Scores]
    gaussian: At
    clean: At
    pairs: Mapping[str, Scores]
    foreign: Sequence[ForeignScores]


def tables(results: Results) -> list[Table]:
    """What there is to show, in order."""
    shown = [_singles(results, measure) for measure in MEASURES] + [_clean(results.clean)]
    if results.pairs:
        shown += [_pairs(results.pairs, measure) for measure in MEASURES]
    return shown + ([_foreign(results.foreign)] if results.foreign else [])


def notes(results: Results) -> list[str]:
    """What the tables come to."""
    titles = [f"{name}: {PEERS[name].title}" for name in results.degradations if name in PEERS]
    singles = [
        (f"{name} {severity}", at)
        for name, scores in results.degradations.items()
        for severity, at in scores.items()
        if severity != MEAN
    ]
    found = [f"Peers: {'; '.join(titles)}."] if titles else []
    found.append(_worse("Adapters below their input", singles))
    if results.pairs:
        found.append(_gain_of_mixes(results.pairs))
    if results.foreign:
        operators = [(f"{each.library}.{each.operator}", each.scores[MEAN]) for each in results.foreign]
        found.append(_worse("Other libraries' pictures made worse, at the mean of their levels", operators))
    return found


def _singles(results: Results, measure: Measure) -> Table:
    found = results.degradations
    tried = {name for scores in found.values() for name in scores[MEAN]}
    methods = [name for name in (INPUT, BASE, PEER, FULL, ADAPTER) if name in tried]
    others = [name for name in methods if name != ADAPTER]

    def row(name: str, severity: str, at: At) -> list[str]:
        gains = [measure.gain(at, ADAPTER, other) for other in others]
        return [name, severity, *(measure.shown(at, method) for method in methods), *gains]

    rows = [row(name, severity, at) for name, scores in found.items() for severity, at in scores.items()]
    everywhere = [method for method in methods if all(method in scores[MEAN] for scores in found.values())]
    rows.append(
        row("all", MEAN, {each: mean([scores[MEAN][each] for scores in found.values()]) for each in everywhere})
    )
    if results.gaussian:
        rows.append(row("Gaussian noise", f"sigma {SIGMA:g}", results.gaussian))
    columns = ["degradation", "severity", *methods, *(f"over {other}" for other in others)]
    return Table(f"Each adapter on its own degradation: {measure.title}", columns, rows)


def _clean(clean: At) -> Table:
    means = {**clean, "all adapters": mean([score for name, score in clean.items() if name != BASE])}
    rows = [[name, *(measure.shown(means, name) for measure in MEASURES)] for name in means]
    return Table("Clean photos through each adapter", ["adapter", *(measure.title for measure in MEASURES)], rows)


def _pairs(mixed: Mapping[str, Scores], measure: Measure) -> Table:
    """The better adapter is chosen for each row and each measure by itself, which is the harder test for the mix. So
    are the best fixed weights.
    """
    oracle = any(ORACLE in scores[MEAN] for scores in mixed.values())

    def row(pair: str, severity: str, at: At) -> list[str]:
        single = measure.best(at, pair.split("+"))
        cells = [measure.shown(at, INPUT), f"{single} {measure.shown(at, single)}", measure.shown(at, MIX)]
        cells.append(measure.gain(at, MIX, single))
        if oracle:
            fixed = measure.best(at, (name for name in at if name not in (INPUT, ORACLE)))
            key = Composition.equal_mix(pair.split("+")).key if fixed == MIX else fixed
            cells += [f"{key} {measure.shown(at, fixed)}", measure.shown(at, ORACLE), measure.gain(at, MIX, ORACLE)]
        return [pair, severity, *cells]

    rows = [row(pair, severity, at) for pair, scores in mixed.items() for severity, at in scores.items()]
    columns = ["pair", "severity", INPUT, "best single", MIX, "over single"]
    columns += ["best fixed weights", ORACLE, "over oracle"] if oracle else []
    return Table(f"Half-and-half mixes on photos with both degradations: {measure.title}", columns, rows)


def _gain_of_mixes(mixed: Mapping[str, Scores]) -> str:
    """How far the mixes lie above the better adapter alone, over all pairs."""
    gains = {
        measure.name: [
            measure.over(scores[MEAN], MIX, measure.best(scores[MEAN], pair.split("+")))
            for pair, scores in mixed.items()
        ]
        for measure in MEASURES
    }
    means = [f"{sum(gains[m.name]) / len(mixed):+.{m.digits}f} {m.unit or m.name}" for m in MEASURES]
    wins = [f"by {name} in {sum(gain > 0 for gain in each)}" for name, each in gains.items()]
    either = sum(max(gain) > 0 for gain in zip(*gains.values(), strict=True))
    return (
        f"Mixes over the better adapter alone, mean of {len(mixed)} pairs: {', '.join(means)}; better "
        f"{', '.join(wins)}, by either in {either} of {len(mixed)}."
    )


def _foreign(found: Sequence[ForeignScores]) -> Table:

    def row(each: ForeignScores) -> list[str]:
        at = each.scores[MEAN]
        gains = [PSNR.gain(each.scores[f"{level:g}"], ADAPTER, INPUT) for level in LEVELS]
        cells = [[m.shown(at, INPUT), m.shown(at, ADAPTER), m.gain(at, ADAPTER, INPUT)] for m in MEASURES]
        return [each.library, each.operator, each.adapter, *cells[0], *gains, *cells[1]]

    columns = ["library", "operator", "by adapter", INPUT, ADAPTER, "gain", *(f"gain at {level}" for level in LEVELS)]
    columns += [f"{name} SSIM" for name in (INPUT, ADAPTER, "gain")]
    title = "Degradations by other libraries (PSNR in dB where not SSIM)"
    return Table(title, columns, [row(each) for each in found])


def _worse(what: str, entries: Iterable[tuple[str, At]]) -> str:
    """Where the adapter leaves less than it was given, by either measure.

    Args:
        entries: what each is called, and its scores.
    """
    listed = list(entries)
    parts = []
    for measure in MEASURES:
        names = [
            f"{name} ({measure.gain(at, ADAPTER, INPUT)})"
            for name, at in listed
            if measure.over(at, ADAPTER, INPUT) < 0
        ]
        parts.append(f"by {measure.name} {', '.join(names) or 'none'}")
    return f"{what}: {'; '.join(parts)}."
