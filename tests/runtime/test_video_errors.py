"""Bad input and bad output: one clear error that names the file, and nothing half-written."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from uir.runtime.errors import MediaError, MissingFileError, OutputError, UirError, UsageError
from uir.runtime.video.info import VideoInfo, is_video
from uir.runtime.video.options import VideoOptions
from uir.runtime.video.process import process_video


def same(image: np.ndarray[Any, Any], _seconds: float) -> np.ndarray[Any, Any]:
    return image


def never(_image: np.ndarray[Any, Any], _seconds: float) -> np.ndarray[Any, Any]:
    raise AssertionError("no frame may be processed")


def write_still(path: Path) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("png")
        stream.width, stream.height, stream.pix_fmt = 32, 32, "rgb24"
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def damaged(kind: str, make_video: Any, folder: Path) -> Path:
    path = folder / f"{kind}.mp4"
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path = folder / "notes.txt"
        path.write_text("not a video\n" * 100)
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(20_000))
    elif kind == "folder":
        path.mkdir()
    elif kind == "still":
        path = folder / "still.png"
        write_still(path)
    elif kind == "sound":
        path = folder / "sound.m4a"
        with av.open(str(path), "w") as output:
            stream = output.add_stream("aac", rate=44100, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 44100
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    elif kind == "head":  # the index lies at the end, and the end is missing
        data = make_video().read_bytes()
        path.write_bytes(data[: len(data) // 2])
    elif kind == "frames":  # a whole index over zeros
        source = make_video(container_options={"movflags": "faststart"})
        data = source.read_bytes()
        begin = data.index(b"mdat") + 4
        path.write_bytes(data[:begin] + bytes(len(data) - begin))
    return path


KINDS = {
    "missing": (MissingFileError, "no such file"),
    "empty": (MediaError, "is empty"),
    "text": (MediaError, "not a video|a picture or text"),
    "noise": (MediaError, "not a video"),
    "folder": (MediaError, "is a folder"),
    "still": (MediaError, "a picture or text, not a video"),
    "sound": (MediaError, "holds only sound"),
    "head": (MediaError, "not a video, or cut off"),
    "frames": (MediaError, "no frame of it can be decoded"),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_bad_input_is_named_and_nothing_is_written(kind: str, make_video: Any, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    path = damaged(kind, make_video, tmp_path)
    error, reason = KINDS[kind]
    for attempt in (lambda: VideoInfo.read(path), lambda: process_video(path, folder / "out.mp4", never)):
        with pytest.raises(error, match=reason) as caught:
            attempt()
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)
    assert not list(folder.iterdir())
    assert is_video(path) is (kind == "frames")  # opening tells; decoding is not tried


def test_a_video_is_known_by_its_content(make_video: Any, tmp_path: Path) -> None:
    renamed = make_video().rename(tmp_path / "clip.txt")
    assert is_video(renamed)
    assert is_video(make_video("clip.mkv"))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_video_that_is_cut_off_is_processed_as_far_as_it_goes(
    suffix: str, make_video: Any, make_sound: Any, read_video: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"movflags": "faststart"} if suffix == ".mp4" else {}
    whole = make_video(f"whole{suffix}", frames=96, sounds=[make_sound()], container_options=options)
    source, out = tmp_path / f"cut{suffix}", tmp_path / "out.mp4"
    data = whole.read_bytes()
    source.write_bytes(data[: len(data) * 6 // 10])
    result = process_video(source, out, same)
    assert 24 < result.frames < 80
    assert len(read_video(out).frames) == result.frames
    if suffix != ".ts":  # a transport stream does not say how long it is meant to be
        assert f"{source}: cut off: " in caplog.text
        assert "of 4.0 s" in caplog.text


def test_damage_in_the_middle_is_passed_over_and_counted(
    make_video: Any, read_video: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = make_video("whole.mkv", frames=48, codec="ffv1", options={"g": "1", "slicecrc": "1"})
    data = bytearray(whole.read_bytes())
    with av.open(str(whole)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        for packet in packets[20:23]:
            at = packet.pos + 40
            data[at : at + packet.size - 60] = bytes(packet.size - 60)
    source = tmp_path / "damaged.mkv"
    source.write_bytes(data)
    result = process_video(source, tmp_path / "out.mp4", same)
    assert 45 <= result.frames < 48
    assert f"{source}: damaged: 3 packets could not be read" in caplog.text
    assert len(read_video(tmp_path / "out.mp4").frames) == result.frames


@pytest.mark.parametrize(
    ("name", "reason"),
    [("out.gif", "gif files cannot be written"), ("out.xyz", "xyz files cannot be written"), ("out", "no suffix")],
)
def test_containers_that_are_not_written_are_refused(name: str, reason: str, make_video: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"{name}: .*{reason}.*; choose one of .mp4"):
        process_video(make_video(), tmp_path / name, never)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_unknown_encoders_are_refused_with_near_names(make_video: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown video encoder 'libx265x'; near names: libx265"):
        process_video(make_video(), tmp_path / "out.mp4", never, VideoOptions(codec="libx265x"))
    with pytest.raises(UsageError, match="unknown video encoder 'aac'"):
        process_video(make_video(), tmp_path / "out.mp4", never, VideoOptions(codec="aac"))


def test_an_encoder_that_the_container_refuses_is_told(make_video: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"out.webm: libx264 .*'webm' format does not support 'libx264' codec"):
        process_video(make_video(), tmp_path / "out.webm", never, VideoOptions(codec="libx264"))
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("options", [{"quality": -1}, {"quality": 52}, {"preset": "hasty"}])
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        VideoOptions(**options)


def test_quality_and_codec_are_heeded(make_video: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, sizes = make_video(frames=48, width=160, height=120), []
    noise = np.random.default_rng(1).integers(0, 40, (120, 160, 3), np.uint8)
    for codec in ("libx264", "libx265", "mpeg4", "libvpx-vp9"):
        for quality in (5, 45):
            out = tmp_path / f"{codec}-{quality}.mkv"
            options = VideoOptions(codec=codec, quality=quality, preset="ultrafast", duration=0.5)
            process_video(source, out, lambda image, _: image + noise, options)
            sizes.append(out.stat().st_size)
    assert all(good > 2 * bad for good, bad in zip(sizes[::2], sizes[1::2], strict=True)), sizes
    assert capfd.readouterr() == ("", "")  # x265 talks to stderr unless told not to


def test_the_destination_is_checked_before_any_frame(make_video: Any, tmp_path: Path) -> None:
    source, there = make_video(), tmp_path / "there.mp4"
    there.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already"):
        process_video(source, there, never)
    with pytest.raises(OutputError, match="the input itself"):
        process_video(source, source, never, overwrite=True)
    with pytest.raises(OutputError, match="no such folder"):
        process_video(source, tmp_path / "no" / "out.mp4", never)
    assert there.read_bytes() == b"precious"
    process_video(source, there, same, overwrite=True)
    assert VideoInfo.read(there).frame_count == 24


@pytest.mark.parametrize("at", [0, 10])
def test_a_frame_function_that_fails_leaves_nothing(at: int, make_video: Any, tmp_path: Path) -> None:
    there = tmp_path / "there.mp4"
    there.write_bytes(b"precious")
    seen = []

    def fail(image: np.ndarray[Any, Any], _seconds: float) -> np.ndarray[Any, Any]:
        seen.append(image)
        if len(seen) > at:
            raise ZeroDivisionError("in the network")
        return image

    with pytest.raises(ZeroDivisionError, match="in the network"):
        process_video(make_video(frames=48), there, fail, overwrite=True)
    assert there.read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "there.mp4"]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
        )
        if os.name == "posix" and os.geteuid() == 0
        else None
    )
    if mounted is None or mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("frames", [6, 100])
def test_a_full_disk_is_told_and_nothing_is_left(suffix: str, frames: int, make_video: Any, tiny_disk: Path) -> None:
    # With few frames the encoder holds all of them back, and the disk is found full only when the file is closed.
    noise = np.random.default_rng(2)
    source = make_video(frames=frames, width=160, height=120)

    def hard(image: np.ndarray[Any, Any], _seconds: float) -> np.ndarray[Any, Any]:
        return noise.integers(0, 256, image.shape, np.uint8)

    with pytest.raises(OutputError, match=f"out{suffix}: cannot be written: No space left on device"):
        process_video(source, tiny_disk / f"out{suffix}", hard, VideoOptions(quality=1))
    assert not list(tiny_disk.iterdir())


def test_every_error_is_ours(make_video: Any, tmp_path: Path) -> None:
    """A name that FFmpeg would take for a protocol or a pattern is just a name."""
    for name in ("a:b.mp4", "pipe:.mp4", "%d [x]*.mp4"):
        source = make_video().rename(tmp_path / name)
        assert process_video(source, tmp_path / f"out {name}", same).frames == 24
    with pytest.raises(UirError):
        process_video(tmp_path / "http://example.invalid/x.mp4", tmp_path / "y.mp4", never)
