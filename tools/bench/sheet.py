"""The contact sheet: a row for each case, to be looked at, since no number sees a colour cast."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from uir.runtime.atomic import atomic_output, check_destination
from uir.runtime.errors import UsageError
from uir.tools.bench.cases import Case
from uir.tools.bench.metrics import Frame, score

WIDTH = 480  # pixels, of one picture
STRIP = 24  # pixels, of the caption above it
GAP = 4

Row = list[tuple[str, Frame]]
"""Captioned pictures of one size."""


def check_sheet(path: Path, *, overwrite: bool) -> None:
    """Refuse early what `write_sheet` would.

    Raises:
        UsageError: the file is not to be a PNG.
        OutputError: it exists, or cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"--sheet {path}: a contact sheet is a .png file; give such a name")
    check_destination(path, overwrite=overwrite)


def sheet_row(case: Case, photo: Path, clean: Frame, seed: int) -> Row:
    """A photo clean, degraded at the middle level, and restored by each of the case's methods, with their PSNR."""
    sample = case.sample(clean, photo, case.levels[len(case.levels) // 2], seed)
    results = {f"{case.name} {sample.level:g}": sample.degraded}
    results |= {name: method(sample) for name, method in case.methods.items()}
    row = [(photo.stem, clean)]
    return row + [(f"{name}: {score(clean, frame).psnr:.1f} dB", frame) for name, frame in results.items()]


def write_sheet(path: Path, rows: Sequence[Row], *, overwrite: bool) -> None:
    """Draw the rows below each other and write them as PNG.

    Raises:
        OutputError: the file exists, or cannot be written.
    """
    drawn = [_draw(row) for row in rows]
    width = max(row.shape[1] for row in drawn)
    sheet = np.vstack([cv2.copyMakeBorder(row, 0, GAP, 0, width - row.shape[1], cv2.BORDER_CONSTANT) for row in drawn])
    _, encoded = cv2.imencode(".png", sheet[..., ::-1])
    with atomic_output(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(encoded.tobytes())


def _draw(row: Row) -> Frame:
    cells = []
    for caption, frame in row:
        height = max(1, round(frame.shape[0] * WIDTH / frame.shape[1]))
        shrinks = frame.shape[1] > WIDTH
        picture = cv2.resize(frame, (WIDTH, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
        cell = cv2.copyMakeBorder(picture, STRIP, 0, 0, GAP, cv2.BORDER_CONSTANT)
        cv2.putText(cell, caption, (4, STRIP - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        cells.append(cell)
    return np.hstack(cells)
