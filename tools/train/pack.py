"""Photos in one small file: a zip of JPEGs, so that many can be carried to where training is fast."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from uir.runtime.atomic import atomic_output
from uir.runtime.errors import UsageError
from uir.tools.bench.metrics import Frame
from uir.tools.photos import PackedPhoto, gather_photos, read_photo


@dataclass(frozen=True)
class Packing:
    """What packing came to.

    Attributes:
        size: bytes of the pack.
        psnr: of the encoded photos against the reduced ones, dB: the mean and the least.
    """

    photos: int
    size: int
    psnr: tuple[float, float]


def pack(sources: Sequence[Path], out: Path, side: int, quality: int, *, overwrite: bool = False) -> Packing:
    """Reduce photos and write them, each under its own name, into one file.

    Colour keeps its full resolution: at the same size that is nearer to the photo than a higher quality without.

    Args:
        sources: folders, and packs.
        side: of a photo's longer side, pixels, at most.
        quality: of the JPEGs, 1 to 100.

    Raises:
        UsageError: two photos have one name, by which exclusions know them.
        MissingFileError, MediaError: a photo cannot be read.
        OutputError: the pack exists already, or cannot be written.
    """
    photos = gather_photos(sources)
    taken: dict[str, object] = {}
    for photo in photos:
        if photo.name in taken:
            raise UsageError(f"{taken[photo.name]} and {photo} have the same name; pack them apart, or rename one")
        taken[photo.name] = photo
    scores = []
    with atomic_output(out, overwrite=overwrite) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for photo in tqdm(photos, unit="photo", disable=None):
            pixels = read_photo(photo, side)
            encoded = _encode(pixels, quality)
            scores.append(_psnr(pixels, encoded))
            # One date for all: the same photos make the same file.
            archive.writestr(zipfile.ZipInfo(photo.name), encoded)
    return Packing(len(photos), out.stat().st_size, (float(np.mean(scores)), min(scores)))


def _encode(pixels: Frame, quality: int) -> bytes:
    settings = {
        cv2.IMWRITE_JPEG_QUALITY: quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        cv2.IMWRITE_JPEG_OPTIMIZE: 1,
        cv2.IMWRITE_JPEG_PROGRESSIVE: 1,
    }
    flat = [number for setting in settings.items() for number in setting]
    return cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), flat)[1].tobytes()


def _psnr(pixels: Frame, encoded: bytes) -> float:
    return float(cv2.PSNR(pixels, read_photo(PackedPhoto("", Path(), encoded))))
