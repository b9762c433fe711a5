"""What was measured: points, the straight lines through them, tables and the plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from uir.tools.bench.options import Size
from uir.tools.bench.plots import save_plot
from uir.tools.bench.report import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MIB = 2**20
TIME, MEMORY = "ms", "MiB"
BY_PIXELS, BY_COMPOSITIONS, BY_BATCH = "pixels", "compositions", "batch"
ALL = "all"


@dataclass(frozen=True)
class Growth:
    """What grows.

    Attributes:
        title: of it, in words.
        unit: of its amounts.
        free, bounded: points that no limit touches, and those beyond it.
    """

    title: str
    unit: str
    free: str
    bounded: str


GROWTHS = {
    BY_PIXELS: Growth("pixels of a frame", "megapixel", "whole", "in tiles"),
    BY_COMPOSITIONS: Growth("compositions in use", "composition", "all in memory", "beyond the budget"),
    BY_BATCH: Growth("frames given at once", "frame", "in one run", "one by one"),
}


@dataclass(frozen=True)
class Point:
    """What one process took.

    Attributes:
        label: the row's name.
        amount: of what grows: megapixels of a frame, compositions, or frames of a batch.
        size: width and height of a frame, pixels.
        compositions, frames: switched among, and given at once.
        tiles: of a frame, down and across.
        computed: pixels that are computed for each one of a frame: padding counts, and overlaps do twice.
        apart: the batch is beyond the memory limit, and its frames are restored one by one.
        seconds: of a call, all its frames; the median.
        switch: seconds of a switch to the next composition; the median.
        samples: calls that were timed.
        held: compositions that have an engine in memory at the end.
        counted: bytes that those engines say that they take.
        precision: that the frames are restored in.
        peak_bytes: the most resident memory of the process.
    """

    label: str
    amount: float
    size: Size
    compositions: int
    frames: int
    tiles: tuple[int, int]
    computed: float
    apart: bool
    seconds: float
    switch: float
    samples: int
    held: int
    counted: int
    precision: str
    peak_bytes: int

    @property
    def bounded(self) -> bool:
        """Whether a limit is reached: the frame is tiled, the batch taken apart, or engines are given up."""
        return self.tiles != (1, 1) or self.apart or self.held < self.compositions

    def value(self, quantity: str) -> float:
        """`TIME` of a call, or `MEMORY`."""
        return self.seconds * 1e3 if quantity == TIME else self.peak_bytes / MIB


@dataclass(frozen=True)
class Line:
    """The straight line of least squares through some points.

    Attributes:
        quantity: `TIME` of a call, milliseconds, or `MEMORY`, MiB.
        unit: of what grows.
        among: which points, in words.
        reach: the least and the greatest amount among them.
        points: how many.
        slope: of the quantity, for each unit.
        intercept: the quantity at 0.
        r2: the share of the quantity's variance that the line explains; None of two points, and where it is constant.
    """

    quantity: str
    unit: str
    among: str
    reach: tuple[float, float]
    points: int
    slope: float
    intercept: float
    r2: float | None


def lines(name: str, points: Sequence[Point]) -> list[Line]:
    """The lines through what no limit touches and what is beyond, since limits bend them, and through all times.

    Not through all where engines are given up: a frame beyond the budget is its engine's first, and slower.
    """
    growth = GROWTHS[name]
    parts = {
        growth.free: [point for point in points if not point.bounded],
        growth.bounded: [point for point in points if point.bounded],
    }
    wanted = [(quantity, among, part) for quantity in (TIME, MEMORY) for among, part in parts.items()]
    if all(parts.values()) and all(point.held == point.compositions for point in points):
        wanted.insert(2, (TIME, ALL, list(points)))
    return [line for each in wanted if (line := _line(growth.unit, *each))]


def _line(unit: str, quantity: str, among: str, points: Sequence[Point]) -> Line | None:
    """None where there are not two amounts."""
    amounts = np.array([point.amount for point in points])
    if len(set(amounts)) < 2:
        return None
    values = np.array([point.value(quantity) for point in points])
    slope, intercept = np.polyfit(amounts, values, 1)
    spread = float(((values - values.mean()) ** 2).sum())
    left = float(((values - slope * amounts - intercept) ** 2).sum())
    r2 = 1 - left / spread if len(points) > 2 and spread > 0 else None
    reach = float(amounts.min()), float(amounts.max())
    return Line(quantity, unit, among, reach, len(points), float(slope), float(intercept), r2)


def tables(found: Mapping[str, Sequence[Point]]) -> list[Table]:
    """The points by what grows, and the lines."""
    rows = [_point_cells(name, point) for name, points in found.items() for point in points]
    columns = ["", "ms a frame", "ms a megapixel", "switch ms", "peak MiB", "engines MiB", ""]
    drawn = [_line_cells(line) for name, points in found.items() for line in lines(name, points)]
    return [
        Table("Restoring, each row in a process of its own", columns, rows),
        Table("Straight lines through the rows", ["", "through", "rows", "slope", "at 0", "R^2"], drawn),
    ]


def _point_cells(name: str, point: Point) -> list[str]:
    width, height = point.size
    each = point.value(TIME) / point.frames
    rows, columns = point.tiles
    how = GROWTHS[name].bounded if point.bounded else GROWTHS[name].free
    if name == BY_PIXELS and point.bounded:
        how = f"{rows}x{columns} tiles, {point.computed:.2f} x the pixels"
    if name == BY_COMPOSITIONS and point.bounded:
        how = f"{point.held} in memory"
    return [
        point.label,
        f"{each:.1f}",
        f"{each / (width * height / 1e6):.1f}",
        f"{point.switch * 1e3:.3f}" if name == BY_COMPOSITIONS else "",
        f"{point.value(MEMORY):.0f}",
        f"{point.counted / MIB:.0f}",
        how,
    ]


def _line_cells(line: Line) -> list[str]:
    return [
        f"{line.quantity} a {line.unit}",
        line.among,
        str(line.points),
        f"{line.slope:.3f}",
        f"{line.intercept:.1f}",
        "-" if line.r2 is None else f"{line.r2:.4f}",
    ]


def write_plot(path: Path, title: str, found: Mapping[str, Sequence[Point]], *, overwrite: bool) -> None:
    """Draw time above memory for each thing that grows, with the lines, and write them as PNG.

    Raises:
        OutputError: the file exists, or cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.4), layout="constrained")
    above, below = figure.subplots(2, len(found))
    for name, time, memory in zip(found, above, below, strict=True):
        _draw(time, name, found[name], TIME)
        _draw(memory, name, found[name], MEMORY)
        memory.set_xlabel(GROWTHS[name].title + (", millions" if name == BY_PIXELS else ""))
        if name == BY_PIXELS:  # over two orders of magnitude
            time.set_xscale("log")
            time.set_yscale("log")
        for axes in (time, memory):
            if axes.get_yscale() == "linear":
                axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
    above[0].set_ylabel("milliseconds a call")
    below[0].set_ylabel("peak resident memory, MiB")
    figure.suptitle(title, fontsize=9)
    save_plot(path, figure, overwrite=overwrite)


def _draw(axes: Axes, name: str, points: Sequence[Point], quantity: str) -> None:
    """The points, hollow beyond a limit, over their lines."""
    furthest = max(point.amount for point in points)
    for line in lines(name, points):
        if line.quantity != quantity or line.among == ALL:
            continue
        low, high = line.reach
        places = np.linspace(low, high, 200)
        axes.plot(places, line.slope * places + line.intercept, color="tab:gray", linewidth=1)
        if quantity == TIME:  # on, to where there would be a limit
            places = np.linspace(high, furthest, 200)
            axes.plot(places, line.slope * places + line.intercept, ":", color="tab:gray", linewidth=1)
    for bounded, called in ((False, GROWTHS[name].free), (True, GROWTHS[name].bounded)):
        chosen = [point for point in points if point.bounded == bounded]
        if chosen:
            amounts, values = zip(*((point.amount, point.value(quantity)) for point in chosen), strict=True)
            fill = "none" if bounded else "full"
            axes.plot(amounts, values, "o", color="tab:blue", fillstyle=fill, label=called)
    axes.legend(loc="lower right", fontsize=8)
