"""`uir-bench router --real`: that what folders' names say is looked for, and counted right."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from uir.runtime import UirError
from uir.tools.bench import router
from uir.tools.bench.cli import main as bench
from uir.tools.bench.router_cases import Answer
from uir.tools.bench.router_real import SYNONYMS, expected_adapter, summarise_real

COLOURS = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220), "grey": (120, 120, 120)}


def paint(folder: Path, *colours: str) -> None:
    """Pictures of these colours, numbered."""
    folder.mkdir(parents=True)
    for number, colour in enumerate(colours):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((30, 40, 3), COLOURS[colour][::-1], np.uint8))


@pytest.fixture
def real(tmp_path: Path) -> Path:
    root = tmp_path / "real"
    paint(root / "rain_web", "red", "grey", "blue", "blue")
    paint(root / "fog", "green", "red")
    paint(root / "clean", "grey", "grey", "red")
    paint(root / "misc", "red")
    paint(root / ".cache", "red")
    (root / "README.txt").write_text("no folder")
    return root


def look(package: Path, root: Path, output: Path, *options: str) -> Any:
    bench(["router", "--package", str(package), "--real", str(root), "--json", str(output), *options])
    return json.loads(output.read_text())["results"]


def test_what_the_names_say_is_counted(
    routed_package: Path, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = look(routed_package, real, tmp_path / "r.json")
    assert results["passed_over"] == ["misc"]
    found = {each["folder"]: each for each in results["folders"]}
    assert list(found) == ["clean", "fog", "rain_web"]
    wanted = {
        "clean": ("clean", 2 / 3, 2 / 3, {"rain": 1 / 3}),
        "fog": ("haze", 0.5, 0, {"rain": 0.5}),
        "rain_web": ("rain", 0.25, 0.25, {"noise": 0.5}),
    }
    for name, (expected, share, clean, others) in wanted.items():
        each = found[name]
        assert each["expected"] == expected
        assert (each["found"], each["clean"]) == pytest.approx((share, clean))
        assert each["others"] == pytest.approx(others)
    assert [each["composition"] for each in found["rain_web"]["pictures"]] == ["rain", "clean", "noise", "noise"]
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if line.startswith("rain_web"))
    assert row.split() == ["rain_web", "4", "rain", "25.0%", "25.0%", "noise", "50.0%"]
    assert "misc" in printed.splitlines()[-1]
    assert [
        len(each["pictures"]) for each in look(routed_package, real, tmp_path / "1.json", "--limit", "1")["folders"]
    ] == [
        1,
        1,
        1,
    ]


def test_an_expected_adapter_may_stand_among_others() -> None:
    answers = [
        Answer("a", 0, ("rain", "haze", "clean"), "haze=0.5,rain=0.5", {"haze": 0.5, "rain": 0.5}),
        Answer("b", 0, ("haze", "rain", "clean"), "haze", {"haze": 1.0}),
        Answer("c", 0, ("noise", "clean"), "noise", {"noise": 1.0}),
        Answer("d", 0, ("clean", "noise"), "clean", {}),
    ]
    found = summarise_real("rain", "rain", answers)
    assert (found.found, found.clean, found.others) == (0.25, 0.25, {"haze": 0.5, "noise": 0.25})
    assert list(found.others) == ["haze", "noise"]


def test_the_help_names_every_synonym() -> None:
    assert router.__doc__ is not None
    words = re.findall(r"[a-z_]+", router.__doc__)
    assert set(SYNONYMS) <= set(words)


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("rain", "rain"),
        ("Rain", "rain"),
        ("rain_web", "rain"),
        ("fog", "haze"),
        ("fog-2", "haze"),
        ("low_light", "lowlight"),
        ("dark", "lowlight"),
        ("clean", "clean"),
        ("snow", None),  # the package has none
        ("raining", None),
        ("misc", None),
    ],
)
def test_names_of_folders(folder: str, expected: str | None) -> None:
    assert expected_adapter(folder, ["rain", "haze", "lowlight"]) == expected


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--real", "nowhere"], 1, "nowhere: no such folder"),
        (["--real", "fog"], 1, "fog: no folder in it is named as what is in its pictures"),
        (["--real", "hollow"], 1, "hollow/rain: no images"),
        (["--real", "broken"], 1, "broken/rain/a.png: "),
        (["--real", ".", "--photos", "fog"], 2, "--photos or --real, one of them"),
        ([], 2, "--photos or --real, one of them"),
        (["--real", ".", "--foreign"], 2, "--foreign goes with --photos"),
        (["--real", ".", "--limit", "0"], 2, "--limit 0"),
    ],
)
def test_refusals(
    routed_package: Path, real: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], status: int, words: str
) -> None:
    monkeypatch.chdir(real)
    Path("hollow/rain").mkdir(parents=True)
    Path("broken/rain").mkdir(parents=True)
    Path("broken/rain/a.png").write_bytes(Path("fog/0.png").read_bytes()[:60])
    with pytest.raises(UirError, match=words) as refused:
        bench(["router", "--package", str(routed_package), *options])
    assert refused.value.exit_status == status
