"""The router on real pictures, without a truth: whether it finds what the folder's name says is in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from uir.runtime.decision import CLEAN_NAME
from uir.runtime.errors import MediaError, MissingFileError
from uir.runtime.router import Router
from uir.tools.bench.report import Table
from uir.tools.bench.router_cases import Answer, see, share
from uir.tools.photos import find_photos, read_photo

SYNONYMS = {
    "fog": "haze",
    "foggy": "haze",
    "mist": "haze",
    "smog": "haze",
    "dark": "lowlight",
    "night": "lowlight",
    "low_light": "lowlight",
    "rainy": "rain",
    "snowy": "snow",
    "drops": "raindrop",
    "raindrops": "raindrop",
    "noisy": "noise",
    "blurry": "blur",
}
"""Adapters by what folders of their degradation are called as well."""


@dataclass(frozen=True)
class RealScores:
    """What the router made of a folder's pictures; shares from 0 to 1.

    Attributes:
        expected: the adapter that should be found, or `clean`.
        found: share of pictures with it among what is decided; of clean ones, left alone.
        clean: share that is left alone.
        others: share by adapter that is decided and was not expected, the most frequent first.
    """

    folder: str
    expected: str
    found: float
    clean: float
    others: Mapping[str, float]
    pictures: Sequence[Answer]


@dataclass(frozen=True)
class RealResults:
    """All that was measured, and the folders whose names are of no adapter that there is."""

    folders: Sequence[RealScores]
    passed_over: Sequence[str]


def expected_adapter(folder: str, adapters: Sequence[str]) -> str | None:
    """What a folder's name says is in its pictures: an adapter, `clean`, or None for anything else.

    A name is an adapter's or one of `SYNONYMS`; what follows an underscore or a hyphen may be anything (`rain_web`).
    """
    name = folder.lower()
    for word in (name, name.replace("-", "_").partition("_")[0]):
        wanted = SYNONYMS.get(word, word)
        if wanted in adapters or wanted == CLEAN_NAME:
            return wanted
    return None


def measure_real(router: Router, root: Path, limit: int | None) -> RealResults:
    """Look at the pictures of each folder whose name says what is in them, as they are.

    Raises:
        MissingFileError: there is no such folder, none in it is named so, or one of them holds no picture.
        MediaError: a picture cannot be read, or the folder cannot be.
    """
    expected = {folder: expected_adapter(folder.name, router.adapters) for folder in _folders(root)}
    known = {folder: name for folder, name in expected.items() if name is not None}
    if not known:
        raise MissingFileError(
            f"{root}: no folder in it is named as what is in its pictures; name them {CLEAN_NAME}, "
            f"{', '.join(router.adapters)}, or such as {', '.join(list(SYNONYMS)[:3])}"
        )
    photos = {folder: find_photos(folder, limit) for folder in known}
    with tqdm(total=sum(map(len, photos.values())), unit="picture", disable=None) as bar:
        found = []
        for folder, name in known.items():
            bar.set_postfix_str(folder.name)
            answers = _ask(router, photos[folder], bar.update)
            found.append(summarise_real(folder.name, name, answers))
    return RealResults(found, [folder.name for folder, name in expected.items() if name is None])


def summarise_real(folder: str, expected: str, answers: Sequence[Answer]) -> RealScores:
    """Count the answers for the pictures of one folder."""
    left = share(answers, lambda answer: not answer.weights)
    others = Counter(name for answer in answers for name in answer.weights if name != expected)
    return RealScores(
        folder=folder,
        expected=expected,
        found=left if expected == CLEAN_NAME else share(answers, lambda answer: expected in answer.weights),
        clean=left,
        others={name: count / len(answers) for name, count in others.most_common()},
        pictures=answers,
    )


def real_table(results: RealResults) -> Table:
    """A row for each folder."""
    rows = [
        [
            each.folder,
            str(len(each.pictures)),
            each.expected,
            f"{each.found:.1%}",
            f"{each.clean:.1%}",
            next((f"{name} {part:.1%}" for name, part in each.others.items()), "-"),
        ]
        for each in results.folders
    ]
    columns = ["folder", "pictures", "expected", "among what is decided", "left as clean", "other, most often"]
    return Table("Real pictures: whether what the folder's name says is found", columns, rows)


def real_notes(results: RealResults) -> list[str]:
    """What the table comes to."""
    folders = results.folders
    mean = sum(each.found for each in folders) / len(folders)
    notes = [f"Found, mean of {len(folders)} folders: {mean:.1%}. A decision may be for several adapters."]
    if results.passed_over:
        notes.append(f"Passed over, for no adapter here is named so: {', '.join(results.passed_over)}.")
    return notes


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise MissingFileError(f"{root}: no such folder")
    try:
        return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise MediaError(f"{root}: cannot be read: {error.strerror}") from error


def _ask(router: Router, photos: Sequence[Path], done: Callable[[], object]) -> list[Answer]:
    answers = []
    for photo in photos:
        answers.append(see(router, read_photo(photo), photo.name, 0.0))
        done()
    return answers
