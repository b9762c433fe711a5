"""The sink stage: encodes pictures and muxes them with the copied packets."""

from __future__ import annotations

import logging
import math
import time
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.codec.context import Flags
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from uir.runtime.errors import OutputError, UsageError
from uir.runtime.video.color import FromRgb
from uir.runtime.video.encoders import choose_encoder, encoder_options, pixel_format
from uir.runtime.video.options import VideoOptions
from uir.runtime.video.pyav import EXACT_METADATA, disposition_number
from uir.runtime.video.reader import Picture, VideoReader
from uir.runtime.video.streams import (
    add_copies,
    add_covers,
    content_metadata,
    copy_chapters,
    muxer_options,
)

log = logging.getLogger(__name__)


class VideoWriter:
    """Writes one video file with everything that `reader`'s file holds beside its pictures.

    Args:
        path: the file that is written.
        destination: the name that messages give it.
        reader: the source, for its times, colours, other streams, metadata and chapters.
        options: codec, quality, preset, side by side or not.

    Raises:
        UsageError: the encoder or the container refuses what is asked of it.
        OutputError: the file cannot be opened.
    """

    def __init__(self, path: Path, destination: Path, reader: VideoReader, options: VideoOptions) -> None:
        self._destination = destination
        self._compare = options.compare
        self._codec = choose_encoder(destination, options)
        self._rounded = False
        self._last = -(1 << 62)
        self._deadline = math.inf
        self._encoded = 0
        self.frames = 0
        """Frames written so far."""
        self.seconds_converting = 0.0
        """How long turning results into the encoder's pixels has taken."""
        self.seconds = 0.0
        """The time that they span."""
        suffix = destination.suffix.lower()
        try:
            muxing = muxer_options(reader.container, reader.time_base, suffix)
            self._output = av.open(f"file:{path}", "w", container_options=muxing, **EXACT_METADATA)
            try:
                self._video = self._add_video(reader, options, suffix)
                self._copies = add_copies(self._output, reader.copied, destination)
                covers = add_covers(self._output, reader.covers.values(), destination)
                self._output.metadata.update(content_metadata(reader.container.metadata))
                copy_chapters(reader.container, self._output, reader.shift, reader.end)
                self._video.codec_context.open()
                self._output.start_encoding()
                self._output.mux(covers)
            except BaseException:
                self.abort()
                raise
        except OSError as error:
            raise OutputError(f"{destination}: cannot be written: {error.strerror or error}") from error
        except (av.FFmpegError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(
                f"{destination}: {self._codec.name} or the container refuses {reader.info.width}x{reader.info.height} "
                f"video ({getattr(error, 'strerror', None) or error}); choose another codec or container"
            ) from error

    def _add_video(self, reader: VideoReader, options: VideoOptions, suffix: str) -> VideoStream:
        info = reader.info
        width = info.width * (2 if options.compare else 1)
        pix_fmt = pixel_format(self._codec, reader.source_format, width, info.height, turned=info.rotation in (90, 270))
        self._time_base = reader.time_base
        self._output_base = 1 / info.frame_rate if suffix == ".avi" else reader.time_base
        stream = cast(
            VideoStream,
            self._output.add_stream(
                self._codec.name, rate=info.frame_rate, options=encoder_options(self._codec, options, suffix)
            ),
        )
        color = reader.color.output(pix_fmt)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = width, info.height, pix_fmt
        context.time_base = stream.time_base = self._output_base
        context.sample_aspect_ratio = info.sample_aspect_ratio
        context.color_range, context.colorspace = color.range_tag, color.matrix_tag
        context.color_primaries, context.color_trc = color.primaries, color.transfer
        context.flags |= Flags.frame_duration
        stream.metadata.update(content_metadata(reader.stream.metadata))
        stream.disposition = disposition_number(reader.stream)
        self._from_rgb = FromRgb(color, pix_fmt)
        return stream

    def write(self, picture: Picture, result: NDArray[np.uint8]) -> None:
        """Encode one result (H x W x 3 uint8, like the picture's image) and mux what came with it.

        Nothing is written once there is no time left, as `hurry` says.

        Raises:
            OutputError: the disk is full, or the file cannot be written for another reason.
        """
        began = time.perf_counter()
        if began > self._deadline:
            return
        image = np.concatenate((picture.image, result), axis=1) if self._compare else result
        frame = self._from_rgb(image)
        self.seconds_converting += time.perf_counter() - began
        frame.time_base = self._output_base
        frame.pts, frame.duration = self._time(picture.pts), self._rescale(picture.duration)
        try:
            self._encode(frame)
            for packet in picture.packets:
                copy = self._copies.get(packet.stream.index)
                if copy is not None:
                    packet.stream = copy
                    self._output.mux(packet)
        except av.FFmpegError as error:
            raise self._failed(error) from error
        if not self.frames:
            self._first = picture.pts
        self.frames += 1
        self.seconds = float((picture.pts + picture.duration - self._first) * self._time_base)

    def hurry(self, patience: float) -> None:
        """Let the encoder have so many seconds from now for what it is given and still holds; the rest is left out."""
        self._deadline = time.perf_counter() + patience

    def finish(self) -> None:
        """Flush the encoder and close the file. Raises `OutputError` as `write` does."""
        try:
            self._encode(None)
            self._output.close()
        except av.FFmpegError as error:
            raise self._failed(error) from error
        if self._encoded < self.frames:
            self.seconds *= self._encoded / self.frames
            self.frames = self._encoded

    def _encode(self, frame: VideoFrame | None) -> None:
        for packet in self._video.codec_context.encode_lazy(frame):
            packet.stream = self._video
            self._encoded += 1
            self._output.mux(packet)
            if time.perf_counter() > self._deadline:
                break

    def abort(self) -> None:
        """Close the file whatever state it is in; nothing after `finish`."""
        with suppress(av.FFmpegError, ValueError):
            self._output.close()

    def _time(self, time: int) -> int:
        """A frame's time in the output's time base: later than the one before, even where it is rounded."""
        self._last = max(self._rescale(time), self._last + 1)
        return self._last

    def _rescale(self, time: int) -> int:
        exact = Fraction(time) * self._time_base / self._output_base
        if abs(exact - round(exact)) > Fraction(1, 4) and not self._rounded:
            self._rounded = True
            log.warning("%s: AVI knows a constant frame rate only; frame times are rounded to it", self._destination)
        return round(exact)

    def _failed(self, error: av.FFmpegError) -> OutputError:
        return OutputError(f"{self._destination}: cannot be written: {error.strerror or error}")
