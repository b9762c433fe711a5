"""Temporary folders that a command leaves nowhere, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from uir.runtime.stop import removed_at_end


@contextmanager
def scratch_folder(prefix: str = "uir-bench-") -> Iterator[str]:
    """The name of a fresh folder, removed at the end of the block or of the process."""
    with TemporaryDirectory(prefix=prefix) as name, removed_at_end(Path(name)):
        yield name
