"""A still picture in memory: its pixels and everything beside them that must survive a restoration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.ExifTags import Base

Pixels = NDArray[Any]
"""Samples of uint8 or uint16."""

ROWS = 256
"""Rows that are converted at a time, so that no second whole picture stands in memory."""

# Turns the stored pixels upright for each EXIF orientation; 5 to 8 swap the sides. All but 6 and 8 undo themselves.
_TURNS: dict[int, Callable[[Any], Any]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
_INVERSE = {6: 8, 8: 6}

# What of a TIFF directory describes the picture; the rest says how its samples are stored and must not travel.
_DESCRIPTIVE = {
    *(Base.ImageDescription, Base.Make, Base.Model, Base.Orientation, Base.XResolution, Base.YResolution),
    *(Base.ResolutionUnit, Base.Software, Base.DateTime, Base.Artist, Base.Copyright),
    *(ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo),
}


@dataclass
class Picture:
    """A decoded picture, turned upright.

    `pixels` is H x W x 3 (RGB) or H x W (grey), uint8 or uint16; `alpha` is H x W of the same type; `orientation` is
    the EXIF tag that the stored picture had, which the same tag in `exif` still tells. `notes` say what was lost.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    orientation: int = 1
    exif: bytes = b""
    icc: bytes = b""
    xmp: bytes = b""
    notes: list[str] = field(default_factory=list)

    @property
    def deep(self) -> bool:
        """Whether the samples have 16 bits."""
        return self.pixels.dtype == np.uint16


def to_8_bits(pixels: Pixels) -> NDArray[np.uint8]:
    """Round 16-bit samples to the nearest 8-bit ones (65535 is 255); same shape."""
    return cv2.convertScaleAbs(pixels, alpha=1 / 257).astype(np.uint8, copy=False)


def turned(pixels: Pixels, orientation: int, *, back: bool = False) -> Pixels:
    """Stored pixels of an EXIF orientation (1 to 8) turned upright, or upright ones turned back; contiguous."""
    turn = _TURNS[_INVERSE.get(orientation, orientation) if back else orientation]
    return np.ascontiguousarray(turn(pixels))


def load_exif(data: bytes) -> Image.Exif:
    """Parse an EXIF block, with or without its `Exif` header; an empty one gives no tags."""
    exif = Image.Exif()
    exif.load(data)
    return exif


def descriptive(exif: Image.Exif) -> Image.Exif:
    """Leave in `exif` only what may travel between a TIFF directory and an EXIF block."""
    for tag in set(exif) - _DESCRIPTIVE:
        del exif[tag]
    return exif
