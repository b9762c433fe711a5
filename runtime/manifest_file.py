"""manifest.json: read, checked and written. Its digest covers every field, so that no damage to it goes unseen."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import msgspec

from uir.runtime.composition import Composition, is_adapter_name
from uir.runtime.errors import MissingFileError, PackageError, UirError, shown
from uir.runtime.manifest import SCHEMA, FileEntry, Manifest
from uir.runtime.package_files import check_inside, read_bytes

MANIFEST = "manifest.json"
LARGEST = 16 * 2**20
"""Bytes of a manifest."""


_NAME = re.compile(r"[A-Za-z0-9_=,.-]+(/[A-Za-z0-9_=,.-]+)*")


class _Versioned(msgspec.Struct):
    schema: int


def read_manifest(package: Path) -> Manifest:
    """Read a package's manifest and check all that can be told without the other files.

    Raises:
        MissingFileError: there is no such package.
        PackageError: it is no package, or its manifest is damaged, of another schema, or names a path outside it.
    """
    file = package / MANIFEST
    if not package.exists():
        raise MissingFileError(
            f"{package}: no such package; make it with: uir-export --adapters rain,haze -o {package}"
        )
    if not file.is_file():
        raise PackageError(f"{package}: not a package: it has no {MANIFEST}; make one with uir-export")
    check_inside(package, MANIFEST)
    text = read_bytes(file, LARGEST)
    try:
        schema = msgspec.json.decode(text, type=_Versioned).schema
        if schema != SCHEMA:
            remedy = "upgrade uir-edge, or export it again" if schema > SCHEMA else "export it again"
            raise PackageError(f"{file}: is of schema {schema}, and this version reads schema {SCHEMA}; {remedy}")
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PackageError(f"{file}: damaged: {shown(error, 300)}; export the package again") from error
    for name in manifest.files:
        check_inside(package, name)
    try:
        check_manifest(manifest)
    except ValueError as error:
        raise PackageError(f"{file}: {shown(error, 600)}; export the package again") from error
    return manifest


def seal(manifest: Manifest) -> Manifest:
    """The manifest with its digest, as `read_manifest` would give it.

    Raises:
        ValueError: it would not be read back.
    """
    try:
        written = msgspec.json.decode(msgspec.json.encode(manifest), type=Manifest)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error
    sealed = msgspec.structs.replace(written, digest=digest(written))
    check_manifest(sealed)
    return sealed


def encode_manifest(manifest: Manifest) -> bytes:
    """A sealed manifest as its file holds it."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def digest(manifest: Manifest) -> str:
    """SHA-256 of a manifest's fields but its own digest, as JSON without spaces, the keys sorted."""
    fields = msgspec.to_builtins(manifest)
    del fields["digest"]
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_entry(content: bytes) -> FileEntry:
    """What a manifest knows a file by."""
    return FileEntry(size=len(content), sha256=hashlib.sha256(content).hexdigest())


def check_manifest(manifest: Manifest) -> None:
    """Hold a manifest's parts against each other.

    Raises:
        ValueError: they contradict each other, or were changed after they were written.
    """
    if "fp32" not in manifest.graphs:
        raise ValueError("damaged: it names no fp32 graph")
    if manifest.frame.overlap % manifest.frame.multiple_of:
        raise ValueError("damaged: the frame's overlap is no multiple of multiple_of")
    _check_files(manifest)
    _check_names(manifest)
    if manifest.digest != digest(manifest):
        raise ValueError("was changed after it was written (its digest differs)")


def _check_files(manifest: Manifest) -> None:
    own = [tried.graph for entry in manifest.compositions.values() for tried in entry.precisions.values()]
    if any("fp32" in entry.precisions for entry in manifest.compositions.values()):
        raise ValueError("damaged: fp32 stands among the precisions that are held against it")
    router = manifest.router
    models = [*manifest.graphs.values(), *filter(None, own), *([router.file] if router else [])]
    tensors = [manifest.base.file, *(entry.file for entry in manifest.adapters.values())]
    tensors += [router.prototypes] if router else []
    for suffix, names in ((".onnx", models), (".safetensors", tensors)):
        for name in names:
            if name not in manifest.files:
                raise ValueError(f"names {name}, but has no hash of it")
            if not name.endswith(suffix):
                raise ValueError(f"damaged: {name} is named where a file {suffix} belongs")
    folded: dict[str, str] = {}
    for name in (MANIFEST, *manifest.files):
        if not _NAME.fullmatch(name):
            raise ValueError(f"damaged: {name[:100]!r} is no name for a file of a package")
        other = folded.setdefault(name.casefold(), name)
        if other != name or (name == MANIFEST and name in manifest.files):
            raise ValueError(f"damaged: {name} and {other} are one file on some systems")


def _check_names(manifest: Manifest) -> None:
    for name in manifest.adapters:
        if not is_adapter_name(name):
            raise ValueError(f"damaged: {name[:100]!r} is no name for an adapter")
    for key in (manifest.default, *manifest.compositions):
        try:
            Composition.parse(key).check_names(manifest.adapters)
        except UirError as error:
            raise ValueError(f"damaged: composition {key[:100]!r}: {str(error)[:300]}") from error
