"""Draw every member of every family of degradations, in photos of your own, on one sheet to look at.

Each cell is the middle of a degraded photo, pixel for pixel: shrunk, noise and blur would not show.

Example:
  python -m uir.tools.sheet docs/degradations.jpg harbour.png portrait.jpg
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.calibration.degradations import seed_for
from uir.calibration.degradations._common import check_seed
from uir.calibration.degradations.families import FAMILIES, Member, Scene
from uir.runtime.atomic import atomic_output, check_destination
from uir.runtime.console import run_command
from uir.runtime.errors import UsageError
from uir.tools.photos import read_photo

SEVERITY = 0.6
PHOTO = 380  # pixels, of the longer side that photos are reduced to
WIDTH, HEIGHT = 176, 120  # pixels, of a cell
NAMES, STRIP = 96, 22  # pixels, of the families' names at the left and the members' above their cells
COLUMNS = max(len(family) for family in FAMILIES.values())
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
    """A row for each family in its physical order, and in it a cell for each member, again and again: H x W x 3, RGB.

    The photos take turns along the cells, row after row; every cell has a seed of its own.

    Raises:
        UirError: a photo cannot be read or is smaller than a cell, or the seed is negative.
    """
    check_seed("sheet", seed)
    clean = [read_photo(path, PHOTO) for path in photos]
    for path, photo in zip(photos, clean, strict=True):
        if photo.shape[0] < HEIGHT or photo.shape[1] < WIDTH:
            raise UsageError(f"{path}: too small or too narrow; a cell shows {WIDTH} x {HEIGHT} pixels of {PHOTO}")
    rows: list[NDArray[np.uint8]] = []
    for name, family in FAMILIES.items():
        cells = []
        for column, (title, (_, member)) in enumerate(islice(cycle(family.items()), COLUMNS)):
            photo = clean[(len(rows) + column) % len(clean)]
            drawn = draw_cell(photo, member, seed_for(f"{name} {column}", seed))
            cells.append(np.vstack([_label(title, WIDTH, STRIP), drawn]))
        rows.append(np.hstack([_label(name, NAMES, STRIP + HEIGHT), *cells]))
    return np.vstack(rows)


def draw_cell(photo: NDArray[np.uint8], member: Member, seed: int) -> NDArray[np.uint8]:
    """The middle of the photo, degraded by the member at `SEVERITY`."""
    image = photo.astype(np.float32) / np.float32(255)
    rng = np.random.default_rng(seed)
    effect = member(Scene.draw(image, rng, lines=image.shape[0]), SEVERITY, rng)
    top, left = (photo.shape[0] - HEIGHT) // 2, (photo.shape[1] - WIDTH) // 2
    shown = effect(image)[top : top + HEIGHT, left : left + WIDTH]
    return np.asarray(np.rint(shown * np.float32(255)), np.uint8)


def _label(text: str, width: int, height: int) -> NDArray[np.uint8]:
    """Dark text on white."""
    label = np.full((height, width, 3), 255, np.uint8)
    cv2.putText(label, text, (6, height // 2 + 6), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (30, 30, 30), 1, cv2.LINE_AA)
    return label


if __name__ == "__main__":
    run_command("uir.tools.sheet", main)
