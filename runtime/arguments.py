"""What callers give, checked: whatever makes no sense becomes a `UsageError` that says what would."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Literal

from uir.runtime.composition import Composition
from uir.runtime.decision import Decision
from uir.runtime.errors import UsageError

Composable = str | Mapping[str, float] | Composition | Decision
"""`"rain"`, `"haze=0.4,rain=0.6"`, a mapping of weights, a `Composition`, or a router's decision for one."""

FrameSize = tuple[int, int] | Literal["any"]
"""Height and width of the frames to come, pixels, or `"any"`: an engine for all sizes, which may be slower."""


def is_number(value: object) -> bool:
    """Whether this is a finite real number; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def is_count(value: object) -> bool:
    """Whether this is a whole number of 1 or more; True is none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def as_composition(value: Composable) -> Composition:
    """The composition that is meant.

    Raises:
        UsageError: it is malformed, or a decision to leave a picture alone.
    """
    if isinstance(value, Decision):
        if value.composition is None:
            raise UsageError("clean is no composition; give the decision with the frame, which then passes through")
        value = value.composition
    if isinstance(value, Composition):
        return value
    if isinstance(value, str):
        return Composition.parse(value)
    if isinstance(value, Mapping):
        return Composition.of(value)
    raise UsageError(f"{value!r}: not a composition; write it as 'rain', 'rain=0.7,haze=0.3' or {{'rain': 0.7}}")


def as_frame_size(value: FrameSize) -> FrameSize:
    """The size that is meant.

    Raises:
        UsageError: it is none.
    """
    if isinstance(value, str) and value == "any":
        return value
    if isinstance(value, (tuple, list)) and len(value) == 2 and all(map(is_count, value)):
        return int(value[0]), int(value[1])
    raise UsageError(f"frame_size: (height, width) in pixels, such as (720, 1280), or 'any'; {value!r} was given")
