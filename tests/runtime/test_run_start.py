"""The start of `uir-run`: nothing is loaded that the first frame does not need."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

WATCHED = ("PIL", "av", "onnx", "onnxruntime", "openvino", "openvino.tools.ovc", "openvino_telemetry")


def loaded(statement: str) -> set[str]:
    """Which of the heavy modules a fresh process has after a statement."""
    code = f"import json, sys\n{statement}\nprint(json.dumps([name for name in {WATCHED!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def restoring(package: Path, source: Path, *arguments: str) -> str:
    """A statement that runs the command."""
    options = [str(source), "--package", str(package), "--overwrite", *arguments]
    return f"from uir.runtime.cli import main\nassert main({options!r}) == 0"


def test_the_command_itself_loads_no_media_and_no_engine() -> None:
    assert loaded("import uir.runtime.cli") == set()


def test_an_engine_on_disk_is_all_that_a_named_composition_needs(
    package: Path, make_video: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("UIR_CACHE", str(tmp_path / "engines"))
    run = restoring(package, make_video("clip.mp4", frames=3), "--adapters", "rain", "--device", "openvino")
    assert loaded(run) == {"av", "onnx", "openvino"}  # the engine is made
    assert loaded(run) == {"av", "openvino"}


def test_onnx_runtime_compiles_what_is_merged(package: Path, make_video: Callable[..., Path]) -> None:
    run = restoring(package, make_video("clip.mp4", frames=3), "--adapters", "rain", "--device", "cpu")
    assert loaded(run) == {"av", "onnx", "onnxruntime"}
