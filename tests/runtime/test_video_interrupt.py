"""Ctrl-C and SIGTERM, in a process of its own: the finished part stays, playable, under a name that says so."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import sys, time
from pathlib import Path
from uir.runtime.console import run_command
from uir.runtime.video.process import process_video

def work(image, seconds):
    if seconds > 0.95:
        print("far enough", flush=True)
        time.sleep(60)
    return image

def main(arguments):
    process_video(Path(sys.argv[1]), Path(sys.argv[2]), work)

raise SystemExit(run_command("restore", main))
"""


@pytest.mark.parametrize(
    ("suffix", "how"), [(".mp4", signal.SIGINT), (".mkv", signal.SIGINT), (".mp4", signal.SIGTERM)]
)
def test_an_interruption_keeps_a_playable_part(
    suffix: str, how: signal.Signals, make_video: Any, make_sound: Any, read_video: Any, tmp_path: Path
) -> None:
    source, out = make_video(f"in{suffix}", frames=72, sounds=[make_sound()]), tmp_path / f"out{suffix}"
    (tmp_path / f"out.partial{suffix}").write_bytes(b"from an earlier run")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(source), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "far enough\n"
        child.send_signal(how)
        _, errors = child.communicate(timeout=60)
    status, word = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}[how]
    assert child.returncode == status
    kept = tmp_path / f"out.partial-2{suffix}"
    assert errors == f"restore: warning: interrupted: the first 1.0 s (23 frames) are kept as {kept}\nrestore: {word}\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, f"out.partial{suffix}", kept.name])
    before, after = read_video(source), read_video(kept)
    assert after.times == before.times[:23]
    sound = after.packets[1]
    assert sound == before.packets[1][: len(sound)]
    assert float(sound[-1][0]) == pytest.approx(float(after.times[-1]), abs=0.2)


def test_nothing_is_kept_when_nothing_was_finished(make_video: Any, tmp_path: Path) -> None:
    from uir.runtime.video.process import process_video

    def interrupted(_image: Any, _seconds: float) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process_video(make_video(), tmp_path / "out.mp4", interrupted)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
