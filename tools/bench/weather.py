"""Real footage whose weather changes: the clip goes on while its degradation changes from segment to segment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from uir.calibration.degradations import parse_severities
from uir.runtime.decision import CLEAN_NAME
from uir.runtime.errors import MediaError, UsageError
from uir.runtime.video.reader import VideoReader
from uir.tools.bench.metrics import Frame
from uir.tools.degrade import degrade_frame

MEMORY = 4 * 2**30
"""Bytes that all frames, clean and degraded, may take."""


@dataclass(frozen=True)
class Segment:
    """What the weather is for a while: severities by degradation, none where it is clear."""

    severities: Mapping[str, float]

    @property
    def adapters(self) -> list[str]:
        """What it needs, sorted by name."""
        return sorted(self.severities)

    def __str__(self) -> str:
        return "+".join(self.severities) or CLEAN_NAME


DEFAULT = (
    Segment({}),
    Segment({"rain": 0.6}),
    Segment({"rain": 0.5, "haze": 0.5}),
    Segment({"lowlight": 0.6, "noise": 0.5}),
)


def parse_segments(text: str) -> list[Segment]:
    """Read `clean,rain=0.6,rain=0.5+haze=0.5`.

    Raises:
        UsageError: as `parse_severities`.
    """
    return [
        Segment({} if part.strip() == CLEAN_NAME else parse_severities(part.replace("+", " ")))
        for part in text.split(",")
    ]


def read_clip(path: Path, seconds: float, parts: int, max_side: int) -> tuple[list[Frame], float]:
    """As many frames as some parts of a video take, each of so many seconds.

    A clip that is too short is played back and forth, so that no scene begins where it starts again.

    Args:
        max_side: pixels; frames whose longer side has more are reduced to that.

    Returns:
        Frames, H x W x 3 uint8 RGB, the same number for each part; and frames in a second.

    Raises:
        MissingFileError, MediaError: it cannot be read, or has but one frame.
        UsageError: a part is shorter than two frames, or the frames would take more than `MEMORY`.
    """
    with VideoReader(path) as reader:
        rate = float(reader.info.frame_rate)
        count = parts * round(seconds * rate)
        if count < 2 * parts:
            raise UsageError(f"--seconds {seconds:g}: {path} has {rate:g} frames a second; two of them at least")
        frames: list[Frame] = []
        for picture in reader:
            frames.append(_reduced(picture.image, max_side))
            if 2 * count * frames[0].nbytes > MEMORY:
                raise UsageError(
                    f"{path}: {count} frames of this size take more than {MEMORY >> 30} GiB, clean and degraded; give "
                    "a smaller --max-side, or fewer --seconds"
                )
            if len(frames) == count:
                break
    if len(frames) == 1:
        raise MediaError(f"{path}: has one frame; give a video")
    period = 2 * len(frames) - 2
    return [frames[min(i % period, -i % period)] for i in range(count)], rate


def degraded(clean: Sequence[Frame], rate: float, segments: Sequence[Segment], seed: int) -> Iterator[Frame]:
    """The frames under the segments' weather, as many for each; one seed for a segment, drawn by its place."""
    length = len(clean) // len(segments)
    for place, segment in enumerate(segments):
        drawn = int(np.random.SeedSequence([seed, place]).generate_state(1)[0])
        for index in range(place * length, (place + 1) * length):
            yield degrade_frame(clean[index], segment.severities, drawn, index / rate)


def _reduced(frame: Frame, max_side: int) -> Frame:
    height, width = frame.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return frame
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
