"""The source stage: a video file as upright RGB pictures, with the packets of its other streams beside them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from uir.runtime.errors import MediaError, UsageError
from uir.runtime.video.color import HDR_TRANSFERS, Color, ToRgb
from uir.runtime.video.info import Orientation, VideoInfo, frame_rate, main_video, open_video
from uir.runtime.video.pyav import exact

log = logging.getLogger(__name__)

# Sound of the same moment may lie this far behind its picture in a file.
_INTERLEAVING = Fraction(2)
# Seconds: more than any video has, and few enough for 64 bits in any time base.
_FOREVER = 1e9
# A file that ends this much before its header says so was cut off; less is rounding.
_CUT_OFF = 1.0


@dataclass(slots=True)
class Picture:
    """One frame on its way through the pipeline."""

    image: NDArray[np.uint8]
    """H x W x 3 RGB, upright."""
    seconds: float
    """Since the start of the stream."""
    pts: int
    """Presentation time in the reader's `time_base`."""
    duration: int
    """In the reader's `time_base`; 0 where unknown."""
    packets: list[Packet[Stream]] = field(default_factory=list)
    """What the file holds of its other streams up to the next frame, times already shifted."""


class VideoReader:
    """Opens a video and iterates over its `Picture`s, once.

    With `start` or `duration` (seconds) only that part is read, cut exactly at frames, and every time is shifted so
    that its first frame is at zero; without them times stay as they are in the file.

    Raises:
        MissingFileError, MediaError: as `VideoInfo.read`; the part lies behind the end; a colour matrix that cannot
            be converted.
        UsageError: `start` is negative, `duration` is not positive, or either is no number of seconds.
    """

    def __init__(self, path: Path, start: float = 0.0, duration: float | None = None) -> None:
        if not 0 <= start <= _FOREVER:  # NaN neither
            raise UsageError(f"the start must be from 0 to {_FOREVER:g} seconds: {start:g}")
        if duration is not None and not 0 < duration <= _FOREVER:
            raise UsageError(f"the duration must be above 0 and at most {_FOREVER:g} seconds: {duration:g}")
        self.path = path
        self._start, self._duration = Fraction(start), None if duration is None else Fraction(duration)
        self.container = open_video(path)
        try:
            self.stream = main_video(self.container, path)
            self._prepare()
        except BaseException:
            self.container.close()
            raise

    def _prepare(self) -> None:
        time_base = exact(self.stream.time_base)
        if time_base is None:
            raise MediaError(f"{self.path}: its video has no time base; remux it first")
        self.time_base = time_base
        self.copied = [
            stream
            for stream in self.container.streams
            if stream.index != self.stream.index and not _is_chapters(stream) and not _is_cover(stream)
        ]
        """The streams whose packets come with the pictures."""
        self._copied_indices = {stream.index for stream in self.copied}
        self.covers: dict[int, Packet[Stream]] = {}
        """Cover art, by the index of its stream."""
        self.stream.thread_type = "AUTO"
        self.seconds_converting = 0.0
        """How long turning frames into RGB has taken."""
        self._packets: list[Packet[Stream]] = []
        self._damaged = 0
        self._reached = Fraction(0)
        self._last_pts: int | None = None
        self._rescaled = False
        first = self._first_frame()
        self.info = VideoInfo.of(self.path, self.container, self.stream, first)
        self.color = Color.of(first, self.stream.codec_context)
        self.source_format = first.format
        """The stored frames' pixel format."""
        self._orientation = Orientation.of(first)
        self._stored_size = (first.width, first.height)
        try:
            self._to_rgb = ToRgb(self.color, *self._stored_size)
        except MediaError as error:
            raise MediaError(f"{self.path}: {error}") from None
        origin = first.pts if self.stream.start_time is None else self.stream.start_time
        self._origin = origin or 0
        self._first_pts = first.pts or 0
        self.shift = self._first_pts * self.time_base if self._start else Fraction(0)
        """Seconds taken off every time."""
        self.end = None if self._duration is None else self._first_pts * self.time_base + self._duration
        """Where the part ends, in seconds of the file's own clock; None for the end of the file."""
        self.expected_frames = self._expected_frames()
        self._warn_of_losses(first)

    def __iter__(self) -> Iterator[Picture]:
        """Yield the pictures in order of presentation, and warn at the end of what was damaged or missing."""
        pending: Picture | None = None
        for frame in chain([self._first], self._frames):
            if self.end is not None and frame.pts is not None and frame.pts * self.time_base >= self.end:
                self._collect_until(self.end + _INTERLEAVING)
                break
            if pending is not None:
                pending.packets = self._take_packets()
                yield pending
            pending = self._picture(frame)
        if pending is not None:
            pending.packets = self._take_packets()
            yield pending
        self._warn_of_damage()

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _first_frame(self) -> VideoFrame:
        """Find the first frame of the part: from the keyframe before it, or from the top if the index misleads."""
        target = (self.stream.start_time or 0) + round(self._start / self.time_base)
        seeks = (target, self.stream.start_time or 0) if self._start else (None,)
        for seek in seeks:
            if seek is not None:
                self._packets.clear()
                try:
                    self.container.seek(seek, stream=self.stream)
                except av.FFmpegError:
                    log.debug("%s: cannot seek; reading from the top", self.path)
            self._frames = self._decode()
            earliest: int | None = None
            for frame in self._frames:
                pts = frame.pts or 0
                earliest = pts if earliest is None else earliest
                if pts >= target or seek is None:
                    if earliest > target and seek == target and target > 0:
                        break  # the seek went too far: something before it was lost
                    self._first = frame
                    return frame
        if self._last_pts is None:
            raise MediaError(f"{self.path}: no frame of it can be decoded; the file is damaged or cut off")
        end = float((self._last_pts - (self.stream.start_time or 0)) * self.time_base)
        raise MediaError(f"{self.path}: ends at {end:.2f} s, before the start that was asked for")

    def _decode(self) -> Iterator[VideoFrame]:
        """Decode frames and put the other streams' packets aside; damaged packets are counted and passed over."""
        self._last_pts = None
        self._demuxed = self.container.demux()
        while True:
            try:
                packet = next(self._demuxed)
            except StopIteration:
                return
            except av.FFmpegError as error:
                self._damaged += 1
                log.debug("%s: %s", self.path, error)
                return
            if packet.stream.index != self.stream.index:
                self._set_aside(packet)
                continue
            self._note(packet)
            try:
                frames = self.stream.decode(packet)
            except av.FFmpegError:
                self._damaged += 1
                continue
            for frame in frames:
                self._give_time(frame)
                yield frame

    def _give_time(self, frame: VideoFrame) -> None:
        """Make times strictly rising, as encoders demand; a frame without one follows at the frame rate."""
        if frame.pts is None:
            step = max(1, round(1 / (frame_rate(self.stream) * self.time_base)))
            frame.pts = (self.stream.start_time or 0) if self._last_pts is None else self._last_pts + step
        if self._last_pts is not None and frame.pts <= self._last_pts:
            frame.pts = self._last_pts + 1
        self._last_pts = frame.pts

    def _picture(self, frame: VideoFrame) -> Picture:
        assert frame.pts is not None
        if (frame.width, frame.height) != self._stored_size and not self._rescaled:
            self._rescaled = True
            log.warning(
                "%s: the frame size changes from %dx%d to %dx%d; later frames are scaled to the first size",
                self.path,
                *self._stored_size,
                frame.width,
                frame.height,
            )
        began = time.perf_counter()
        try:
            rgb = self._to_rgb(frame)
        except (av.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise MediaError(
                f"{self.path}: {frame.format.name} frames cannot be converted to RGB ({reason})"
            ) from error
        image = self._orientation.apply(rgb)
        self.seconds_converting += time.perf_counter() - began
        return Picture(
            image=image,
            seconds=float((frame.pts - self._origin) * self.time_base),
            pts=frame.pts - (self._first_pts if self.shift else 0),
            duration=frame.duration or 0,
        )

    def _set_aside(self, packet: Packet[Stream]) -> None:
        index = packet.stream.index
        if _is_cover(packet.stream) and packet.size:
            self.covers.setdefault(index, packet)
        if index not in self._copied_indices:
            return
        if packet.dts is None:
            packet.dts = packet.pts
        if packet.dts is None:  # the empty packets at the end, which only decoders need
            return
        self._note(packet)
        self._packets.append(packet)

    def _take_packets(self) -> list[Packet[Stream]]:
        """Hand out the packets set aside that lie in the part, shifted."""
        taken: list[Packet[Stream]] = []
        for packet in self._packets:
            time = (packet.dts if packet.pts is None else packet.pts) or 0
            seconds = time * packet.time_base
            if (self.shift and seconds < self.shift) or (self.end is not None and seconds >= self.end):
                continue
            if self.shift:
                offset = round(self.shift / packet.time_base)
                packet.pts = None if packet.pts is None else packet.pts - offset
                packet.dts = None if packet.dts is None else packet.dts - offset
            taken.append(packet)
        self._packets = []
        return taken

    def _collect_until(self, end: Fraction) -> None:
        """Read on without decoding, for the sound that lies behind its picture in the file."""
        try:
            for packet in self._demuxed:
                if packet.stream.index != self.stream.index:
                    self._set_aside(packet)
                elif packet.dts is not None and packet.dts * self.time_base >= end:
                    return
        except av.FFmpegError:
            self._damaged += 1

    def _note(self, packet: Packet[Stream]) -> None:
        """Remember how far into the file's time its packets reach."""
        if packet.pts is not None:
            self._reached = max(self._reached, (packet.pts + (packet.duration or 0)) * packet.time_base)

    def _expected_frames(self) -> int | None:
        if self.info.frame_count is None:
            return None
        skipped = round((self._first_pts - self._origin) * self.time_base * self.info.frame_rate)
        left = max(1, self.info.frame_count - skipped)
        return left if self._duration is None else min(left, max(1, round(self._duration * self.info.frame_rate)))

    def _warn_of_losses(self, frame: VideoFrame) -> None:
        """Say once, before the work, what 8-bit RGB cannot hold."""
        components = frame.format.components
        if max(component.bits for component in components) > 8:
            log.warning("%s: more than 8 bits a channel; it is processed and written in 8 bits", self.path)
        if self.color.transfer in HDR_TRANSFERS:
            name = HDR_TRANSFERS[self.color.transfer]
            log.warning(
                "%s: HDR (%s) video; its colours are kept as tagged, but 8 bits may show banding", self.path, name
            )
        if any(component.is_alpha for component in components):
            log.warning("%s: its transparency is dropped", self.path)
        if frame.interlaced_frame:
            log.warning(
                "%s: interlaced; its fields are processed as whole frames, better deinterlace it first", self.path
            )

    def _warn_of_damage(self) -> None:
        if self._damaged:
            log.warning("%s: damaged: %d packets could not be read and were passed over", self.path, self._damaged)
        if self.end is None and self.container.duration:
            begin = (self.container.start_time or 0) / 1_000_000
            whole, there = self.container.duration / 1_000_000, float(self._reached) - begin
            if there < whole - _CUT_OFF:
                log.warning("%s: cut off: %.1f s of %.1f s are there", self.path, there, whole)


def _is_cover(stream: Stream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _is_chapters(stream: Stream) -> bool:
    """Whether this is MP4's hidden track of chapter titles, which the chapters themselves stand for."""
    return stream.type == "data" and stream.name == "bin_data" and bool(stream.container.chapters())
