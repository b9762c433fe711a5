"""Draw every degradation at three severities, in photos of your own, on one sheet to look at.

Each cell is the middle of a degraded photo, pixel for pixel: shrunk, noise and blur would not show.

Example:
  python -m uir.tools.sheet docs/degradations.jpg harbour.png portrait.jpg
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.calibration.degradations import DEGRADATIONS
from uir.runtime.atomic import atomic_output, check_destination
from uir.runtime.console import run_command
from uir.runtime.errors import UsageError
from uir.tools.degrade import degrade_frame
from uir.tools.photos import read_photo

SEVERITIES = (0.3, 0.5, 0.8)
PHOTO = 380  # pixels, of the longer side that photos are reduced to
WIDTH, HEIGHT = 224, 152  # pixels, of a cell
NAMES, STRIP = 96, 22  # pixels, of the names at the left and the severities at the top
QUALITY = 75


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the sheet.

    Raises:
        UirError: a photo cannot be read or is too small, or the sheet cannot be written; nothing half-written is left.
    """
    command = argparse.ArgumentParser(
        prog="python -m uir.tools.sheet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("output", type=Path, metavar="OUTPUT.jpg", help="the sheet to write")
    command.add_argument("photos", type=Path, nargs="+", metavar="PHOTO", help="clean photos")
    command.add_argument("--seed", type=int, default=0, help="fixes everything random (default: %(default)s)")
    command.add_argument("--overwrite", action="store_true", help="replace an existing output")
    options = command.parse_args(arguments)
    if options.output.suffix.lower() not in (".jpg", ".jpeg"):
        raise UsageError(f"{options.output}: the sheet is a JPEG; give a name that ends in .jpg")
    check_destination(options.output, overwrite=options.overwrite)
    sheet = draw_sheet(options.photos, options.seed)
    _, encoded = cv2.imencode(".jpg", sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    with atomic_output(options.output, overwrite=options.overwrite) as temporary:
        temporary.write_bytes(encoded.tobytes())
    print(options.output)


def draw_sheet(photos: Sequence[Path], seed: int) -> NDArray[np.uint8]:
    """A row for each degradation in its physical order, and three cells a row for each photo: H x W x 3, RGB.

    Each photo has a seed of its own, counted from `seed`.

    Raises:
        UirError: a photo cannot be read or is smaller than a cell, or the seed is negative.
    """
    clean = [read_photo(path, PHOTO) for path in photos]
    for path, photo in zip(photos, clean, strict=True):
        if photo.shape[0] < HEIGHT or photo.shape[1] < WIDTH:
            raise UsageError(f"{path}: too small or too narrow; a cell shows {WIDTH} x {HEIGHT} pixels of {PHOTO}")
    columns = [(photo, severity, seed + n) for n, photo in enumerate(clean) for severity in SEVERITIES]
    head = [_label(f"{severity:g}", WIDTH, STRIP) for _, severity, _ in columns]
    rows = [np.hstack([_label("", NAMES, STRIP), *head])]
    for name in DEGRADATIONS:
        cells = [_middle(degrade_frame(photo, {name: severity}, own)) for photo, severity, own in columns]
        rows.append(np.hstack([_label(name, NAMES, HEIGHT), *cells]))
    return np.vstack(rows)


def _middle(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    top, left = (frame.shape[0] - HEIGHT) // 2, (frame.shape[1] - WIDTH) // 2
    return frame[top : top + HEIGHT, left : left + WIDTH]


def _label(text: str, width: int, height: int) -> NDArray[np.uint8]:
    """Dark text on white."""
    label = np.full((height, width, 3), 255, np.uint8)
    cv2.putText(label, text, (6, height // 2 + 6), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (30, 30, 30), 1, cv2.LINE_AA)
    return label


if __name__ == "__main__":
    sys.exit(run_command("uir.tools.sheet", main))
