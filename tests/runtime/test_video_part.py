"""A part of a video: cut exactly at frames, sound with it, everything moved to begin at zero."""

from __future__ import annotations

from fractions import Fraction
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uir.runtime.errors import MediaError, UsageError
from uir.runtime.video.info import VideoInfo
from uir.runtime.video.options import VideoOptions
from uir.runtime.video.process import process_video


def same(image: np.ndarray[Any, Any], _seconds: float) -> np.ndarray[Any, Any]:
    return image


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("gop", ["1", "250"])
def test_the_part_is_exact(suffix: str, gop: str, make_video: Any, read_video: Any, tmp_path: Path) -> None:
    source = make_video(f"in{suffix}", frames=72, options={"preset": "ultrafast", "qp": "0", "g": gop, "bf": "2"})
    seconds: list[float] = []
    means: list[np.ndarray[Any, Any]] = []

    def watch(image: np.ndarray[Any, Any], at: float) -> np.ndarray[Any, Any]:
        seconds.append(at)
        means.append(image.mean(axis=(0, 1)))
        return image

    result = process_video(source, tmp_path / "out.mp4", watch, VideoOptions(start=1.24, duration=0.5))
    assert result.frames == 12  # frames 30 (1.25 s) to 41
    assert seconds == pytest.approx([(30 + n) / 24 for n in range(12)], abs=0.002)
    every: list[np.ndarray[Any, Any]] = []
    process_video(source, tmp_path / "all.mp4", lambda image, _: every.append(image.mean(axis=(0, 1))) or image)
    assert np.array_equal(means, every[30:42])
    times = read_video(tmp_path / "out.mp4").times
    assert times[0] == 0
    assert [float(time) for time in times] == pytest.approx([n / 24 for n in range(12)], abs=0.002)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_and_chapters_are_cut_alike(
    suffix: str, make_video: Any, make_sound: Any, read_video: Any, tmp_path: Path
) -> None:
    source = make_video(
        f"in{suffix}", frames=72, sounds=[make_sound()], chapters=[(0, 1, "a"), (1, 2, "b"), (2, 3, "c")]
    )
    out = tmp_path / f"out{suffix}"
    process_video(source, out, same, VideoOptions(start=1.5, duration=1))
    before, after = read_video(source), read_video(out)
    cut = Fraction(3, 2)
    wanted = [data for time, data in before.packets[1] if cut <= time < cut + 1]
    assert [data for _, data in after.packets[1]] == wanted
    assert len(wanted) >= 42
    first = next(time for time, data in before.packets[1] if data == wanted[0])
    assert float(after.packets[1][0][0] - after.times[0]) == pytest.approx(float(first - cut), abs=0.002)
    assert after.chapters == [(0, 0.5, "b"), (0.5, 1, "c")]
    assert len(after.frames) == 24


def test_a_duration_alone_leaves_times_as_they_are(
    make_video: Any, make_sound: Any, read_video: Any, tmp_path: Path
) -> None:
    source = make_video(frames=48, pts=range(10, 58), sounds=[make_sound(begin=0.5)])
    process_video(source, tmp_path / "out.mp4", same, VideoOptions(duration=0.5))
    before, after = read_video(source), read_video(tmp_path / "out.mp4")
    assert after.times == before.times[:12]
    end = before.times[0] + Fraction(1, 2)
    assert after.packets[1] == [packet for packet in before.packets[1] if packet[0] < end]


def test_a_part_reaches_at_most_to_the_end(make_video: Any, tmp_path: Path) -> None:
    source = make_video(frames=24)
    assert process_video(source, tmp_path / "a.mp4", same, VideoOptions(start=0.5, duration=99)).frames == 12
    assert process_video(source, tmp_path / "b.mp4", same, VideoOptions(start=0.5)).frames == 12
    assert VideoInfo.read(tmp_path / "b.mp4").duration == pytest.approx(0.5)


def test_a_start_behind_the_end_is_refused(make_video: Any, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"clip.mp4: ends at 0.9\d s, before the start"):
        process_video(make_video(), tmp_path / "out.mp4", same, VideoOptions(start=5))
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(
    "options", [{"start": -1}, {"start": nan}, {"start": inf}, {"duration": 0}, {"duration": nan}, {"duration": inf}]
)
def test_impossible_parts_are_refused(options: dict[str, float], make_video: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must"):
        process_video(make_video(), tmp_path / "out.mp4", same, VideoOptions(**options))
