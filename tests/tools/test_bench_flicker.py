"""`uir-bench flicker`: that its numbers are the standard deviations that it says they are."""

from __future__ import annotations

import json
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from uir.export.cli import main as export
from uir.runtime import Restorer, UirError
from uir.runtime.errors import UsageError
from uir.tools.bench.cli import main as bench
from uir.tools.degrade import degrade_frame

FRAMES = 3


def flicker(package: Path, photos: Path, output: Path, *more: object) -> Any:
    """Run `uir-bench flicker` in this process and return its JSON."""
    arguments = ["flicker", "--package", package, "--photos", photos, "--frames", FRAMES, "--json", output, *more]
    bench([str(argument) for argument in arguments])
    return json.loads(output.read_text())


def held(photo: Path, name: str, severity: float, seed: int) -> list[NDArray[np.uint8]]:
    """The frames that the benchmark says it makes."""
    image = cv2.imread(str(photo))
    assert image is not None
    clean = np.ascontiguousarray(image[..., ::-1]).astype(np.uint8)
    drawn = int(np.random.SeedSequence([seed, zlib.crc32(photo.name.encode())]).generate_state(1)[0])
    return [degrade_frame(clean, {name: severity}, drawn, index / 24) for index in range(FRAMES)]


def deviation(frames: list[NDArray[np.uint8]]) -> float:
    return float(np.stack(frames).astype(float).std(axis=0).mean())


def test_numbers_are_what_the_definition_gives(
    shared_package: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = flicker(shared_package, photos, tmp_path / "f.json", "--severity", "0.7", "--seed", "3")
    text = capsys.readouterr().out
    assert list(report["results"]) == ["haze", "rain", "noise"]
    higher = []
    for name, found in report["results"].items():
        restorer = Restorer(shared_package, name)
        videos = [held(photo, name, 0.7, 3) for photo in sorted(photos.glob("*.png"))]
        before = np.mean([deviation(video) for video in videos])
        after = np.mean([deviation([restorer(frame) for frame in video]) for video in videos])
        assert found["input"] == pytest.approx(before, abs=1e-9)
        assert found["restored"] == pytest.approx(after, abs=1e-9)
        assert found["ratio"] == pytest.approx(after / before)
        row = next(line for line in text.splitlines() if line.startswith(name))
        assert row.split()[1:] == [f"{before:.3f}", f"{after:.3f}", f"{after / before:.2f}"]
        higher += [name] if after > before else []
    assert report["results"]["noise"]["input"] > 5  # fresh in each frame
    assert f"Restored flickers more than its input: {', '.join(higher) or 'none'}." in text
    assert report["settings"]["frames"] == FRAMES
    assert report["settings"]["photos"] == ["one.png", "two.png"]


@pytest.mark.usefixtures("use_zoo")
def test_what_does_not_change_over_time_has_no_ratio(
    training_run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A JPEG of the same frame is the same each time."""
    export(["--adapters", f"jpeg={training_run / 'rain'}", "-o", str(tmp_path / "jpeg.uir")])
    report = flicker(tmp_path / "jpeg.uir", photos, tmp_path / "f.json", "--limit", "1")
    assert report["results"] == {"jpeg": {"input": 0.0, "restored": 0.0, "ratio": None}}
    text = capsys.readouterr().out
    assert next(line for line in text.splitlines() if line.startswith("jpeg")).split() == [
        "jpeg",
        "0.000",
        "0.000",
        "-",
    ]
    assert "more than its input: none." in text


def test_a_photo_counts_by_its_name(shared_package: Path, photos: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "two.png").write_bytes((photos / "two.png").read_bytes())
    both = flicker(shared_package, photos, tmp_path / "0.json")["results"]["noise"]["input"]
    first = flicker(shared_package, photos, tmp_path / "1.json", "--limit", "1")["results"]["noise"]["input"]
    second = flicker(shared_package, alone, tmp_path / "2.json")["results"]["noise"]["input"]
    other = flicker(shared_package, alone, tmp_path / "3.json", "--seed", "9")["results"]["noise"]["input"]
    assert both == pytest.approx((first + second) / 2, abs=1e-9)
    assert other != second


def test_help(call: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    result = call("uir-bench", "flicker", "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert "--frames N" in result.stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--frames", "1"], "--frames 1: must be 2 or more"),
        (["--severity", "1.5"], "--severity 1.5"),
        (["--severity", "nan"], "--severity nan"),
        (["--seed", "-1"], "--seed -1"),
        (["--limit", "0"], "--limit 0"),
        (["--max-side", "8"], "--max-side 8"),
        (["--photos", "nowhere"], "nowhere: no such"),
    ],
)
def test_refusals(shared_package: Path, photos: Path, change: list[str], words: str) -> None:
    with pytest.raises(UirError, match=words):
        bench(["flicker", "--package", str(shared_package), "--photos", str(photos), *change])


@pytest.mark.usefixtures("use_zoo")
def test_a_package_of_unknown_degradations_is_refused(training_run: Path, photos: Path, tmp_path: Path) -> None:
    export(["--adapters", f"soot={training_run / 'rain'}", "-o", str(tmp_path / "soot.uir")])
    with pytest.raises(UsageError, match=r"soot.uir.*\(soot\).*haze"):
        bench(["flicker", "--package", str(tmp_path / "soot.uir"), "--photos", str(photos)])
