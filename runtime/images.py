"""Still images through a restoration: what the file was besides its pixels stays as it was, or is said to be lost.

Kept: EXIF with its orientation, ICC profile, XMP, transparency, 16-bit samples, grey as grey.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.runtime.atomic import atomic_output, check_destination
from uir.runtime.errors import MediaError, MissingFileError
from uir.runtime.picture import ROWS, Pixels, to_8_bits
from uir.runtime.picture_reader import read_picture
from uir.runtime.picture_writer import FORMATS, encode_picture, output_format

IMAGE_SUFFIXES = tuple(FORMATS)
"""Suffixes of the pictures that are read and written."""

_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"avif": "AVIF", b"avis": "AVIF"}


def is_image(path: Path) -> bool:
    """Whether a file is a picture, by its first bytes; a file with a picture's suffix counts too, whatever it holds.

    GIF, HEIC, AVIF and JPEG 2000 count as pictures, so that `process_image` can say that they are not supported.

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


def process_image(
    source: Path,
    destination: Path,
    process: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
    *,
    overwrite: bool = False,
    compare: bool = False,
) -> list[str]:
    """Run `process` on a picture and write the result in the format of `destination`'s suffix.

    `process` gets the upright picture as H x W x 3 uint8 RGB and returns the same shape. With `compare`, the file holds
    source and result side by side. Alpha is carried over untouched; a grey picture stays grey (the result's luma).
    A 16-bit picture keeps its fine steps: the change that `process` made in 8 bits is added to the 16-bit samples.

    Returns:
        Notes of what was lost on the way, one sentence each; empty if nothing was.

    Raises:
        MissingFileError: there is no `source`.
        MediaError: `source` is damaged, truncated, empty, animated or of a kind that is not supported.
        UsageError: no picture can be written with `destination`'s suffix.
        OutputError: `destination` exists, or cannot be written.
    """
    _refuse(source)  # first: a GIF's own name would be blamed on its output
    form = output_format(destination)
    check_destination(destination, overwrite=overwrite, source=source)
    picture = read_picture(source)
    picture.pixels = _restore(picture.pixels, process, compare)
    if compare and picture.alpha is not None:
        picture.alpha = np.concatenate([picture.alpha, picture.alpha], axis=1)
    data, notes = encode_picture(picture, form)
    with atomic_output(destination, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)
    return picture.notes + notes


def _restore(pixels: Pixels, process: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], compare: bool) -> Pixels:
    coarse = to_8_bits(pixels) if pixels.dtype == np.uint16 else pixels
    grey = pixels.ndim == 2
    rgb: Pixels = cv2.cvtColor(coarse, cv2.COLOR_GRAY2RGB) if grey else coarse
    restored: Pixels = process(rgb)
    if grey:
        restored = cv2.cvtColor(restored, cv2.COLOR_RGB2GRAY)
    if pixels.dtype == np.uint16:
        restored = _deepen(pixels, coarse, restored)
    return np.concatenate([pixels, restored], axis=1) if compare else restored


def _deepen(fine: Pixels, coarse: Pixels, restored: Pixels) -> NDArray[np.uint16]:
    """The 8-bit change `restored - coarse` applied to the 16-bit samples that `coarse` is the rounding of.

    At most half an 8-bit step from `restored`; where nothing changed, exactly `fine`.
    """
    deep = np.empty(fine.shape, np.uint16)
    for top in range(0, fine.shape[0], ROWS):
        band = slice(top, top + ROWS)
        change = restored[band].astype(np.int32) - coarse[band]
        deep[band] = np.clip(fine[band] + 257 * change, 0, 65535)
    return deep


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


def _refuse(source: Path) -> None:
    """Say plainly what no decoder would."""
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
