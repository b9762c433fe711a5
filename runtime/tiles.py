"""Tiles: frames too large for the memory limit, restored piece by piece without seams.

An output pixel looks no farther than the receptive radius of the network. A tile that reaches that much beyond the
part that is kept of it gives exactly what the whole frame would give, so the overlap is that radius and no blending
is needed. Windows start at multiples of the network's coarsest cell, so that its grid is the same in every tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uir.runtime.errors import PackageError

Frame = NDArray[np.uint8]


_ALIKE = 2
"""Codes: rounding may differ from place to place on some devices, and what a window lacks shows by more."""


@dataclass(frozen=True)
class Grid:
    """A frame's division along both axes into windows of one size.

    Attributes:
        rows, columns: how many windows down and across.
        height, width: size of a window, pixels.
    """

    rows: int
    columns: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        """Pixels that are computed in all, overlaps counted twice."""
        return self.rows * self.columns * self.height * self.width


def plan(height: int, width: int, *, multiple: int, overlap: int, max_pixels: int, max_side: int | None = None) -> Grid:
    """The cheapest grid whose windows have at most `max_pixels`, or the smallest windows there are.

    Args:
        height, width: the padded frame's, both multiples of `multiple`.
        overlap: how far a window reaches beyond what is kept of it, pixels; a multiple of `multiple`.
        max_side: no side of a window is longer, pixels; None for no such limit.
    """
    down, across = (_divisions(length, multiple, overlap) for length in (height, width))
    grids = [Grid(rows, columns, h, w) for rows, h in down for columns, w in across]
    fitting = [
        grid
        for grid in grids
        if grid.height * grid.width <= max_pixels and (max_side is None or max(grid.height, grid.width) <= max_side)
    ]
    if not fitting:
        return min(grids, key=lambda grid: grid.height * grid.width)
    return min(fitting, key=lambda grid: (grid.pixels, grid.rows * grid.columns))


def _divisions(length: int, multiple: int, overlap: int) -> list[tuple[int, int]]:
    """(count, window) for one axis, from one window to the most that still gain."""
    divisions = [(1, length)]
    for count in range(2, (length - 2 * overlap) // multiple + 1):
        core = _core(length, count, multiple, overlap)
        if core + 2 * overlap < divisions[-1][1]:
            divisions.append((math.ceil((length - 2 * overlap) / core), core + 2 * overlap))
    return divisions


def _core(length: int, count: int, multiple: int, overlap: int) -> int:
    """How far apart `count` windows of one axis start.

    The overlap of the first at one edge and of the last at the other is kept too: nothing lies beyond an edge. So
    the windows divide what is between these.
    """
    return multiple * math.ceil((length - 2 * overlap) / count / multiple)


def restore_tiled(
    frame: Frame, run: Callable[[Frame], Frame], grid: Grid, *, multiple: int, overlap: int, exact: bool = False
) -> Frame:
    """Run each window of a padded H x W x 3 frame and put the kept parts together.

    Args:
        run: N x h x w x 3 to the same shape.
        exact: what two windows make of the pixels beside their seam must agree.

    Raises:
        PackageError: they do not, so that the overlap is too small for the network.
    """
    height, width = frame.shape[:2]
    if grid.rows == grid.columns == 1:
        whole: Frame = run(frame[None])[0]
        return whole
    result = np.empty_like(frame)
    for top, (y0, y1) in _spans(height, grid.rows, grid.height, multiple, overlap):
        for left, (x0, x1) in _spans(width, grid.columns, grid.width, multiple, overlap):
            window = np.ascontiguousarray(frame[top : top + grid.height, left : left + grid.width])
            restored = run(window[None])[0]
            if exact:
                _check_seams(result, restored, (y0, y1), (x0, x1), top, left)
            result[y0:y1, x0:x1] = restored[y0 - top : y1 - top, x0 - left : x1 - left]
    return result


def _check_seams(
    result: Frame, restored: Frame, rows: tuple[int, int], columns: tuple[int, int], top: int, left: int
) -> None:
    """Hold a window against those before it, in the last row and column that these have kept."""
    (y0, y1), (x0, x1) = rows, columns
    pairs = []
    if y0:
        pairs.append((result[y0 - 1, x0:x1], restored[y0 - 1 - top, x0 - left : x1 - left]))
    if x0:
        pairs.append((result[y0:y1, x0 - 1], restored[y0 - top : y1 - top, x0 - 1 - left]))
    apart = max((int(np.abs(one.astype(np.int16) - other).max()) for one, other in pairs), default=0)
    if apart > _ALIKE:
        raise PackageError(
            f"manifest.json: frame.overlap is too small for the network (two tiles make pixels that differ by {apart} "
            "codes where they join); export the package again, or allow more memory, so that frames need no tiles"
        )


def _spans(length: int, count: int, window: int, multiple: int, overlap: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """For each window of one axis, its start and the span that is kept of it.

    The last is moved inwards rather than cut, so that all have one size and one memory plan.
    """
    core = _core(length, count, multiple, overlap)
    kept = 0
    for index in range(count):
        end = length if index == count - 1 else (index + 1) * core + overlap
        yield min(index * core, length - window), (kept, end)
        kept = end
