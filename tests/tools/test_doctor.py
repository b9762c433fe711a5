"""`uir-doctor` as a user meets it: what it says of this machine, of a package's engines, and of what is broken."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from fuzz.manifest import read_manifest, write_manifest

from uir.runtime.backends.devices import DEVICES, open_backend, unusable
from uir.runtime.calibrate import calibrate
from uir.runtime.composition import Composition
from uir.runtime.disk_cache import DiskCache
from uir.runtime.engine_key import EngineKey
from uir.runtime.errors import MissingFileError, PackageError, UsageError
from uir.runtime.manifest import PRECISIONS
from uir.runtime.package import Package
from uir.tools.doctor.cli import main
from uir.tools.doctor.devices import Device
from uir.tools.doctor.page import WIDTH
from uir.tools.doctor.selftest import made_up_frames, needed, selftest

SIZE = 64, 48
CPU = Device("cpu", opens=True, usable=True, precisions=["fp32"])
FAST = "cpu" if unusable("openvino") else "openvino"

Edit = Callable[[Callable[[dict[str, Any]], None]], None]
Run = subprocess.CompletedProcess[str]


def doctor(*arguments: object, **environment: str) -> Run:
    """The command as a process of its own."""
    code = "from uir.tools.doctor import run; run()"
    line = [sys.executable, "-c", code, *map(str, arguments)]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(line, capture_output=True, text=True, env=settings, timeout=300, check=False)


def list_only(*keys: str) -> Callable[[dict[str, Any]], None]:
    """An edit of a manifest that leaves these compositions."""

    def edit(manifest: dict[str, Any]) -> None:
        manifest["compositions"] = {key: manifest["compositions"][key] for key in keys}
        manifest["default"] = keys[0]

    return edit


@pytest.fixture(scope="module")
def folder(shared_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cache that holds one engine, and a package of two compositions, one of them damaged."""
    folder = tmp_path_factory.mktemp("doctor")
    DiskCache(folder / "engines").put(EngineKey({"number": 1}), b"engine" * 1000)
    package = Path(shutil.copytree(shared_package, folder / "damaged.uir"))
    manifest = read_manifest(package)
    list_only("haze", "rain")(manifest)
    write_manifest(package, manifest)
    adapter = package / "adapters" / "haze.safetensors"
    content = adapter.read_bytes()
    adapter.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    return folder


@pytest.fixture(scope="module")
def text(folder: Path) -> Run:
    """A page and a self-test that fails, as text."""
    cache = str(folder / "engines")
    return doctor(
        "--selftest", "--package", folder / "damaged.uir", "--device", "cpu", "--size", "64x48", UIR_CACHE=cache
    )


@pytest.fixture(scope="module")
def found(folder: Path, shared_package: Path) -> dict[str, Any]:
    """A page and a self-test that passes, as JSON, of a package that has int8 too."""
    package = Path(shutil.copytree(shared_package, folder / "whole.uir"))
    rain = Composition.parse("rain")
    cv2.imwrite(str(folder / "photo.png"), made_up_frames(rain, (128, 96))[0])
    calibrate(Package(package), rain, folder / "photo.png")
    manifest = read_manifest(package)
    list_only("rain")(manifest)
    manifest["compositions"]["rain"]["precisions"]["int8"]["passed"] = True  # random weights may be too coarse for it
    write_manifest(package, manifest)
    cache = str(folder / "engines")
    answered = doctor(
        "--selftest", "--package", package, "--device", FAST, "--size", "64x48", "--json", UIR_CACHE=cache
    )
    assert (answered.returncode, answered.stderr) == (0, "")
    decoded: dict[str, Any] = json.loads(answered.stdout)
    return decoded


def test_the_page_says_what_is_here(text: Run, found: dict[str, Any], folder: Path) -> None:
    page = text.stdout.partition("\nselftest\n")[0]
    assert page.startswith("uir-edge ")
    rows = [line.split() for line in page.splitlines() if line.startswith("  ") and line[2] != " "]
    words = {row[0]: " ".join(row[1:]) for row in rows}
    assert words["onnxruntime"].startswith(f"{onnxruntime.__version__}; ")
    assert words["holds"] == "1 engines, 0 MiB of 4.0 GiB"
    assert words["writable"] == "yes"
    assert platform.python_version() in page
    devices = {device["name"]: device for device in found["devices"]}
    assert tuple(devices) == DEVICES[1:]
    assert devices["cpu"]["usable"]
    for name, device in devices.items():
        assert device["failure"] == unusable(name)
        assert device["usable"] == (device["failure"] is None)
        assert words[name].startswith("usable: " if device["usable"] else "no: ")
        if device["usable"]:
            backend = open_backend(name)
            assert (device["backend"], device["precisions"]) == (backend.describe(), list(backend.preferred))
    assert devices[found["auto"]]["backend"] == open_backend("auto").describe()
    assert words["auto"] == f"takes {found['auto']}"
    assert words["UIR_DEVICE"] == "cpu: is taken where --device is not given"
    assert found["machine"]["memory"] > found["machine"]["available"] > 0
    assert found["cache"]["folder"] == str(folder / "engines")
    assert found["cache"]["size"] > 6000


def test_lines_are_short_enough_for_a_serial_console(text: Run) -> None:
    assert all(len(line) <= WIDTH or len(line.split()) <= 2 for line in text.stdout.splitlines())


def test_each_engine_of_the_package_is_measured(found: dict[str, Any], folder: Path) -> None:
    tested = found["selftest"]
    assert (tested["package"], tested["device"], tested["size"]) == (str(folder / "whole.uir"), FAST, [64, 48])
    assert tested["passed"]
    engines = [(each["composition"], each["precision"]) for each in tested["results"]]
    assert engines == [("rain", each) for each in PRECISIONS if each in open_backend(FAST).preferred]
    *narrower, result = tested["results"]
    assert all(60 > each["psnr"] >= each["needed"] > 25 for each in narrower)
    assert result["psnr"] >= result["needed"] == 60
    assert result["largest"] <= 1
    measured = result["measured"]
    assert measured["engine"] == open_backend(FAST, exact=True).describe()
    assert measured["first_seconds"] > 0
    assert measured["fps"] > 0
    assert measured["peak_bytes"] > 2**24
    assert measured["gpu_bytes"] is None
    if open_backend(FAST).durable:  # kept for use
        assert len(DiskCache(folder / "engines").entries()) > len(engines)


def test_an_engine_that_does_not_run_fails_and_stops_none_of_the_others(text: Run) -> None:
    assert (text.returncode, text.stderr) == (1, "")
    assert text.stdout.splitlines()[-1] == "selftest: 1 of 2 engines FAILED"
    tested = text.stdout.partition("\nselftest\n")[2]
    haze, _, rain = tested.partition("\nhaze\n")[2].partition("\nrain\n")
    assert "fp32 FAIL: cannot be held against float32:" in " ".join(haze.split())
    assert "haze.safetensors: is not the file that was exported (its SHA-256 differs)" in " ".join(haze.split())
    first, *_ = rain.splitlines()
    assert first.split()[:3] == ["fp32", "100.0", "60.0"]
    assert first.endswith("  pass")


def test_a_library_that_cannot_be_loaded_leaves_a_page_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    answered = doctor("--json", PYTHONPATH=str(tmp_path))
    assert (answered.returncode, answered.stderr) == (1, "")
    found = json.loads(answered.stdout)
    assert found["failure"] == "libGL.so.1: cannot open shared object file"
    assert (found["devices"], found["cache"]) == ([], None)
    libraries = {library["name"]: library for library in found["libraries"]}
    assert libraries["opencv"]["failure"] == f"cannot be loaded: {found['failure']}"
    assert libraries["onnxruntime"]["version"] == onnxruntime.__version__


def test_an_engine_too_far_from_float32_fails(package: Path, edit_manifest: Edit) -> None:
    edit_manifest(list_only("rain"))
    tested = selftest(Package(package), CPU, SIZE, exact=101)
    (result,) = tested.results
    assert (result.psnr, result.needed, result.passed, tested.passed) == (100, 101, False, False)
    assert str(tested).splitlines()[-3].endswith("  FAIL")
    assert str(tested).endswith("selftest: 1 of 1 engines FAILED")


def test_one_composition_can_be_tested_alone(package: Path) -> None:
    mix = "haze=0.4,rain=0.6"
    tested = selftest(Package(package), CPU, SIZE, [Composition.parse(mix)])
    assert [result.composition for result in tested.results] == [mix]
    assert tested.passed
    for wrong, words in (("fog", "fog"), ("rain=much", "much")):
        with pytest.raises(UsageError, match=words):
            main(["--selftest", "--package", str(package), "--compose", wrong])
    with pytest.raises(UsageError, match="add --selftest"):
        main(["--compose", "rain"])


def test_a_package_that_lists_nothing_is_tested_by_its_default(package: Path, edit_manifest: Edit) -> None:
    edit_manifest(lambda manifest: manifest.update(compositions={}, default="haze=0.3"))
    fast, exact = open_backend(FAST), open_backend(FAST, exact=True)
    swift = fast.identity() != exact.identity()
    device = Device(FAST, opens=True, usable=True, precisions=fast.preferred, swift=swift)
    tested = selftest(Package(package), device, SIZE)
    assert tested.passed
    engines = [(each.composition, each.precision, each.measured and each.measured.engine) for each in tested.results]
    own = [("haze=0.3", "auto", fast.describe())]
    assert engines == own * swift + [("haze=0.3", "fp32", exact.describe())]


def test_what_each_precision_needs() -> None:
    costs = {"fp16": 70.0, "int8": 48.5}
    assert needed("fp32", costs, 60) == needed("fp16", costs, 60) == 60
    assert needed("int8", costs, 60) == 47.5
    assert needed("fp16", {"fp16": 60.2}, 60) == 59.2
    assert needed(None, costs, 60) == 45
    assert needed("fp16", {"fp16": None}, 60) == 60


def test_made_up_frames_are_the_same_each_time_and_degraded() -> None:
    clean, hazy, again = (made_up_frames(Composition.parse(key), SIZE) for key in ("base", "haze", "haze=0.5"))
    assert clean.shape == (3, 48, 64, 3)
    assert np.array_equal(hazy, again)
    assert not np.array_equal(clean[0], clean[1])
    assert hazy.std() < clean.std()
    assert np.array_equal(made_up_frames(Composition.parse("fog"), SIZE), clean)


def test_what_cannot_be_tested_is_refused_before_anything_is_tried(
    tmp_path: Path, package: Path, edit_manifest: Edit
) -> None:
    with pytest.raises(UsageError, match="add --selftest"):
        main(["--package", str(package)])
    with pytest.raises(MissingFileError, match=r"no such package; make it with: uir-export"):
        main(["--selftest", "--package", str(tmp_path / "none.uir")])
    edit_manifest(lambda manifest: manifest["files"].update({"../../outside": {"size": 1, "sha256": "0" * 64}}))
    with pytest.raises(PackageError, match=r"names a file outside the package: '../../outside'"):
        main(["--selftest", "--package", str(package)])
    for size in ("640", "640x", "0x360", "640x99999"):
        with pytest.raises(SystemExit):
            main(["--selftest", "--size", size])
