"""Outputs that appear under their name only when whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from uir.runtime.errors import OutputError
from uir.runtime.leftovers import aside_name, marked, sweep, temporary_name
from uir.runtime.stop import remove, removed_at_end, renaming


def check_destination(destination: Path, *, overwrite: bool = False, source: Path | None = None) -> None:
    """Refuse early what `atomic_output` would refuse late, before minutes of work are spent.

    Raises:
        OutputError: the destination exists and `overwrite` is not set, is the source itself, has no name that a file
            could have, or its folder is missing or not writable.
    """
    if destination.name in ("", ".."):
        raise OutputError(f"{destination}: not a name for an output; give one, such as {destination / 'restored'}")
    try:
        destination.exists()
    except OSError as error:
        raise OutputError(f"{destination}: cannot be written: {error.strerror}; give another name") from error
    if source is not None and destination.exists() and source.exists() and destination.samefile(source):
        raise OutputError(f"{destination}: the output is the input itself; give another name")
    if destination.exists() and not overwrite:
        raise OutputError(f"{destination}: exists already; give another name, or --overwrite")
    folder = destination.parent
    if not folder.is_dir():
        raise OutputError(f"{folder}: no such folder; create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: not writable; choose another folder")


@contextmanager
def atomic_output(destination: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `destination` to write a file or a folder to; rename it into place on success.

    The temporary name keeps the destination's suffix (`.clip.1a2b3c.part.mp4`), since encoders choose their format
    by it. Whatever fails inside the block, nothing is left behind and an existing destination is untouched. What a
    process leaves that is killed, the next output into that folder removes.

    Raises:
        OutputError: as `check_destination`, and when the system refuses a write (disk full, read-only); the
            system's own reason is in the message.
    """
    check_destination(destination, overwrite=overwrite)
    sweep(destination.parent)
    token = secrets.token_hex(3)
    temporary, aside = temporary_name(destination, token), aside_name(destination, token)
    with marked(destination, token), removed_at_end(temporary):
        try:
            yield temporary
            _sync(temporary)
            check_destination(destination, overwrite=overwrite)  # once more: another process may have been quicker
            _replace(temporary, destination, aside)
        except OSError as error:
            if isinstance(error, OutputError) or error.errno is None or not _concerns(error, temporary):
                raise
            raise OutputError(f"{destination}: cannot be written: {error.strerror or error}") from error
        finally:
            remove(temporary)


def _concerns(error: OSError, temporary: Path) -> bool:
    """Whether an OSError came from writing: it names no file, or names one inside the temporary output."""
    return error.filename is None or str(error.filename).startswith(str(temporary))


def _sync(path: Path) -> None:
    """Flush a file, or each file of a folder, to the disk, so that a power cut after the rename finds it whole."""
    for file in [path] if path.is_file() else [entry for entry in path.rglob("*") if entry.is_file()]:
        with file.open("r+b") as stream:  # Windows flushes no file that is open for reading
            os.fsync(stream.fileno())


def _replace(temporary: Path, destination: Path, aside: Path) -> None:
    """Rename into place. A folder cannot be renamed over a full folder, so the old one steps aside first."""
    if not (temporary.is_dir() and destination.exists()):
        temporary.replace(destination)
        return
    with ExitStack() as stack:
        with renaming():  # an end of the process waits meanwhile
            destination.replace(aside)
            try:
                temporary.replace(destination)
            except BaseException:
                if destination.exists():  # another process was quicker
                    remove(aside)
                else:
                    aside.replace(destination)
                raise
            stack.enter_context(removed_at_end(aside))
        remove(aside)
