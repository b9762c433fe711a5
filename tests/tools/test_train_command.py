"""`uir-train` where torch is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from uir.export.bases import sizes
from uir.tools.train import settings

PROGRAM = "import sys; sys.modules['torch'] = None; from uir.tools.train import run; run()"


def without_torch(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("kind", [[], ["base"], ["router"], ["prototype"], ["pack"]])
def test_it_says_what_it_can_do(kind: list[str]) -> None:
    done = without_torch(*kind, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: " in done.stdout


def test_it_says_what_to_install(tmp_path: Path) -> None:
    done = without_torch("base", "--photos", str(tmp_path), "--out", str(tmp_path / "run"))
    assert done.returncode == 2
    assert done.stderr == "uir-train: error: uir-train needs torch: pip install torch onnxscript google-re2\n"
    assert not (tmp_path / "run").exists()


def test_its_help_names_every_architecture() -> None:
    assert tuple(sorted(sizes())) == settings.ARCHITECTURES
