"""Degrade photos, restore them, and compare the result with the truth.

For each adapter that is named as a known degradation: PSNR and SSIM of the degraded photo, of what the base alone makes
of it and of what the adapter does; and of clean photos put through the adapter. For each half-and-half pair that the
package lists: the same for photos with both degradations, by the better of the two adapters alone and by their mix.

Pictures are 8-bit, as shipped. The same seed degrades a photo the same way again.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from uir.calibration.degradations import DEGRADATIONS
from uir.runtime.composition import Composition
from uir.runtime.errors import UsageError
from uir.runtime.package import DEFAULT_PACKAGE
from uir.runtime.restorer import Restorer
from uir.tools.bench.cases import ADAPTER, BASE, Case, Scores, by, measure_case, measure_clean, pair_cases, single_cases
from uir.tools.bench.metrics import Frame
from uir.tools.photos import find_photos, read_photo
from uir.tools.bench.quality_tables import pairs_table, singles_table
from uir.tools.bench.report import Report
from uir.tools.bench.sheet import check_sheet, sheet_row, write_sheet


def add_options(command: argparse.ArgumentParser) -> None:
    """The benchmark's options."""
    command.add_argument(
        "--package", type=Path, default=Path(DEFAULT_PACKAGE), metavar="FOLDER", help="default: %(default)s"
    )
    command.add_argument(
        "--photos", type=Path, required=True, metavar="FOLDER", help="clean photos, which no adapter was trained on"
    )
    command.add_argument(
        "--severities",
        type=_severities,
        default=[0.3, 0.5, 0.8],
        metavar="S,S",
        help="each from 0 to 1 (default: 0.3,0.5,0.8)",
    )
    command.add_argument("--seed", type=int, default=0, help="fixes everything random (default: %(default)s)")
    command.add_argument("--limit", type=int, metavar="N", help="only the first N photos")
    command.add_argument(
        "--max-side",
        type=int,
        default=640,
        metavar="PIXELS",
        help="reduce larger photos to this (default: %(default)s)",
    )
    command.add_argument(
        "--sheet", type=Path, metavar="FILE.png", help="also draw a contact sheet, with a row for each degradation"
    )


def _severities(text: str) -> list[float]:
    try:
        severities = sorted({float(number) for number in text.split(",")})
    except ValueError:
        severities = [math.nan]
    if not all(0 <= severity <= 1 for severity in severities):
        raise argparse.ArgumentTypeError(f"{text!r}: write numbers from 0 (unchanged) to 1 (heavy), such as 0.3,0.8")
    return severities


def measure(options: argparse.Namespace) -> Report:
    """Run the benchmark.

    Raises:
        UirError: the options make no sense, the package or a photo cannot be read, the sheet cannot be written.
    """
    _check(options)
    photos = find_photos(options.photos, options.limit)
    restorer = Restorer(options.package)
    singles, pairs = single_cases(restorer), pair_cases(restorer)
    if not singles:
        raise UsageError(
            f"{options.package}: none of its adapters ({', '.join(restorer.adapters) or 'it has none'}) is named as a "
            f"known degradation is ({', '.join(DEGRADATIONS)}), so there is nothing to test them on"
        )
    clean_ways = {BASE: by(restorer, Composition())} | {case.name: case.methods[ADAPTER] for case in singles}

    def read() -> Iterator[tuple[Path, Frame]]:
        return ((photo, read_photo(photo, options.max_side)) for photo in photos)

    count = len(photos) * (len(options.severities) * len(singles + pairs) + len(clean_ways))
    with tqdm(total=count, unit="photo", disable=None) as bar:

        def scores(case: Case) -> Scores:
            bar.set_postfix_str(case.name)
            return measure_case(case, read(), options.severities, options.seed, bar.update)

        found = {case.name: scores(case) for case in singles}
        mixed = {case.name: scores(case) for case in pairs}
        bar.set_postfix_str("clean photos")
        clean = {
            name: measure_clean(way, (frame for _, frame in read()), bar.update) for name, way in clean_ways.items()
        }
    if options.sheet:
        middle = options.severities[len(options.severities) // 2]
        # Each row another photo: one that happens to be easy does not set the tone of the whole sheet.
        chosen = [photos[i % len(photos)] for i in range(len(singles + pairs))]
        rows = [
            sheet_row(case, photo, read_photo(photo, options.max_side), middle, options.seed)
            for case, photo in zip(singles + pairs, chosen, strict=True)
        ]
        write_sheet(options.sheet, rows, overwrite=options.overwrite)

    settings = {
        "package": str(options.package),
        "engine": restorer.describe(),
        "photos": [photo.name for photo in photos],
        "severities": options.severities,
        "seed": options.seed,
        "max_side": options.max_side,
    }
    results = {"degradations": found, "pairs": mixed, "clean": clean}
    notes = [
        f"{len(photos)} photos, seed {options.seed}. Identical pictures count as 100 dB.",
        f"Clean photos through the base alone: {clean[BASE].psnr:.2f} dB, SSIM {clean[BASE].ssim:.4f}.",
    ]
    tables = [singles_table(found, clean)] + ([pairs_table(mixed)] if mixed else [])
    return Report(settings, results, tables, notes)


def _check(options: argparse.Namespace) -> None:
    for name, least in (("seed", 0), ("limit", 1), ("max_side", 16)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise UsageError(f"--{name.replace('_', '-')} {value}: must be {least} or more")
    if options.sheet:
        check_sheet(options.sheet, overwrite=options.overwrite)
