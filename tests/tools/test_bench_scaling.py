"""`uir-bench scaling`: that its rows are what they say, and its lines exact. Nothing timed is asserted."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from uir.runtime import Restorer, UirError
from uir.runtime.composition import Composition
from uir.runtime.errors import OutputError, UsageError
from uir.runtime.package import Package
from uir.tools.bench import scaling
from uir.tools.bench.cli import main as bench
from uir.tools.bench.scaling_points import Settings, engines_kept_in, measure_point, plan_works
from uir.tools.bench.scaling_results import BY_BATCH, BY_COMPOSITIONS, BY_PIXELS, MEMORY, MIB, TIME, Point, lines
from uir.tools.bench.scaling_worker import Task, carry_out

PAIR = "haze=0.5,rain=0.5"
POINT = Point("1 at once", 1, (64, 48), 1, 1, (1, 1), 1.0, False, 0.5, 1e-6, 3, 1, MIB, "fp32", 100 * MIB)


def test_rows(
    paired_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of each kind: a frame whole and in tiles, mixes in turn, and a batch that is taken apart."""
    monkeypatch.setenv("UIR_CACHE", str(tmp_path / "user"))
    rows = ["--sizes", "64x48,512x512", "--compositions", "3", "--batches", "100", "--size", "64x48"]
    files = ["--plot", str(tmp_path / "s.png"), "--json", str(tmp_path / "s.json")]
    bench(["scaling", "--package", str(paired_package), *rows, "--seconds", "0.01", "--memory-limit", "4", *files])
    report, text = json.loads((tmp_path / "s.json").read_text()), capsys.readouterr().out
    assert os.environ["UIR_CACHE"] == str(tmp_path / "user")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.json", "s.png"]

    results = report["results"]
    assert report["settings"]["composition"] == PAIR
    small, large = results[BY_PIXELS]["points"]
    (mixes,) = results[BY_COMPOSITIONS]["points"]
    (apart,) = results[BY_BATCH]["points"]
    contract = Package(paired_package).manifest.frame
    assert 64 * 48 * contract.bytes_per_pixel < 4 * MIB < 64 * 48 * 100 * contract.bytes_per_pixel
    assert (small["tiles"], small["computed"], small["amount"]) == ([1, 1], 1, 64 * 48 / 1e6)
    assert large["tiles"] != [1, 1]
    assert large["computed"] > 1
    assert (mixes["compositions"], mixes["held"], mixes["frames"]) == (3, 3, 1)
    assert mixes["samples"] % 3 == 0 < mixes["samples"]
    assert (apart["frames"], apart["apart"], apart["tiles"], small["apart"]) == (100, True, [1, 1], False)
    for each in (small, large, mixes, apart):
        assert min(each["seconds"], each["switch"], each["samples"]) > 0
        assert 30 * MIB < each["peak_bytes"] < 1 << 30
        assert 0 < each["counted"] < each["peak_bytes"]
        assert each["precision"] == "fp32"
    assert [line["quantity"] for line in results[BY_PIXELS]["lines"]] == [TIME]
    assert results[BY_COMPOSITIONS]["lines"] == []

    written = {line.split("  ")[0]: line for line in text.splitlines() if line}
    assert written["64x48"].endswith("  whole")
    down, across = large["tiles"]
    assert written["512x512"].endswith(f"  {down}x{across} tiles, {large['computed']:.2f} x the pixels")
    assert written["3 compositions"].endswith("  all in memory")
    assert written["100 at once"].endswith("  one by one")
    assert f"  {apart['seconds'] * 1e3 / 100:.1f}  " in written["100 at once"]
    assert f"  {apart['peak_bytes'] / MIB:.0f}  " in written["100 at once"]
    assert mixes["counted"] > 2 * small["counted"]
    assert written["3 compositions"].split()[-4] == f"{mixes['counted'] / MIB:.0f}"
    assert "ms a megapixel" in written
    picture = cv2.imread(str(tmp_path / "s.png"))
    assert picture is not None
    assert (picture == (180, 119, 31)).all(axis=2).any()  # the points are blue


def test_engines_beyond_the_budget_are_given_up(
    paired_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = np.zeros((2, 36, 52, 3), np.uint8)
    np.save(tmp_path / "frames.npy", frames)
    keys = ["rain", "haze", PAIR]
    task = Task(str(paired_package), "cpu", 512 * MIB, keys, str(tmp_path / "frames.npy"), 0.01)
    assert carry_out(task).held == 3
    monkeypatch.setenv("UIR_MEMORY", "1")
    assert carry_out(task).held == 1


def test_mixes_lie_just_beside_the_one_that_is_measured() -> None:
    mix = Composition.parse("haze=0.4,rain=0.6")
    works = plan_works(mix, [(64, 48)], [1, 4], [2], (32, 32))
    assert [work.compositions for work in works[BY_PIXELS] + works[BY_BATCH]] == [[mix], [mix]]
    one, four = (work.compositions for work in works[BY_COMPOSITIONS])
    assert [each.key for each in four] == [f"haze=0.4,rain=0.60{step:02d}" for step in (1, 2, 3, 4)]
    assert one == four[:1]


def test_engines_are_built_before_and_apart(paired_package: Path, tmp_path: Path) -> None:
    """What a process then needs is there."""
    pytest.importorskip("openvino")
    settings = Settings(paired_package, "openvino", 512 * MIB, 0.01)
    works = plan_works(Composition.parse(PAIR), [(64, 48)], [1, 3], [2], (32, 32))
    folder = tmp_path / "engines"
    with engines_kept_in(folder):
        named = scaling._build_engines(Package(paired_package), settings, [*works[BY_PIXELS], *works[BY_COMPOSITIONS]])
        built = {path.name for path in folder.glob("*.engine")}
        assert len(built) >= 1 + 3
        restorer = Restorer(paired_package, device="openvino")
        for (width, height), compositions in (
            ((64, 48), [PAIR]),
            ((32, 32), [f"haze=0.500{n},rain=0.5" for n in (1, 3)]),
        ):
            restorer.expect(height, width)
            for composition in compositions:
                restorer.compose(composition)
    assert named == restorer.describe()
    assert {path.name for path in folder.glob("*.engine")} == built


def points(name: str, amounts: list[int], values: list[float]) -> list[Point]:
    """Points of whole milliseconds and MiB, both the same."""
    compositions = {BY_COMPOSITIONS: amounts}.get(name, [1] * len(amounts))
    return [
        replace(
            POINT, amount=amount, seconds=value / 1e3, peak_bytes=round(value * MIB), compositions=mixes, held=mixes
        )
        for amount, value, mixes in zip(amounts, values, compositions, strict=True)
    ]


def test_lines_are_those_of_least_squares() -> None:
    time, memory = lines(BY_BATCH, points(BY_BATCH, [1, 2, 4], [5, 8, 14]))
    assert (time.quantity, memory.quantity, time.unit, time.among) == (TIME, MEMORY, "frame", "in one run")
    for line in (time, memory):
        assert (line.slope, line.intercept, line.r2) == pytest.approx((3, 2, 1))
        assert (line.points, line.reach) == (3, (1, 4))
    # By hand: the means are 2 and 4, so the slope is 3 / 2, and 1.5 of a variance of 6 is left.
    time, _ = lines(BY_BATCH, points(BY_BATCH, [1, 2, 3], [3, 3, 6]))
    assert (time.slope, time.intercept, time.r2) == pytest.approx((1.5, 1, 0.75))


def test_lines_bend_at_the_limit() -> None:
    found = points(BY_PIXELS, [1, 2, 3, 4, 5], [10, 20, 30, 31, 32])
    found[3:] = [replace(each, tiles=(1, 2)) for each in found[3:]]
    drawn = {(line.quantity, line.among): line for line in lines(BY_PIXELS, found)}
    assert list(drawn) == [(TIME, "whole"), (TIME, "in tiles"), (TIME, "all"), (MEMORY, "whole"), (MEMORY, "in tiles")]
    assert [line.points for line in drawn.values()] == [3, 2, 5, 3, 2]
    for quantity in (TIME, MEMORY):
        before, beyond = drawn[quantity, "whole"], drawn[quantity, "in tiles"]
        assert (before.slope, before.r2, beyond.slope) == pytest.approx((10, 1, 1))
        assert beyond.r2 is None  # any two points have a straight line


def test_engines_that_are_made_anew_are_another_matter() -> None:
    """No line goes through times with and without them."""
    found = points(BY_COMPOSITIONS, [1, 2, 4, 8, 16], [10, 10, 10, 90, 90])
    found[3:] = [replace(each, held=5) for each in found[3:]]
    time, later, *memory = lines(BY_COMPOSITIONS, found)
    assert (time.among, later.among, len(memory)) == ("all in memory", "beyond the budget", 2)
    assert (time.slope, later.slope) == pytest.approx((0, 0), abs=1e-9)
    assert (time.intercept, later.intercept) == pytest.approx((10, 90))


def test_one_amount_has_no_line() -> None:
    assert lines(BY_BATCH, points(BY_BATCH, [2, 2], [5, 8])) == []


def test_what_does_not_vary_has_no_share_explained() -> None:
    time, _ = lines(BY_BATCH, points(BY_BATCH, [1, 2, 3], [4, 4, 4]))
    assert (time.slope, time.r2) == (pytest.approx(0, abs=1e-9), None)


def test_a_process_that_fails_says_why(tmp_path: Path, paired_package: Path) -> None:
    (work,) = plan_works(Composition.parse("rain"), [(64, 48)], [1], [1], (32, 32))[BY_PIXELS]
    settings = Settings(tmp_path / "nowhere.uir", "cpu", 512 * MIB, 0.01)
    with pytest.raises(UirError, match=r"64x48.json: uir-bench scaling: error: .*nowhere.uir: no such package"):
        measure_point(settings, Package(paired_package).manifest.frame, work, tmp_path)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (["--package", "nowhere.uir"], UirError, "nowhere.uir: no such package"),
        (["--compose", "fog"], UsageError, "fog: no such adapter"),
        (["--compose", "base"], UsageError, "base: has no adapter that could be weighed"),
        (["--seconds", "0"], UsageError, "--seconds 0: must be more than 0"),
        (["--seconds", "nan"], UsageError, "--seconds nan"),
        (["--memory-limit", "0"], UsageError, "--memory-limit 0: must be 1 or more"),
        (["--plot", "plot.jpg"], UsageError, r"plot.jpg: .*\.png"),
        (["--plot", "there.png"], OutputError, "there.png: exists"),
        (["--json", "there.png"], OutputError, "there.png: exists"),
    ],
)
def test_refusals(paired_package: Path, there: Path, change: list[str], error: type[UirError], words: str) -> None:
    with pytest.raises(error, match=words):
        bench(["scaling", "--package", str(paired_package), *change])
    assert [path.read_text() for path in there.parent.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "change",
    [
        ["--device", "toaster"],
        ["--sizes", "640"],
        ["--sizes", "640x360,"],
        ["--size", "0x0"],
        ["--compositions", "0"],
        ["--compositions", "one"],
        ["--batches", "1,1025"],
    ],
)
def test_options_that_make_no_sense(change: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        bench(["scaling", *change])
    assert stop.value.code == 2
    assert f"argument {change[0]}: " in capsys.readouterr().err


@pytest.mark.parametrize(("module", "more"), [("psutil", []), ("matplotlib", ["--plot", "plot.png"])])
def test_a_missing_extra_is_said_at_once(
    paired_package: Path, monkeypatch: pytest.MonkeyPatch, module: str, more: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"uir-bench scaling needs {module}: pip install scikit-image psutil"):
        bench(["scaling", "--package", str(paired_package), *more])
