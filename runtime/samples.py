"""Frames to calibrate on, out of what a user has: a photo, a folder of photos and videos, or a video."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.runtime.errors import MediaError
from uir.runtime.inputs import collect
from uir.runtime.picture_formats import is_image
from uir.runtime.picture_reader import read_frame
from uir.runtime.video.info import VideoInfo
from uir.runtime.video.reader import VideoReader

Frame = NDArray[np.uint8]

SIDE = 256
_STRIDE = 25  # frames: nearer ones are read one after the other, and farther ones sought


def sample_frames(inputs: str | Path, count: int, multiple_of: int, side: int = SIDE) -> list[Frame]:
    """Cut `count` pieces out of a photo, a video, or the photos and videos of a folder, spread evenly over them.

    Pieces are cut, not reduced: a reduced frame's noise and streaks are not those of a whole one. Their places are
    spread over the frame (Roberts' R2 sequence), the first in the middle.

    Args:
        inputs: a file, a folder or a glob pattern.
        count: how many; more than this of files, and some are passed over.
        multiple_of: of the package's frame contract.
        side: of a piece, pixels; what is smaller is taken whole.

    Returns:
        H x W x 3 uint8 RGB pieces, H and W multiples of `multiple_of`.

    Raises:
        MissingFileError: nothing is there.
        MediaError: a file cannot be read, or is neither photo nor video.
    """
    files = collect(str(inputs))
    if len(files) > count:
        files = [files[i * len(files) // count] for i in range(count)]
    shares = [(i + 1) * count // len(files) - i * count // len(files) for i in range(len(files))]
    frames = (frame for file, share in zip(files, shares, strict=True) for frame in _frames(file, share))
    return [_piece(frame, i, multiple_of, side) for i, frame in enumerate(frames)]


def _frames(file: Path, share: int) -> Iterator[Frame]:
    if is_image(file):
        yield from [read_frame(file)] * share
        return
    info = VideoInfo.read(file)
    step = max(1, (info.frame_count or share * _STRIDE) // share)
    if info.duration is None or step <= _STRIDE:
        with VideoReader(file) as reader:
            yield from (picture.image for picture in islice(reader, 0, share * step, step))
        return
    yield from _at(file, 0.0)
    with _warned_before():
        for i in range(1, share):
            with suppress(MediaError):  # the sound may be longer than the pictures
                yield from _at(file, info.duration * i / share)


def _at(file: Path, seconds: float) -> Iterator[Frame]:
    with VideoReader(file, start=seconds) as reader:
        yield from (picture.image for picture in islice(reader, 1))


@contextmanager
def _warned_before() -> Iterator[None]:
    """Keep a file that is opened again from warning again."""
    logger = logging.getLogger("uir.runtime.video")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _piece(frame: Frame, number: int, multiple_of: int, side: int) -> Frame:
    height, width = frame.shape[:2]
    down, across = (max(0, multiple_of - length) for length in (height, width))
    if down or across:
        frame = cv2.copyMakeBorder(frame, 0, down, 0, across, cv2.BORDER_REFLECT_101).astype(np.uint8, copy=False)
    tall, wide = (min(side, length) for length in frame.shape[:2])
    tall, wide = (max(multiple_of, length - length % multiple_of) for length in (tall, wide))
    top, left = (
        round(math.modf(0.5 + number * step)[0] * (length - taken))
        for step, length, taken in ((0.7548776662, frame.shape[0], tall), (0.5698402910, frame.shape[1], wide))
    )
    return np.ascontiguousarray(frame[top : top + tall, left : left + wide])
