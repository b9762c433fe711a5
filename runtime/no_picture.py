"""Whether a restored frame is a picture at all: weights may be finite and still make nothing of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uir.runtime.composition import Composition
from uir.runtime.errors import AdapterError

MOST_EXTREME = 0.99
"""Share of a picture's values that may be 0 or 255. Photos have a few hundredths, untrained networks up to 0.93;
what overflows has 0.995 and more."""

LEAST_CONTRAST = 1.0
"""Codes of standard deviation below which a picture is one flat colour. The shipped photos have 70, darkened 10."""

_PLAIN_EXTREME, _PLAIN_CONTRAST = 0.5, 5.0
"""What a frame must be within to be judged by: of a night sky or a white wall nothing need be left."""

_STEP = 4  # pixels: a sixteenth of them tell as much


def no_picture(restored: NDArray[np.uint8]) -> str | None:
    """What a restored frame, H x W x 3, is in place of a picture; None where it is one."""
    if _contrast(restored) < LEAST_CONTRAST:
        return "one flat colour"
    extreme = _extreme(restored)
    if extreme >= MOST_EXTREME:
        return f"black and white alone ({100 * extreme:.1f} % of the values are 0 or 255)"
    return None


def restores(composition: Composition, frame: NDArray[np.uint8], restored: NDArray[np.uint8]) -> bool:
    """Whether a frame shows that a composition restores pictures; one with too little in it shows nothing.

    Raises:
        AdapterError: nothing is left of the picture.
    """
    frame, restored = frame[::_STEP, ::_STEP], restored[::_STEP, ::_STEP]
    if _contrast(frame) < _PLAIN_CONTRAST or _extreme(frame) > _PLAIN_EXTREME:
        return False
    reason = no_picture(restored)
    if reason is not None:
        named = ", ".join(composition.weights) or "the base"
        raise AdapterError(
            f"{composition.key}: makes {reason} of the frame; use smaller weights, or see to the training of {named}"
        )
    return True


def _contrast(frame: NDArray[np.uint8]) -> float:
    return float(frame.reshape(-1, 3).std(0).max())


def _extreme(frame: NDArray[np.uint8]) -> float:
    return float(((frame == 0) | (frame == 255)).mean())
