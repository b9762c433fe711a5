"""The numbers of sets of pictures as tables, and what they come to in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from uir.runtime.decision import CLEAN_NAME
from uir.tools.bench.cases import INPUT
from uir.tools.bench.public_scores import AUTOMATIC, HARM, CleanScores, PublicResults, SetScores
from uir.tools.bench.quality_tables import MEASURES, PSNR, Measure
from uir.tools.bench.report import Table


def tables(results: PublicResults) -> list[Table]:
    """What there is to show, in order."""
    shown = [_sets(results.sets, measure) for measure in MEASURES] + [_luma(results.sets)] if results.sets else []
    return shown + ([_clean(results.clean)] if results.clean else [])


def notes(results: PublicResults) -> list[str]:
    """Where automatic mode does harm."""
    if not results.sets:
        return []
    parts = []
    for measure in MEASURES:
        names = [
            f"{each.name} ({measure.gain(each.means, AUTOMATIC, INPUT)})"
            for each in results.sets
            if measure.over(each.means, AUTOMATIC, INPUT) < 0
        ]
        parts.append(f"by {measure.name} {', '.join(names) or 'none'}")
    return [f"Automatic mode below its input, on the mean: {'; '.join(parts)}."]


def _sets(sets: Sequence[SetScores], measure: Measure) -> Table:
    """Where several adapters were tried, the best is shown: for each measure by itself."""

    def row(each: SetScores) -> list[str]:
        best = measure.best(each.means, each.adapters)
        changes = [each.changes[best], each.changes[AUTOMATIC]]
        cells = [measure.shown(each.means, INPUT), f"{best} {measure.shown(each.means, best)}"]
        cells += [measure.shown(each.means, AUTOMATIC), measure.gain(each.means, AUTOMATIC, INPUT)]
        cells += [f"{measure.of(change.worst):+.{measure.digits}f}" for change in changes]
        if measure is PSNR:
            cells += [f"{change.worse:.0%}" for change in changes]
        return [each.name, str(len(each.pictures)), *cells, _most(each.chosen, len(each.pictures))]

    columns = ["set", "pictures", INPUT, "adapter", AUTOMATIC, "change by it", "adapter's worst", "automatic's worst"]
    columns += ["worse by adapter", "by automatic"] if measure is PSNR else []
    worse = f" (worse: pictures that lost more than {HARM:g} dB)" if measure is PSNR else ""
    title = f"By the adapter and by automatic mode: {measure.title}{worse}"
    return Table(title, [*columns, "chosen most"], [row(each) for each in sets])


def _luma(sets: Sequence[SetScores]) -> Table:
    def row(each: SetScores) -> list[str]:
        best = max(each.adapters, key=lambda name: each.luma[name])
        return [each.name, f"{each.luma[INPUT]:.2f}", f"{best} {each.luma[best]:.2f}", f"{each.luma[AUTOMATIC]:.2f}"]

    title = "The same of the luma alone, as deraining is usually measured: PSNR in dB"
    return Table(title, ["set", INPUT, "adapter", AUTOMATIC], [row(each) for each in sets])


def _clean(sets: Sequence[CleanScores]) -> Table:
    def row(each: CleanScores) -> list[str]:
        changed = {"mean": each.changed, "worst": each.worst}
        at = {name: score for name, score in changed.items() if score is not None}
        cells = [measure.shown(at, name) for measure in MEASURES for name in changed]
        others = {name: count for name, count in each.chosen.items() if name != CLEAN_NAME}
        chosen = _most(others, len(each.pictures)) if others else "-"
        return [each.name, str(len(each.pictures)), f"{each.untouched:.1%}", *cells, chosen]

    columns = ["set", "pictures", "untouched", "PSNR of changed", "worst", "SSIM of changed", "worst", "chosen most"]
    return Table(
        "Clean pictures in automatic mode, and what it made of those it changed", columns, [row(s) for s in sets]
    )


def _most(chosen: Mapping[str, int], count: int) -> str:
    name = next(iter(chosen))
    return f"{name} {chosen[name] / count:.0%}"
