"""Which encoder a video is written with, and how it is told what is wanted."""

from __future__ import annotations

import difflib
from pathlib import Path

import av
from av.codec import Codec
from av.video.format import VideoFormat

from uir.runtime.errors import UsageError
from uir.runtime.video.options import LOSSLESS, PRESETS, WORST, VideoOptions

# Suffix of the file -> the encoder that plays everywhere in such files.
CONTAINERS = {
    ".mp4": "libx264",
    ".m4v": "libx264",
    ".mov": "libx264",
    ".mkv": "libx264",
    ".avi": "libx264",
    ".ts": "libx264",
    ".webm": "libvpx-vp9",
}
_EVEN_SIZES_ONLY = ("libx264", "libx265")


def choose_encoder(destination: Path, options: VideoOptions) -> Codec:
    """Find the encoder for a file.

    Raises:
        UsageError: the file's suffix is no video container, or the codec is unknown (near names are listed).
    """
    suffix = destination.suffix.lower()
    if suffix not in CONTAINERS:
        what = f"{suffix} files cannot be written" if suffix else "has no suffix to tell the container by"
        raise UsageError(f"{destination}: {what}; choose one of {' '.join(CONTAINERS)}")
    name = options.codec or CONTAINERS[suffix]
    try:
        codec = Codec(name, "w")
    except ValueError:  # av.codec.codec.UnknownCodecError
        codec = None
    if codec is None or codec.type != "video":
        near = difflib.get_close_matches(name, _encoders(), n=5, cutoff=0.4)
        raise UsageError(f"unknown video encoder {name!r}" + (f"; near names: {', '.join(near)}" if near else ""))
    return codec


def pixel_format(codec: Codec, source: VideoFormat, width: int, height: int, *, turned: bool) -> str:
    """The pixel format to encode in: the source's subsampling in 8 bits, as far as the encoder takes it.

    Args:
        codec: the encoder.
        source: the source's pixel format.
        width: the output's width in pixels.
        height: the output's height in pixels. 4:2:0 needs both even in H.264 and H.265, so 4:4:4 is taken elsewise.
        turned: whether the frames were turned by a quarter, which no 4:2:2 format can follow.
    """
    wanted = "yuv420p"
    if not source.is_rgb and len(source.components) >= 3:
        columns, rows = source.chroma_width(16), source.chroma_height(16)
        wanted = {(16, 16): "yuv444p", (8, 16): "yuv444p" if turned else "yuv422p"}.get((columns, rows), wanted)
    if codec.name in _EVEN_SIZES_ONLY and (width % 2 or height % 2):
        wanted = "yuv444p"
    supported = [item.name for item in codec.video_formats or ()]
    for name in (wanted, wanted.replace("yuv", "yuvj"), "yuv444p", "yuv422p", "yuv420p"):
        if name in supported:
            return name
    return supported[0] if supported else wanted


def encoder_options(codec: Codec, options: VideoOptions, suffix: str) -> dict[str, str]:
    """The encoder's own options for a quality and a preset."""
    effort = PRESETS.index(options.preset)
    name = codec.name
    if name in ("libx264", "libx264rgb", "libx265"):
        chosen = {"preset": options.preset, "crf": str(options.quality)}
        if name == "libx265":
            chosen["x265-params"] = "log-level=error" + (":lossless=1" if options.quality == LOSSLESS else "")
        elif options.quality == LOSSLESS:
            chosen["qp"] = "0"
        if suffix == ".avi":
            chosen["bf"] = "0"  # AVI has no presentation times: frames must be stored in the order they are shown
        return chosen
    if name in ("libvpx", "libvpx-vp9", "libaom-av1", "libsvtav1"):
        chosen = {"crf": str(round(options.quality * 63 / WORST))}
        if name == "libsvtav1":
            return chosen | {"preset": str(12 - effort)}
        chosen |= {"cpu-used": str(8 - effort), "row-mt": "1"}
        if options.quality == LOSSLESS and name == "libvpx-vp9":
            chosen["lossless"] = "1"
        return chosen
    # Older encoders know no rate factor, but a quantizer from 1 to 31; lossless ones need neither and ignore it.
    quantizer = str(1 + round(options.quality * 30 / WORST))
    return {"qmin": quantizer, "qmax": quantizer}


def _encoders() -> list[str]:
    found = []
    for name in sorted(av.codecs_available):
        try:
            if Codec(name, "w").type == "video":
                found.append(name)
        except ValueError:
            continue
    return found
