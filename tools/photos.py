"""The photos that training learns from and quality is measured on."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np

from uir.runtime.errors import MissingFileError
from uir.runtime.inputs import collect
from uir.runtime.picture_formats import IMAGE_SUFFIXES
from uir.runtime.samples import read_frame
from uir.tools.bench.metrics import Frame


def find_photos(folder: Path, limit: int | None = None) -> list[Path]:
    """The photos of a folder in natural order, or the first `limit` of them.

    Raises:
        MissingFileError: there is no such folder, or no photo in it.
    """
    photos = [path for path in collect(str(folder)) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not photos:
        raise MissingFileError(f"{folder}: no photos in this folder ({', '.join(IMAGE_SUFFIXES)})")
    return photos[:limit]


def read_photo(path: Path, max_side: int | None = None) -> Frame:
    """A photo as H x W x 3 uint8 RGB, upright; if its longer side has more than `max_side` pixels, reduced to that.

    Raises:
        MissingFileError, MediaError: it cannot be read.
    """
    pixels = read_frame(path)
    height, width = pixels.shape[:2]
    scale = (max_side or math.inf) / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return pixels
