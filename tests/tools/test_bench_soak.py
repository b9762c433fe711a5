"""`uir-bench soak`: that what runs for long holds what it held, and that the verdict sees what grows."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from uir.runtime.errors import UirError
from uir.tools.bench import soak
from uir.tools.bench.cli import main as bench
from uir.tools.bench.report import Report
from uir.tools.bench.soak import Sample, failure, table

MIB = 2**20


@pytest.mark.parametrize(("device", "seconds", "budget"), [("openvino", 14, "24MiB"), ("cpu", 8, "8MiB")])
def test_memory_threads_and_files_stay_what_they_are(
    routed_package: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., subprocess.CompletedProcess[str]],
    device: str,
    seconds: int,
    budget: str,
) -> None:
    """Ten compositions in each of 18 streams of two sizes, far more engines than there is room for."""
    if device == "openvino":
        pytest.importorskip("openvino")
    monkeypatch.setenv("UIR_CACHE", str(tmp_path / "engines"))
    monkeypatch.setenv("UIR_MEMORY", budget)
    report = tmp_path / "soak.json"
    asked = ["--device", device, "--time", f"{seconds}s", "--sizes", "64x48,96x64", "--json", str(report)]
    done = call("uir-bench", "soak", "--package", routed_package, *asked)
    assert (done.returncode, done.stderr) == (0, "")
    assert "this says little" not in done.stdout
    found = json.loads(report.read_text())
    assert found["settings"]["budget"] == int(budget.removesuffix("MiB")) * MIB
    results = found["results"]
    assert results["streams"] >= 12
    assert results["switches"] > 30
    assert max(each["counted"] for each in results["samples"]) < 1.5 * found["settings"]["budget"]
    shown = {line.split("  ")[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert len(shown["threads"]) == len(shown["files"]) == 6


def steady(count: int = 90) -> list[Sample]:
    """Warm after a quarter of the time, and then up and down."""
    return [
        Sample(second, (100 + min(100, 5 * second) + second % 7) * MIB, 64 * MIB, 20 + second % 3, 9)
        for second in range(count + 1)
    ]


def test_what_goes_up_and_down_does_not_grow() -> None:
    assert failure(steady()) == ""
    for_a_moment = [replace(each, files=30) if each.seconds in (70, 80) else each for each in steady()]
    assert failure(for_a_moment) == ""
    rows = {row[0]: row[1:] for row in table(steady()).rows}
    assert rows["resident MiB"] == ["100", "202", "206", "206", "203", "203"]
    assert rows["counted MiB"] == ["64"] * 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda each: replace(each, resident=each.resident + round(each.seconds * MIB)),
            "resident MiB from 248 to 278",
        ),
        (lambda each: replace(each, threads=each.threads + round(each.seconds) // 6), "threads from 28 to 33"),
        (lambda each: replace(each, files=each.files + round(each.seconds) // 10), "files from 13 to 16"),
    ],
)
def test_what_grows_fails(change: Callable[[Sample], Sample], words: str) -> None:
    assert failure(list(map(change, steady()))) == f"what the process holds grows: {words}"


def test_a_failure_is_said_after_the_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report({}, {}, [table(steady())], (), "what the process holds grows: files from 1 to 9")
    monkeypatch.setattr(soak, "measure", lambda _: report)
    with pytest.raises(UirError, match="files from 1 to 9"):
        bench(["soak"])
    assert "resident MiB" in capsys.readouterr().out


@pytest.mark.parametrize("change", [["--time", "5"], ["--time", "0s"], ["--time", "2d"], ["--sizes", "640"]])
def test_options_that_make_no_sense(change: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        bench(["soak", *change])
    assert stop.value.code == 2
    assert f"argument {change[0]}: " in capsys.readouterr().err
