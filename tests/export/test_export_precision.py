"""`uir-export --precision`: what the package holds, what is printed, what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto
from PIL import Image

from uir.export.cli import main as export
from uir.export.precision import parse_precisions, table
from uir.runtime.composition import Composition
from uir.runtime.errors import MediaError, MissingFileError, UsageError
from uir.runtime.manifest import CompositionEntry, PrecisionEntry
from uir.runtime.merge import fill_graph, merge_package
from uir.runtime.package import Package
from uir.runtime.quantize import METHODS

BUNNY = Path(__file__).parents[1] / "media" / "bunny.mp4"
MIX = Composition.parse("haze=0.5,rain=0.5")


@dataclass
class Exported:
    """One export in all precisions."""

    package: Package
    answer: dict[str, Any]


@pytest.fixture(scope="module")
def exported(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    path = tmp_path_factory.mktemp("narrow") / "restore.uir"
    with pytest.MonkeyPatch.context() as patch, pytest.MonkeyPatch.context() as stdout:
        patch.setattr("uir.export.zoo.ZOO", zoo)
        said: list[str] = []
        stdout.setattr("builtins.print", lambda *words, **_: said.append(" ".join(map(str, words))))
        export(["--adapters", "rain,haze", "--precision", "auto", "--emit", "onnx", "--json", "-o", str(path)])
    return Exported(Package(path), json.loads(said[0]))


def test_a_package_holds_each_composition_in_each_precision(exported: Exported) -> None:
    package = exported.package
    package.verify()
    manifest = package.manifest
    assert list(manifest.compositions) == ["rain", "haze", MIX.key]
    assert manifest.graphs == {"fp32": "graphs/fp32.onnx", "fp16": "graphs/fp16.onnx"}
    for key, entry in manifest.compositions.items():
        half, eight = entry.precisions["fp16"], entry.precisions["int8"]
        assert half.psnr is not None
        assert half.passed == (half.psnr >= 60)
        assert eight.psnr is not None
        assert eight.psnr < half.psnr
        assert eight.restoration is not None
        assert eight.graph == f"compositions/{key}/int8.onnx"
        assert eight.method in METHODS
        assert entry.recommended == ("int8" if eight.passed else "fp16" if half.passed else "fp32")
        assert package.precisions(Composition.parse(key))[0] == entry.recommended


def test_json_says_what_the_manifest_says(exported: Exported) -> None:
    written = json.loads((exported.package.path / "manifest.json").read_text())
    assert exported.answer["compositions"] == written["compositions"]
    assert exported.answer["default"] == written["default"] == MIX.key


def test_each_graph_runs_with_the_merged_weights(exported: Exported, frame: NDArray[np.uint8]) -> None:
    package, given = exported.package, {"frame": frame[None, :36, :52]}
    weights = merge_package(package, MIX)
    results = {}
    for precision in ("fp32", "fp16", "int8"):
        model = fill_graph(package.graph(precision, MIX), weights)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        results[precision] = session.run(None, given)[0].astype(float)
        emitted = package.path / "compositions" / MIX.key / f"model.{precision}.onnx".replace(".fp32", "")
        onnx.checker.check_model(emitted, full_check=True)
        session = onnxruntime.InferenceSession(emitted, providers=["CPUExecutionProvider"])
        assert session.get_modelmeta().custom_metadata_map["uir.precision"] == precision
        assert np.array_equal(session.run(None, given)[0], results[precision])
    half, eight = (np.mean((results[narrow] - results["fp32"]) ** 2) for narrow in ("fp16", "int8"))
    assert half < 1
    assert half < eight < 150


def test_the_scales_of_a_composition_are_those_of_its_merged_weights(exported: Exported) -> None:
    package = exported.package
    for key in package.manifest.compositions:
        composition = Composition.parse(key)
        weights = merge_package(package, composition)
        graph = onnx.load_from_string(package.graph("int8", composition)).graph
        tensors = [tensor for tensor in graph.initializer if tensor.data_location != TensorProto.EXTERNAL]
        inside = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in tensors}
        quantised = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"} & weights.keys()
        assert quantised
        for name in quantised:
            largest = np.abs(weights[name]).max(axis=(1, 2, 3))
            np.testing.assert_allclose(inside[f"{name}_scale"], largest / 127, rtol=1e-3)


def test_a_graph_of_a_composition_is_small(exported: Exported) -> None:
    """It holds no weights: only nodes and scales."""
    for path in exported.package.path.glob("compositions/*/int8.onnx"):
        assert path.stat().st_size < 40_000
        assert b"\0" * 2000 not in path.read_bytes()


@pytest.mark.usefixtures("use_zoo")
@pytest.mark.parametrize("kind", ["folder", "video"])
def test_footage_calibrates(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    footage = BUNNY
    if kind == "folder":
        footage = tmp_path / "footage"
        footage.mkdir()
        for number in range(4):
            pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8).repeat(16, 0).repeat(16, 1)
            Image.fromarray(pixels).save(footage / f"{number}.png")
    output = str(tmp_path / "restore.uir")
    export(["--adapters", "rain", "--precision", "int8", "--calibrate", str(footage), "-o", output])
    entry = Package(output).manifest.compositions["rain"]
    assert entry.precisions.keys() == {"fp16", "int8"}
    assert entry.precisions["int8"].restoration is not None  # rain's truth is known
    said = capsys.readouterr()
    assert said.err == ""  # no bar where nobody looks
    lines = said.out.splitlines()
    assert lines[0].split() == ["composition", "against", "fp32", "restoration", "gate"]
    assert re.match(r"rain +fp16 +\d\d\.\d dB +[+-]0\.\d\d dB +(passed|recommended|FAILED)$", lines[1])
    assert re.match(r"rain +int8 +\d\d\.\d dB +[+-]\d\.\d\d dB +(passed|recommended|FAILED) +\w+", lines[2])


@pytest.mark.usefixtures("use_zoo")
def test_an_unknown_degradation_is_calibrated_by_footage_alone(
    zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fog = f"fog={zoo / 'adapters' / 'haze'}"
    output = tmp_path / "restore.uir"
    for precision in ("fp16", "int8", "auto"):
        with pytest.raises(UsageError, match=r"fog: no degradation of that name is known.*--calibrate"):
            export(["--adapters", fog, "--precision", precision, "-o", str(output)])
    assert not output.exists()
    export(["--adapters", fog, "--precision", "auto", "--calibrate", str(BUNNY), "-o", str(output)])
    eight = Package(output).manifest.compositions["fog"].precisions["int8"]
    assert eight.restoration is None
    assert eight.psnr is not None
    assert eight.passed
    assert re.search(r"fog +int8 .* unknown ", capsys.readouterr().out)


@pytest.mark.usefixtures("use_zoo")
def test_what_cannot_calibrate_is_said(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "notes.txt").write_text("not a video")
    arguments = ["--adapters", "rain", "-o", str(tmp_path / "restore.uir")]
    narrow = [*arguments, "--precision", "int8", "--calibrate"]
    with pytest.raises(MissingFileError, match="empty: no images or videos in this folder"):
        export([*narrow, str(empty)])
    with pytest.raises(MissingFileError, match="nothing: no such file or folder"):
        export([*narrow, str(tmp_path / "nothing")])
    with pytest.raises(MediaError, match=r"notes\.txt: not a video"):
        export([*narrow, str(tmp_path / "notes.txt")])
    with pytest.raises(UsageError, match="--calibrate is for narrower precisions; add --precision auto"):
        export([*arguments, "--calibrate", str(BUNNY)])
    with pytest.raises(UsageError, match=r"fp61: no such precision; did you mean fp16"):
        export([*arguments, "--precision", "fp61"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "notes.txt"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fp32", []),
        ("fp16", ["fp16"]),
        ("int8", ["fp16", "int8"]),
        ("fp16,int8", ["fp16", "int8"]),
        (" int8 , fp32 ", ["fp16", "int8"]),
        ("auto", ["fp16", "int8"]),
    ],
)
def test_precisions_are_read(text: str, expected: list[str]) -> None:
    assert parse_precisions(text) == expected


@pytest.mark.parametrize("text", ["", "fp16,", "int4", "AUTO"])
def test_what_is_no_precision_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no such precision"):
        parse_precisions(text)


def test_the_table_says_what_failed_and_what_was_returned() -> None:
    half = PrecisionEntry(passed=False, psnr=None, restoration=None)
    returned = [f"middle.{number}.conv1.weight" for number in range(6)]
    eight = PrecisionEntry(passed=True, psnr=44.44, restoration=-0.126, method="entropy", returned=returned)
    failed = PrecisionEntry(passed=False, psnr=30.0, restoration=-1.0, method="minmax")
    text = table(
        {
            "rain": CompositionEntry(recommended="int8", precisions={"fp16": half, "int8": eight}),
            "haze=0.5,rain=0.5": CompositionEntry(precisions={"int8": failed}),
        }
    )
    lines = text.splitlines()
    assert len({line.index("dB", 30) for line in lines[2:]}) == 1  # the columns stand one below the other
    assert lines[1].split() == ["rain", "fp16", "too", "large", "unknown", "FAILED"]
    listed = ", ".join(returned[:4])
    assert lines[2].endswith(f"44.4 dB       -0.13 dB     recommended  entropy; in float16: {listed} and 2 more")
    assert re.search(r"haze=0\.5,rain=0\.5  int8  30\.0 dB +-1\.00 dB +FAILED +minmax$", lines[3])
