"""The cache of engines, as it lies on disk."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from uir.runtime.disk_cache import DiskCache, default_budget, default_folder
from uir.runtime.errors import UsageError


@dataclass(frozen=True)
class CacheState:
    """A cache of engines.

    Attributes:
        engines: how many are kept.
        size, budget: bytes that they take, and that they may take; None where $UIR_CACHE_SIZE is no size.
        free: bytes that its disk has left; None where that cannot be told.
        writable: whether engines can be kept there.
        failure: why they cannot, if so.
        misnamed: what is wrong with $UIR_CACHE_SIZE, with which no engine is made at all.
    """

    folder: str
    engines: int
    size: int
    budget: int | None
    free: int | None
    writable: bool
    failure: str | None
    misnamed: str | None = None

    @classmethod
    def here(cls) -> CacheState:
        """The cache that engines of this user are kept in. Nothing is made or changed."""
        folder = default_folder()
        entries = DiskCache(folder).entries()
        free = failure = None
        try:
            there = _existing(folder)
            free = shutil.disk_usage(there).free
            with tempfile.TemporaryFile(dir=there):
                pass
        except OSError as error:
            failure = error.strerror or str(error)
        budget = misnamed = None
        try:
            budget = default_budget()
        except UsageError as error:
            misnamed = str(error)
        size = sum(entry.size for entry in entries)
        return cls(str(folder), len(entries), size, budget, free, failure is None, failure, misnamed)


def _existing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there.

    Raises:
        OSError: something else is in the way.
    """
    for path in (folder, *folder.absolute().parents):
        try:
            path.stat()
        except FileNotFoundError:
            continue
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return path
    return folder
