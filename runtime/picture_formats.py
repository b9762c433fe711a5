"""Which files are pictures, and what their formats can hold: told without any library that reads or writes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uir.runtime.errors import MediaError, MissingFileError, UsageError


@dataclass(frozen=True)
class Format:
    """What a file format can carry, and how it is written."""

    name: str
    alpha: bool = False
    deep: bool = False
    metadata: bool = True
    options: dict[str, Any] = field(default_factory=dict)


JPEG = Format("JPEG", options={"quality": 95, "subsampling": 0})
TIFF = Format("TIFF", alpha=True, deep=True)
FORMATS = {
    ".png": Format("PNG", alpha=True, deep=True),
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".webp": Format("WebP", alpha=True, options={"quality": 95, "exact": True}),
    ".tif": TIFF,
    ".tiff": TIFF,
    ".bmp": Format("BMP", metadata=False),
}
"""The formats that can be written, by suffix. JPEG is written at quality 95 without chroma subsampling."""

IMAGE_SUFFIXES = tuple(FORMATS)
"""Suffixes of the pictures that are read and written."""

_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"avif": "AVIF", b"avis": "AVIF"}


def output_format(destination: Path) -> Format:
    """The format that `destination`'s suffix asks for.

    Raises:
        UsageError: no picture format that can be written has this suffix.
    """
    suffix = destination.suffix.lower()
    try:
        return FORMATS[suffix]
    except KeyError:
        what = f"{suffix} pictures cannot be written" if suffix else "has no suffix to tell the format by"
        raise UsageError(f"{destination}: {what}; use one of {' '.join(FORMATS)}") from None


def is_image(path: Path) -> bool:
    """Whether a file is a picture, by its first bytes; a file with a picture's suffix counts too, whatever it holds.

    GIF, HEIC, AVIF and JPEG 2000 count as pictures, so that `refuse` can say that they are not supported.

    Raises:
        MissingFileError: there is no such file.
        MediaError: it cannot be read.
    """
    if not path.exists():
        raise MissingFileError(f"{path}: no such file")
    if not path.is_file():
        return False
    if path.suffix.lower() in FORMATS:
        return True
    head = _head(path)
    return _is_picture(head) or _unsupported(head) is not None


def refuse(source: Path) -> None:
    """Say plainly what no decoder would of a file that is no picture, or none that is read.

    Raises:
        MissingFileError: there is no `source`.
        MediaError: it is empty, no picture, or of a kind that is not supported.
    """
    if not source.exists():
        raise MissingFileError(f"{source}: no such file")
    if not source.is_file():
        raise MediaError(f"{source}: not a file")
    head = _head(source)
    if not head:
        raise MediaError(f"{source}: empty file")
    if name := _unsupported(head):
        raise MediaError(f"{source}: {name} pictures are not supported; convert it to PNG or JPEG first")
    if not _is_picture(head):
        raise MediaError(f"{source}: not a PNG, JPEG, WebP, TIFF or BMP picture")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(32)
    except OSError as error:
        raise MediaError(f"{path}: cannot be read: {error.strerror}") from error


def _is_picture(head: bytes) -> bool:
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    bmp = head[:2] == b"BM" and head[6:10] == bytes(4)
    return webp or bmp or head.startswith(_SIGNATURES)


def _unsupported(head: bytes) -> str | None:
    """The name of a picture format that is recognised only to be refused."""
    if head.startswith(b"GIF8"):
        return "GIF"
    if head[4:12] == b"jP  \r\n\x87\n":
        return "JPEG 2000"
    return _BRANDS.get(head[8:12]) if head[4:8] == b"ftyp" else None
