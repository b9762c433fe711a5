"""`uir-run`: precisions, the engines on disk, and calibration on the device."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from uir.export.cli import main as export
from uir.runtime import Restorer
from uir.runtime.calibrate import calibrate
from uir.runtime.cli import main as run
from uir.runtime.composition import Composition
from uir.runtime.errors import MediaError, MissingFileError, UsageError
from uir.runtime.package import Package
from uir.runtime.quantize import METHODS, open_session

Frame = NDArray[np.uint8]
CLIP = Path(__file__).parents[1] / "media" / "bunny.mp4"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UIR_CACHE", str(tmp_path / "engines"))
    return tmp_path / "engines"


@pytest.fixture
def own(shared_package: Path, tmp_path: Path) -> Path:
    """A package of the test's own, float32 alone, to be written to."""
    return Path(shutil.copytree(shared_package, tmp_path / "own.uir"))


def test_engines_are_built_listed_and_cleared(
    shared_package: Path, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    options = ["--package", str(shared_package), "--device", "openvino", "--json"]
    run(["--engines", "build", "--compose", "rain", *options])
    built = json.loads(capsys.readouterr().out)
    assert built["device"].startswith("OpenVINO")
    assert [(each["composition"], each["precision"]) for each in built["engines"]] == [("rain", "fp32")]
    run(["--engines", "build", *options])
    assert len(json.loads(capsys.readouterr().out)["engines"]) == len(Package(shared_package).manifest.compositions)

    run(["--engines", "list", "--json"])
    listed = json.loads(capsys.readouterr().out)
    assert Path(listed["folder"]) == cache
    assert all(engine["about"]["precision"] == "fp32" and engine["bytes"] > 0 for engine in listed["engines"])
    run(["--engines", "list"])
    text = capsys.readouterr().out.splitlines()
    assert len(text) == len(listed["engines"]) + 1
    assert "openvino, fp32, any size, weights " in text[0]
    assert f"{cache}: {len(listed['engines'])} engines, " in text[-1]
    assert text[-1].endswith(" of 4295 MB")
    monkeypatch.setenv("UIR_CACHE_SIZE", "2GB")
    run(["--engines", "list"])
    assert capsys.readouterr().out.splitlines()[-1].endswith(" of 2000 MB")

    run(["--engines", "clear"])
    assert f"{len(listed['engines'])} engines removed" in capsys.readouterr().out
    run(["--engines", "clear", "--json"])
    assert json.loads(capsys.readouterr().out)["removed"] == 0


def test_pictures_of_many_sizes_share_an_engine(
    shared_package: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino")
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, size in enumerate([(48, 64), (48, 64), (40, 48), (64, 32), (48, 64)]):
        assert cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 256, (*size, 3), np.uint8))
    options = ["--package", str(shared_package), "--compose", "rain", "--device", "openvino", "--precision", "fp32"]
    assert run([str(folder), "-o", str(tmp_path / "out"), *options]) == 0
    run(["--engines", "list"])
    said = capsys.readouterr().out
    assert said.count(", any size, ") == 1
    assert f"{cache}: 2 engines" in said  # the first size's own beside it
    alone = Restorer(shared_package, "rain", device="cpu")
    for source in folder.iterdir():
        restored, expected = cv2.imread(str(tmp_path / "out" / source.name)), alone(cv2.imread(str(source))[..., ::-1])
        assert np.abs(restored[..., ::-1].astype(int) - expected).max() <= 1


def test_export_builds_the_engines_of_its_package(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("UIR_DEVICE", "openvino")
    export(["--adapters", "rain,haze", "-o", str(tmp_path / "built.uir"), "--build", "64x48", "--json"])
    built = json.loads(capsys.readouterr().out)["engines"]
    names = ["rain", "haze", "haze=0.5,rain=0.5"]
    assert [(each["composition"], each["precision"]) for each in built] == [(name, "fp32") for name in names]
    assert len(list(cache.glob("*.engine"))) == 3
    export(["--adapters", "rain", "-o", str(tmp_path / "one.uir"), "--build"])
    assert "rain in fp32: " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        export(["--adapters", "rain", "-o", str(tmp_path / "none.uir"), "--build", "huge"])
    assert "write it as WIDTHxHEIGHT" in capsys.readouterr().err


def test_a_device_that_keeps_no_engines_says_so(shared_package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["--engines", "build", "--package", str(shared_package), "--adapters", "rain", "--size", "64x48"])
    said = capsys.readouterr().out
    assert "rain in fp32: " in said
    assert "makes engines in no time, and keeps none on disk" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name what to restore, or say --engines"),
        (["video.mp4", "--engines", "list"], "name what to restore, or say --engines"),
        (["--engines", "list", "--calibrate", "video.mp4"], "name what to restore, or say --engines"),
        (["video.mp4", "--size", "64x48"], "--size goes with --engines build"),
        (["--engines", "clear", "--size", "64x48"], "--size goes with --engines build"),
    ],
)
def test_commands_that_make_no_sense(arguments: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        run(arguments)


@pytest.mark.parametrize("size", ["64", "0x48", "64x-1", "x", "64x48x3"])
def test_sizes_that_are_none(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["--engines", "build", "--size", size])
    assert "write it as WIDTHxHEIGHT" in capsys.readouterr().err


def test_a_precision_that_is_missing_is_said_once(
    shared_package: Path, frame: Frame, caplog: pytest.LogCaptureFixture
) -> None:
    exact = Restorer(shared_package, "rain", precision="fp32")
    with caplog.at_level(logging.WARNING):
        restorer = Restorer(shared_package, "rain", precision="int8")
        restorer.compose("haze=0.4,rain=0.6")
        restorer.compose("rain")
    assert restorer.precision == "fp32"
    assert np.array_equal(restorer(frame), exact(frame))
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "rain: int8 did not pass its gate, or was not exported; fp32 is used instead",
        "haze=0.4,rain=0.6: the package has no int8 ranges for this mix (uir-run --calibrate finds them); "
        "fp32 is used instead",
    ]
    with pytest.raises(UsageError, match="int4: no such precision; there are int8, fp16, fp32"):
        Restorer(shared_package, precision="int4")  # type: ignore[arg-type]


def test_a_mix_is_calibrated_on_the_device(own: Path, frame: Frame, capsys: pytest.CaptureFixture[str]) -> None:
    mix = "haze=0.25,rain=0.75"
    before = Restorer(own, mix)(frame)
    run(["--calibrate", str(CLIP), "--compose", mix, "--package", str(own)])
    said = capsys.readouterr().err
    assert f"{mix}: int8 keeps " in said
    package = Package(own)
    package.verify()
    entry = package.manifest.compositions[mix]
    assert entry.precisions["int8"].passed == ("passed" in said.replace("did not pass", ""))
    assert entry.precisions["int8"].restoration is None
    assert np.array_equal(Restorer(package, mix, precision="fp32")(frame), before)
    if entry.precisions["int8"].passed:
        restorer = Restorer(package, mix, precision="int8")
        assert restorer.precision == entry.recommended == "int8"
        error = np.mean((restorer(frame).astype(float) - before) ** 2)
        assert 0 < error < 255**2 / 10**3
        assert Restorer(package, mix).precision == "fp32"  # ONNX Runtime gains nothing by int8


def test_calibration_opens_the_float32_network_once(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[bool] = []

    def open_counted(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
        kinds = {node.op_type for node in model.graph.node}
        opened.append(len(model.graph.output) == 1 and "QuantizeLinear" not in kinds)  # one that measures gives many
        return open_session(model)

    monkeypatch.setattr("uir.runtime.quantize.open_session", open_counted)
    entry = calibrate(Package(own), Composition.parse("rain"), CLIP)
    assert opened.count(True) == 1
    assert len(opened) > 2
    assert entry.method in METHODS


def test_what_was_exported_stays_when_a_mix_joins(zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uir.export.zoo.ZOO", zoo)
    path = tmp_path / "typed.uir"
    export(["--adapters", "rain", "--precision", "fp16", "-o", str(path)])
    package = Package(path)
    listed = package.manifest.compositions["rain"]
    entry = calibrate(package, Composition.parse("rain"), CLIP)
    again = Package(path).manifest.compositions["rain"]
    assert again.precisions["fp16"] == listed.precisions["fp16"]
    assert again.precisions["int8"] == entry
    assert Restorer(path, "rain", precision="fp16").precision in ("fp16", "fp32")


def test_calibration_that_fails_leaves_the_package(own: Path, tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in own.rglob("*") if file.is_file()}
    (tmp_path / "text.mp4").write_text("no video")
    for footage, error in ((tmp_path / "none.mp4", MissingFileError), (tmp_path / "text.mp4", MediaError)):
        with pytest.raises(error):
            run(["--calibrate", str(footage), "--package", str(own)])
    with pytest.raises(UsageError, match="fog"):
        run(["--calibrate", str(CLIP), "--package", str(own), "--adapters", "fog"])
    assert {file: file.read_bytes() for file in own.rglob("*") if file.is_file()} == before
