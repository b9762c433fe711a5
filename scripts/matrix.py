"""Install uir-edge afresh on every Python that it names, with the newest and the lowest versions that it allows.

The wheel is built as a release would be, and installed outside the checkout with no constraints; there the main job is
run (main_job.py). Pythons are those of pyproject.toml's classifiers that this machine has; none is downloaded. Needs uv
and the network.

Exit status: 0; 1 where an installation or its main job fails, or no Python is found.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESOLUTIONS = {"newest": "highest", "lowest": "lowest-direct"}
SHOWN = {"av": "av", "numpy": "numpy", "onnx": "onnx", "onnxruntime": "onnxruntime", "opencv": "opencv-python"}
SHOWN["openvino"] = "openvino"


@dataclass
class Cell:
    """One environment, and how the main job went in it.

    Attributes:
        python: as `3.12`.
        resolution: `newest` or `lowest`.
        openvino: with that extra.
    """

    python: str
    resolution: str
    openvino: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    passed: list[str] = field(default_factory=list)
    failure: str | None = None
    seconds: float = 0.0

    def run(self, uv: str, interpreter: str, wheel: Path, folder: Path) -> None:
        """Make the environment in a folder, and do the main job there."""
        began = time.monotonic()
        python = folder / ("env/Scripts/python.exe" if os.name == "nt" else "env/bin/python")
        # What a wheel needs is not direct to uv; what pyproject.toml names is.
        wanted = [f"--resolution={RESOLUTIONS[self.resolution]}", "-r", str(ROOT / "pyproject.toml"), str(wheel)]
        wanted += ["--extra", "openvino"] if self.openvino else []
        job = [str(python), str(ROOT / "scripts/main_job.py"), str(ROOT / "tests/media/bunny.mp4")]
        try:
            call(folder, uv, "venv", "--quiet", "--python", interpreter, "env")
            call(folder, uv, "pip", "install", "--quiet", "--python", str(python), *wanted)
            answer = json.loads(call(folder, *job, *(["--openvino"] if self.openvino else [])))
            self.versions, self.passed, self.failure = (answer[key] for key in ("versions", "passed", "failure"))
        except (subprocess.CalledProcessError, ValueError) as error:
            self.failure = f"{error}\n{getattr(error, 'stdout', '')}{getattr(error, 'stderr', '')}".rstrip()
        self.seconds = time.monotonic() - began

    def row(self) -> list[str]:
        """Its line of the table."""
        shown = [self.versions.get(name, "") for name in SHOWN.values()]
        verdict = "failed" if self.failure else "passed"
        return [self.python, self.resolution, *shown, f"{self.seconds:.0f} s", f"{verdict}: {', '.join(self.passed)}"]


def main() -> int:
    """Run all cells and print the table; see the module's docstring."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pythons", metavar="3.A,3.B", help="these alone, which must be there")
    options.add_argument("--resolutions", default="newest,lowest", metavar="A,B", help="default: %(default)s")
    chosen = options.parse_args()
    # The system's certificates, as pip takes them.
    os.environ |= {"UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": os.environ.get("UV_SYSTEM_CERTS", "true")}
    for variable in ("PYTHONPATH", "VIRTUAL_ENV", "UIR_DEVICE", "UIR_CACHE", "UV_CONSTRAINT", "UV_RESOLUTION"):
        os.environ.pop(variable, None)
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        print("matrix: uv is not here; make matrix installs it", file=sys.stderr)
        return 1
    named = chosen.pythons.split(",") if chosen.pythons else named_pythons()
    pythons = {version: found for version in named if (found := find_python(uv, version))}
    missing = [version for version in named if version not in pythons]
    print(f"Pythons: {', '.join(pythons) or 'none'}; not on this machine: {', '.join(missing) or 'none'}", flush=True)
    if not pythons or (chosen.pythons and missing):
        return 1
    cells = [Cell(*each) for each in product(pythons, chosen.resolutions.split(","))]
    # One Python will do for what it is to have the extra.
    cells += [Cell(next(reversed(pythons)), each, openvino=True) for each in chosen.resolutions.split(",")]
    with tempfile.TemporaryDirectory(prefix="uir-matrix-") as text:
        folder = Path(text)
        built = subprocess.run([uv, "build", "--quiet", "--out-dir", "dist", str(ROOT)], cwd=folder, check=False)
        if built.returncode:
            return 1
        (wheel,) = (folder / "dist").glob("*.whl")
        for number, cell in enumerate(cells):
            work = folder / str(number)
            work.mkdir()
            cell.run(uv, pythons[cell.python], wheel, work)
            shutil.rmtree(work)
            print("  ".join(filter(None, cell.row())), *([cell.failure] if cell.failure else []), sep="\n", flush=True)
    print("\n" + "\n".join(table(["Python", "versions", *SHOWN, "time", ""], [cell.row() for cell in cells])))
    return 1 if any(cell.failure for cell in cells) else 0


def named_pythons() -> list[str]:
    """The versions that the package's metadata names."""
    return re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())


def find_python(uv: str, version: str) -> str | None:
    """An interpreter of this version that runs: there are shims on the path that do not."""
    for candidate in candidates(uv, version):
        program = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
        try:
            said = subprocess.run([candidate, "-c", program], capture_output=True, text=True, timeout=30, check=True)
        except (OSError, subprocess.SubprocessError):
            continue
        if said.stdout.startswith(f"{version} "):
            return said.stdout.partition(" ")[2].strip()
    return None


def candidates(uv: str, version: str) -> Iterator[str]:
    """Where such an interpreter may be: on the path, among pyenv's, or where uv finds it."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        if found := shutil.which(f"python{version}", path=folder):
            yield found
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from (str(each / "bin/python") for each in sorted(pyenv.glob(f"versions/{version}.*")))
    found = subprocess.run([uv, "python", "find", version], capture_output=True, text=True, check=False)
    yield from found.stdout.split("\n")[:1]


def call(folder: Path, *command: str) -> str:
    """Run a command in a folder and give what it printed. Raises `CalledProcessError`."""
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    """Lines with columns as wide as they need."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


if __name__ == "__main__":
    sys.exit(main())
