"""Compositions: which adapters are merged into the base, and by what weights."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real

from uir.runtime.errors import UsageError, shown

DECIMALS = 4  # weights closer than this are the same composition, and share one engine
MAX_WEIGHT = 100.0  # far beyond any use; keys stay exact and deltas finite below it
BASE_KEY = "base"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Composition:
    """A weighted set of adapters, in canonical form: sorted by name, weights rounded, none of them zero.

    Two compositions that mean the same compare equal, hash alike and have the same `key`. The empty composition is
    the base alone. Make one with `of`, `parse` or `equal_mix`.

    Attributes:
        items: (adapter name, weight) pairs.
    """

    items: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of(cls, weights: Mapping[str, float]) -> Composition:
        """The composition of these weights, which are real numbers of any type.

        Raises:
            UsageError: a weight is no number in [0, 100], or a name is none for an adapter.
        """
        if not isinstance(weights, Mapping):
            raise UsageError(f"{shown(weights)}: not a composition; give weights by name, such as {{'rain': 0.5}}")
        rounded = {}
        for name, weight in weights.items():
            _check_adapter_name(name)
            number = _number(weight)
            if not 0 <= number <= MAX_WEIGHT:  # NaN neither
                raise UsageError(f"{name}={shown(weight)}: weights are numbers from 0 to {MAX_WEIGHT:g}, such as 0.5")
            rounded[name] = round(number, DECIMALS)
        return cls(tuple(sorted((name, weight) for name, weight in rounded.items() if weight > 0)))

    @classmethod
    def equal_mix(cls, names: Iterable[str]) -> Composition:
        """Each named adapter by the same weight, the weights summing to one.

        Raises:
            UsageError: an adapter is named twice, or none is, or a name is none for an adapter.
        """
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise UsageError(f"{shown(names)}: not a list of adapters, such as ['rain', 'haze']")
        listed = list(names)
        if not listed:
            raise UsageError("no adapter is named; give at least one, such as rain")
        for name in listed:
            _check_adapter_name(name)
            if listed.count(name) > 1:
                raise UsageError(f"{','.join(listed)}: {name} is named twice")
        return cls.of(dict.fromkeys(listed, 1 / len(listed)))

    @classmethod
    def parse(cls, text: str) -> Composition:
        """Read `rain`, `rain=0.7,haze=0.3`, or `base` for the base alone. A name without a weight weighs 1.

        Raises:
            UsageError: the text is malformed, names an adapter twice, or gives a weight outside [0, 100].
        """
        if not isinstance(text, str):
            raise UsageError(f"{shown(text)}: not a composition; write it as 'rain', or 'rain=0.7,haze=0.3'")
        weights: dict[str, float] = {}
        if text.strip() == BASE_KEY:
            return cls()
        for part in text.split(","):
            name, equals, number = (piece.strip() for piece in part.partition("="))
            try:
                weight = float(number) if equals else 1.0
            except ValueError:
                weight = math.nan
            if not name or math.isnan(weight):
                raise UsageError(f"{shown(text)}: not a composition; write it as rain, or rain=0.7,haze=0.3")
            if name in weights:
                raise UsageError(f"{shown(text)}: {shown(name)} is named twice")
            weights[name] = weight
        return cls.of(weights)

    @property
    def weights(self) -> dict[str, float]:
        """The weights by adapter name, sorted by name."""
        return dict(self.items)

    @property
    def key(self) -> str:
        """A readable name that `parse` reads back: `rain`, `haze=0.3,rain=0.7`, `base`. Also the name of a folder."""
        if not self.items:
            return BASE_KEY
        return ",".join(name if weight == 1 else f"{name}={weight:g}" for name, weight in self.items)

    def check_names(self, known: Iterable[str]) -> None:
        """Raise a UsageError that suggests near names if an adapter is not among `known`."""
        for name, _ in self.items:
            check_name(name, known, "adapter")

    def __str__(self) -> str:
        return self.key


def is_adapter_name(name: object) -> bool:
    """Whether an adapter may be called so: only then can a composition's key be read back, and name a folder."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None and name != BASE_KEY


def _check_adapter_name(name: object) -> None:
    if not is_adapter_name(name):
        raise UsageError(f"{shown(name)}: not a name for an adapter (letters, digits, - and _, a letter first)")


def _number(value: object) -> float:
    """A real number of any type as a float; NaN for what is none."""
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return math.nan
    try:
        return float(value)
    except (OverflowError, ValueError):  # an integer or a fraction beyond floats, a signalling NaN
        return math.nan


def check_name(name: str, known: Iterable[str], kind: str) -> None:
    """Raise a UsageError that suggests near names if `name` is not among `known`."""
    names = sorted(known)
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=3)
    there = f"there are {', '.join(names)}" if names else "there is none"
    hint = f"did you mean {' or '.join(near)}?" if near else there
    raise UsageError(f"{name}: no such {kind}; {hint}")
