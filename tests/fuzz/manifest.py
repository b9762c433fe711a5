"""A package's manifest as an attacker edits it: every hash is renewed afterwards, so that it stops no one."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from uir.runtime.manifest import Manifest
from uir.runtime.manifest_file import digest


def read_manifest(package: Path) -> dict[str, Any]:
    """The manifest's JSON."""
    manifest: dict[str, Any] = json.loads((package / "manifest.json").read_text())
    return manifest


def write_manifest(package: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest, its digest renewed where it is still one."""
    with suppress(msgspec.ValidationError, ValueError, RecursionError):
        manifest["digest"] = digest(msgspec.convert(manifest, Manifest))
    (package / "manifest.json").write_text(json.dumps(manifest))


def replace(package: Path, name: str, content: bytes) -> None:
    """Put another file in a file's place and renew its hash."""
    (package / name).write_bytes(content)
    renew(package)


def renew(package: Path) -> None:
    """Renew the sizes and hashes of all the files that are there."""
    manifest = read_manifest(package)
    for name, entry in manifest["files"].items():
        path = package / name
        if path.is_file() and path.stat().st_size < 2**26:
            content = path.read_bytes()
            entry.update(size=len(content), sha256=hashlib.sha256(content).hexdigest())
    write_manifest(package, manifest)
