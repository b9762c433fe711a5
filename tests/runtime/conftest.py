"""Small videos made on the fly, by real encoders, with whatever a test needs in them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from av.video.frame import VideoFrame
from numpy.typing import NDArray

RATE = 24
WIDTH, HEIGHT = 64, 48


# swscale's numbers.
MATRICES = {None: None, "ITU709": 1, "ITU601": 5, "BT2020": 9}


def picture(index: int, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """A smooth, pale picture that differs from its neighbours and lies well inside every colour gamut."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = x / width, y / height
    red = 128 + 50 * np.sin(3 * x + 0.3 * index)
    green = 120 + 40 * np.cos(2 * y - 0.2 * index)
    blue = 110 + 45 * np.sin(2 * x + 2 * y + 0.1 * index)
    return np.stack([red, green, blue], axis=2).round().astype(np.uint8)


@dataclass
class Sound:
    """One sound track: its language, its disposition, and when it begins."""

    language: str = "eng"
    disposition: Disposition = Disposition.default
    begin: float = 0.0
    codec: str = "aac"


@dataclass
class Clip:
    """What to put into a video."""

    frames: int = 24
    width: int = WIDTH
    height: int = HEIGHT
    rate: Fraction = field(default_factory=lambda: Fraction(RATE))
    time_base: Fraction | None = None
    pts: Sequence[int] | None = None
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    options: dict[str, str] = field(default_factory=lambda: {"preset": "ultrafast", "qp": "0"})
    colorspace: int = 2
    color_range: int = 0
    primaries: int = 2
    transfer: int = 2
    matrix: str | None = None
    """The matrix that the pixels really have; None leaves it to swscale's default."""
    aspect: Fraction | None = None
    rotation: int = 0
    sounds: Sequence[Sound] = ()
    subtitles: bool = False
    attachment: bytes | None = None
    cover: bool = False
    chapters: Sequence[tuple[float, float, str]] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    video_metadata: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)


MakeVideo = Callable[..., Path]


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """A function that writes `name` into tmp_path with a `Clip`'s fields as keywords, and returns its path."""

    def make(name: str = "clip.mp4", **wanted: Any) -> Path:
        path = tmp_path / name
        write_clip(path, Clip(**wanted))
        return path

    return make


@pytest.fixture
def make_picture() -> Callable[..., NDArray[np.uint8]]:
    """The function that paints frame `index` of a clip of some width and height."""
    return picture


@pytest.fixture
def make_sound() -> type[Sound]:
    """The class of a sound track for `make_video`."""
    return Sound


def write_clip(path: Path, clip: Clip) -> None:
    with av.open(str(path), "w", container_options=clip.container_options) as output:
        video = output.add_stream(clip.codec, rate=clip.rate, options=clip.options)
        video.width, video.height, video.pix_fmt = clip.width, clip.height, clip.pix_fmt
        video.codec_context.time_base = video.time_base = clip.time_base or 1 / clip.rate
        video.codec_context.colorspace, video.codec_context.color_range = clip.colorspace, clip.color_range
        video.codec_context.color_primaries, video.codec_context.color_trc = clip.primaries, clip.transfer
        if clip.aspect:
            video.codec_context.sample_aspect_ratio = clip.aspect
        if clip.rotation:
            if not hasattr(video, "set_display_rotation"):
                pytest.skip("this PyAV cannot make a rotated video")
            video.set_display_rotation(-clip.rotation)
        video.metadata.update(clip.video_metadata)
        tracks = []
        for sound in clip.sounds:
            track = output.add_stream(sound.codec, rate=44100, layout="mono")
            track.metadata["language"] = sound.language
            track.disposition = sound.disposition.value
            tracks.append((track, sound))
        subtitle_source = _subtitle_source() if clip.subtitles else None
        if subtitle_source:
            copy = output.add_stream_from_template(subtitle_source.streams.subtitles[0])
            copy.metadata["language"] = "ger"
        if clip.attachment is not None:
            output.add_attachment("notes.ttf", "application/x-truetype-font", clip.attachment)
        if clip.cover:
            cover = output.add_stream("mjpeg", rate=1)
            cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
            cover.disposition = Disposition.attached_pic.value
        output.metadata.update(clip.metadata)
        if clip.chapters:
            output.set_chapters(
                [
                    {
                        "id": number,
                        "start": round(begin * 1000),
                        "end": round(end * 1000),
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": title},
                    }
                    for number, (begin, end, title) in enumerate(clip.chapters)
                ]
            )
        if clip.cover:
            image = VideoFrame.from_ndarray(picture(0, 32, 32)).reformat(format="yuvj420p")
            output.mux(cover.encode(image))
        if subtitle_source:
            for packet in subtitle_source.demux(subtitles=0):
                if packet.dts is not None:
                    packet.stream = copy
                    output.mux(packet)
        for track, sound in tracks:
            for packet in _sound_packets(track, sound, clip):
                output.mux(packet)
        for index in range(clip.frames):
            frame = VideoFrame.from_ndarray(picture(index, clip.width, clip.height)).reformat(
                format=clip.pix_fmt,
                dst_colorspace=MATRICES[clip.matrix],
                dst_color_range=clip.color_range or None,
                interpolation="AREA",
            )
            frame.pts = index if clip.pts is None else clip.pts[index]
            frame.time_base = clip.time_base or 1 / clip.rate
            output.mux(video.encode(frame))
        output.mux(video.encode(None))


def _sound_packets(track: Any, sound: Sound, clip: Clip) -> list[Any]:
    seconds = clip.frames / clip.rate
    packets = []
    for number in range(int(seconds * 44100) // 1024):
        wave = 0.3 * np.sin((number * 1024 + np.arange(1024)) * 0.06)[None]
        whole = track.format.name.startswith("s16")
        samples = (wave * 32767).astype(np.int16) if whole else wave.astype(np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format=track.format.name, layout="mono")
        frame.sample_rate, frame.time_base = 44100, Fraction(1, 44100)
        frame.pts = round(sound.begin * 44100) + number * 1024
        packets += track.encode(frame)
    return [*packets, *track.encode(None)]


def _subtitle_source() -> Any:
    text = "1\n00:00:00,100 --> 00:00:00,500\nRegen\n\n2\n00:00:00,600 --> 00:00:00,900\nNebel\n"
    return av.open(io.BytesIO(text.encode()), format="srt")


@dataclass
class Read:
    """Everything that a test compares of one video file."""

    frames: list[VideoFrame]
    pts: list[int]
    times: list[Fraction]
    packets: dict[int, list[tuple[Fraction, bytes]]]
    """By stream: presentation time in seconds and payload of every packet but the main video's."""
    kinds: list[tuple[str, str | None]]
    dispositions: list[Disposition]
    metadata: dict[str, str]
    stream_metadata: list[dict[str, str]]
    chapters: list[tuple[float, float, str]]
    attachments: list[tuple[str, bytes]]


@pytest.fixture
def read_video() -> Callable[[Path], Read]:
    """A function that reads a whole video file: every frame, every packet, every fact."""
    return read_clip


def read_clip(path: Path) -> Read:
    frames, packets = [], {}
    with av.open(str(path)) as container:
        main = next(s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
        others = [s for s in container.streams if s is not main and s.type not in ("attachment",)]
        for packet in container.demux(main, *others):
            if packet.stream.index == main.index:
                frames += packet.decode()
            elif packet.size:
                time = (packet.pts or 0) * packet.time_base
                packets.setdefault(packet.stream.index, []).append((time, bytes(packet)))
        return Read(
            frames=frames,
            pts=[frame.pts for frame in frames],
            times=[frame.pts * main.time_base for frame in frames],
            packets=packets,
            kinds=[(s.type, s.name) for s in container.streams],
            dispositions=[s.disposition for s in container.streams],
            metadata=dict(container.metadata),
            stream_metadata=[dict(s.metadata) for s in container.streams],
            chapters=[
                (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]), c["metadata"].get("title", ""))
                for c in container.chapters()
            ],
            attachments=[(s.name, s.data) for s in container.streams if s.type == "attachment"],
        )


def planes(frame: VideoFrame) -> list[NDArray[np.int32]]:
    """A frame's planes without their padding."""
    wide = max(component.bits for component in frame.format.components) > 8
    kind = np.uint16 if wide else np.uint8
    found = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, kind).reshape(plane.height, plane.line_size // kind().itemsize)
        found.append(rows[:, : plane.width].astype(np.int32))
    return found


@pytest.fixture
def plane_error() -> Callable[..., float]:
    """A function that gives the largest difference between two frames' planes in codes, or a plane's largest mean."""

    def error(one: VideoFrame, other: VideoFrame, *, mean: bool = False) -> float:
        assert one.format.name == other.format.name
        differences = [abs(a - b) for a, b in zip(planes(one), planes(other), strict=True)]
        return max(float(difference.mean() if mean else difference.max()) for difference in differences)

    return error
