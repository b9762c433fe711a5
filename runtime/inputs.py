"""What a command was given to restore: files out of a name, a folder or a pattern, and the names of their results."""

from __future__ import annotations

import difflib
import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from uir.runtime.errors import MediaError, MissingFileError, OutputError, UsageError
from uir.runtime.picture_formats import IMAGE_SUFFIXES

VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf"),
    *(".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
)
"""Suffixes by which videos are found in a folder; a video named by itself may have any."""

_MARK = ".restored"


def collect(inputs: str) -> list[Path]:
    """The files that `inputs` stands for: one file, a folder's images and videos, or the matches of a glob pattern.

    A folder is not searched for folders in it; in a pattern, `**` searches all of them. Hidden files and earlier
    results (`clip.restored.mp4`) are left out of folders and patterns. Natural order: `2.png` before `10.png`.

    Raises:
        MissingFileError: nothing is there; the message suggests names that are.
        MediaError: a folder cannot be read.
    """
    path = Path(os.path.expanduser(inputs))  # noqa: PTH111 - Path's own raises where there is no such user
    if path.is_dir():
        found = [file for file in _entries(path) if file.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES]
        nothing = f"{path}: no images or videos in this folder"
    elif path.exists():
        return [path]  # asked for by its own name: never left out
    elif glob.has_magic(inputs):
        found = [Path(file) for file in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - Path has no absolute globs
        nothing = f"{inputs}: no file matches this pattern"
    else:
        raise MissingFileError(f"{path}: no such file or folder{_suggestion(path)}")
    fresh = [file for file in found if file.is_file() and not file.name.startswith(".")]
    wanted = [file for file in fresh if not file.stem.endswith(_MARK)]
    if not wanted:
        raise MissingFileError(nothing + (f" except earlier results ({len(fresh)} named *{_MARK}.*)" if fresh else ""))
    return sorted(wanted, key=_natural)


def collect_all(inputs: Sequence[str]) -> list[Path]:
    """`collect` for each of several inputs, in the order given, each file once.

    Of several, earlier results are left out even by name: a shell has put them there for an unquoted pattern.

    Raises:
        MissingFileError, MediaError: as `collect`; nothing but earlier results is named.
    """
    found = list(dict.fromkeys(file for name in inputs for file in collect(name)))
    if len(inputs) == 1:
        return found
    wanted = [file for file in found if not file.stem.endswith(_MARK)]
    if not wanted:
        raise MissingFileError(f"{found[0]} and the others are all earlier results (*{_MARK}.*)")
    return wanted


def output_path(source: Path, output: Path | None, many: bool) -> Path:
    """Where the result of `source` goes.

    Without `output`, beside the source as `<stem>.restored<suffix>`. An `output` that is a folder, or any `output`
    for `many` sources, is the folder (created if needed) that takes the source's own name.

    Raises:
        OutputError: `output` should be a folder for many sources but is a file, or cannot be created.
    """
    if output is None:
        return source.with_name(f"{source.stem}{_MARK}{source.suffix}")
    if not many and not output.is_dir():
        return output
    try:
        output.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise OutputError(f"{output}: is a file; several inputs need a folder to go to") from None
    except OSError as error:
        raise OutputError(f"{output}: cannot be created: {error.strerror}") from error
    return output / source.name


def pair_outputs(sources: Sequence[Path], output: Path | None, *, into_folder: bool = False) -> list[tuple[Path, Path]]:
    """Each source with its `output_path`; `into_folder`, or more than one source, makes `output` a folder.

    Raises:
        UsageError: two sources would be written to the same file.
        OutputError: as `output_path`.
    """
    taken: dict[Path, Path] = {}
    for source in sources:
        destination = output_path(source, output, many=into_folder or len(sources) > 1)
        if destination in taken:
            raise UsageError(
                f"{taken[destination]} and {source} would both be written to {destination}; restore them one by one"
            )
        taken[destination] = source
    return [(source, destination) for destination, source in taken.items()]


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise MediaError(f"{folder}: cannot be read: {error.strerror}") from error


def _natural(path: Path) -> list[tuple[str, int]]:
    """Sorts digit runs as numbers: `a2b` is (`a`, 2), (`b`, -1)."""
    runs = re.findall(r"(\D*)(\d*)", str(path).lower())
    return [(text, int(number) if number else -1) for text, number in runs]


def _suggestion(path: Path) -> str:
    """The most alike name in the same folder, for a slip of the finger."""
    names = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.with_name(near[0])}?" if near else ""
