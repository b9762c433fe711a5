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
from uir.runtime.picture import ROWS, Pixels, to_8_bits
from uir.runtime.picture_formats import output_format, refuse
from uir.runtime.picture_reader import read_picture
from uir.runtime.picture_writer import encode_picture


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
    refuse(source)  # first: a GIF's own name would be blamed on its output
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
