"""What `process_video` keeps: times, sound, subtitles, attachments, covers, chapters, metadata."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from uir.runtime.video.info import VideoInfo
from uir.runtime.video.options import VideoOptions
from uir.runtime.video.process import process_video


def same(image: np.ndarray[Any, Any], _seconds: float) -> np.ndarray[Any, Any]:
    return image


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.mp4"


def test_every_frame_is_processed_once_at_its_time(make_video: Any, read_video: Any, out: Path) -> None:
    source = make_video(frames=20, rate=Fraction(30000, 1001))
    seen: list[float] = []

    def brighter(image: np.ndarray[Any, Any], seconds: float) -> np.ndarray[Any, Any]:
        assert image.shape == (48, 64, 3)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        seen.append(seconds)
        return image + np.uint8(60)

    result = process_video(source, out, brighter)
    before, after = read_video(source), read_video(out)
    assert (result.frames, result.path) == (20, out)
    assert result.times.encode > 0
    assert after.times == before.times
    assert seen == [float(time) for time in before.times]
    lifted = [
        float(b.to_ndarray(format="gray").mean() - a.to_ndarray(format="gray").mean())
        for a, b in zip(before.frames, after.frames, strict=True)
    ]
    assert min(lifted) > 40
    info = VideoInfo.read(out)
    assert info.frame_rate == Fraction(30000, 1001)
    assert info.codec == "h264"


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("first", [0, 7000])
def test_irregular_times_stay_exact(suffix: str, first: int, make_video: Any, read_video: Any, tmp_path: Path) -> None:
    steps = np.array([1, 3003, 40, 9000, 2, 3003, 3600, 12345, 17, 90000])
    pts = (first + np.concatenate(([0], np.cumsum(steps)))).tolist()
    exact = {"movie_timescale": "90000"}
    source = make_video("vfr.mp4", frames=len(pts), pts=pts, time_base=Fraction(1, 90000), container_options=exact)
    out = tmp_path / f"out{suffix}"
    process_video(source, out, same)
    assert read_video(source).times == [Fraction(time, 90000) for time in pts]
    assert read_video(out).times == read_video(source).times


def test_matroska_times_stay_exact(make_video: Any, read_video: Any, tmp_path: Path) -> None:
    pts = [0, 1, 40, 83, 500, 501, 1999, 2040]
    source = make_video("vfr.mkv", frames=8, pts=pts, time_base=Fraction(1, 1000))
    process_video(source, tmp_path / "out.mkv", same)
    assert read_video(tmp_path / "out.mkv").pts == pts


def test_the_last_frame_keeps_its_duration(make_video: Any, out: Path) -> None:
    source = make_video(frames=10)
    process_video(source, out, same)
    assert VideoInfo.read(out).duration == VideoInfo.read(source).duration == pytest.approx(10 / 24)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_sound_is_copied_byte_for_byte_at_its_time(
    suffix: str, make_video: Any, make_sound: Any, read_video: Any, tmp_path: Path
) -> None:
    sounds = [make_sound("eng", begin=0.25), make_sound("fra", Disposition(0))]
    source, out = make_video(f"in{suffix}", sounds=sounds), tmp_path / f"out{suffix}"
    process_video(source, out, same)
    before, after = read_video(source), read_video(out)
    assert after.packets[1] == before.packets[1]
    assert after.packets[2] == before.packets[2]
    assert len(after.packets[1]) > 30
    assert after.times == before.times
    assert [m.get("language") for m in after.stream_metadata[1:3]] == ["eng", "fra"]
    assert after.dispositions[1:3] == [Disposition.default, Disposition(0)]


def test_sound_keeps_its_offset_where_a_container_moves_all_times(
    make_video: Any, make_sound: Any, read_video: Any, tmp_path: Path
) -> None:
    source = make_video("in.mp4", sounds=[make_sound(begin=0.25)])
    before = read_video(source)
    for suffix in (".ts", ".mkv"):
        out = tmp_path / f"out{suffix}"
        process_video(source, out, same)
        after = read_video(out)
        offset = [float(read.packets[1][0][0] - read.times[0]) for read in (before, after)]
        assert offset[1] == pytest.approx(offset[0], abs=0.002)


def test_sound_and_picture_are_interleaved(make_video: Any, make_sound: Any, out: Path) -> None:
    process_video(make_video(frames=48, sounds=[make_sound()]), out, same)
    with av.open(str(out)) as container:
        order = [packet.stream.index for packet in container.demux() if packet.dts is not None]
    runs = [len(run) for run in "".join(map(str, order)).split("0")]
    assert max(runs) < 20  # sound packets in a row; without interleaving all 80 stand together


def test_matroska_keeps_subtitles_attachments_chapters_and_metadata(
    make_video: Any, make_sound: Any, read_video: Any, tmp_path: Path
) -> None:
    source = make_video(
        "in.mkv",
        subtitles=True,
        attachment=b"\x00\x01font",
        sounds=[make_sound("eng")],
        chapters=[(0, 0.5, "eins"), (0.5, 1, "zwei")],
        metadata={"title": "Rain", "comment": "by night"},
        video_metadata={"language": "jpn", "title": "main"},
    )
    process_video(source, tmp_path / "out.mkv", same)
    before, after = read_video(source), read_video(tmp_path / "out.mkv")
    assert after.kinds == before.kinds
    assert [kind for kind, _ in after.kinds] == ["video", "audio", "subtitle", "attachment"]
    assert after.packets == before.packets
    assert [data for _, data in after.packets[2]] == [b"Regen", b"Nebel"]
    assert after.attachments == [("notes.ttf", b"\x00\x01font")]
    assert after.chapters == [(0, 0.5, "eins"), (0.5, 1, "zwei")]
    assert (after.metadata["title"], after.metadata["COMMENT"]) == ("Rain", "by night")
    assert (after.stream_metadata[0]["language"], after.stream_metadata[0]["title"]) == ("jpn", "main")
    assert after.stream_metadata[2]["language"] == "ger"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_text_that_is_no_utf8_is_kept_byte_for_byte(suffix: str, make_video: Any, tmp_path: Path) -> None:
    names = [(0.0, 0.2, "Kapitel-Eins")]
    source = make_video(f"in{suffix}", metadata={"title": "Regen-Nacht"}, chapters=names)
    latin = {b"Regen-Nacht": b"Regen-N\xe4sse", b"Kapitel-Eins": b"Kapitel-F\xfcnf"}
    content = source.read_bytes()
    for plain, written in latin.items():
        assert plain in content
        content = content.replace(plain, written)
    source.write_bytes(content)
    out = tmp_path / f"out{suffix}"
    process_video(source, out, same)
    assert all(written in out.read_bytes() for written in latin.values())


def test_mp4_keeps_chapters_and_metadata(make_video: Any, read_video: Any, out: Path) -> None:
    chapters = [(0.0, 0.3, "one"), (0.3, 0.6, "two"), (0.6, 1.0, "three")]
    source = make_video(chapters=chapters, metadata={"title": "Rain", "creation_time": "2020-02-03T04:05:06.000000Z"})
    process_video(source, out, same)
    before, after = read_video(source), read_video(out)
    assert after.chapters == chapters
    assert after.kinds == before.kinds  # one track of chapter titles, not two
    assert after.metadata["title"] == "Rain"
    assert after.metadata["creation_time"] == "2020-02-03T04:05:06.000000Z"


def test_mp4_keeps_what_phones_write(make_video: Any, read_video: Any, out: Path) -> None:
    written = {"com.apple.quicktime.make": "Maker", "com.android.capture.fps": "30.0"}
    source = make_video(metadata=written, container_options={"movflags": "use_metadata_tags"})
    process_video(source, out, same)
    assert written.items() <= read_video(out).metadata.items()


def test_the_timecode_stays_one_track(make_video: Any, read_video: Any, tmp_path: Path) -> None:
    source = make_video("in.mov", video_metadata={"timecode": "01:02:03:04"})
    process_video(source, tmp_path / "out.mov", same)
    after = read_video(tmp_path / "out.mov")
    assert after.kinds == read_video(source).kinds
    assert after.stream_metadata[0]["timecode"] == "01:02:03:04"


@pytest.mark.parametrize("route", [(".mp4", ".mp4"), (".mp4", ".mkv"), (".mkv", ".mkv"), (".mkv", ".mp4")])
def test_cover_art_stays_cover_art(route: tuple[str, str], make_video: Any, read_video: Any, tmp_path: Path) -> None:
    source = make_video(cover=True)
    if route[0] == ".mkv":
        process_video(source, tmp_path / "in.mkv", same)
        source = tmp_path / "in.mkv"
    out = tmp_path / f"out{route[1]}"
    assert process_video(source, out, same).frames == 24
    before, after = read_video(source), read_video(out)
    (one,), (other,) = before.packets.values(), after.packets.values()
    assert other[0][1] == one[0][1]
    assert after.dispositions[-1] & Disposition.attached_pic


def test_what_a_container_cannot_carry_is_left_out_and_named(
    make_video: Any, make_sound: Any, read_video: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = make_video("in.mkv", subtitles=True, attachment=b"font", sounds=[make_sound("eng")])
    process_video(source, tmp_path / "out.mp4", same)
    assert [kind for kind, _ in read_video(tmp_path / "out.mp4").kinds] == ["video", "audio"]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "stream 2 (subtitle, subrip, ger); it is left out" in lines[0]
    assert "stream 3 (attachment" in lines[1]


def test_webm_leaves_out_aac_and_is_vp9(
    make_video: Any, make_sound: Any, read_video: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out.webm"
    process_video(make_video(sounds=[make_sound()]), out, same, VideoOptions(preset="ultrafast"))
    assert VideoInfo.read(out).codec in ("vp9", "libvpx-vp9")
    assert len(read_video(out).frames) == 24
    assert ".webm files cannot carry stream 1 (audio, aac, eng)" in caplog.text


def test_avi_goes_through(make_video: Any, make_sound: Any, read_video: Any, tmp_path: Path) -> None:
    source = make_video("in.avi", codec="mpeg4", options={"bf": "0"}, sounds=[make_sound(codec="pcm_s16le")])
    process_video(source, tmp_path / "out.avi", same)
    before, after = read_video(source), read_video(tmp_path / "out.avi")
    assert len(after.frames) == len(before.frames) == 24
    assert b"".join(data for _, data in after.packets[1]) == b"".join(data for _, data in before.packets[1])
    assert np.unique(np.diff(after.pts)).tolist() == [1]


def test_avi_says_that_it_rounds_irregular_times(
    make_video: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = make_video(frames=6, pts=[0, 170, 900, 1130, 2190, 3000], time_base=Fraction(1, 1000))
    process_video(source, tmp_path / "out.avi", same)
    assert "constant frame rate" in caplog.text
