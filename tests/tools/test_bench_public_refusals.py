"""Sets that `uir-bench quality` refuses: before anything is restored, and in words that name the file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from uir.runtime import Restorer, UirError
from uir.tools.bench.cli import main as bench


def write(path: Path, size: tuple[int, int] = (40, 56)) -> None:
    """A grey picture, rows x columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), 120, np.uint8))


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """A folder with a whole set, `wet`, and sets with one fault each."""
    for part in ("input", "truth"):
        for name in ("wet", "broken"):
            write(tmp_path / name / part / "a.png")
            write(tmp_path / name / part / "b.png")
        write(tmp_path / "tiny" / part / "a.png", (6, 50))
        (tmp_path / "empty" / part).mkdir(parents=True)
        write(tmp_path / "twice" / part / "a.png")
    (tmp_path / "alone" / "truth").mkdir(parents=True)
    write(tmp_path / "lonely" / "input" / "a.png")
    write(tmp_path / "lonely" / "truth" / "b.png")
    write(tmp_path / "sizes" / "input" / "a.png", (40, 50))
    write(tmp_path / "sizes" / "truth" / "a.png", (50, 40))
    write(tmp_path / "twice" / "input" / "a.bmp")
    broken = tmp_path / "broken" / "truth" / "b.png"
    broken.write_bytes(broken.read_bytes()[:-30])
    return tmp_path


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--pairs", "nowhere"], 1, "nowhere: no such folder"),
        (["--pairs", "rain=nowhere"], 1, "nowhere: no such folder"),
        (["--pairs", "alone"], 1, "alone: no folder input in it"),
        (["--pairs", "empty"], 1, "empty/input: no images"),
        (["--pairs", "lonely"], 1, "lonely/input/a.png: nothing of this name in lonely/truth"),
        (["--pairs", "sizes"], 1, "sizes/input/a.png: 50x40, and its truth sizes/truth/a.png 40x50"),
        (["--pairs", "tiny"], 1, "tiny/input/a.png: 50x6 is too small"),
        (["--pairs", "twice"], 2, "twice/input/a.png: a.bmp has the same name|twice/input/a.bmp: a.png has the same"),
        (["--pairs", "wet", "--pairs", "broken"], 1, "broken/truth/b.png: .*truncated"),
        (["--pairs", "fog=wet"], 2, "--pairs fog=wet: the package has no adapter named 'fog'; .*haze, noise, rain"),
        (["--clean", "nowhere"], 1, "nowhere: no such folder"),
        (["--clean", "alone/truth"], 1, "alone/truth: no images"),
        (["--clean", "wet/truth", "--jpeg", "10"], 2, "--jpeg: .*restore.uir has no adapter for it, only haze"),
        (["--pairs", "wet", "--noise", "25"], 2, "--clean, which was not given"),
        (["--pairs", "wet", "--photos", "wet/truth"], 2, "--photos goes without --pairs"),
        (["--pairs", "wet", "--oracle"], 2, "--oracle goes with --photos"),
        (["--clean", "wet/truth", "--max-side", "320"], 2, "--max-side goes with --photos"),
        (["--pairs", "wet", "--limit", "0"], 2, "--limit 0"),
        ([], 2, "nothing to measure; give --photos, --pairs or --clean"),
    ],
)
def test_refusals(
    routed: Path,
    sets: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    status: int,
    words: str,
) -> None:
    monkeypatch.chdir(sets)

    def never(*_: object) -> None:
        raise AssertionError("a picture was restored before all were read")

    monkeypatch.setattr(Restorer, "__call__", never)
    with pytest.raises(UirError, match=words) as refused:
        bench(["quality", "--package", str(routed), "--json", "q.json", *options])
    assert refused.value.exit_status == status
    assert not Path("q.json").exists()


@pytest.mark.parametrize(
    ("option", "text"),
    [("--noise", "0"), ("--noise", "much"), ("--noise", "nan"), ("--jpeg", "101"), ("--jpeg", "9.5")],
)
def test_levels_that_are_none(option: str, text: str, sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        bench(["quality", "--clean", str(sets / "wet" / "truth"), option, text])
    assert stop.value.code == 2
    assert "write numbers from" in capsys.readouterr().err


def test_a_package_without_a_router_has_no_automatic_mode(paired_package: Path, sets: Path) -> None:
    with pytest.raises(UirError, match="has no router"):
        bench(["quality", "--package", str(paired_package), "--pairs", str(sets / "wet")])
