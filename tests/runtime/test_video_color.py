"""Colours survive: an untouched frame comes back within a code, with the source's tags, for every matrix and range."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from uir.runtime.errors import MediaError
from uir.runtime.video.info import VideoInfo
from uir.runtime.video.options import VideoOptions
from uir.runtime.video.process import process_video

LOSSLESS = VideoOptions(quality=0)
LIMITED, FULL = 1, 2
TRANSFERS = {"ITU709": 1, "ITU601": 6, "BT2020": 14}
MATRICES = {"ITU709": 1, "ITU601": 6, "BT2020": 9}


def same(image: np.ndarray[Any, Any], _seconds: float) -> np.ndarray[Any, Any]:
    return image


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p"])
@pytest.mark.parametrize("color_range", [LIMITED, FULL])
@pytest.mark.parametrize("matrix", list(MATRICES))
def test_a_lossless_round_trip_is_neutral(
    matrix: str, color_range: int, pix_fmt: str, make_video: Any, read_video: Any, plane_error: Any, tmp_path: Path
) -> None:
    source = make_video(
        frames=4,
        matrix=matrix,
        colorspace=MATRICES[matrix],
        color_range=color_range,
        pix_fmt=pix_fmt,
        primaries=MATRICES[matrix],
        transfer=TRANSFERS[matrix],
    )
    out = tmp_path / "out.mp4"
    process_video(source, out, same, LOSSLESS)
    before, after = read_video(source).frames, read_video(out).frames
    assert len(after) == len(before) == 4
    assert max(plane_error(a, b) for a, b in zip(before, after, strict=True)) <= 2
    assert max(plane_error(a, b, mean=True) for a, b in zip(before, after, strict=True)) < (
        0.4 if color_range == LIMITED else 0.9
    )
    assert after[0].colorspace == MATRICES[matrix]
    assert after[0].color_range == color_range


def test_every_tag_is_kept(make_video: Any, tmp_path: Path) -> None:
    source = make_video(colorspace=6, color_range=FULL, primaries=5, transfer=4, frames=3)
    process_video(source, tmp_path / "out.mp4", same)
    with av.open(str(tmp_path / "out.mp4")) as container:
        next(container.decode(video=0))
        context = container.streams.video[0].codec_context
        tags = (context.colorspace, context.color_range, context.color_primaries, context.color_trc)
    assert tags == (6, FULL, 5, 4)


@pytest.mark.parametrize(("matrix", "color_range"), [("ITU709", LIMITED), ("ITU601", LIMITED), ("ITU601", FULL)])
def test_the_frame_function_sees_the_true_colours(
    matrix: str, color_range: int, make_video: Any, make_picture: Any, tmp_path: Path
) -> None:
    source = make_video(
        frames=2, matrix=matrix, colorspace=MATRICES[matrix], color_range=color_range, pix_fmt="yuv444p"
    )
    seen: list[np.ndarray[Any, Any]] = []
    process_video(source, tmp_path / "out.mp4", lambda image, _: seen.append(image.copy()) or image)
    for index, image in enumerate(seen):
        assert np.abs(image.astype(int) - make_picture(index)).max() <= 2


@pytest.mark.parametrize(("height", "matrix"), [(576, "ITU601"), (720, "ITU709")])
def test_what_says_nothing_is_bt709_from_720_lines_on(
    height: int, matrix: str, make_video: Any, read_video: Any, make_picture: Any, plane_error: Any, tmp_path: Path
) -> None:
    source = make_video(frames=2, width=64, height=height, matrix=matrix, pix_fmt="yuv444p")
    seen: list[np.ndarray[Any, Any]] = []
    out = tmp_path / "out.mp4"
    process_video(source, out, lambda image, _: seen.append(image.copy()) or image, LOSSLESS)
    assert np.abs(seen[0].astype(int) - make_picture(0, 64, height)).max() <= 2
    before, after = read_video(source).frames, read_video(out).frames
    assert max(plane_error(a, b) for a, b in zip(before, after, strict=True)) <= 1
    assert after[0].colorspace == before[0].colorspace == 2  # still unspecified


def test_rgb_video_is_tagged_when_it_becomes_yuv(
    make_video: Any, make_picture: Any, read_video: Any, tmp_path: Path
) -> None:
    source = make_video("in.mkv", frames=3, codec="ffv1", pix_fmt="bgr0", options={})
    seen: list[np.ndarray[Any, Any]] = []
    process_video(source, tmp_path / "out.mkv", lambda image, _: seen.append(image.copy()) or image)
    assert np.array_equal(seen[2], make_picture(2))
    frame = read_video(tmp_path / "out.mkv").frames[2]
    assert (frame.format.name, frame.colorspace, frame.color_range) == ("yuv420p", 6, LIMITED)
    back = frame.to_ndarray(format="rgb24", src_colorspace="ITU601", dst_colorspace="ITU601")
    assert np.abs(back.astype(int) - make_picture(2)).mean() < 3


def test_ffv1_round_trip_is_neutral(make_video: Any, read_video: Any, plane_error: Any, tmp_path: Path) -> None:
    source = make_video("in.mkv", frames=4, codec="ffv1", options={}, matrix="ITU601", colorspace=6)
    process_video(source, tmp_path / "out.mkv", same, VideoOptions(codec="ffv1"))
    before, after = read_video(source).frames, read_video(tmp_path / "out.mkv").frames
    assert VideoInfo.read(tmp_path / "out.mkv").codec == "ffv1"
    assert max(plane_error(a, b) for a, b in zip(before, after, strict=True)) <= 1


def test_ten_bits_are_processed_in_eight_and_said_so(
    make_video: Any, make_picture: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = make_video(frames=3, pix_fmt="yuv420p10le", matrix="ITU709", colorspace=1)
    seen: list[np.ndarray[Any, Any]] = []
    process_video(source, tmp_path / "out.mp4", lambda image, _: seen.append(image.copy()) or image)
    assert seen[0].dtype == np.uint8
    assert np.abs(seen[1].astype(int) - make_picture(1)).mean() < 2
    assert VideoInfo.read(tmp_path / "out.mp4").pix_fmt == "yuv420p"
    assert [r.getMessage() for r in caplog.records] == [
        f"{source}: more than 8 bits a channel; it is processed and written in 8 bits"
    ]


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_said_and_its_tags_are_kept(
    transfer: int, name: str, make_video: Any, read_video: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = make_video(frames=3, pix_fmt="yuv420p10le", matrix="BT2020", colorspace=9, primaries=9, transfer=transfer)
    process_video(source, tmp_path / "out.mp4", same)
    assert f"HDR ({name})" in caplog.text
    frame = read_video(tmp_path / "out.mp4").frames[0]
    assert (frame.colorspace, frame.format.name) == (9, "yuv420p")


def test_transparency_is_dropped_and_said_so(
    make_video: Any, read_video: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = make_video("in.mov", frames=3, codec="png", pix_fmt="rgba", options={})
    process_video(source, tmp_path / "out.mov", same)
    assert "transparency is dropped" in caplog.text
    assert len(read_video(tmp_path / "out.mov").frames) == 3


def test_a_matrix_that_cannot_be_converted_is_refused(make_video: Any, tmp_path: Path) -> None:
    source = make_video(frames=2, colorspace=14)  # ICtCp
    with pytest.raises(MediaError, match=r"clip.mp4: colour matrix 14 .* not supported"):
        process_video(source, tmp_path / "out.mp4", same)
    assert not (tmp_path / "out.mp4").exists()
