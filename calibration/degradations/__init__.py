"""The synthetic degradations: what training learns to undo and `uir-degrade` shows.

Each is a pure function of an image, a severity in [0, 1], a seed and a time. The seed fixes the scene (wind, depth,
colour, sensor); the time moves it, so that a video of frames degraded with one seed is one coherent shot.
"""

from __future__ import annotations

import difflib
import zlib
from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np

from uir.calibration.degradations._common import Image, check_image, check_seed, check_severity
from uir.calibration.degradations.blur import blur
from uir.calibration.degradations.haze import haze
from uir.calibration.degradations.inpaint import inpaint, inpaint_mask
from uir.calibration.degradations.jpeg import jpeg
from uir.calibration.degradations.rain import rain
from uir.calibration.degradations.raindrop import raindrop
from uir.calibration.degradations.sensor import lowlight, noise
from uir.calibration.degradations.shadow import shadow
from uir.calibration.degradations.snow import snow
from uir.runtime.errors import UsageError

__all__ = [
    "DEGRADATIONS",
    "Degradation",
    "Image",
    "blur",
    "degrade",
    "haze",
    "inpaint",
    "inpaint_mask",
    "jpeg",
    "lowlight",
    "noise",
    "parse_severities",
    "rain",
    "raindrop",
    "seed_for",
    "shadow",
    "snow",
]


class Degradation(Protocol):
    """A function from a clean image to a degraded one, as `rain` documents it."""

    def __call__(self, image: Image, severity: float, seed: int, seconds: float = 0.0) -> Image: ...


DEGRADATIONS: dict[str, Degradation] = {
    "shadow": shadow,
    "haze": haze,
    "snow": snow,
    "rain": rain,
    "raindrop": raindrop,
    "blur": blur,
    "lowlight": lowlight,
    "noise": noise,
    "jpeg": jpeg,
    "inpaint": inpaint,
}
"""By name, in the order that light meets them on its way to the file, and the file on its way to the viewer.

A shadow lies on the scene itself; haze in the whole depth before it; snow and rain are seen where they are near the
camera (and seldom together); drops stick to the glass in front of the lens, and refract all of that. Lens and shutter
blur whatever comes through; the exposure takes a share of it; the sensor adds its noise. Then the picture is stored as
a JPEG; and last, what was stored is painted over, so that the strokes stay flat and `inpaint_mask` exact.
"""


def degrade(image: Image, severities: Mapping[str, float], seed: int, seconds: float = 0.0) -> Image:
    """Apply the named degradations in their physical order, whatever order the mapping has.

    Each draws from a seed of its own, derived from `seed` and its name, so that the rain stays the same when haze is
    added.

    Args:
        image: float32 H x W x 3, RGB, sRGB-encoded, in [0, 1].
        severities: by name, each in [0, 1].
        seed: 0 or more.
        seconds: time in the video.

    Returns:
        A new array of the same shape, type and range.

    Raises:
        UsageError: an unknown name, a severity that is no number in [0, 1], a negative seed, or no such image.
    """
    for name, severity in severities.items():
        _check_name(name)
        check_severity(name, severity)
    check_image("degrade", image)
    check_seed("degrade", seed)
    result = np.array(image)
    for name, function in DEGRADATIONS.items():
        if name in severities:
            result = function(result, severities[name], seed_for(name, seed), seconds)
    return result


def parse_severities(text: str | Iterable[str]) -> dict[str, float]:
    """Read `rain=0.7 haze=0.3`, given as separate words or joined by commas.

    Raises:
        UsageError: no name=number pair at all, a malformed one, an unknown or repeated name, a severity outside [0, 1].
    """
    words = [text] if isinstance(text, str) else text
    severities: dict[str, float] = {}
    for token in (part.strip() for word in words for part in word.replace(",", " ").split()):
        name, equals, number = token.partition("=")
        if not equals or not name:
            raise UsageError(f"{token!r}: write it as name=severity, for example rain=0.7")
        _check_name(name)
        if name in severities:
            raise UsageError(f"{token!r}: {name} is given twice")
        try:
            severities[name] = float(number)
        except ValueError:
            raise UsageError(f"{token!r}: {number!r} is not a number; write it as {name}=0.7") from None
        check_severity(name, severities[name])
    if not severities:
        raise UsageError(f"no degradation given; write for example rain=0.7 ({', '.join(DEGRADATIONS)})")
    return severities


def _check_name(name: str) -> None:
    if name not in DEGRADATIONS:
        near = difflib.get_close_matches(name, DEGRADATIONS, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(DEGRADATIONS)}"
        raise UsageError(f"{name!r}: no such degradation; {hint}")


def seed_for(name: str, seed: int) -> int:
    """The seed that `degrade` gives to the named degradation: its own, and the same when others join the table."""
    return int(np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1, np.uint64)[0])
