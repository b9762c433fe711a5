"""Clean pictures as cameras have them, and what becomes of pictures on their way through codecs and films."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

SIDES = 384, 1600
"""The longer side of a picture, pixels, as videos have it; the small ones are drawn more often, and cost less."""


def part_of(photo: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A part of a photo as a camera of some resolution would have it; never enlarged, which would blur it."""
    shares = rng.uniform(0.6, 1, 2)
    high, wide = (max(1, round(length * share)) for length, share in zip(photo.shape[:2], shares, strict=True))
    top, left = int(rng.integers(photo.shape[0] - high + 1)), int(rng.integers(photo.shape[1] - wide + 1))
    part = photo[top : top + high, left : left + wide]
    scale = min(1.0, SIDES[0] * (SIDES[1] / SIDES[0]) ** rng.random() ** 2 / max(high, wide))
    size = max(1, round(wide * scale)), max(1, round(high * scale))
    sharp = scale > 0.6 and rng.random() < 0.5  # cameras sharpen; bicubic does so a little
    sized = cv2.resize(part, size, interpolation=cv2.INTER_CUBIC if sharp else cv2.INTER_AREA)
    if rng.random() < 0.5:
        sized = sized[:, ::-1]
    if rng.random() < 0.5:  # the taste of the camera's maker
        curve = 255 * (np.arange(256) / 255) ** rng.uniform(0.85, 1.2)
        sized = np.rint(curve).astype(np.uint8)[sized]
    return np.ascontiguousarray(sized, dtype=np.uint8)


def blank(rng: np.random.Generator) -> NDArray[np.uint8]:
    """One colour, often black or white, or a slow change from one to another."""
    height, width = (int(side) for side in rng.integers(180, 720, 2))
    colours = rng.choice([0, 255]) * np.ones((2, 2, 3)) if rng.random() < 0.5 else rng.uniform(0, 255, (2, 2, 3))
    if rng.random() < 0.5:
        colours[:] = colours[0, 0]
    return np.rint(cv2.resize(colours, (width, height), interpolation=cv2.INTER_LINEAR)).astype(np.uint8)


def barred(frame: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The same with black bars above and below, or at the sides."""
    result = frame.copy()
    along = result if rng.random() < 0.7 else result.swapaxes(0, 1)
    bar = max(1, round(len(along) * rng.uniform(0.03, 0.14)))
    along[:bar], along[-bar:] = 0, 0
    return result


def coded(frame: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """What a JPEG or an H.264 video of good quality leaves of a frame; one row less where it has an odd number."""
    if rng.random() < 0.5:
        sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 if rng.random() < 0.6 else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
        settings = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(86, 99)), cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
        stored = cv2.imencode(".jpg", frame[..., ::-1], settings)[1]
        return np.ascontiguousarray(np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])
    return _filmed(frame, quality=int(rng.integers(12, 24)))


def _filmed(frame: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """The frame as the only one of an H.264 video.

    Args:
        quality: x264's CRF, at which 18 can hardly be told from the source and 23 is usual.
    """
    height, width = frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2
    encoder = av.VideoCodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base = Fraction(1, 25)
    encoder.options = {"crf": str(quality), "preset": "veryfast", "threads": "1"}
    picture = VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
    packets = [*encoder.encode(picture.reformat(format="yuv420p")), *encoder.encode(None)]
    decoder = av.VideoCodecContext.create("h264", "r")
    pictures = [each for packet in packets for each in decoder.decode(packet)] + decoder.decode(None)
    return np.asarray(pictures[0].to_ndarray(format="rgb24"), np.uint8)
