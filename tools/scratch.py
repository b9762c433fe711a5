"""Temporary folders that a command leaves nowhere, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from uir.runtime.stop import remove, removed_at_end


@contextmanager
def scratch_folder(prefix: str = "uir-bench-") -> Iterator[str]:
    """The name of a fresh folder, removed at the end of the block or of the process."""
    name = mkdtemp(prefix=prefix)
    with removed_at_end(Path(name)):  # until it is gone: the process may end while it is removed
        try:
            yield name
        finally:
            remove(Path(name))
