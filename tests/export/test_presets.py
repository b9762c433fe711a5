"""`uir-export --preset`, and what a package lists where no mix was asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from uir.calibration.degradations import DEGRADATIONS
from uir.export.cli import main as export
from uir.export.cli import parser
from uir.export.presets import PRESETS
from uir.runtime import Package
from uir.runtime.errors import UsageError


@pytest.fixture(scope="module")
def whole_zoo(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small zoo with an adapter for every degradation: rain's, under ten names."""
    folder = tmp_path_factory.mktemp("whole") / "zoo"
    shutil.copytree(zoo / "base", folder / "base")
    for name in DEGRADATIONS:
        shutil.copytree(zoo / "adapters" / "rain", folder / "adapters" / name)
    return folder


@pytest.fixture
def use_whole_zoo(whole_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uir.export.zoo.ZOO", whole_zoo)


def test_presets_are_of_known_degradations() -> None:
    for name, adapters in PRESETS.items():
        assert len(set(adapters)) == len(adapters), name
        assert set(adapters) <= set(DEGRADATIONS), name
    assert set(PRESETS["ten"]) == set(DEGRADATIONS)
    assert {name: len(PRESETS[name]) for name in ("weather4", "weather3", "classic3", "five")} == {
        "weather4": 4,
        "weather3": 3,
        "classic3": 3,
        "five": 5,
    }


@pytest.mark.usefixtures("use_whole_zoo")
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_a_package_of_its_adapters(preset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(["--preset", preset, "-o", str(tmp_path / "restore.uir")])
    package = Package(tmp_path / "restore.uir")
    package.verify()
    manifest = package.manifest
    assert list(manifest.adapters) == list(PRESETS[preset])
    assert {adapter.licence for adapter in manifest.adapters.values()} == {"Apache-2.0"}
    out, err = capsys.readouterr()
    assert f"default {manifest.default}\n" in out
    if len(PRESETS[preset]) == 3:
        *singles, mix = manifest.compositions
        assert singles == list(PRESETS[preset])
        assert manifest.default == mix == ",".join(f"{n}=0.3333" for n in sorted(PRESETS[preset]))
        assert err == ""
    else:
        assert list(manifest.compositions) == list(PRESETS[preset])
        assert manifest.default == "rain"
        assert len(err.splitlines()) == 1
        assert f"mixes of {len(PRESETS[preset])} adapters were never trained, so the default is rain alone" in err
        assert "uir-run" in err
        assert "--compose" in err


@pytest.mark.usefixtures("use_whole_zoo")
def test_the_first_of_many_adapters_is_the_default_unless_a_mix_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(["--adapters", "snow,rain,blur,haze", "--json", "-o", str(tmp_path / "four.uir")])
    out, err = capsys.readouterr()
    assert json.loads(out)["default"] == Package(tmp_path / "four.uir").manifest.default == "snow"
    assert "the default is snow alone" in err
    export(["--preset", "ten", "--compose", "haze=0.5,rain=0.5", "-o", str(tmp_path / "ten.uir")])
    manifest = Package(tmp_path / "ten.uir").manifest
    assert manifest.default == "haze=0.5,rain=0.5"
    assert list(manifest.compositions) == [*PRESETS["ten"], "haze=0.5,rain=0.5"]
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("use_zoo")
def test_what_a_preset_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--preset weather4: .*zoo: snow, raindrop; there are haze, noise, rain\. .*"):
        export(["--preset", "weather4", "-o", str(tmp_path / "restore.uir")])
    assert list(tmp_path.iterdir()) == []
    export(["--preset", "classic3", "-o", str(tmp_path / "restore.uir")])  # which it has


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "weather3", "--adapters", "rain"], "not allowed with"),
        ([], "one of the arguments --adapters --preset is required"),
        (["--preset", "weather"], "invalid choice: 'weather'"),
    ],
)
def test_exactly_one_known_way_is_given(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        export(arguments)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


def test_help_says_what_each_preset_takes() -> None:
    text = " ".join(parser().format_help().split())
    for name, adapters in PRESETS.items():
        assert f"{name} ({', '.join(adapters)})" in text
