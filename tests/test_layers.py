"""The rooms: imports run one way, the runtime is light, the wheel is whole."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
ROOMS = ("runtime", "calibration", "export", "tools")  # from the ground floor up
HEAVY = {"torch", "onnxscript", "peft", "scipy", "skimage", "transformers", "pytest", "hypothesis", "psutil"}
UNIX = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
OPTIONAL = {"openvino", "tensorrt", "tensorrt_rtx", "pycuda", "cuda"}


def modules() -> dict[str, Path]:
    """Every module of the four rooms by its whole name."""
    found = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(("uir", *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
    return found


MODULES = modules()


def imports(name: str) -> Iterator[tuple[str, bool]]:
    """Each module that a module names in an import, and whether that runs as soon as it is imported itself."""
    tree = ast.parse(MODULES[name].read_text())
    late = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(function, ast.If) and "TYPE_CHECKING" in ast.unparse(function.test))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import; write the whole name"
            assert node.module
            yield node.module, id(node) not in late
            yield from ((f"{node.module}.{alias.name}", id(node) not in late) for alias in node.names)


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_one_way(name: str) -> None:
    floor = ROOMS.index(name.split(".")[1])
    for imported, _ in imports(name):
        parts = imported.split(".")
        if parts[0] == "uir":
            assert ROOMS.index(parts[1]) <= floor, f"{name} imports {imported}, which stands above it"
            assert imported in MODULES or imported.rpartition(".")[0] in MODULES, f"{name} imports {imported}"
        assert parts[0] not in ROOMS, f"{name} imports {imported}; write uir.{imported}"
        assert parts[0] != "tests"


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith(("uir.runtime", "uir.calibration"))])
def test_the_ground_floors_never_name_torch(name: str) -> None:
    assert not HEAVY & {imported.split(".")[0] for imported, _ in imports(name)}


@pytest.mark.parametrize("name", MODULES)
def test_optional_backends_are_imported_only_when_used(name: str) -> None:
    assert not OPTIONAL & {imported.split(".")[0] for imported, at_once in imports(name) if at_once}


@pytest.mark.parametrize("name", MODULES)
def test_what_only_unix_has_is_imported_only_when_used(name: str) -> None:
    assert not UNIX & {imported.split(".")[0] for imported, at_once in imports(name) if at_once}


def test_the_lower_floors_need_only_what_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[<>=!~\[ ;]", text)[0].lower() for text in project["dependencies"]}
    owners = importlib.metadata.packages_distributions()
    for name in MODULES:
        if not name.startswith(("uir.runtime", "uir.calibration")):
            continue
        for imported, at_once in imports(name):
            top = imported.split(".")[0]
            if at_once and top not in sys.stdlib_module_names and top != "uir":
                assert declared & {owner.lower() for owner in owners[top]}, f"{name} imports {top}"


@pytest.mark.parametrize("module", ["uir.runtime", "uir.runtime.cli", "uir.export.cli", "uir.calibration.degradations"])
def test_what_a_device_imports_pulls_in_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    answered = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert answered.returncode == 0, answered.stderr
    assert not (HEAVY | OPTIONAL) & set(answered.stdout.split())


def test_the_wheel_holds_every_module_and_all_the_weights(tmp_path: Path) -> None:
    source, wheels = tmp_path / "source", tmp_path / "wheels"
    source.mkdir()
    for room in ROOMS:  # a copy, since building leaves files that the next wheel would hold
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    program = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        wheels,
        source,
    ]
    answered = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert answered.returncode == 0, answered.stderr
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for name, path in MODULES.items():
        inside = name.replace(".", "/") + ("/__init__.py" if path.name == "__init__.py" else ".py")
        assert inside in names
    assert {f"uir/{room}/py.typed" for room in ROOMS} <= names
    zoo = ROOT / "export" / "zoo"
    for file in zoo.rglob("*"):
        if file.is_file() and file.suffix not in (".py", ".pyc"):
            assert f"uir/export/zoo/{file.relative_to(zoo).as_posix()}" in names
    assert all(name.startswith(("uir/", "uir_edge-")) for name in names)
    assert not [name for name in names if re.search(r"(^|/)(tests?/|test_|conftest)|\.pyc$", name)]
