"""Carrying everything that is not the main video over to the output untouched."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer
from av.stream import Stream

log = logging.getLogger(__name__)

# Facts about the old file, not about what it shows: the muxer writes its own.
_STRUCTURAL = {"major_brand", "minor_version", "compatible_brands", "encoder"}
_STATISTICS = ("BPS", "DURATION", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES", "_STATISTICS_")


def content_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """Metadata without what only described the old file."""
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _STRUCTURAL and key != "rotate" and not key.startswith(_STATISTICS)
    }


def muxer_options(source: InputContainer, suffix: str) -> dict[str, str]:
    """Options that let a container keep times and metadata as they are."""
    if suffix == ".ts":
        return {"mpegts_copyts": "1"}
    if suffix in (".mp4", ".m4v", ".mov") and any(key.startswith("com.") for key in source.metadata):
        # Phones name what they know by reverse domains (com.apple.quicktime.make): MP4 drops those otherwise.
        return {"movflags": "use_metadata_tags"}
    return {}


def add_copies(output: OutputContainer, sources: Iterable[Stream], destination: Path) -> dict[int, Stream]:
    """Add an output stream for each source stream that the container can carry; warn of the others.

    Returns the output streams by the index of their source.
    """
    copies: dict[int, Stream] = {}
    for source in sources:
        if _is_timecode(source) and "timecode" in source.container.streams.video[0].metadata:
            continue  # the muxer makes it anew from the metadata
        reason = _refusal(source, output.format.name)
        if reason is not None:
            language = f" ({source.language})" if source.language else ""
            log.warning(
                "%s: stream %d, %s %s%s, is left out: %s files cannot carry it (%s)",
                destination,
                source.index,
                source.type,
                source.name or "of unknown format",
                language,
                destination.suffix,
                reason,
            )
            continue
        copy = output.add_stream_from_template(source, opaque=True)
        copy.metadata.update(source.metadata if source.type == "attachment" else content_metadata(source.metadata))
        copy.disposition = source.disposition
        copies[source.index] = copy
    return copies


def copy_chapters(source: InputContainer, output: OutputContainer, shift: Fraction, end: Fraction | None) -> None:
    """Copy the chapters that lie between `shift` and `end` (seconds of the source's clock), moved by `shift`."""
    kept = []
    for chapter in source.chapters():
        base = chapter["time_base"]
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


def _refusal(source: Stream, format_name: str) -> str | None:
    """Why a container does not take a stream; None if it does. Found out by writing a header to memory."""
    try:
        with av.open(io.BytesIO(), "w", format=format_name) as trial:
            trial.add_stream_from_template(source, opaque=True)
            trial.start_encoding()
    except (av.FFmpegError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None


def _is_timecode(stream: Stream) -> bool:
    return stream.type == "data" and stream.name in (None, "none")
