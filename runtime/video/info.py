"""What a video file is: opened, checked, described."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from uir.runtime.errors import MediaError, MissingFileError
from uir.runtime.video.pyav import EXACT_METADATA, display_matrix, exact

# Demuxers that open pictures and text files as if they were videos of one frame.
_STILL_FORMATS = ("image2", "tty", "ico")
_STILL_BRANDS = ("avif", "heic", "heix", "mif1")
_NOT_MAIN = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


class Orientation(NamedTuple):
    """How a stored frame is turned to stand upright: transposed first, then mirrored."""

    transpose: bool = False
    flip_horizontal: bool = False
    flip_vertical: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> Orientation:
        """Read a frame's display matrix; anything but quarter turns and mirrors is left as stored."""
        m = display_matrix(frame)
        if m is not None:
            a, b, c, d = int(m[0]), int(m[1]), int(m[3]), int(m[4])
            if not b and not c and a and d:
                return cls(False, a < 0, d < 0)
            if not a and not d and b and c:
                return cls(True, c < 0, b < 0)
        return cls()

    @property
    def degrees(self) -> int:
        """The clockwise turn: 0, 90, 180 or 270 (a mirror is not told apart)."""
        if self.transpose:
            return 90 if self.flip_horizontal else 270
        return 180 if self.flip_vertical else 0

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn an H x W x 3 image upright, with its rows in one piece of memory; no copy where none is needed."""
        if self.transpose:
            image = image.transpose(1, 0, 2)
        if self.flip_horizontal:
            image = image[:, ::-1]
        if self.flip_vertical:
            image = image[::-1]
        return np.ascontiguousarray(image)


@dataclass(frozen=True)
class VideoInfo:
    """What a video file holds; `width` and `height` in pixels as shown, after the rotation."""

    path: Path
    container: str
    codec: str
    pix_fmt: str
    width: int
    height: int
    frame_rate: Fraction
    frame_count: int | None
    """As the file says or as its duration implies; None where it does neither. An estimate: variable frame rate."""
    duration: float | None
    """Seconds."""
    rotation: int
    """Degrees clockwise that the stored frames are turned by for showing: 0, 90, 180 or 270."""
    sample_aspect_ratio: Fraction
    """Width of a pixel over its height, as shown."""
    has_audio: bool

    @classmethod
    def read(cls, path: Path) -> VideoInfo:
        """Open a video and decode one frame of it.

        Raises:
            MissingFileError: there is no such file.
            MediaError: a folder, an empty file, no video, nothing that decodes.
        """
        path = Path(path)
        with open_video(path) as container:
            stream = main_video(container, path)
            return cls.of(path, container, stream, first_frame(container, stream, path))

    @classmethod
    def of(cls, path: Path, container: InputContainer, stream: VideoStream, frame: VideoFrame) -> VideoInfo:
        """Describe an open container by its main stream and a frame decoded from it."""
        orientation = Orientation.of(frame)
        width, height = frame.width, frame.height
        aspect = exact(stream.sample_aspect_ratio) or Fraction(1)
        if orientation.transpose:
            width, height, aspect = height, width, 1 / aspect
        rate = frame_rate(stream)
        duration = _duration(container, stream)
        count = stream.frames or (round(duration * rate) if duration else None)
        return cls(
            path=path,
            container=container.format.name,
            codec=stream.codec_context.name,
            pix_fmt=frame.format.name,
            width=width,
            height=height,
            frame_rate=rate,
            frame_count=count,
            duration=duration,
            rotation=orientation.degrees,
            sample_aspect_ratio=aspect,
            has_audio=any(other.type == "audio" for other in container.streams),
        )


def frame_rate(stream: VideoStream) -> Fraction:
    """Frames per second: as the file says, or as FFmpeg guesses, or 25."""
    return exact(stream.average_rate) or exact(stream.guessed_rate) or Fraction(25)


def open_video(path: Path) -> InputContainer:
    """Open a media file for reading.

    Raises:
        MissingFileError: there is no such file.
        MediaError: it is a folder, empty, or nothing that FFmpeg can open; the message names the file and the reason.
    """
    if not path.exists():
        raise MissingFileError(f"{path}: no such file")
    if path.is_dir():
        raise MediaError(f"{path}: is a folder, not a video")
    if path.is_file() and path.stat().st_size == 0:
        raise MediaError(f"{path}: is empty")
    try:
        # "file:" keeps a name such as `cam:1.mp4` from being taken for a protocol.
        container: InputContainer = av.open(f"file:{path}", **EXACT_METADATA)
        return container
    except PermissionError as error:
        raise MediaError(f"{path}: cannot be read: permission denied") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{path}: not a video, or cut off before it begins ({getattr(error, 'strerror', None) or error})"
        ) from error


def main_video(container: InputContainer, path: Path) -> VideoStream:
    """Choose the stream to work on: the default one, else the first; never cover art.

    Raises:
        MediaError: there is none, or no decoder for it.
    """
    if _is_still(container):
        raise MediaError(f"{path}: a picture or text, not a video")
    streams = [stream for stream in container.streams.video if not stream.disposition & _NOT_MAIN]
    if not streams:
        what = "only sound" if container.streams.audio else "no video stream"
        raise MediaError(f"{path}: holds {what}; a video is needed")
    stream = next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])
    if stream.codec_context is None:
        raise MediaError(f"{path}: no decoder for its video; convert it to H.264 first")
    return stream


def first_frame(container: InputContainer, stream: VideoStream, path: Path) -> VideoFrame:
    """Decode the first frame that decodes.

    Raises:
        MediaError: there is none.
    """
    found: VideoFrame | None = None
    with suppress(av.FFmpegError):
        for packet in container.demux(stream):
            with suppress(av.FFmpegError):
                found = next(iter(stream.decode(packet)), None)
            if found is not None:
                break
    if found is None:
        raise MediaError(f"{path}: no frame of it can be decoded; the file is damaged or cut off")
    return found


def is_video(path: Path) -> bool:
    """Whether a file opens as a video: by looking into it, not at its name. Decodes nothing; never raises."""
    try:
        with open_video(Path(path)) as container:
            main_video(container, Path(path))
            return True
    except (MediaError, MissingFileError):
        return False


def _is_still(container: InputContainer) -> bool:
    name = container.format.name
    brand = container.metadata.get("major_brand", "").strip()
    return name in _STILL_FORMATS or name.endswith("_pipe") or brand in _STILL_BRANDS


def _duration(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1_000_000 if container.duration else None
