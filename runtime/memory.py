"""How much of the machine's memory engines may take, and how it is given back."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from functools import cache
from pathlib import Path

from uir.runtime.sizes import named_size

VARIABLE = "UIR_MEMORY"
MOST, SHARE = 2**30, 8
"""The default budget: one part in so many of the machine's memory, but no more bytes than this.

On a Jetson of 8 GB, of which Linux has 7.4, that leaves room for the system, the camera and the decoder, for CUDA with
TensorRT's libraries (about 1.5 GB), and for a build beside the stream.
"""

ARENAS = 2
_M_ARENA_MAX = -8  # malloc.h


def memory_budget() -> int:
    """Bytes of engines that a `Restorer` keeps in memory: `$UIR_MEMORY` (`2GiB`, `500MB`, a number of bytes), or else
    an eighth of the memory that this process may use, 1 GiB at most.

    Raises:
        UsageError: the variable is no size.
    """
    named = named_size(VARIABLE)
    return min(MOST, usable_memory() // SHARE) if named is None else named


def usable_memory(root: Path = Path("/")) -> int:
    """Bytes of the machine's memory, or of what a container or a service is limited to (cgroups of Linux, 2 or 1).

    Args:
        root: where `proc` and `sys` are.
    """
    try:
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on Windows
        found = MOST * SHARE
    return min([found, *_limits(root)])


def _limits(root: Path) -> list[int]:
    """Of the process's control group and of all those around it, bytes."""
    found = []
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            top, name = ("memory", "memory.limit_in_bytes") if controllers else ("", "memory.max")
            group = Path(path.lstrip("/"))
            for each in (group, *group.parents):  # within a container, the path may be the host's
                with suppress(OSError, ValueError):  # `max`: there is no limit
                    found.append(int((root / "sys/fs/cgroup" / top / each / name).read_text()))
    return found


@cache
def gather_memory() -> None:
    """Have all threads of this process take memory from `ARENAS` pools, where the C library (glibc) has one for each.

    Engines are made by ever other threads, and each pool would keep what it had at most: nothing else takes what was
    freed in it. A user's own setting stands.
    """
    if "MALLOC_ARENA_MAX" not in os.environ and "arena_max" not in os.environ.get("GLIBC_TUNABLES", ""):
        _call("mallopt", _M_ARENA_MAX, ARENAS)


def return_memory() -> None:
    """Give freed memory back to the system, where the C library (glibc) would keep it for later."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    """Call one of glibc's functions, where there is one."""
    with suppress(AttributeError, OSError, TypeError):  # another C library; TypeError on Windows
        getattr(ctypes.CDLL(None), name)(*arguments)
