"""An engine's key: all that makes it differ from every other, in one canonical form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from uir.runtime.errors import UsageError


@dataclass(frozen=True)
class EngineKey:
    """All that makes one engine differ from another. Keys are equal where their canonical forms are.

    The canonical form is JSON in UTF-8 with no spaces and every object's keys sorted by code point, so that the order
    in which a mapping was filled says nothing. Lists keep their order. Numbers are integers of 64 bits: a float has
    many texts, so a weight goes in as text. Contents go in by their hash, and never by their
    path, which would make two engines of one model, or one of two.

    Args:
        parts: JSON values by name: text, integers, truth values, None, and lists and mappings of these.

    Attributes:
        parts: the same values in plain dictionaries and lists; not to be changed.
        canonical: the canonical form.

    Raises:
        UsageError: a part is a float, a path, or no JSON value.
    """

    parts: Mapping[str, Any] = field(compare=False, repr=False)
    canonical: str = field(init=False)

    def __post_init__(self) -> None:
        canonical = json.dumps(
            _plain(self.parts, "key"), ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
        )
        object.__setattr__(self, "canonical", canonical)
        object.__setattr__(self, "parts", json.loads(canonical))

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical form, in hexadecimal: the name of the engine's files."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()


def _plain(value: object, where: str) -> object:
    """A copy of a JSON value in plain types. Raises UsageError for what a canonical form cannot hold."""
    if isinstance(value, str):
        if PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute():
            raise UsageError(f"{where}: {value!r} is a path; an engine's key holds a content's hash instead")
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            raise UsageError(f"{where}: {value!r} is no Unicode text")
        return str(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return int(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {_plain(name, where): _plain(item, f"{where}.{name}") for name, item in value.items()}
    raise UsageError(f"{where}: {value!r} has no one text in JSON; give numbers with decimals as text")
