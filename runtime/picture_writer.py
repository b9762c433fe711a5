"""Encode still pictures with their metadata, and say what a format cannot hold.

Pillow encodes what it can. 16-bit PNG comes from OpenCV; TIFF is written here, uncompressed, over Pillow's directory
writer, since Pillow has no 16-bit colour and its libtiff encoder fails on nested EXIF.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin
from PIL.ExifTags import Base

from uir.runtime.errors import OutputError
from uir.runtime.picture import Picture, Pixels, descriptive, load_exif, to_8_bits, turned
from uir.runtime.picture_formats import JPEG, TIFF, Format

_JPEG_SEGMENT = 65_000
"""Bytes of EXIF or XMP that one JPEG segment holds, a little less than its 65533."""


def encode_picture(picture: Picture, form: Format) -> tuple[bytes, list[str]]:
    """The bytes of a picture file, and notes that say what the format could not hold.

    Raises:
        OutputError: the format cannot hold a picture of this size.
    """
    notes: list[str] = []
    metadata: dict[str, bytes] = {}
    pixels, alpha = picture.pixels, picture.alpha
    if picture.deep and not form.deep:
        pixels = to_8_bits(pixels)
        alpha = None if alpha is None else to_8_bits(alpha)
        notes.append(f"16-bit picture written in 8 bits: {form.name} holds no more (.png and .tif do)")
    if alpha is not None and not form.alpha:
        alpha = None
        notes.append(f"transparency lost: {form.name} holds none (.png, .webp and .tif do)")
    for key, name in (("exif", "EXIF"), ("icc", "ICC profile"), ("xmp", "XMP")):
        data = getattr(picture, key)
        if data and not form.metadata:
            notes.append(f"{name} lost: {form.name} holds none")
        elif form is JPEG and key != "icc" and len(data) > _JPEG_SEGMENT:
            notes.append(f"{name} lost: too large for JPEG")
        elif data:
            metadata[key] = data
    if "exif" in metadata:
        # The tag stays, so the pixels go back to how they were stored. Without the tag they stay upright.
        pixels = turned(pixels, picture.orientation, back=True)
        alpha = None if alpha is None else turned(alpha, picture.orientation, back=True)
    try:
        return _encode(pixels, alpha, form, metadata), notes
    except (ValueError, OSError, struct.error, cv2.error) as error:
        height, width = pixels.shape[:2]
        raise OutputError(f"cannot write {width} x {height} pixels as {form.name}: {error}; try .png") from error


def _encode(pixels: Pixels, alpha: Pixels | None, form: Format, metadata: dict[str, bytes]) -> bytes:
    if form is TIFF:
        return _encode_tiff(pixels, alpha, metadata)
    if pixels.dtype == np.uint16:
        return _encode_deep_png(pixels, alpha, metadata)
    image = Image.fromarray(pixels)
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
    options: dict[str, Any] = {**form.options, **metadata, "icc_profile": metadata.get("icc")}
    if form.name == "PNG" and "xmp" in metadata:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", metadata["xmp"].decode("utf-8", "replace"))
    stream = io.BytesIO()
    image.save(stream, form.name, **options)
    return stream.getvalue()


def _encode_deep_png(pixels: Pixels, alpha: Pixels | None, metadata: dict[str, bytes]) -> bytes:
    """OpenCV's 16-bit PNG, with the metadata chunks put in behind its header, which is 33 bytes long."""
    if alpha is None:
        samples = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    else:  # OpenCV writes no grey with alpha; as colour it loses nothing
        samples = np.dstack([*(pixels[..., c] if pixels.ndim == 3 else pixels for c in (2, 1, 0)), alpha])
    encoded = cv2.imencode(".png", samples)[1].tobytes()
    stream = io.BytesIO()
    stream.write(encoded[:33])
    if "icc" in metadata:
        PngImagePlugin.putchunk(stream, b"iCCP", b"ICC Profile\0\0", zlib.compress(metadata["icc"]))
    if "exif" in metadata:
        PngImagePlugin.putchunk(stream, b"eXIf", metadata["exif"].removeprefix(b"Exif\0\0"))
    if "xmp" in metadata:
        PngImagePlugin.putchunk(stream, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0", metadata["xmp"])
    stream.write(encoded[33:])
    return stream.getvalue()


def _encode_tiff(pixels: Pixels, alpha: Pixels | None, metadata: dict[str, bytes]) -> bytes:
    """An uncompressed TIFF of one strip."""
    samples = pixels if alpha is None else np.dstack([pixels, alpha])
    height, width = samples.shape[:2]
    count, bits = samples.size // (height * width), 8 * samples.itemsize
    directory = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\0\0\0\0")
    if "exif" in metadata:
        exif = descriptive(load_exif(metadata["exif"]))
        for tag in exif:
            directory[tag] = exif.get_ifd(tag) if tag in set(ExifTags.IFD) else exif[tag]
    directory[Base.ImageWidth], directory[Base.ImageLength] = width, height
    directory[Base.BitsPerSample], directory[Base.SamplesPerPixel] = (bits,) * count, count
    directory[Base.Compression], directory[Base.PlanarConfiguration] = 1, 1
    directory[Base.PhotometricInterpretation] = 2 if pixels.ndim == 3 else 1
    directory[Base.StripOffsets], directory[Base.RowsPerStrip] = 0, height
    directory[Base.StripByteCounts] = samples.nbytes
    if alpha is not None:
        directory[Base.ExtraSamples] = 2  # alpha that is not multiplied into the colours
    if "icc" in metadata:
        directory[Base.InterColorProfile] = metadata["icc"]
    if "xmp" in metadata:
        directory[Base.XMLPacket] = metadata["xmp"]
    stream = io.BytesIO()
    directory.save(stream)
    stream.write(samples.astype(samples.dtype.newbyteorder("<"), copy=False).tobytes())
    return stream.getvalue()
