"""A package that lies about itself: sizes, numbers and names are checked before any file is read."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from uir.runtime.calibrate import _keep
from uir.runtime.composition import Composition
from uir.runtime.errors import PackageError
from uir.runtime.manifest import PrecisionEntry
from uir.runtime.manifest_file import MANIFEST, digest, encode_manifest, seal
from uir.runtime.package import Package
from uir.runtime.restorer import Restorer

EditManifest = Callable[[Callable[[dict[str, Any]], None]], None]
RAIN = "adapters/rain.safetensors"
HUGE = 8 << 30


@pytest.mark.parametrize("name", [MANIFEST, "base.safetensors", "graphs/fp32.onnx", RAIN])
def test_a_file_of_8_gb_is_not_read(package: Path, name: str) -> None:
    os.truncate(package / name, HUGE)
    words = "has 8589934592 bytes, and 16777216 at most" if name == MANIFEST else "it has 8589934592 bytes, not"
    with pytest.raises(PackageError, match=rf"{re.escape(name)}: .*{words}"):
        Restorer(package, "rain")
    if name != MANIFEST:
        with pytest.raises(PackageError, match=words):
            Package(package).verify()


@pytest.mark.parametrize("name", ["base.safetensors", "graphs/fp32.onnx", RAIN])
def test_nor_where_the_manifest_says_so_too(package: Path, edit_manifest: EditManifest, name: str) -> None:
    os.truncate(package / name, HUGE)
    edit_manifest(lambda manifest: manifest["files"][name].update(size=HUGE))
    with pytest.raises(PackageError, match=rf"{re.escape(name)}: has 8589934592 bytes, and \d+ at most are read"):
        Restorer(package, "rain")


def test_any_field_that_is_changed_is_found(package: Path) -> None:
    text = (package / MANIFEST).read_text()
    changed = 0
    for line in text.splitlines():
        found = re.fullmatch(r'(\s*"\w+": )(\d+|".*")(,?)', line)
        if found is None or '"schema"' in line:
            continue
        value = found[2]
        changed += 1
        other = str(int(value) + 1) if value.isdigit() else f'"{"b" if value[1:2] == "a" else "a"}{value[2:]}'
        (package / MANIFEST).write_text(text.replace(line, f"{found[1]}{other}{found[3]}", 1))
        with pytest.raises(PackageError, match=r"digest differs|damaged|has no hash"):
            Package(package)
    assert changed > 20
    (package / MANIFEST).write_text(text)
    Package(package)


def test_a_hand_edit_is_told_from_damage(package: Path) -> None:
    manifest = json.loads((package / MANIFEST).read_text())
    manifest["default"] = "haze"
    (package / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(PackageError, match=r"was changed after it was written \(its digest differs\); export the pack"):
        Package(package)


def test_spaces_and_the_order_of_keys_are_no_change(package: Path) -> None:
    manifest = json.loads((package / MANIFEST).read_text())
    (package / MANIFEST).write_text(json.dumps(manifest, sort_keys=True))
    read = Package(package).manifest
    assert read.digest == manifest["digest"] == digest(read)


def test_what_is_written_is_what_is_read(package: Path) -> None:
    manifest = Package(package).manifest
    changed = msgspec.structs.replace(manifest, default="haze")
    (package / MANIFEST).write_bytes(encode_manifest(seal(changed)))
    read = Package(package).manifest
    assert read == seal(changed)
    assert read.digest != manifest.digest
    with pytest.raises(ValueError, match="composition 'fog'"):
        seal(msgspec.structs.replace(manifest, default="fog"))


def test_a_graph_that_is_added_later_renews_the_digest(package: Path) -> None:
    opened, rain = Package(package), Composition.parse("rain")
    before = opened.manifest.digest
    graph = (package / "graphs/fp32.onnx").read_bytes()
    file = "compositions/rain/int8.onnx"
    _keep(opened, rain, PrecisionEntry(passed=True, psnr=50, restoration=None, graph=file), file, graph)
    read = Package(package)
    assert read.manifest == opened.manifest
    assert read.manifest.digest != before
    assert read.graph("int8", rain)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m["frame"].update(multiple_of=10**9), "multiple_of"),
        (lambda m: m["frame"].update(overlap=10**9), "overlap"),
        (lambda m: m["frame"].update(bytes_per_pixel=1e-9), "bytes_per_pixel"),
        (lambda m: m["frame"].update(bytes_per_pixel=1e9), "bytes_per_pixel"),
        (lambda m: m["adapters"]["rain"].update(rank=-1), "rank"),
        (lambda m: m["base"].update(parameters=2**63), "parameters"),
        (lambda m: m["base"].update(name="x" * 2000), "name"),
        (lambda m: m["files"][RAIN].update(size=-1), "files"),
        (lambda m: m["files"][RAIN].update(sha256="0"), "files"),
        (lambda m: m.update(more=1), "more"),
        (lambda m: m["frame"].update(more=1), "more"),
        (lambda m: m["graphs"].pop("fp32"), "names no fp32 graph"),
        (lambda m: m["graphs"].update(fp32="base.safetensors"), "named where a file .onnx belongs"),
        (lambda m: m["base"].update(file="graphs/fp32.onnx"), "named where a file .safetensors belongs"),
        (lambda m: m["files"].update({RAIN.upper(): m["files"][RAIN]}), "are one file on some systems"),
        (lambda m: m["files"].update({MANIFEST: m["files"][RAIN]}), "are one file on some systems"),
        (lambda m: m["files"].update({"graphs/fp32.onnx:x": m["files"][RAIN]}), "no name for a file of a package"),
        (lambda m: m["files"].update({"C:x": m["files"][RAIN]}), "no name for a file of a package"),
        (lambda m: m["files"].update({"a//b": m["files"][RAIN]}), "no name for a file of a package"),
        (
            lambda m: m["compositions"]["rain"].update(
                precisions={"fp32": {"passed": False, "psnr": None, "restoration": None}}
            ),
            "fp32 stands among the precisions",
        ),
    ],
)
def test_what_no_package_has_is_refused(
    package: Path, edit_manifest: EditManifest, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    edit_manifest(lambda manifest: (change(manifest), None)[1])
    with pytest.raises(PackageError, match=re.escape(words)):
        Package(package)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "9" * 5000])
def test_numbers_are_numbers(package: Path, number: str) -> None:
    text = (package / MANIFEST).read_text()
    changed = re.sub(r'("bytes_per_pixel": )[\d.]+', rf"\g<1>{number}", text)
    assert changed != text
    (package / MANIFEST).write_text(changed)
    with pytest.raises(PackageError, match=r"manifest\.json: damaged") as caught:
        Package(package)
    assert len(str(caught.value)) < 1000


def test_a_long_value_makes_a_short_line(package: Path, edit_manifest: EditManifest) -> None:
    edit_manifest(lambda manifest: manifest["compositions"]["rain"].update(recommended="x" * 10**6))
    with pytest.raises(PackageError, match="damaged: Invalid enum value 'xxx") as caught:
        Package(package)
    assert len(str(caught.value)) < 1000


def test_a_manifest_that_is_a_link_out_of_the_package_is_refused(package: Path) -> None:
    (package / MANIFEST).rename(package.parent / MANIFEST)
    (package / MANIFEST).symlink_to(package.parent / MANIFEST)
    with pytest.raises(PackageError, match=r"outside the package: 'manifest\.json'"):
        Package(package)
