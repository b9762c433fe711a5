"""What a composition is calibrated on, and what it is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from uir.calibration.degradations import DEGRADATIONS, degrade
from uir.runtime.composition import Composition
from uir.runtime.errors import UsageError
from uir.runtime.quantize import Frame
from uir.runtime.samples import sample_frames

PHOTOS = Path(__file__).parent / "photos"
SEVERITIES = (0.3, 0.5, 0.8)
FOOTAGE = 30
"""Pieces that are cut out of a user's footage; every third is held out to judge by."""


class Pair(NamedTuple):
    """A degraded frame and the clean one."""

    degraded: Frame
    clean: Frame


@dataclass(frozen=True)
class Frames:
    """Frames for one composition, H x W x 3 uint8 RGB, H and W as the frame contract says.

    Attributes:
        calibration: what the ranges of int8 are found on.
        judged: others, on which each precision is held against float32.
        pairs: degraded frames, with the clean ones that they were made from, to hold restorations against the truth.
    """

    calibration: list[Frame]
    judged: list[Frame]
    pairs: list[Pair]


def unknown_degradations(composition: Composition) -> list[str]:
    """A composition's adapters that are not named as a degradation which can be made here."""
    return [name for name in composition.weights if name not in DEGRADATIONS]


def check_degradations(composition: Composition) -> None:
    """Raise a UsageError with the remedy where a composition cannot be calibrated without footage."""
    for name in unknown_degradations(composition):
        raise UsageError(
            f"{name}: no degradation of that name is known ({', '.join(DEGRADATIONS)}), so there is nothing to "
            f"calibrate {composition.key} on; give frames that are to be restored by it: --calibrate FOLDER_OR_VIDEO"
        )


def default_frames(composition: Composition, multiple_of: int) -> Frames:
    """The shipped photos, degraded by all that the composition's adapters undo, at three severities each.

    The base alone is given clean ones, and has no pairs: it has nothing to restore.

    Raises:
        UsageError: an adapter is not named as a degradation.
    """
    check_degradations(composition)
    judged = _pairs(composition, "judge", multiple_of)
    return Frames(
        calibration=[pair.degraded for pair in _pairs(composition, "calibrate", multiple_of)],
        judged=[pair.degraded for pair in judged],
        pairs=judged if composition.items else [],
    )


def read_footage(inputs: Path, multiple_of: int) -> list[Frame]:
    """Pieces of a user's footage, as it comes to be restored.

    Raises:
        MissingFileError: nothing is there.
        MediaError: a file cannot be read, or is neither photo nor video.
    """
    return sample_frames(inputs, FOOTAGE, multiple_of)


def footage_frames(footage: list[Frame], composition: Composition, multiple_of: int) -> Frames:
    """Footage to calibrate on and to hold against float32; the shipped photos have the truth that footage lacks."""
    known = composition.items and not unknown_degradations(composition)
    return Frames(
        calibration=[frame for i, frame in enumerate(footage) if i % 3 < 2],
        judged=footage[2::3] or footage,  # a video of two frames has no third
        pairs=_pairs(composition, "judge", multiple_of) if known else [],
    )


def _pairs(composition: Composition, folder: str, multiple_of: int) -> list[Pair]:
    pairs = []
    for number, path in enumerate(sorted((PHOTOS / folder).glob("*.jpg"))):
        (clean,) = sample_frames(path, 1, multiple_of)
        for severity in SEVERITIES if composition.items else SEVERITIES[:1]:
            severities = dict.fromkeys(composition.weights, severity)
            degraded = degrade(clean.astype(np.float32) / np.float32(255), severities, seed=number)
            pairs.append(Pair((degraded * 255 + 0.5).astype(np.uint8), clean))
    return pairs
