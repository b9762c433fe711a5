"""`uir-bench engines`: that it shows what the gate found, and builds what it says it builds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from uir.runtime import UirError
from uir.runtime.package import Package
from uir.tools.bench.cli import main as bench

PRECISIONS = ["fp32", "fp16", "int8"]


def engines(package: Path, output: Path, *more: str) -> Any:
    """Run `uir-bench engines` in this process and return its JSON."""
    bench(["engines", "--package", str(package), "--size", "50x34", "--json", str(output), *more])
    return json.loads(output.read_text())


def assert_gate(package: Path, found: list[dict[str, Any]]) -> None:
    """Every row says what the manifest does."""
    entry = Package(package).manifest.compositions["rain"]
    assert [(each["composition"], each["precision"]) for each in found] == [("rain", name) for name in PRECISIONS]
    assert [each["gate"] for each in found].count("recommended") == 1
    for each in found:
        assert (each["gate"] == "recommended") == (each["precision"] == entry.recommended)
        tried = entry.precisions.get(each["precision"])
        if tried:
            told = (each["psnr"], each["restoration"], each["method"], each["returned"])
            assert told == (tried.psnr, tried.restoration, tried.method, tried.returned)
            assert (each["gate"] == "failed") == (not tried.passed)


@pytest.mark.rtx
def test_engines_are_built_without_a_gpu(
    typed_package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorrt_rtx")
    report = engines(typed_package, tmp_path / "e.json")
    found = report["results"]
    assert_gate(typed_package, found)
    assert all(each["seconds"] > 0 and each["failure"] is None for each in found)
    assert len({each["nbytes"] for each in found}) == 3
    assert report["settings"]["engine"].startswith("TensorRT-RTX")
    text = capsys.readouterr().out
    # The network takes multiples of 4.
    assert "for frames of 52x36" in text
    row = next(line.split() for line in text.splitlines() if line.startswith("rain  ") and " int8 " in line)
    assert row[2] == f"{found[2]['psnr']:.1f}"
    assert row[-3:] == [
        str(len(found[2]["returned"])),
        f"{found[2]['seconds']:.2f}",
        f"{found[2]['nbytes'] / 1e6:.2f}",
    ]


def test_without_tensorrt_the_gate_is_still_shown(
    typed_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    found = engines(typed_package, tmp_path / "e.json")["results"]
    assert_gate(typed_package, found)
    assert all((each["seconds"], each["nbytes"]) == (None, None) for each in found)
    assert all("pip install tensorrt-rtx cuda-python" in each["failure"] for each in found)
    text = capsys.readouterr().out
    assert text.count("pip install tensorrt-rtx cuda-python") == 1
    assert "Built by nothing" in text


def test_other_devices_build_too(typed_package: Path, tmp_path: Path) -> None:
    """ONNX Runtime's engine is the model itself, whose weights take less in float16."""
    fp32, fp16, _ = engines(typed_package, tmp_path / "e.json", "--device", "cpu")["results"]
    parameters = Package(typed_package).manifest.base.parameters
    assert 4 * parameters < fp32["nbytes"] < 4 * parameters + 20_000
    assert 2 * parameters < fp16["nbytes"] < fp32["nbytes"] - parameters


@pytest.mark.parametrize(("change", "words"), [(["--package", "nowhere.uir"], "nowhere.uir: no such package")])
def test_refusals(change: list[str], words: str) -> None:
    with pytest.raises(UirError, match=words):
        bench(["engines", *change])


@pytest.mark.parametrize("change", [["--device", "toaster"], ["--size", "640"], ["--size", "0x0"]])
def test_options_that_make_no_sense(change: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench(["engines", *change])
    assert change[1] in capsys.readouterr().err
