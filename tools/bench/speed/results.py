"""The rows and the limits, for programs, as tables and as a plot."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from uir.tools.bench.plots import save_plot
from uir.tools.bench.report import Table
from uir.tools.bench.speed.limits import WIDTHS, Limits
from uir.tools.bench.work import Work

OURS = "ours"
SHORT = 60  # characters
LEAST = "the machine's peak in its type"


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        kind: the type that it multiplies in, where the limit in that type is looked for.
        seconds: of a frame, the median.
        quartiles: the lower and the upper one, seconds.
        samples: how many it is the median of.
        speedup: how many times as fast as the first row that ran.
        share: of the machine's peak in its type.
        psnr: of its frame against exact float32's, dB, at most 100; None where the row shows no frame.
        failure: why there is nothing.
    """

    name: str
    title: str
    kind: str | None
    seconds: float | None = None
    quartiles: tuple[float, float] | None = None
    samples: int = 0
    speedup: float | None = None
    share: float | None = None
    psnr: float | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Bound:
    """What the machine's limits make of the network's work in one type.

    Attributes:
        peak: operations a second.
        seconds: of the arithmetic at that peak: no engine of this type is faster.
        nbytes: of weights and activations, where no cache keeps any.
        moving: seconds that moving these takes at the bandwidth of a copy.
    """

    peak: float
    seconds: float
    nbytes: int
    moving: float | None


def bounds(work: Work, limits: Limits) -> dict[str, Bound]:
    """The bounds by type."""
    found = {}
    for kind, peak in limits.peaks.items():
        nbytes = work.nbytes(WIDTHS[kind])
        moving = nbytes / limits.bandwidth if limits.bandwidth else None
        found[kind] = Bound(peak, work.flops / peak, nbytes, moving)
    return found


def measured_row(row: Row, times: Sequence[float], first: float, bound: Bound | None) -> Row:
    """A row with its numbers.

    Args:
        times: seconds; not empty.
        first: the median of the row that others are compared with.
    """
    middle = statistics.median(times)
    low, _, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else (middle,) * 3
    return replace(
        row,
        seconds=middle,
        quartiles=(low, high),
        samples=len(times),
        speedup=first / middle,
        share=bound.seconds / middle if bound else None,
    )


def tables(rows: Sequence[Row], found: dict[str, Bound], limits: Limits) -> list[Table]:
    """The two tables: rows and limits."""
    columns = ["", "type", "ms", "quartiles", "speed-up", "of peak", "dB to fp32", ""]
    shown = Table("One frame, milliseconds, medians of turns", columns, [_cells(row) for row in rows])
    if not found:
        return [shown]
    lines = [
        [
            kind,
            f"{each.peak / 1e9:.0f}",
            f"{each.seconds * 1e3:.1f}",
            f"{each.nbytes / 1e6:.1f}",
            "-" if each.moving is None else f"{each.moving * 1e3:.1f}",
        ]
        for kind, each in found.items()
    ]
    title = f"The machine's limits (a copy moves {(limits.bandwidth or 0) / 1e9:.1f} GB/s)"
    header = ["type", "peak GFLOP/s", "network at it, ms", "MB moved", "moving, ms"]
    return [shown, Table(title, header, lines)]


def long_failures(rows: Sequence[Row]) -> list[str]:
    """Why rows failed, where that takes more than the table's last column has."""
    return [f"{row.title}: {row.failure}" for row in rows if row.failure and len(row.failure) > SHORT]


def _cells(row: Row) -> list[str]:
    if row.seconds is None or row.quartiles is None:
        failure = row.failure or ""
        return [row.title, row.kind or "-", *("-",) * 5, failure if len(failure) <= SHORT else "see below"]
    low, high = row.quartiles
    return [
        row.title,
        row.kind or "-",
        f"{row.seconds * 1e3:.1f}",
        f"{low * 1e3:.1f} to {high * 1e3:.1f}",
        "-" if row.speedup is None else f"{row.speedup:.2f}",
        "-" if row.share is None else f"{row.share:.0%}",
        "-" if row.psnr is None else f"{row.psnr:.1f}",
        "",
    ]


def write_plot(path: Path, title: str, rows: Sequence[Row], found: dict[str, Bound], *, overwrite: bool) -> None:
    """Draw the rows that ran as bars, each with the least time that its type's peak allows, and write them as PNG.

    Raises:
        OutputError: the file exists, or cannot be written.
    """
    from matplotlib.figure import Figure

    ran = [row for row in rows if row.seconds is not None]
    figure = Figure(figsize=(9, 1.2 + 0.36 * len(ran)), layout="constrained")
    axes = figure.add_subplot()
    times = [1e3 * (row.seconds or 0) for row in ran]
    colours = ["tab:blue" if row.title.startswith(OURS) else "tab:gray" for row in ran]
    bars = axes.barh([row.title for row in ran], times, color=colours)
    labels = [f"{time:.1f} ms, {row.speedup or 0:.1f} x" for time, row in zip(times, ran, strict=True)]
    axes.bar_label(bars, labels, padding=4, fontsize=8)
    for place, row in enumerate(ran):
        if row.kind in found:
            least = 1e3 * found[row.kind].seconds
            axes.plot(
                [least, least], [place - 0.4, place + 0.4], color="tab:red", label="the machine's peak in its type"
            )
    handles, names = axes.get_legend_handles_labels()
    if handles:
        axes.legend(handles[:1], names[:1], loc="lower right", fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_xlabel("milliseconds a frame, median")
    axes.set_title(title, fontsize=9)
    save_plot(path, figure, overwrite=overwrite)
