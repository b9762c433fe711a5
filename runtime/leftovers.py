"""Temporary outputs of processes that died: told from those of living ones by a lock, which the system frees.

Beside a temporary output `.clip.1a2b3c.part.mp4` stands a file `.clip.1a2b3c.lock.mp4` for as long as it is written.
Its writer holds a lock on it, and writes into it, once it has the lock, what it is. So a file of that name with that
content and no lock on it is a dead writer's, and so is what it stands for. Nothing else is ever removed: not by a name
alone, nor by an age, nor by the number of a process, which in another container is that of another one.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from uir.runtime.stop import remove, removed_at_end

_LOCKS = sys.platform != "win32"  # there nothing is marked, and nothing swept
_MARK = b"uir-edge is writing the file or folder of this name with part in place of lock\n"
_NAME = re.compile(r"\.(?P<stem>.+)\.(?P<token>[0-9a-f]{6})\.lock(?P<suffix>\.[^.]*)?", re.DOTALL)
_SHARE = 50  # a folder is looked through for at most one 50th of the time, however many outputs go into it

_next_look: dict[Path, float] = {}


def temporary_name(destination: Path, token: str, kind: str = "part") -> Path:
    """The name of a temporary output, or of its lock, beside its destination; encoders go by its suffix."""
    return destination.with_name(f".{destination.stem}.{token}.{kind}{destination.suffix}")


def aside_name(destination: Path, token: str) -> Path:
    """Where a folder steps aside while a new one takes its place."""
    return destination.with_name(f".{destination.name}.{token}.old")


@contextmanager
def marked(destination: Path, token: str) -> Iterator[None]:
    """Within the block, tell other processes that the temporary outputs of this token are being written."""
    path = temporary_name(destination, token, "lock")
    with removed_at_end(path):
        descriptor = _mark(path) if _LOCKS else None
        try:
            yield
        finally:
            if descriptor is not None:
                remove(path)
                os.close(descriptor)


def _mark(path: Path) -> int | None:
    """The locked file. None where there can be none; whether anything can be written there, the output will tell."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError:
        return None
    try:
        _lock(descriptor)
        os.write(descriptor, _MARK)
    except OSError:
        remove(path)
        os.close(descriptor)
        return None
    return descriptor


def sweep(folder: Path) -> None:
    """Remove what dead processes left in a folder. A folder that stood aside is put back where nothing replaced it."""
    began = time.monotonic()
    if not _LOCKS or began < _next_look.get(folder, 0):
        return
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            if match:
                with suppress(OSError):
                    _sweep(folder / entry.name, match)
    ended = time.monotonic()
    _next_look[folder] = ended + _SHARE * (ended - began)


def _sweep(path: Path, match: re.Match[str]) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return
        _lock(descriptor)
        if os.read(descriptor, len(_MARK) + 1) != _MARK or not os.path.samestat(os.fstat(descriptor), path.lstat()):
            return
        destination = path.with_name(match["stem"] + (match["suffix"] or ""))
        aside = aside_name(destination, match["token"])
        if aside.is_dir() and not aside.is_symlink() and not os.path.lexists(destination):
            aside.rename(destination)
        for left in (aside, temporary_name(destination, match["token"])):
            if not left.is_symlink():
                remove(left)
        path.unlink()
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Take a file's lock, or raise OSError at once."""
    import fcntl  # Unix has it

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
