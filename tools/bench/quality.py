"""Degrade photos, restore them, and compare the result with the truth.

For each adapter that is named as a known degradation: PSNR and SSIM of the degraded photo, of what the base alone makes
of it, of a classical method (the peer), of a network that was wholly fine-tuned for it (--full), and of what the
adapter does; and of clean photos put through the adapter. For pairs of degradations that often come together: the same
by the better of the two adapters alone, by their half-and-half mix, and by the best of all weights (--oracle). And for
the degradations of other libraries, which no adapter was trained on (--foreign).

Or on public sets, in the photos' place: pairs of a degraded picture and its truth (--pairs), and clean pictures as they
are, with Gaussian noise and as JPEG (--clean): by the adapter and by automatic mode, in which the router chooses, the
worst picture beside the mean.

Pictures are 8-bit, as shipped. The same seed degrades a photo the same way again.

Examples:
  uir-bench quality --photos photos/ --foreign --sheet sheet.png
  uir-bench quality --pairs rain=Rain100H/ --pairs noise=PolyU/ --json pairs.json
  uir-bench quality --clean CBSD68/ --noise 15,25,50
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from uir.calibration.degradations import DEGRADATIONS
from uir.runtime.composition import Composition
from uir.runtime.errors import UsageError
from uir.runtime.restorer import Restorer
from uir.tools.bench.cases import (
    ADAPTER,
    BASE,
    MEAN,
    Case,
    PhotoScores,
    by,
    gaussian_case,
    measure_case,
    measure_clean,
    pair_cases,
    single_cases,
    summarise,
)
from uir.tools.bench.foreign import ForeignScores, Operator, foreign_cases, libraries
from uir.tools.bench.full import full_methods
from uir.tools.bench.metrics import Frame
from uir.tools.bench.options import (
    add_package_option,
    add_photo_options,
    add_severities_option,
    check_photo_options,
    of_photos,
)
from uir.tools.bench.oracle import STEPS, grid_case, with_oracle
from uir.tools.bench.peers import PEERS
from uir.tools.bench.public import add_public_options, is_public, measure_public
from uir.tools.bench.quality_tables import Results, notes, tables
from uir.tools.bench.report import Report
from uir.tools.bench.sample import Method
from uir.tools.bench.sheet import check_sheet, sheet_row, write_sheet
from uir.tools.photos import find_photos, read_photo


def add_options(command: argparse.ArgumentParser) -> None:
    """The benchmark's options."""
    add_package_option(command)
    add_photo_options(command, required=False)
    command.add_argument(
        "--full",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="compare with this base.safetensors, wholly fine-tuned for a degradation; may be given for each",
    )
    command.add_argument(
        "--oracle",
        action="store_true",
        help=f"also try all weights in steps of 1/{STEPS} on each pair, which takes long",
    )
    command.add_argument(
        "--foreign", action="store_true", help="also restore what albumentations and imagecorruptions degrade"
    )
    add_severities_option(command)
    command.add_argument(
        "--sheet", type=Path, metavar="FILE.png", help="also draw a contact sheet, with a row for each degradation"
    )
    of_photos(command, "full", "oracle", "foreign", "severities", "sheet", "max_side")
    add_public_options(command)


@dataclass(frozen=True)
class _Plan:
    """All that is to be measured."""

    singles: list[Case]
    gaussian: list[Case]
    pairs: list[Case]
    grids: list[Case]
    foreign: list[tuple[Operator, Case]]
    clean: dict[str, Method]

    def pictures(self) -> int:
        """How many pictures of each photo are compared with it."""
        cases = [*self.singles, *self.gaussian, *self.pairs, *self.grids, *(case for _, case in self.foreign)]
        return sum(len(case.levels) * (1 + len(case.methods)) for case in cases) + len(self.clean)


def measure(options: argparse.Namespace) -> Report:
    """Run the benchmark.

    Raises:
        UirError: the options make no sense; the package, a fine-tuned base or a photo cannot be read; the sheet cannot
            be written.
        ModuleNotFoundError: a library of the `bench` extra is missing.
    """
    if is_public(options):
        return measure_public(options)
    _check(options)
    photos = find_photos(options.photos, options.limit)
    restorer = Restorer(options.package)
    plan = _plan(options, restorer)
    settings = {
        "package": str(options.package),
        "engine": restorer.describe(),
        "photos": [photo.name for photo in photos],
        "severities": options.severities,
        "seed": options.seed,
        "max_side": options.max_side,
        "full": options.full,
        "peers": {case.name: PEERS[case.name].title for case in plan.singles if case.name in PEERS},
        "foreign": libraries() if options.foreign else [],
    }
    results = _run(plan, photos, options)
    if options.sheet:
        shown = plan.singles + plan.pairs
        # Each row another photo: one that happens to be easy does not set the tone of the whole sheet.
        chosen = [photos[i % len(photos)] for i in range(len(shown))]
        rows = [
            sheet_row(case, photo, read_photo(photo, options.max_side), options.seed)
            for case, photo in zip(shown, chosen, strict=True)
        ]
        write_sheet(options.sheet, rows, overwrite=options.overwrite)
    first = f"{len(photos)} photos, seed {options.seed}. Identical pictures count as 100 dB."
    return Report(settings, results, tables(results), [first, *notes(results)])


def _plan(options: argparse.Namespace, restorer: Restorer) -> _Plan:
    known = [name for name in DEGRADATIONS if name in restorer.adapters]
    if not known:
        raise UsageError(
            f"{options.package}: none of its adapters ({', '.join(restorer.adapters) or 'it has none'}) is named as a "
            f"known degradation is ({', '.join(DEGRADATIONS)}), so there is nothing to test them on"
        )
    singles = single_cases(restorer, options.severities, full_methods(options.full, restorer.package, known))
    pairs = pair_cases(restorer, options.severities)
    return _Plan(
        singles=singles,
        gaussian=[gaussian_case(case) for case in singles if case.name == "noise"],
        pairs=pairs,
        grids=[grid_case(restorer, pair) for pair in pairs if options.oracle],
        foreign=foreign_cases(restorer) if options.foreign else [],
        clean={BASE: by(restorer, Composition())} | {case.name: case.methods[ADAPTER] for case in singles},
    )


def _run(plan: _Plan, photos: Sequence[Path], options: argparse.Namespace) -> Results:
    def read() -> Iterator[tuple[Path, Frame]]:
        return ((photo, read_photo(photo, options.max_side)) for photo in photos)

    with tqdm(total=len(photos) * plan.pictures(), unit="picture", disable=None) as bar:

        def scores(case: Case) -> PhotoScores:
            bar.set_postfix_str(case.name)
            return measure_case(case, read(), options.seed, bar.update)

        pairs = {case.name: scores(case) for case in plan.pairs}
        pairs |= {case.name: with_oracle(pairs[case.name], scores(case)) for case in plan.grids}
        return Results(
            degradations={case.name: summarise(scores(case)) for case in plan.singles},
            gaussian={name: at for case in plan.gaussian for name, at in summarise(scores(case))[MEAN].items()},
            clean={
                name: measure_clean(way, (frame for _, frame in read()), bar.update) for name, way in plan.clean.items()
            },
            pairs={name: summarise(each) for name, each in pairs.items()},
            foreign=[
                ForeignScores(operator.library, operator.name, operator.adapter, summarise(scores(case)))
                for operator, case in plan.foreign
            ],
        )


def _check(options: argparse.Namespace) -> None:
    check_photo_options(options)
    if options.sheet:
        check_sheet(options.sheet, overwrite=options.overwrite)
