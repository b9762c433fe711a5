"""Decode still pictures with everything that must survive.

Pillow reads them, since OpenCV drops the metadata of TIFF, cannot read a TIFF whose orientation swaps its sides, and
turns truncated JPEG into grey without a word. Pillow in turn has no 16-bit colour: there OpenCV decodes the samples.
"""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError
from PIL.ExifTags import Base

from uir.runtime.errors import MediaError, MissingFileError
from uir.runtime.picture import ROWS, Picture, Pixels, descriptive, load_exif, to_8_bits, turned


def read_picture(path: Path) -> Picture:
    """Decode a PNG, JPEG, WebP, TIFF or BMP picture, whole or not at all.

    Raises:
        MissingFileError: there is no such file.
        MediaError: the file cannot be read as a still picture; the message says why.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns at half of its limit; only the limit itself matters here.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=["PNG", "JPEG", "WEBP", "TIFF", "BMP"]) as image:
                return _decode(path, image)
    except MediaError:
        raise
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file") from None
    except Image.DecompressionBombError as error:
        raise MediaError(f"{path}: too large a picture ({error}); cut it into parts") from error
    except UnidentifiedImageError as error:
        raise MediaError(f"{path}: not a PNG, JPEG, WebP, TIFF or BMP picture, or damaged at its start") from error
    except MemoryError as error:
        raise MediaError(f"{path}: the picture does not fit in memory; cut it into parts") from error
    except Exception as error:
        # Decoders of foreign bytes fail in every way there is: OSError, SyntaxError, struct.error, KeyError, ...
        raise MediaError(f"{path}: damaged or truncated picture: {error}") from error


def read_frame(path: Path) -> NDArray[np.uint8]:
    """A photo as H x W x 3 uint8 RGB, upright.

    Raises:
        MissingFileError, MediaError: it cannot be read.
    """
    pixels = read_picture(path).pixels
    if pixels.dtype == np.uint16:
        pixels = to_8_bits(pixels)
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB).astype(np.uint8, copy=False) if pixels.ndim == 2 else pixels


def _decode(path: Path, image: Any) -> Picture:
    notes = _check_frames(path, image)
    tags = getattr(image, "tag_v2", {})  # the directory of a TIFF
    tiff = image.format == "TIFF"
    depth = _depth(path, image, tags)
    exif = image.info.get("exif", b"")
    if tiff:
        described = descriptive(image.getexif())
        exif = described.tobytes() if described else b""
    orientation: Any = load_exif(exif).get(Base.Orientation)
    if orientation not in range(1, 9):
        orientation = 1
    icc, xmp = image.info.get("icc_profile") or b"", image.info.get("xmp") or b""
    image.load()  # also for 16 bits: Pillow finds out whether the file is whole
    if image.mode == "CMYK":
        image, icc = _rgb_of_cmyk(image, icc), b""
        notes.append("CMYK picture written in RGB (sRGB)")
    grey = image.mode in ("1", "L", "LA", "I;16", "I;16B")
    pixels, alpha = _decode_deep(path, grey) if depth == 16 else _decode_plain(path, image, grey)
    if depth == 16 or not tiff:  # an 8-bit TIFF was turned by Pillow
        pixels = turned(pixels, orientation)
        alpha = None if alpha is None else turned(alpha, orientation)
    return Picture(pixels, alpha, orientation, exif, icc, xmp, notes)


def _check_frames(path: Path, image: Any) -> list[str]:
    """Notes on pictures in the file besides the first, which is all that is restored."""
    frames = getattr(image, "n_frames", 1)
    if image.format == "MPO":
        return ["the further pictures in the file (a preview, a depth or HDR map) are left out"]
    if frames == 1:
        return []
    if image.format == "TIFF":
        return [f"only the first of {frames} pages is restored; the others are left out"]
    raise MediaError(f"{path}: an animation of {frames} frames; convert it to a video first")


def _depth(path: Path, image: Any, tags: Any) -> int:
    """Bits per sample: 8 for everything that Pillow decodes without loss, 16 for what OpenCV must decode."""
    if image.format == "PNG":
        with path.open("rb") as stream:
            return 16 if stream.read(25)[24] == 16 else 8
    if image.format != "TIFF":
        return 8
    bits = max(tags.get(Base.BitsPerSample, (1,)))
    if bits <= 8:
        return 8
    plain = bits == 16 and set(tags.get(Base.SampleFormat, (1,))) == {1} and tags.get(Base.PlanarConfiguration, 1) == 1
    if not plain or tags.get(Base.PhotometricInterpretation) not in (1, 2) or 1 in tags.get(Base.ExtraSamples, ()):
        raise MediaError(f"{path}: this kind of {bits}-bit TIFF is not supported; convert it to plain 16-bit RGB first")
    return 16


def _decode_plain(path: Path, image: Any, grey: bool) -> tuple[Pixels, Pixels | None]:
    """Pixels (H x W x 3, or H x W if `grey`) and alpha (H x W or None) of an 8-bit image."""
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr"):
        raise MediaError(f"{path}: pictures of mode {image.mode} are not supported; convert it to 8-bit RGB first")
    mode = "L" if grey else "RGB"
    if image.has_transparency_data:
        image = image.convert("LA" if grey else "RGBA")
    alpha = np.array(image.getchannel("A")) if image.has_transparency_data else None
    width, height = image.size
    pixels = np.empty((height, width) if grey else (height, width, 3), np.uint8)
    for top in range(0, height, ROWS):  # in bands, so that no second whole picture stands in memory
        band = image.crop((0, top, width, min(top + ROWS, height)))
        pixels[top : top + ROWS] = np.asarray(band.convert(mode))
    return pixels, alpha


def _decode_deep(path: Path, grey: bool) -> tuple[Pixels, Pixels | None]:
    data = np.fromfile(path, np.uint8)
    _reset_tiff_orientation(data)
    stored = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16:
        raise MediaError(f"{path}: this kind of 16-bit picture is not supported; convert it to plain 16-bit RGB first")
    if stored.ndim == 2:
        return stored, None
    alpha = np.ascontiguousarray(stored[..., 3]) if stored.shape[2] == 4 else None
    if grey:
        return np.ascontiguousarray(stored[..., 0]), alpha
    return cv2.cvtColor(stored, cv2.COLOR_BGR2RGB if alpha is None else cv2.COLOR_BGRA2RGB), alpha


def _reset_tiff_orientation(data: NDArray[np.uint8]) -> None:
    """Set the orientation tag of a classic TIFF in memory to 1: OpenCV turns some such files and fails on others."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4].tobytes())
    if order is None:
        return
    view = data.data
    (directory,) = struct.unpack_from(order + "I", view, 4)
    (count,) = struct.unpack_from(order + "H", view, directory)
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        if struct.unpack_from(order + "H", view, entry)[0] == Base.Orientation:
            struct.pack_into(order + "H", view, entry + 8, 1)


def _rgb_of_cmyk(image: Any, icc: bytes) -> Any:
    """CMYK in sRGB: through its profile, or by the plain formula where it has none."""
    if not icc:
        return image.convert("RGB")
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
