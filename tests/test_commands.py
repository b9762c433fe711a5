"""Every command by its entry point: its version, its help, and what it advises to install."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from uir.runtime.version import EXTRAS, install

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOADED = ("numpy", "cv2", "av", "onnx", "onnxruntime", "PIL", "tqdm", "msgspec", "safetensors", "torch")
OPTIONAL = ("torch", "onnxscript", "peft", "skimage", "psutil", "matplotlib", "albumentations", "imagecorruptions")


def answered(command: str, *arguments: str, without: tuple[str, ...]) -> str:
    """What a command prints where some libraries cannot be imported."""
    module, _, function = PROJECT["scripts"][command].partition(":")
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({without!r})); sys.argv[0] = {command!r}; "
        f"from {module} import {function}; {function}()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_there_are_these_commands() -> None:
    assert set(PROJECT["scripts"]) == {"uir-export", "uir-run", "uir-train", "uir-degrade", "uir-bench", "uir-doctor"}


@pytest.mark.parametrize("command", PROJECT["scripts"])
def test_the_version_needs_nothing_to_be_loaded(command: str) -> None:
    said = answered(command, "--version", without=LOADED)
    assert said == f"{command} {importlib.metadata.version('uir-edge')}\n"


@pytest.mark.parametrize("command", PROJECT["scripts"])
def test_the_help_needs_no_extra_and_names_the_version(command: str) -> None:
    said = answered(command, "--help", without=OPTIONAL)
    assert said.startswith(f"usage: {command} ")
    assert "--version" in said


def test_a_file_may_be_called_as_the_option_is() -> None:
    program = "from uir.runtime.version import uir_run; uir_run()"
    ended = subprocess.run(
        [sys.executable, "-c", program, "--", "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode != 0
    assert "--version" in ended.stderr


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_is_advised_is_what_the_extra_installs(extra: str) -> None:
    names = [re.split(r"[<>=!~\[ ;]", each)[0] for each in PROJECT["optional-dependencies"][extra]]
    assert install(extra) == f"pip install {' '.join(names)}"


def test_nothing_advises_to_install_from_a_registry_what_is_on_none() -> None:
    rooms = ("runtime", "calibration", "export", "tools")
    files = [file for room in rooms for file in (ROOT / room).rglob("*.py")]
    assert files
    assert not [file for file in files if re.search(r"pip install[^\n]*uir-edge", file.read_text())]
