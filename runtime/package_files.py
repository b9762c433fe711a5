"""The files of a package, which may come from anyone: none may leave it, none is read before its size is known."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from uir.runtime.errors import PackageError

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""A pipe in a file's place is not waited for."""
_BLOCK = 2**20


def check_inside(package: Path, name: str) -> Path:
    """The path of one of a package's files.

    Raises:
        PackageError: it leaves the package, by its name or by a link.
    """
    pure = PurePosixPath(name)
    path = package / pure
    escapes = pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name
    # realpath, since Path.resolve raises RuntimeError for a link to itself
    if escapes or not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(package)):
        raise PackageError(f"{package}: names a file outside the package: {name!r}; do not use this package")
    return path


def read_bytes(path: Path, largest: int, size: int | None = None) -> bytes:
    """A file's content, not one byte of which is read where it is too large.

    Args:
        largest: bytes that it may have.
        size: bytes that it must have; None where that is not known.

    Raises:
        PackageError: it is missing, no file, or of another size.
    """
    with open_file(path, size) as file:
        there = os.fstat(file.fileno()).st_size
        if there > largest:
            raise PackageError(f"{path}: has {there} bytes, and {largest} at most are read; do not use this package")
        try:
            return file.read(there)
        except OSError as error:
            raise _unreadable(path, error) from error


def hash_file(path: Path, size: int) -> str:
    """A file's SHA-256, block by block.

    Raises:
        PackageError: it is missing, no file, or of another size.
    """
    found = hashlib.sha256()
    with open_file(path, size) as file:
        try:
            while block := file.read(_BLOCK):
                found.update(block)
        except OSError as error:
            raise _unreadable(path, error) from error
    return found.hexdigest()


def open_file(path: Path, size: int | None) -> BinaryIO:
    """Open a regular file of a size; None where that is not known.

    Raises:
        PackageError: it is missing, no file, or of another size.
    """
    try:
        file = open(path, "rb", opener=lambda name, _: os.open(name, _FLAGS))  # noqa: SIM115
    except OSError as error:
        if path.exists() and not path.is_file():
            raise PackageError(f"{path}: is not a file; export the package again") from error
        raise _unreadable(path, error) from error
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        file.close()
        raise PackageError(f"{path}: is not a file; export the package again")
    if size is not None and found.st_size != size:
        file.close()
        raise PackageError(
            f"{path}: is not the file that was exported (it has {found.st_size} bytes, not {size}); export the package "
            "again"
        )
    return file


def _unreadable(path: Path, error: OSError) -> PackageError:
    return PackageError(f"{path}: cannot be read: {error.strerror}; export the package again")
