"""What a run says while it works: a bar with the label on a terminal, nothing elsewhere, and where the time went."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

import uir.runtime.video.process as process
from uir.runtime.video.process import process_video


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_with_the_label(make_video: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(process, "_PROGRESS_AFTER", 0.0)
    frames: list[int] = []

    def label() -> str:
        return f"haze=0.{len(frames)}"

    process_video(make_video(frames=9), tmp_path / "out.mp4", lambda image, _: frames.append(1) or image, label=label)
    shown = terminal.getvalue()
    assert "clip.mp4: 100% |" in shown
    assert " 9/9 " in shown
    assert "frames/s" in shown
    assert "haze=0.9" in shown


@pytest.mark.parametrize("progress", [True, False])
def test_success_is_quiet_elsewhere(
    progress: bool, make_video: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_PROGRESS_AFTER", 0.0)
    if not progress:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    result = process_video(make_video(), tmp_path / "out.mp4", lambda image, _: image, progress=progress, label="rain")
    assert capfd.readouterr() == ("", "")
    assert result.seconds >= result.times.process > 0
    assert result.times.decode > 0
