"""A package's manifest as an attacker edits it: every hash is renewed afterwards, so that it stops no one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def read_manifest(package: Path) -> dict[str, Any]:
    """The manifest's JSON."""
    manifest: dict[str, Any] = json.loads((package / "manifest.json").read_text())
    return manifest


def write_manifest(package: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest."""
    (package / "manifest.json").write_text(json.dumps(manifest))


def replace(package: Path, name: str, content: bytes) -> None:
    """Put another file in a file's place and renew its hash."""
    (package / name).write_bytes(content)
    renew(package)


def renew(package: Path) -> None:
    """Renew the hashes of all the files that are there."""
    manifest = read_manifest(package)
    for name in manifest["files"]:
        path = package / name
        if path.is_file() and path.stat().st_size < 2**26:
            manifest["files"][name] = hashlib.sha256(path.read_bytes()).hexdigest()
    write_manifest(package, manifest)
