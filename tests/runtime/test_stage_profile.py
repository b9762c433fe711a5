"""The table of a video's stages."""

from __future__ import annotations

from uir.runtime.pipeline import StageTimes
from uir.runtime.stage_profile import profile_table


def test_each_stage_has_its_own_time_alone() -> None:
    times = StageTimes(
        decode=2.0, process=10.0, encode=3.0, decode_blocked=7.0, process_blocked=1.0, to_rgb=0.5, from_rgb=1.0
    )
    lines = profile_table(times, 0.4, 100, 12.0).splitlines()
    rows = {line[:8].strip(): line[8:].split()[:3] for line in lines[1:7]}
    assert rows == {
        "decode": ["1.50", "15.00", "12%"],
        "to RGB": ["0.50", "5.00", "4%"],
        "router": ["0.40", "4.00", "3%"],
        "engine": ["9.60", "96.00", "80%"],
        "from RGB": ["1.00", "10.00", "8%"],
        "encode": ["2.00", "20.00", "17%"],
    }
    assert "waited for the engine 7.00 s" in lines[1]
    assert lines[7] == "the engine waited 1.00 s for the encoder"
    assert lines[8].split() == ["all", "12.00", "120.00"]


def test_a_video_without_frames_divides_by_nothing() -> None:
    assert profile_table(StageTimes(), 0.0, 0, 0.001).count("\n") == 7


def test_frames_at_once_are_said() -> None:
    times = StageTimes(process=19.0, process_starved=0.5, process_blocked=9.0)
    table = profile_table(times, 0.0, 100, 10.0, at_once=2)
    assert "for the encoder" not in table
    (line,) = (line for line in table.splitlines() if line.startswith("engine"))
    assert line.split(maxsplit=4) == ["engine", "19.00", "190.00", "190%", "2 frames at once, waited for frames 0.50 s"]
