"""Sizes, turns and shapes of pixels: the picture stands as it stood."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from uir.runtime.errors import FrameError
from uir.runtime.pipeline import Work
from uir.runtime.video.info import VideoInfo
from uir.runtime.video.options import VideoOptions
from uir.runtime.video.process import process_video

LOSSLESS = VideoOptions(quality=0)


def same(image: np.ndarray[Any, Any], _seconds: float) -> np.ndarray[Any, Any]:
    return image


def rgb(frame: Any) -> np.ndarray[Any, Any]:
    image: np.ndarray[Any, Any] = frame.to_ndarray(format="rgb24", interpolation="BICUBIC").astype(int)
    return image


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize(("degrees", "quarter_turns"), [(90, -1), (180, 2), (270, 1)])
def test_rotated_video_is_processed_and_written_upright(
    degrees: int, quarter_turns: int, suffix: str, make_video: Any, make_picture: Any, read_video: Any, tmp_path: Path
) -> None:
    source, out = make_video(frames=3, rotation=degrees, aspect=Fraction(4, 3)), tmp_path / f"out{suffix}"
    assert read_video(source).frames[0].rotation in (-degrees, 360 - degrees, 180)
    seen: list[np.ndarray[Any, Any]] = []
    process_video(source, out, lambda image, _: seen.append(image.copy()) or image, LOSSLESS)
    upright = np.rot90(make_picture(1), quarter_turns).astype(int)
    assert np.abs(seen[1] - upright).mean() < 3
    written = read_video(out).frames[1]
    assert written.rotation == 0
    assert np.abs(rgb(written) - upright).mean() < 3
    info = VideoInfo.read(source)
    assert (info.rotation, info.width, info.height) == (degrees, *upright.shape[1::-1])
    if suffix != ".avi":
        expected = Fraction(4, 3) if degrees == 180 else Fraction(3, 4)
        assert VideoInfo.read(out).sample_aspect_ratio == info.sample_aspect_ratio == expected


@pytest.mark.parametrize(("orientation", "turns", "mirrored"), [(1, 0, False), (6, -1, False), (2, 0, True)])
def test_a_camera_film_of_jpegs_stands_as_its_exif_says(
    orientation: int, turns: int, mirrored: bool, make_picture: Any, tmp_path: Path
) -> None:
    source, exif = tmp_path / "film.avi", Image.Exif()
    exif[0x0110], exif[0x0112] = "camera", orientation
    with av.open(str(source), "w") as output:
        stream = output.add_stream("mjpeg", 24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj444p"
        stream.encode(av.VideoFrame(64, 48, "yuvj444p"))  # opens the encoder, whose pictures are not used
        for number in range(3):
            jpeg = io.BytesIO()
            Image.fromarray(make_picture(number)).save(jpeg, "JPEG", exif=exif, quality=98, subsampling=0)
            packet = av.Packet(jpeg.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 24)
            output.mux(packet)
    seen: list[np.ndarray[Any, Any]] = []
    process_video(source, tmp_path / "out.mp4", lambda image, _: seen.append(image.copy()) or image)
    upright = make_picture(1)[:, :: -1 if mirrored else 1]
    assert np.abs(seen[1] - np.rot90(upright, turns).astype(int)).mean() < 3


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_shape_of_pixels_is_kept(suffix: str, make_video: Any, tmp_path: Path) -> None:
    source = make_video(f"in{suffix}", frames=3, aspect=Fraction(128, 117))
    process_video(source, tmp_path / f"out{suffix}", same)
    info = VideoInfo.read(tmp_path / f"out{suffix}")
    assert info.sample_aspect_ratio == pytest.approx(Fraction(128, 117), abs=0.001)


@pytest.mark.parametrize(("width", "height"), [(63, 47), (64, 47), (63, 48), (17, 9)])
@pytest.mark.parametrize("codec", [None, "mpeg4"])
def test_odd_sizes_stay_as_they_are(
    codec: str | None, width: int, height: int, make_video: Any, make_picture: Any, read_video: Any, tmp_path: Path
) -> None:
    source = make_video("in.mkv", frames=3, width=width, height=height, codec="ffv1", options={}, matrix="ITU601")
    process_video(source, tmp_path / "out.mp4", same, VideoOptions(quality=0, codec=codec))
    frame = read_video(tmp_path / "out.mp4").frames[2]
    assert (frame.width, frame.height) == (width, height)
    assert frame.format.name == ("yuv444p" if codec is None else "yuv420p")
    assert np.abs(rgb(frame) - make_picture(2, width, height)).mean() < 4


def test_compare_puts_the_source_left_and_the_result_right(
    make_video: Any, make_picture: Any, read_video: Any, tmp_path: Path
) -> None:
    process_video(
        make_video(frames=3, matrix="ITU601"),
        tmp_path / "out.mp4",
        lambda image, _: 255 - image,
        VideoOptions(compare=True, quality=0),
    )
    frame = rgb(read_video(tmp_path / "out.mp4").frames[1])
    assert frame.shape == (48, 128, 3)
    inner = np.s_[:, 4:-4]  # the two halves share chroma at their seam
    assert np.abs(frame[:, :64][inner] - make_picture(1)[inner]).mean() < 3
    assert np.abs(frame[:, 64:][inner] - (255 - make_picture(1).astype(int))[inner]).mean() < 3


def test_a_size_that_changes_midway_is_scaled_to_the_first(
    make_video: Any, read_video: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    big = make_video("big.ts", frames=5, codec="mpeg2video", options={})
    small = make_video("small.ts", frames=5, codec="mpeg2video", options={}, width=48, height=32, pts=range(5, 10))
    source = tmp_path / "in.ts"
    source.write_bytes(big.read_bytes() + small.read_bytes())
    shapes = []
    process_video(source, tmp_path / "out.mp4", lambda image, _: shapes.append(image.shape) or image)
    assert len(shapes) >= 9
    assert set(shapes) == {(48, 64, 3)}
    assert {(f.width, f.height) for f in read_video(tmp_path / "out.mp4").frames} == {(64, 48)}
    assert caplog.text.count("changes from 64x48 to 48x32") == 1


def test_interlaced_video_is_said(make_video: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = make_video(frames=3, options={"preset": "ultrafast", "x264-params": "tff=1"})
    process_video(source, tmp_path / "out.mp4", same)
    assert "interlaced" in caplog.text


@pytest.mark.parametrize(
    ("process", "found"),
    [
        (lambda image, _: image[:-1], r"uint8 \(47, 64, 3\)"),
        (lambda image, _: image.astype(np.float32), r"float32 \(48, 64, 3\)"),
        (lambda _image, _: None, "NoneType"),
    ],
)
def test_a_frame_function_that_returns_something_else_is_told(
    process: Any, found: str, make_video: Any, tmp_path: Path
) -> None:
    with pytest.raises(FrameError, match=f"returned {found}; expected uint8"):
        process_video(make_video(), tmp_path / "out.mp4", process)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_view_of_another_array_can_be_returned(make_video: Any, make_picture: Any, tmp_path: Path) -> None:
    source, out = make_video(frames=2, matrix="ITU601"), tmp_path / "out.mp4"
    process_video(source, out, lambda image, _: image[:, ::-1], LOSSLESS)
    with av.open(str(out)) as container:
        frame = next(container.decode(video=0))
    assert np.abs(rgb(frame) - make_picture(0)[:, ::-1]).mean() < 3


def test_work_left_to_workers_gives_the_same_video(make_video: Any, read_video: Any, tmp_path: Path) -> None:
    def inverted(image: np.ndarray[Any, Any], seconds: float) -> np.ndarray[Any, Any]:
        result: np.ndarray[Any, Any] = 255 - image + np.uint8(10 * seconds)
        return result

    source, out, workers = make_video(frames=12), tmp_path / "out.mkv", tmp_path / "workers.mkv"
    process_video(source, out, inverted, LOSSLESS)
    process_video(source, workers, lambda image, s: Work(lambda: inverted(image, s)), LOSSLESS, workers=3)
    one, other = read_video(out), read_video(workers)
    assert one.pts == other.pts
    assert all(np.array_equal(rgb(a), rgb(b)) for a, b in zip(one.frames, other.frames, strict=True))


def test_the_work_of_a_wrong_frame_is_refused(make_video: Any, tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="the frame function returned"):
        process_video(make_video(frames=3), tmp_path / "out.mp4", lambda image, _: Work(lambda: image[1:]), workers=2)
