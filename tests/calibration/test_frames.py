"""What compositions are calibrated on and judged by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from uir.calibration.degradations import DEGRADATIONS
from uir.calibration.frames import PHOTOS, check_degradations, default_frames, footage_frames, read_footage
from uir.runtime.composition import Composition
from uir.runtime.errors import UsageError

RAIN, FOG = Composition.parse("rain"), Composition.parse("fog=0.5,rain=0.5")


def test_the_shipped_photos_are_small_and_credited() -> None:
    photos = sorted(PHOTOS.rglob("*.jpg"))
    credits_text = (PHOTOS / "CREDITS.md").read_text()
    assert len(photos) == 10
    for photo in photos:
        assert f"`{photo.stem}`" in credits_text
        assert photo.stat().st_size < 50_000
        with Image.open(photo) as image:
            assert image.size == (256, 256)
    assert {file.name for file in PHOTOS.rglob("*") if file.is_file()} == {*(p.name for p in photos), "CREDITS.md"}


def test_a_composition_is_judged_on_other_photos_than_it_is_calibrated_on() -> None:
    frames = default_frames(RAIN, 16)
    assert len(frames.calibration) == 18
    assert len(frames.judged) == len(frames.pairs) == 12
    for pair, judged in zip(frames.pairs, frames.judged, strict=True):
        assert pair.degraded is judged
        assert pair.clean.shape == judged.shape == (256, 256, 3)
        assert pair.clean.dtype == judged.dtype == np.uint8
        assert not np.array_equal(pair.clean, judged)
    assert len({pair.clean.tobytes() for pair in frames.pairs}) == 4
    assert {path.name for path in (PHOTOS / "judge").iterdir()}.isdisjoint(
        path.name for path in (PHOTOS / "calibrate").iterdir()
    )


def test_each_adapter_of_a_mix_has_its_degradation() -> None:
    rain, both = default_frames(RAIN, 16), default_frames(Composition.parse("haze=0.5,rain=0.5"), 16)
    hazier = [abs(int(a.mean()) - int(b.mean())) for a, b in zip(rain.judged, both.judged, strict=True)]
    assert max(hazier) > 10


def test_frames_are_the_same_again_and_multiples() -> None:
    one, two = default_frames(RAIN, 24), default_frames(RAIN, 24)
    assert {frame.shape for frame in one.calibration} == {(240, 240, 3)}
    assert all(np.array_equal(a, b) for a, b in zip(one.calibration, two.calibration, strict=True))


def test_the_base_alone_has_nothing_to_restore() -> None:
    frames = default_frames(Composition(), 16)
    assert (len(frames.calibration), len(frames.judged), frames.pairs) == (6, 4, [])


def test_every_degradation_can_be_calibrated() -> None:
    for name in DEGRADATIONS:
        check_degradations(Composition.of({name: 1}))


def test_an_unknown_degradation_needs_footage() -> None:
    with pytest.raises(UsageError, match=r"fog: no degradation of that name.*--calibrate FOLDER_OR_VIDEO"):
        default_frames(FOG, 16)


@pytest.fixture
def footage() -> list[NDArray[np.uint8]]:
    return [np.full((16, 16, 3), number, np.uint8) for number in range(7)]


def numbers(frames: list[NDArray[np.uint8]]) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in frames]


def test_every_third_piece_of_footage_is_held_out(footage: list[NDArray[np.uint8]]) -> None:
    frames = footage_frames(footage, FOG, 16)
    assert (numbers(frames.calibration), numbers(frames.judged)) == ([0, 1, 3, 4, 6], [2, 5])
    assert frames.pairs == []
    assert len(footage_frames(footage, RAIN, 16).pairs) == 12


@pytest.mark.parametrize("count", [1, 2])
def test_footage_of_a_frame_or_two_is_judged_on_itself(footage: list[NDArray[np.uint8]], count: int) -> None:
    frames = footage_frames(footage[:count], FOG, 16)
    assert numbers(frames.calibration) == numbers(frames.judged) == list(range(count))


def test_footage_is_read_from_a_video() -> None:
    pieces = read_footage(Path(__file__).parents[1] / "media" / "bunny.mp4", 16)
    assert len(pieces) == 30
    assert {piece.shape for piece in pieces} == {(256, 256, 3)}
