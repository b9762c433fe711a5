"""The photos that training learns from and quality is measured on."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from uir.runtime.errors import MediaError, MissingFileError
from uir.runtime.inputs import collect
from uir.runtime.picture_formats import IMAGE_SUFFIXES
from uir.tools.bench.metrics import Frame


@dataclass(frozen=True)
class PackedPhoto:
    """A photo out of a pack, still encoded.

    Attributes:
        name: that of the file it was made from.
        pack: where it came from.
        encoded: the bytes of a JPEG, or of what else OpenCV decodes.
    """

    name: str
    pack: Path
    encoded: bytes

    def __str__(self) -> str:
        return f"{self.pack}: {self.name}"


Photo = Path | PackedPhoto


def find_photos(folder: Path, limit: int | None = None) -> list[Path]:
    """The photos of a folder in natural order, or the first `limit` of them.

    Raises:
        MissingFileError: there is no such folder, or no photo in it.
    """
    photos = [path for path in collect(str(folder)) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not photos:
        raise MissingFileError(f"{folder}: no photos in this folder ({', '.join(IMAGE_SUFFIXES)})")
    return photos[:limit]


def gather_photos(sources: Sequence[Path]) -> list[Photo]:
    """The photos of several folders and packs, in the order given.

    Raises:
        MissingFileError: there is no such folder or pack, or no photo in it.
        MediaError: a pack is damaged.
    """
    photos: list[Photo] = []
    for source in sources:
        if zipfile.is_zipfile(source):
            photos += _unpacked(source)
        elif source.is_file() and source.suffix.lower() not in IMAGE_SUFFIXES:
            raise MediaError(f"{source}: neither a folder of photos nor a whole pack of them; see uir-train pack")
        else:
            photos += find_photos(source)
    return photos


def _unpacked(pack: Path) -> list[PackedPhoto]:
    try:
        with zipfile.ZipFile(pack) as archive:
            names = [name for name in archive.namelist() if Path(name).suffix.lower() in IMAGE_SUFFIXES]
            photos = [PackedPhoto(Path(name).name, pack, archive.read(name)) for name in names]
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise MediaError(f"{pack}: a damaged pack of photos ({error}); make it again") from error
    if not photos:
        raise MissingFileError(f"{pack}: no photos in this pack ({', '.join(IMAGE_SUFFIXES)})")
    return photos


def read_photo(photo: Photo, max_side: int | None = None) -> Frame:
    """A photo as H x W x 3 uint8 RGB, upright; if its longer side has more than `max_side` pixels, reduced to that.

    Raises:
        MissingFileError, MediaError: it cannot be read.
    """
    pixels = _decoded(photo) if isinstance(photo, PackedPhoto) else _read(photo)
    height, width = pixels.shape[:2]
    scale = (max_side or math.inf) / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return pixels


def _read(path: Path) -> Frame:
    from uir.runtime.picture_reader import read_frame  # not before a file is read: packs need no Pillow

    return read_frame(path)


def _decoded(photo: PackedPhoto) -> Frame:
    try:
        pixels = cv2.imdecode(np.frombuffer(photo.encoded, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # an empty member
        pixels = None
    if pixels is None:
        raise MediaError(f"{photo}: not a picture; make the pack again")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
