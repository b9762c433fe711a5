"""See whether the router finds what is wrong with a picture, and what its looks cost.

Photos are degraded as the quality benchmark degrades them: not at all, in each way alone and in pairs that often come
together. A picture is taken for what it is most similar to. Of two degradations both must be the most similar ones;
a clean picture must be left alone. Also by operators of other libraries, which the router was not trained on
(--foreign), and with what its weights are worth when they restore (--mixes).

Or on real pictures, in the photos' place: --real takes a folder of folders that are named by what is in their pictures:
as an adapter is, or clean, or fog, foggy, mist, smog (haze), dark, night, low_light (lowlight), rainy, snowy, drops,
raindrops, noisy, blurry. What follows an underscore or a hyphen may be anything, as in rain_web.

Examples:
  uir-bench router --package restore.uir --photos photos/
  uir-bench router --package restore.uir --photos photos/ --foreign --mixes --json router.json
  uir-bench router --package restore.uir --real pictures/
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from uir.runtime.errors import UsageError
from uir.runtime.package import Package
from uir.runtime.restorer import Restorer
from uir.runtime.router import Router
from uir.tools.bench.foreign import libraries
from uir.tools.bench.metrics import Frame
from uir.tools.bench.options import (
    add_package_option,
    add_photo_options,
    add_severities_option,
    add_size_option,
    check_photo_options,
    check_without_photos,
    of_photos,
)
from uir.tools.bench.report import Report
from uir.tools.bench.router_cases import Answer, Question, ask, foreign_questions, questions
from uir.tools.bench.router_cost import measure_cost
from uir.tools.bench.router_mixes import measure_mix, mix_cases, pictures
from uir.tools.bench.router_real import measure_real, real_notes, real_table
from uir.tools.bench.router_tables import by_level, notes, summarise, tables
from uir.tools.photos import find_photos, read_photo


def add_options(command: argparse.ArgumentParser) -> None:
    """The benchmark's options."""
    add_package_option(command)
    add_photo_options(command, required=False)
    command.add_argument(
        "--real", type=Path, metavar="FOLDER", help="look at real pictures, in folders named by what is in them"
    )
    add_severities_option(command)
    add_size_option(command)
    command.add_argument(
        "--foreign", action="store_true", help="also look at what albumentations and imagecorruptions degrade"
    )
    command.add_argument(
        "--mixes", action="store_true", help="also restore by the router's weights and by others, which takes long"
    )
    of_photos(command, "severities", "size", "foreign", "mixes", "max_side")


def measure(options: argparse.Namespace) -> Report:
    """Run the benchmark.

    Raises:
        UirError: the options make no sense; the package has no router, or it or a photo cannot be read.
        ModuleNotFoundError: a library of the `bench` extra is missing.
    """
    check_photo_options(options)
    if (options.real is None) == (options.photos is None):
        raise UsageError("give --photos or --real, one of them, with a folder")
    package = Package(options.package)
    router = Router(package)
    if not router.adapters:
        raise UsageError(f"{options.package}: none of its adapters has a prototype, so there is nothing to choose")
    if options.real:
        return _on_real(options, package, router)
    restorer = Restorer(package)
    photos = find_photos(options.photos, options.limit)
    cost = measure_cost(package, router, restorer, options.size)
    asked = questions(router, options.severities)
    foreign = foreign_questions(router) if options.foreign else []
    used = libraries() if options.foreign else []
    mixed = mix_cases(restorer, router, options.severities) if options.mixes else []

    def read() -> Iterator[tuple[Path, Frame]]:
        return ((photo, read_photo(photo, options.max_side)) for photo in photos)

    looked_at = sum(len(each.case.levels) for each in (*asked, *(question for _, question in foreign)))
    restored = sum(pictures(case) for case in mixed)
    with tqdm(total=len(photos) * (looked_at + restored), unit="picture", disable=None) as bar:

        def answers(question: Question) -> list[Answer]:
            bar.set_postfix_str(question.case.name)
            return ask(router, question, read(), options.seed, bar.update)

        found = [(question, answers(question)) for question in asked]
        strange = {
            f"{operator.library}.{operator.name}": by_level(question, answers(question))
            for operator, question in foreign
        }
        mixes = [measure_mix(case, read(), options.seed, bar.update) for case in mixed]
    results = summarise(found, strange, cost, mixes)
    settings = {
        "package": str(options.package),
        "router": _identity(package),
        "photos": [photo.name for photo in photos],
        "severities": options.severities,
        "seed": options.seed,
        "max_side": options.max_side,
        "foreign": used,
    }
    first = f"{len(photos)} photos, seed {options.seed}, adapters {', '.join(router.adapters)}."
    return Report(settings, results, tables(results), [first, *notes(results)])


def _on_real(options: argparse.Namespace, package: Package, router: Router) -> Report:
    check_without_photos(options)
    results = measure_real(router, options.real, options.limit)
    settings = {
        "package": str(options.package),
        "router": _identity(package),
        "real": str(options.real),
        "limit": options.limit,
    }
    return Report(settings, results, [real_table(results)], real_notes(results))


def _identity(package: Package) -> str | None:
    """The hash of the router's network."""
    return package.manifest.files[package.manifest.router.file].sha256 if package.manifest.router else None
