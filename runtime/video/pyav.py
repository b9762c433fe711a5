"""PyAV 17, 18 and 19 alike: what differs between them, in one place."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from numpy.typing import NDArray

_BEFORE_19 = int(av.__version__.split(".")[0]) < 19

EXACT_METADATA: dict[str, Any] = {"metadata_errors": "surrogateescape"} if _BEFORE_19 else {}
"""For `av.open`: metadata of any encoding, byte for byte. What is no UTF-8 becomes surrogates, and is written as it
was; PyAV 19 has no other way."""


def exact(number: Any) -> Fraction | None:
    """A rational of FFmpeg's; None where it is unset. Products of the type that PyAV 19 has for them are rounded."""
    return Fraction(number) if number else None


def display_matrix(frame: VideoFrame) -> NDArray[np.int32] | None:
    """The 3 x 3 numbers, in rows, that turn a decoded frame upright; None where it has none."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return None if matrix is None else np.frombuffer(cast(bytes, matrix), np.int32)


def disposition_number(stream: Stream) -> Disposition:
    """A stream's disposition in the form that can be assigned: PyAV 17 takes a plain number alone."""
    return cast(Disposition, stream.disposition.value)


def _name_unknown(kind: Any, value: object) -> Any:
    member = object.__new__(kind)
    member._name_, member._value_ = f"UNKNOWN_{value}", value
    return kind._value2member_map_.setdefault(value, member)


if _BEFORE_19:
    # A frame with side data of a kind that PyAV has no name for (Exif in 18) else has none that can be read.
    Type._missing_ = classmethod(_name_unknown)  # type: ignore[assignment]
