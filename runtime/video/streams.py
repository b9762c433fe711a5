"""Carrying everything that is not the main video over to the output untouched."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Disposition, Stream

from uir.runtime.video.pyav import disposition_number, exact

log = logging.getLogger(__name__)

# Facts about the old file, not about what it shows: the muxer writes its own.
_STRUCTURAL = {"major_brand", "minor_version", "compatible_brands", "encoder"}
_STATISTICS = ("BPS", "DURATION", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES", "_STATISTICS_")


_COVER_KINDS = {"mjpeg": ("jpg", "image/jpeg"), "png": ("png", "image/png")}


def content_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """Metadata without what only described the old file."""
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _STRUCTURAL and key != "rotate" and not key.startswith(_STATISTICS)
    }


def muxer_options(source: InputContainer, time_base: Fraction, suffix: str) -> dict[str, str]:
    """Options that let a container keep times and metadata as they are."""
    if suffix == ".ts":
        return {"mpegts_copyts": "1"}
    if suffix not in (".mp4", ".m4v", ".mov"):
        return {}
    options: dict[str, str] = {}
    # Where streams begin is stored in this unit; milliseconds, the default, would round the first frame's time.
    scale = math.lcm(1000, time_base.denominator)
    if scale < 1 << 31:
        options["movie_timescale"] = str(scale)
    if any(key.startswith("com.") for key in source.metadata):
        # Phones name what they know by reverse domains (com.apple.quicktime.make), which are dropped otherwise.
        options["movflags"] = "use_metadata_tags"
    return options


def add_copies(output: OutputContainer, sources: Iterable[Stream], destination: Path) -> dict[int, Stream]:
    """Add an output stream for each source stream that the container can carry; warn of the others.

    Returns the output streams by the index of their source.
    """
    copies: dict[int, Stream] = {}
    for source in sources:
        if _is_timecode(source) and "timecode" in source.container.streams.video[0].metadata:
            continue  # the muxer makes it anew from the metadata
        if not _takes(output.format.name, source):
            _warn_left_out(source, destination)
            continue
        copy = output.add_stream_from_template(source, opaque=True)
        copy.metadata.update(source.metadata if source.type == "attachment" else content_metadata(source.metadata))
        copy.disposition = disposition_number(source)
        copies[source.index] = copy
    return copies


def add_covers(output: OutputContainer, covers: Iterable[Packet[Stream]], destination: Path) -> list[Packet[Stream]]:
    """Carry cover art over: Matroska takes it as an attached file, MP4 as a packet.

    Returns the packets to mux once the header is written.
    """
    packets: list[Packet[Stream]] = []
    for packet in covers:
        source, suffix = packet.stream, destination.suffix.lower()
        kind = _COVER_KINDS.get(source.codec_context.name if source.codec_context else "")
        if suffix == ".mkv" and kind:
            output.add_attachment(f"cover.{kind[0]}", kind[1], bytes(packet))
        elif suffix in (".mp4", ".m4v") and kind:
            copy = output.add_stream_from_template(source, opaque=True)
            copy.disposition = disposition_number(source)
            packet.stream, packet.pts, packet.dts = copy, 0, 0
            packets.append(packet)
        else:
            _warn_left_out(source, destination)
    return packets


def copy_chapters(source: InputContainer, output: OutputContainer, shift: Fraction, end: Fraction | None) -> None:
    """Copy the chapters that lie between `shift` and `end` (seconds of the source's clock), moved by `shift`."""
    kept = []
    for chapter in source.chapters():
        base = exact(chapter["time_base"])
        if base is None:
            continue
        first = max(chapter["start"], round(shift / base)) if shift else chapter["start"]
        last = chapter["end"] if end is None else min(chapter["end"], round(end / base))
        if first < last:
            moved = round(shift / base)
            chapter["start"], chapter["end"] = first - moved, last - moved
            kept.append(chapter)
    if kept:
        output.set_chapters(kept)


def _warn_left_out(source: Stream, destination: Path) -> None:
    codec = source.codec_context.codec.canonical_name if source.codec_context else source.name or "of unknown format"
    log.warning(
        "%s: %s files cannot carry stream %d (%s, %s%s); it is left out; .mkv files carry nearly everything",
        destination,
        destination.suffix,
        source.index,
        "cover art" if source.disposition & Disposition.attached_pic else source.type,
        codec,
        f", {source.language}" if source.language else "",
    )


def _takes(format_name: str, source: Stream) -> bool:
    """Whether a container takes a stream. Tried out on a header in memory: the muxers' tables do not say all."""
    try:
        with av.open(io.BytesIO(), "w", format=format_name) as trial:
            trial.add_stream_from_template(source, opaque=True)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


def _is_timecode(stream: Stream) -> bool:
    return stream.type == "data" and stream.name in (None, "none")
