"""The processor that this runs on, by its name. The standard library alone."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from pathlib import Path


def processor(root: Path = Path("/")) -> str:
    """The processor's name; those of Arm boards have none there, and are named by their architecture.

    Args:
        root: where the machine's `proc` is.
    """
    found = re.search(r"^model name\s*:\s*(.+)$", _text(root / "proc/cpuinfo"), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def board(root: Path = Path("/")) -> str | None:
    """The device tree's model, which Jetsons and other Arm boards have."""
    return _text(root / "proc/device-tree/model").strip("\0\n ") or None


def usable_cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _text(path: Path) -> str:
    """A file's text; of one that is not there or may not be read, none."""
    with suppress(OSError):
        return path.read_text(errors="replace")
    return ""
