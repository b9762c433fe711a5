"""Moving pictures to measure speed with: a slow pan over a photo or over a texture that is made up."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from uir.runtime.errors import OutputError
from uir.tools.bench.metrics import Frame

RATE = 24  # frames per second
PAN = (1, 3)  # pixels down and across, from one frame to the next
SIDE = 1024


def texture(seed: int = 0) -> Frame:
    """A made-up picture, 1024 x 1024: random colours at every scale, with as much fine detail as a photo has (1/f)."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((SIDE, SIDE, 3), np.float32)
    cells = 4
    while cells <= SIDE:
        octave = rng.standard_normal((cells, cells, 3), dtype=np.float32)
        picture += cv2.resize(octave, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) * np.float32(4 / cells) ** 0.8
        cells *= 2
    picture *= 48 / picture.std()
    return np.clip(picture + 128, 0, 255).astype(np.uint8)


def view(picture: Frame, width: int, height: int, index: int = 0) -> Frame:
    """Frame `index` of the pan, H x W x 3; beyond the picture's edges it is mirrored."""
    down, across = PAN
    rows = _mirrored(picture.shape[0], down * index + np.arange(height))
    columns = _mirrored(picture.shape[1], across * index + np.arange(width))
    return picture[rows[:, None], columns]


def _mirrored(length: int, places: NDArray[np.intp]) -> NDArray[np.intp]:
    folded = places % (2 * length)
    return np.minimum(folded, 2 * length - 1 - folded)


def write_video(path: Path, picture: Frame, width: int, height: int, frames: int) -> None:
    """Write the pan as H.264, 8-bit 4:2:0, with the quality of a good download.

    Args:
        width, height: even numbers of pixels.

    Raises:
        OSError: the file cannot be written.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", RATE, options={"crf": "20", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(view(picture, width, height, index), "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_still(path: Path, picture: Frame, width: int, height: int) -> None:
    """Write one frame as PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    if not cv2.imwrite(str(path), view(picture, width, height)[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1]):
        raise OutputError(f"{path}: cannot be written")
