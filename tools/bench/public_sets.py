"""Sets of test pictures as the literature has them: pairs of a degraded picture and its truth, and clean pictures.

They are taken whole: figures for reduced pictures compare with nobody's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from uir.runtime.errors import MediaError, MissingFileError, UsageError
from uir.tools.bench.cases import Case, as_jpeg, gaussian
from uir.tools.bench.metrics import WINDOW, Frame
from uir.tools.photos import find_photos, read_photo

INPUTS, TRUTHS = "input", "truth"
"""The folders of a set of pairs."""

NOISE, JPEG = "noise", "jpeg"
"""The adapters for what clean pictures are degraded with."""


@dataclass(frozen=True)
class Picture:
    """A picture of a set.

    Attributes:
        name: its file's.
        read: gives the truth and the degraded picture, of the same size.
    """

    name: str
    read: Callable[[], tuple[Frame, Frame]]


@dataclass(frozen=True)
class PublicSet:
    """Pictures, and what they are restored with beside automatic mode.

    Attributes:
        name: as tables call it.
        adapters: each is tried.
        clean: the degraded pictures are the truth itself, so that any change is for the worse.
    """

    name: str
    adapters: tuple[str, ...]
    pictures: Sequence[Picture]
    clean: bool = False


def pair_set(text: str, adapters: Sequence[str], limit: int | None) -> PublicSet:
    """The set of `--pairs [ADAPTER=]FOLDER`. Files of the same name, apart from the suffix, are a pair.

    Args:
        adapters: of the package; all are tried where none is named.
        limit: only the first so many pairs.

    Raises:
        UsageError: there is no such adapter, or two pictures of one name.
        MissingFileError: there is no such folder, no pictures, or a picture without the other.
    """
    name, named, rest = text.partition("=")
    if not named or Path(text).is_dir():
        folder, chosen = Path(text), tuple(adapters)
    elif name in adapters:
        folder, chosen = Path(rest), (name,)
    else:
        raise UsageError(
            f"--pairs {text}: the package has no adapter named {name!r}; write [ADAPTER=]FOLDER with one of "
            f"{', '.join(adapters)}"
        )
    inputs, truths = (_by_name(folder, part) for part in (INPUTS, TRUTHS))
    for one, others, part in ((inputs, truths, TRUTHS), (truths, inputs, INPUTS)):
        lonely = [path for stem, path in one.items() if stem not in others]
        if lonely:
            more = f", nor for {len(lonely) - 1} others" if len(lonely) > 1 else ""
            raise MissingFileError(f"{lonely[0]}: nothing of this name in {folder / part}{more}; pairs have one name")
    pictures = [Picture(path.name, partial(_read_pair, path, truths[stem])) for stem, path in inputs.items()]
    return PublicSet(_name(folder), chosen, pictures[:limit])


def clean_sets(
    folder: Path, sigmas: Sequence[float], qualities: Sequence[int], seed: int, limit: int | None
) -> list[PublicSet]:
    """Clean pictures as they are, with Gaussian noise of each sigma, and as JPEGs of each quality.

    Raises:
        MissingFileError: there is no such folder, or no picture in it.
    """
    _check_folder(folder)
    photos = find_photos(folder, limit)
    title = _name(folder)
    untouched = [Picture(photo.name, partial(_read_clean, photo)) for photo in photos]
    sets = [PublicSet(title, (), untouched, clean=True)]
    for adapter, levels, case in (
        (NOISE, sigmas, Case("noise", gaussian, sigmas, {})),
        (JPEG, qualities, Case("JPEG", as_jpeg, qualities, {})),
    ):
        for level in levels:
            pictures = [Picture(photo.name, partial(_degrade, case, photo, level, seed)) for photo in photos]
            sets.append(PublicSet(f"{title}, {case.name} {level:g}", (adapter,), pictures))
    return sets


def check_pictures(sets: Sequence[PublicSet], done: Callable[[], object]) -> None:
    """Read all pictures once, so that none is found to be broken when the others have been measured.

    Raises:
        MediaError: a picture cannot be read, is too small, or has another size than its truth.
    """
    for each in sets:
        for picture in each.pictures:
            picture.read()
            done()


def _by_name(folder: Path, part: str) -> dict[str, Path]:
    _check_folder(folder)
    if not (folder / part).is_dir():
        raise MissingFileError(f"{folder}: no folder {part} in it; a set of pairs has {INPUTS} and {TRUTHS}")
    found: dict[str, Path] = {}
    for path in find_photos(folder / part):
        if path.stem in found:
            raise UsageError(f"{path}: {found[path.stem].name} has the same name; it is not clear which one is paired")
        found[path.stem] = path
    return found


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise MissingFileError(f"{folder}: no such folder")


def _name(folder: Path) -> str:
    return folder.resolve().name


def _read(path: Path) -> Frame:
    frame = read_photo(path)
    if min(frame.shape[:2]) < WINDOW:
        raise MediaError(f"{path}: {_size(frame)} is too small to compare; give {WINDOW}x{WINDOW} pixels or more")
    return frame


def _read_pair(source: Path, truth: Path) -> tuple[Frame, Frame]:
    degraded, clean = _read(source), _read(truth)
    if degraded.shape != clean.shape:
        raise MediaError(f"{source}: {_size(degraded)}, and its truth {truth} {_size(clean)}; a pair has one size")
    return clean, degraded


def _read_clean(photo: Path) -> tuple[Frame, Frame]:
    frame = _read(photo)
    return frame, frame


def _degrade(case: Case, photo: Path, level: float, seed: int) -> tuple[Frame, Frame]:
    sample = case.sample(_read(photo), photo, level, seed)
    return sample.clean, sample.degraded


def _size(frame: Frame) -> str:
    return f"{frame.shape[1]}x{frame.shape[0]}"
