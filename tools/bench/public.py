"""The quality benchmark on sets of pictures: the named adapter and automatic mode, side by side.

Automatic mode is what `uir-run` does where no adapters are named: the router looks at the picture, which is restored
by its decision, or left as it is.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable
from pathlib import Path

from tqdm import tqdm

from uir.runtime.composition import Composition
from uir.runtime.errors import UsageError
from uir.runtime.merge import merged_model
from uir.runtime.package import Package
from uir.runtime.restorer import Restorer
from uir.runtime.router import Router
from uir.tools.bench.cases import INPUT
from uir.tools.bench.metrics import score
from uir.tools.bench.options import check_least, check_without_photos
from uir.tools.bench.public_scores import AUTOMATIC, PictureScores, PublicResults, luma_psnr, summarise, summarise_clean
from uir.tools.bench.public_sets import JPEG, NOISE, PublicSet, check_pictures, clean_sets, pair_set
from uir.tools.bench.public_tables import notes, tables
from uir.tools.bench.report import Report
from uir.tools.bench.work import count_work

SIZE = (640, 360)
"""Of the frame that the work is counted for, pixels."""


def add_public_options(command: argparse.ArgumentParser) -> None:
    """The options that say which sets are measured in the photos' place."""
    command.add_argument(
        "--pairs",
        action="append",
        default=[],
        metavar="[ADAPTER=]FOLDER",
        help="measure on degraded pictures in FOLDER/input and their truth in FOLDER/truth, by this adapter (without "
        "it, by each) and by automatic mode; may be given several times",
    )
    command.add_argument(
        "--clean",
        action="append",
        type=Path,
        default=[],
        metavar="FOLDER",
        help="measure what automatic mode makes of clean pictures; may be given several times",
    )
    command.add_argument(
        "--noise", type=_sigmas, default=[], metavar="SIGMA,SIGMA", help="also give them Gaussian noise, of 255"
    )
    command.add_argument(
        "--jpeg", type=_qualities, default=[], metavar="QUALITY,QUALITY", help="also store them as JPEG, 4:2:0"
    )


def is_public(options: argparse.Namespace) -> bool:
    """Whether sets are to be measured, and not photos.

    Raises:
        UsageError: neither is given, or both, or an option that goes with others.
    """
    if options.pairs or options.clean:
        if options.photos:
            raise UsageError("--photos goes without --pairs and --clean; measure them one after the other")
        check_without_photos(options)
    elif not options.photos:
        raise UsageError("nothing to measure; give --photos, --pairs or --clean, each with a folder")
    if (options.noise or options.jpeg) and not options.clean:
        raise UsageError("--noise and --jpeg degrade the pictures of --clean, which was not given")
    return not options.photos


def measure_public(options: argparse.Namespace) -> Report:
    """Run the benchmark.

    Raises:
        UirError: the options make no sense; the package has no router, or it or a picture cannot be read.
        ModuleNotFoundError: a library of the `bench` extra is missing.
    """
    for name, least in (("seed", 0), ("limit", 1)):
        check_least(options, name, least)
    package = Package(options.package)
    router, restorer = Router(package), Restorer(package)
    if not router.adapters:
        raise UsageError(f"{options.package}: none of its adapters has a prototype, so automatic mode has no choice")
    sets = _sets(options, restorer.adapters)
    pictures = sum(len(each.pictures) for each in sets)
    with tqdm(total=pictures, unit="picture", desc="reading", disable=None, leave=False) as bar:
        check_pictures(sets, bar.update)
    found = []
    with tqdm(total=pictures, unit="picture", disable=None) as bar:
        for each in sets:
            bar.set_postfix_str(each.name)
            found.append((each, measure_set(each, restorer, router, bar.update)))
    results = PublicResults(
        [summarise(each.name, each.adapters, scores) for each, scores in found if not each.clean],
        [summarise_clean(each.name, scores) for each, scores in found if each.clean],
    )
    work = _work(package)
    settings = {
        "package": str(options.package),
        "engine": restorer.describe(),
        "precision": restorer.precision,
        "pairs": options.pairs,
        "clean": [str(folder) for folder in options.clean],
        "noise": options.noise,
        "jpeg": options.jpeg,
        "seed": options.seed,
        "limit": options.limit,
        "work": work,
    }
    first = (
        f"Pictures whole, by {restorer.describe()}; seed {options.seed}. Noise is rounded to 8 bits; JPEG is OpenCV's, "
        "4:2:0. Identical pictures count as 100 dB."
    )
    cost = (
        f"A restoration, by whatever composition: {work['parameters'] / 1e6:.2f} M parameters, "
        f"{work['gflop']:.1f} GFLOP at {SIZE[0]}x{SIZE[1]}."
    )
    return Report(settings, results, tables(results), [first, cost, *notes(results)])


def measure_set(
    measured: PublicSet, restorer: Restorer, router: Router, done: Callable[[], object]
) -> list[PictureScores]:
    """Score the input, each of the set's adapters and automatic mode on each picture. `done` is called after each."""
    found = []
    for picture in measured.pictures:
        truth, degraded = picture.read()
        decision = router.weigh(router.look(degraded))
        restorer.expect(*degraded.shape[:2], still=True)
        frames = {INPUT: degraded}
        frames |= {name: restorer(degraded, Composition.of({name: 1})) for name in measured.adapters}
        frames[AUTOMATIC] = restorer(degraded, decision)
        scores = {name: score(truth, frame) for name, frame in frames.items()}
        luma = {name: luma_psnr(truth, frame) for name, frame in frames.items()}
        found.append(PictureScores(picture.name, decision.key, sorted(decision.weights), scores, luma))
        done()
    return found


def _sets(options: argparse.Namespace, adapters: list[str]) -> list[PublicSet]:
    for name, asked in ((NOISE, options.noise), (JPEG, options.jpeg)):
        if asked and name not in adapters:
            raise UsageError(f"--{name}: {options.package} has no adapter for it, only {', '.join(adapters) or 'none'}")
    sets = [pair_set(text, adapters, options.limit) for text in options.pairs]
    for folder in options.clean:
        sets += clean_sets(folder, options.noise, options.jpeg, options.seed, options.limit)
    return sets


def _work(package: Package) -> dict[str, float]:
    multiple = package.manifest.frame.multiple_of
    width, height = (length + -length % multiple for length in SIZE)
    counted = count_work(merged_model(package, Composition(), "fp32"), (1, height, width, 3))
    return {"parameters": counted.weights, "gflop": counted.flops / 1e9}


def _sigmas(text: str) -> list[float]:
    return _numbers(text, "0.1 to 255, such as 15,25,50", lambda number: 0.1 <= number <= 255)


def _qualities(text: str) -> list[int]:
    whole = _numbers(text, "1 to 100, whole, such as 10,20", lambda number: 1 <= number <= 100 and number % 1 == 0)
    return [int(number) for number in whole]


def _numbers(text: str, wanted: str, fits: Callable[[float], bool]) -> list[float]:
    try:
        numbers: Iterable[float] = dict.fromkeys(float(number) for number in text.split(","))
    except ValueError:
        numbers = [math.nan]
    if not all(map(fits, numbers)):
        raise argparse.ArgumentTypeError(f"{text!r}: write numbers from {wanted}")
    return list(numbers)
