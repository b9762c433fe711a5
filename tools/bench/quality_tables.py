"""The quality benchmark's numbers as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from uir.tools.bench.cases import ADAPTER, BASE, INPUT, MEAN, MIX, Scores
from uir.tools.bench.metrics import Score, mean
from uir.tools.bench.report import Table


def singles_table(found: Mapping[str, Scores], clean: Mapping[str, Score]) -> Table:
    methods = (INPUT, BASE, ADAPTER)
    columns = ["degradation", "severity", *methods, "over input", "over base", *(f"{m} SSIM" for m in methods), "clean"]

    def row(name: str, severity: str, at: Mapping[str, Score], untouched: str = "") -> list[str]:
        psnr = {method: at[method].psnr for method in methods}
        gains = [f"{psnr[ADAPTER] - psnr[other]:+.2f}" for other in (INPUT, BASE)]
        values = [f"{psnr[method]:.2f}" for method in methods]
        return [name, severity, *values, *gains, *(f"{at[method].ssim:.4f}" for method in methods), untouched]

    rows = []
    for name, scores in found.items():
        rows += [row(name, severity, at) for severity, at in scores.items() if severity != MEAN]
        rows.append(row(name, MEAN, scores[MEAN], f"{clean[name].psnr:.2f}"))
    overall = {method: mean([scores[MEAN][method] for scores in found.values()]) for method in methods}
    rows.append(row("all", MEAN, overall, f"{mean([clean[name] for name in found]).psnr:.2f}"))
    return Table("Each adapter on its own degradation, and on clean photos (PSNR in dB where not SSIM)", columns, rows)


def pairs_table(mixed: Mapping[str, Scores]) -> Table:
    columns = [
        "pair",
        "severity",
        INPUT,
        "best single",
        MIX,
        "over single",
        "input SSIM",
        "best single SSIM",
        "mix SSIM",
    ]
    rows = [_pair_row(pair, severity, at) for pair, scores in mixed.items() for severity, at in scores.items()]
    return Table("Half-and-half mixes on photos with both degradations (PSNR in dB where not SSIM)", columns, rows)


def _pair_row(pair: str, severity: str, at: Mapping[str, Score]) -> list[str]:
    """The better single adapter is chosen for each measure by itself, which is the harder test for the mix."""
    singles: Sequence[str] = [name for name in at if name not in (INPUT, MIX)]
    nearest = max(singles, key=lambda name: at[name].psnr)
    likest = max(singles, key=lambda name: at[name].ssim)
    return [
        pair,
        severity,
        f"{at[INPUT].psnr:.2f}",
        f"{nearest} {at[nearest].psnr:.2f}",
        f"{at[MIX].psnr:.2f}",
        f"{at[MIX].psnr - at[nearest].psnr:+.2f}",
        f"{at[INPUT].ssim:.4f}",
        f"{likest} {at[likest].ssim:.4f}",
        f"{at[MIX].ssim:.4f}",
    ]
