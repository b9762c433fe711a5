"""Sizes in bytes, as people write them in variables."""

from __future__ import annotations

import os
import re

from uir.runtime.errors import UsageError

_PREFIXES = "kmgt"
_SIZE = re.compile(rf"(\d+(?:\.\d+)?)\s*(?:([{_PREFIXES}])(i?))?b?", re.ASCII | re.IGNORECASE)


def named_size(variable: str) -> int | None:
    """Bytes that a variable of the environment says: `2GiB`, `500MB`, a number of bytes. None where it is not set.

    Raises:
        UsageError: it says no size.
    """
    named = os.environ.get(variable, "").strip()
    if not named:
        return None
    found = _SIZE.fullmatch(named)
    if not found:
        raise UsageError(f"{variable}={named}: not a size; write it as 2GiB, 500MB or a number of bytes")
    number, prefix, binary = found.groups()
    power = _PREFIXES.index(prefix.lower()) + 1 if prefix else 0
    return int(float(number) * (1024 if binary else 1000) ** power)
