"""Mutators of a package's files: the manifest's JSON, bytes, safetensors headers, links, sizes, swapped files."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fuzz.manifest import read_manifest, renew, replace, write_manifest
from fuzz.registry import mutates

VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 7, 255, 2**31, 2**53, -(2**63), 2**64, 10**400, 0.0, -0.0, 0.5, 1e-300, 1e308),
    *(
        "",
        "a",
        "x" * 100_000,
        "../../etc/passwd",
        "/etc/passwd",
        "a\0b",
        "\ud800",
        "base",
        "CON",
        [],
        {},
        [[]],
        [0] * 3,
    ),
]


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value, as the keys that lead there."""
    if path:
        yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from _places(child, (*path, key))


def _edit(manifest: dict[str, Any], path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> None:
    holder: Any = manifest
    for key in path[:-1]:
        holder = holder[key]
    change(holder, path[-1])


def _file(package: Path, rng: random.Random) -> str:
    """One of the files that the manifest names."""
    return rng.choice(sorted(read_manifest(package)["files"]))


@mutates("package", weight=6)
def manifest_value(package: Path, rng: random.Random) -> str:
    """Another value for a field, of another type, or far too large. What names the mix may well change the picture."""
    manifest = read_manifest(package)
    places = [path for path in _places(manifest) if path[-1] not in ("default", "threshold", "lattice", "top_k")]
    path, value = rng.choice(places), rng.choice(VALUES)
    _edit(manifest, path, lambda holder, key: holder.__setitem__(key, value))
    write_manifest(package, manifest)
    return f"{'.'.join(map(str, path))} = {str(value)[:40]!r}"


@mutates("package", picture="any", weight=2)
def manifest_router_value(package: Path, rng: random.Random) -> str:
    """Another value for a field of the router's, or of the default: the mix may be another."""
    manifest = read_manifest(package)
    path = rng.choice([("router", key) for key in manifest["router"]] + [("default",)])
    value = rng.choice([*VALUES, "rain", "haze=100", "rain=1e-3,haze=100", "softmax"])
    _edit(manifest, path, lambda holder, key: holder.__setitem__(key, value))
    write_manifest(package, manifest)
    return f"{'.'.join(path)} = {str(value)[:40]!r}"


@mutates("package", weight=2)
def manifest_number(package: Path, rng: random.Random) -> str:
    """A number as JSON has no right to hold it, or of a size that only a network could need."""
    manifest = read_manifest(package)
    field = rng.choice(["multiple_of", "overlap", "bytes_per_pixel"])
    wild = [1, 3, 16, 48, 64, 1024, 4096, 10**6, 10**9, 10**15, 1e-9, 1e-3, 0.5, 1e3, 1e9, 1e300]
    value = rng.choice([*wild, "NaN", "Infinity"])
    manifest["frame"][field] = float(value) if isinstance(value, str) else value
    write_manifest(package, manifest)  # json writes NaN as such
    return f"frame.{field} = {value}"


@mutates("package", weight=2)
def manifest_key(package: Path, rng: random.Random) -> str:
    """A field that is missing, is called otherwise, or is there once more."""
    manifest = read_manifest(package)
    path = rng.choice([path for path in _places(manifest) if isinstance(path[-1], str)])
    way = rng.choice(["gone", "renamed", "copied"])

    def change(holder: Any, key: Any) -> None:
        value = holder[key] if way == "copied" else holder.pop(key)
        if way != "gone":
            holder[f"{key}{rng.choice(['x', ' ', chr(0), '/../y'])}"] = value

    _edit(manifest, path, change)
    write_manifest(package, manifest)
    return f"{'.'.join(map(str, path))} {way}"


@mutates("package", weight=2)
def manifest_text(package: Path, rng: random.Random) -> str:
    """A manifest that is no JSON, or JSON that is hard on its reader."""
    path = package / "manifest.json"
    text = path.read_bytes()
    way = rng.choice(["cut", "byte", "deep", "long", "twice", "zeros", "number"])
    if way == "cut":
        text = text[: rng.randrange(len(text))]
    elif way == "byte":
        place = rng.randrange(len(text))
        text = text[:place] + bytes([rng.randrange(256)]) + text[place + 1 :]
    elif way == "deep":
        text = b'{"schema": 1, "x": ' + b"[" * 10**6
    elif way == "long":
        text = text.rstrip()[:-1] + b', "x": "' + b"y" * (50 << 20) + b'"}'
    elif way == "twice":
        text = text * 2
    elif way == "zeros":
        text = bytes(len(text))
    else:
        text = text.rstrip()[:-1] + b', "x": ' + b"9" * 10**6 + b"}"
    path.write_bytes(text)
    return way


@mutates("package", weight=3)
def changed_byte(package: Path, rng: random.Random) -> str:
    """A byte of a file is another, and its hash is not renewed."""
    name = _file(package, rng)
    content = bytearray((package / name).read_bytes())
    place = rng.randrange(len(content))
    content[place] ^= 1 << rng.randrange(8)
    (package / name).write_bytes(content)
    return f"{name} at {place}"


@mutates("package", picture="any", weight=6)
def renewed_bytes(package: Path, rng: random.Random) -> str:
    """Some bytes of a file are others, and its hash is right: where weights stand, this is another network."""
    name = _file(package, rng)
    content = bytearray((package / name).read_bytes())
    head = rng.choice([len(content), min(len(content), 300)])  # headers are where it hurts
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        content[rng.randrange(head)] = rng.randrange(256)
    replace(package, name, bytes(content))
    return name


@mutates("package", weight=3)
def truncated(package: Path, rng: random.Random) -> str:
    """A file ends early, or goes on; its hash is right. What follows a graph may be a field that says nothing."""
    name = _file(package, rng)
    content = (package / name).read_bytes()
    way = rng.choice(["cut", "empty", "longer"])
    longer = bytes(rng.choices([0, 0, 7, 255], k=rng.choice([1, 8, 999])))
    new = {"cut": content[: rng.randrange(len(content))], "empty": b"", "longer": content + longer}[way]
    replace(package, name, new)
    return f"{name} {way}"


@mutates("package", weight=2)
def huge(package: Path, rng: random.Random) -> str:
    """A file of 8 GB, most of which is a hole: nothing may read it."""
    name = rng.choice([*sorted(read_manifest(package)["files"]), "manifest.json"])
    os.truncate(package / name, 8 << 30)
    if rng.random() < 0.5 and name != "manifest.json":
        manifest = read_manifest(package)
        manifest["files"][name]["size"] = 8 << 30
        write_manifest(package, manifest)
    return name


@mutates("package", weight=2)
def no_file(package: Path, rng: random.Random) -> str:
    """Something that is no file where one should be."""
    name = rng.choice([*sorted(read_manifest(package)["files"]), "manifest.json"])
    path = package / name
    path.unlink()
    way = rng.choice(["missing", "folder", "pipe", "socket", "link to itself", "no right"])
    if way == "folder":
        path.mkdir()
    elif way == "pipe":
        os.mkfifo(path)
    elif way == "socket":
        os.mknod(path, 0o140600)
    elif way == "link to itself":
        path.symlink_to(path.name)
    elif way == "no right":
        path.mkdir()
        path.chmod(0)
    return f"{name}: {way}"


@mutates("package", weight=3)
def link(package: Path, rng: random.Random) -> str:
    """A link to what lies outside; what stands there may even be right."""
    name = rng.choice([*sorted(read_manifest(package)["files"]), "manifest.json"])
    path = package / name
    way = rng.choice(["file", "folder", "passwd", "zero", "inside"])
    if way == "file":
        outside = package.parent / "outside"
        path.rename(outside)
        path.symlink_to(outside)
    elif way == "folder" and path.parent != package:
        outside = package.parent / "folder"
        path.parent.rename(outside)
        path.parent.symlink_to(outside)
    elif way == "passwd":
        path.unlink()
        path.symlink_to("/etc/passwd")
    elif way == "zero":
        path.unlink()
        path.symlink_to("/dev/zero")
    else:
        path.rename(package / "inside")
        path.symlink_to(os.path.relpath(package / "inside", path.parent))
    return f"{name}: {way}"


@mutates("package", weight=2)
def swapped(package: Path, rng: random.Random) -> str:
    """Two files in each other's places, their hashes renewed; two adapters may be, that is another author's affair."""
    files = sorted(read_manifest(package)["files"])
    one, other = rng.sample([name for name in files if name != "adapters/rain.safetensors"], 2)
    first, second = (package / one).read_bytes(), (package / other).read_bytes()
    (package / one).write_bytes(second)
    (package / other).write_bytes(first)
    renew(package)
    return f"{one}, {other}"


@mutates("package", weight=2)
def same_file(package: Path, rng: random.Random) -> str:
    """An entry of the manifest names another's file."""
    manifest = read_manifest(package)
    files = sorted(set(manifest["files"]) - {"adapters/rain.safetensors", "adapters/haze.safetensors"})
    name = rng.choice(files)
    path = rng.choice([("base", "file"), ("graphs", "fp32"), ("adapters", "haze", "file"), ("router", "file")])
    path = rng.choice([path, ("router", "prototypes")])
    _edit(manifest, path, lambda holder, key: holder.__setitem__(key, name))
    write_manifest(package, manifest)
    return f"{'.'.join(path)} = {name}"


@mutates("package", picture="any", weight=5)
def tensors_header(package: Path, rng: random.Random) -> str:
    """A safetensors header that lies, its hash right. Names exchanged between like tensors make another network."""
    name = rng.choice([each for each in sorted(read_manifest(package)["files"]) if each.endswith(".safetensors")])
    content = (package / name).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    tensors = [each for each in header if each != "__metadata__"]
    one = rng.choice(tensors)
    way = rng.choice(
        ["shape", "rank", "dtype", "offsets", "name", "gone", "length", "deep", "metadata", "many", "lies"]
    )
    if way == "shape":
        header[one]["shape"] = [rng.choice([0, 1, -1, 2**40, 2**63, 3, 1.5]) for _ in header[one]["shape"]]
    elif way == "rank":
        header[one]["shape"] = [1] * rng.choice([33, 74, 1000]) + header[one]["shape"]
    elif way == "dtype":
        header[one]["dtype"] = rng.choice(["F16", "F64", "BF16", "I8", "F8_E4M3", "X", "", "BOOL"])
    elif way == "offsets":
        header[one]["data_offsets"] = rng.choice([[0, 0], [0, 2**62], [-4, 0], [8, 4], [0, len(data) + 1]])
    elif way == "name":
        header[rng.choice(["", "x" * 10**5, "a\0b", "\n" * 50, "rain::A", "::A"])] = header.pop(one)
    elif way == "gone":
        del header[one]
    elif way == "deep":
        header["__metadata__"] = {"x": "[" * 10**5}
    elif way == "metadata":
        header["__metadata__"] = {str(i): "x" * 100 for i in range(10**4)}
    elif way == "many":
        header.update({f"x{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(10**5)})
    elif way == "lies":
        other = rng.choice(tensors)
        header[one], header[other] = header[other], header[one]
    encoded = json.dumps(header).encode()
    size = rng.choice([0, 1, 2**40, 2**63, len(encoded) + 1]) if way == "length" else len(encoded)
    replace(package, name, struct.pack("<Q", size) + encoded + data)
    return f"{name}: {one[:40]}: {way}"


@mutates("package", picture="any", weight=3)
def tensors_values(package: Path, rng: random.Random) -> str:
    """Values that no network should have, in a file that is otherwise right."""
    name = rng.choice([each for each in sorted(read_manifest(package)["files"]) if each.endswith(".safetensors")])
    content = bytearray((package / name).read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    value = rng.choice([float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 1e-40, 0.0])
    count = (len(content) - 8 - length) // 4
    first = rng.randrange(count)
    for place in range(first, min(count, first + rng.choice([1, 1, 1000, count]))):
        struct.pack_into("<f", content, 8 + length + 4 * place, value)
    replace(package, name, bytes(content))
    return f"{name}: {value} from {first}"


@mutates("package")
def whole_package(package: Path, rng: random.Random) -> str:
    """The package itself is something else."""
    way = rng.choice(["empty", "file", "link to itself", "no manifest"])
    if way == "no manifest":
        (package / "manifest.json").unlink()
        return way
    shutil.rmtree(package)
    if way == "empty":
        package.mkdir()
    elif way == "file":
        package.write_bytes(b"x")
    else:
        package.symlink_to(package.name)
    return way
