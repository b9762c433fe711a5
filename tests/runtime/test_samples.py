"""Frames out of what a user has: photos, folders, videos."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from uir.runtime.errors import MediaError, MissingFileError
from uir.runtime.picture_reader import read_frame
from uir.runtime.samples import sample_frames
from uir.runtime.video.info import VideoInfo

BUNNY = Path(__file__).parents[1] / "media" / "bunny.mp4"


def write(path: Path, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> Path:
    assert cv2.imwrite(str(path), pixels if pixels.ndim == 2 else pixels[..., ::-1])
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """300 x 400, each pixel telling where it is."""
    rows, columns = np.mgrid[:300, :400]
    return write(tmp_path / "photo.png", np.stack([rows % 256, columns % 256, rows // 256 * 16 + columns // 256], -1))


def place(piece: NDArray[np.uint8]) -> tuple[int, int]:
    """The row and column of a piece's first pixel."""
    row, column, high = (int(value) for value in piece[0, 0])
    return row + 256 * (high // 16), column + 256 * (high % 16)


def test_pieces_are_cut_out_of_all_of_a_photo(photo: Path) -> None:
    pieces = sample_frames(photo, 12, 16)
    assert {piece.shape for piece in pieces} == {(256, 256, 3)}
    assert {piece.dtype for piece in pieces} == {np.dtype(np.uint8)}
    places = [place(piece) for piece in pieces]
    assert places[0] == (22, 72)  # the middle
    assert len(set(places)) == 12
    rows, columns = zip(*places, strict=True)
    assert (min(rows) < 10, max(rows) > 34, min(columns) < 30, max(columns) > 114) == (True,) * 4
    whole = read_frame(photo)
    for piece, (row, column) in zip(pieces, places, strict=True):
        assert np.array_equal(piece, whole[row : row + 256, column : column + 256])


def test_sampling_again_gives_the_same(photo: Path) -> None:
    for one, other in zip(sample_frames(photo, 5, 16), sample_frames(photo, 5, 16), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("multiple_of", "side", "shape"),
    [(16, 256, (256, 256)), (24, 256, (240, 240)), (7, 30, (28, 28)), (320, 64, (320, 320))],
)
def test_sides_are_multiples(photo: Path, multiple_of: int, side: int, shape: tuple[int, int]) -> None:
    for piece in sample_frames(photo, 3, multiple_of, side):
        assert piece.shape == (*shape, 3)
        assert piece.flags.c_contiguous


@pytest.mark.parametrize("shape", [(5, 7), (1, 1), (20, 300)])
def test_small_photos_are_mirrored(tmp_path: Path, shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    (piece,) = sample_frames(write(tmp_path / "small.png", pixels), 1, 16)
    height, width = piece.shape[:2]
    assert (height, width) == (16, 16 if shape[1] < 16 else 256)
    if shape[0] < 16:
        assert np.array_equal(piece[: shape[0], : shape[1]], pixels)


def test_grey_and_16_bit_photos_become_rgb(tmp_path: Path) -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert np.array_equal(read_frame(write(tmp_path / "grey.png", grey)), grey[..., None].repeat(3, 2))
    deep = (np.arange(192, dtype=np.uint16) * 257).reshape(8, 8, 3)
    assert np.array_equal(read_frame(write(tmp_path / "deep.png", deep)), (deep // 257).astype(np.uint8))


@pytest.mark.parametrize("count", [3, 6])  # far enough apart to be sought, and near enough to be read on
def test_a_video_is_sampled_from_its_beginning_to_its_end(count: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        pieces = sample_frames(BUNNY, count, 8, side=10_000)
    assert len(pieces) == count
    assert {piece.shape for piece in pieces} == {(360, 640, 3)}
    differences = [np.abs(a.astype(int) - b).mean() for i, a in enumerate(pieces) for b in pieces[:i]]
    assert min(differences) > 0.5
    assert not caplog.records


def test_a_folder_shares_its_photos_and_videos_evenly(photo: Path) -> None:
    shutil.copy(BUNNY, photo.with_name("clip.mp4"))
    write(photo.with_name("white.png"), np.full((300, 300, 3), 255, np.uint8))
    pieces = sample_frames(photo.parent, 9, 16)
    assert len(pieces) == 9
    assert sum(bool((piece == 255).all()) for piece in pieces) == 3


def test_of_many_photos_some_are_passed_over_evenly(tmp_path: Path) -> None:
    for number in range(20):
        write(tmp_path / f"{number}.png", np.full((16, 16, 3), number, np.uint8))
    assert [int(piece[0, 0, 0]) for piece in sample_frames(tmp_path, 5, 16)] == [0, 4, 8, 12, 16]


def test_a_video_whose_sound_is_longer_gives_what_frames_it_has(tmp_path: Path) -> None:
    import av

    path = tmp_path / "talk.mkv"
    with av.open(str(path), "w") as output:
        video, sound = output.add_stream("mpeg4", rate=10), output.add_stream("pcm_s16le", rate=8000, layout="mono")
        video.width, video.height = 64, 48
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * number, np.uint8), format="rgb24")
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000 * 60), np.int16), format="s16", layout="mono")
        silence.rate = 8000
        output.mux(sound.encode(silence))
    assert (VideoInfo.read(path).duration or 0) > 50
    assert len(sample_frames(path, 6, 16)) == 1


def test_what_cannot_be_sampled_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such file or folder"):
        sample_frames(tmp_path / "nothing", 3, 16)
    with pytest.raises(MissingFileError, match="no images or videos in this folder"):
        sample_frames(tmp_path, 3, 16)
    (tmp_path / "notes.txt").write_text("not a video")
    with pytest.raises(MediaError, match=r"notes\.txt: not a video"):
        sample_frames(tmp_path / "notes.txt", 3, 16)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(MediaError, match=r"broken\.png"):
        sample_frames(tmp_path / "broken.png", 3, 16)
