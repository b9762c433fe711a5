"""A video in, a function applied to each of its frames, a video out."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from uir.runtime.atomic import atomic_output, check_destination
from uir.runtime.errors import FrameError
from uir.runtime.pipeline import Pipeline, StageTimes, Work
from uir.runtime.stop import at_stop
from uir.runtime.video.encoders import choose_encoder
from uir.runtime.video.info import open_video
from uir.runtime.video.options import VideoOptions
from uir.runtime.video.reader import Picture, VideoReader
from uir.runtime.video.writer import VideoWriter

log = logging.getLogger(__name__)

Frame = NDArray[np.uint8]

FrameProcess = Callable[[Frame, float], "Frame | Work[Frame]"]
"""A frame (H x W x 3 RGB uint8, upright) and its time (seconds since the stream's start) -> a frame of that shape.

Or the work that gives such a frame, which may be done beside that of other frames, in any order. The result must not be
changed after it is returned: it may still be waiting for the encoder.
"""

_Done = tuple[Picture, Frame]
_DEFAULTS = VideoOptions()
_BAR = "{desc}: {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
_SHARE = 0.6  # of the time that a stopped command has: its encoder's; the rest closes the file
_PROGRESS_AFTER = 2.0  # seconds; quicker work needs no bar


@dataclass(frozen=True)
class VideoResult:
    """What `process_video` did."""

    path: Path
    frames: int
    seconds: float
    """Wall time from the first frame to the closed file."""
    times: StageTimes
    """Where that time went."""


def process_video(
    source: Path,
    destination: Path,
    process: FrameProcess,
    options: VideoOptions = _DEFAULTS,
    *,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = True,
    label: Callable[[], str] | str = "",
) -> VideoResult:
    """Apply `process` to each frame of a video and write the result with everything else that the video holds.

    Decoding, processing and encoding overlap; `process` is called in the caller's thread, in order. Times, sound,
    subtitles, attachments, chapters and metadata are copied; what the output's container cannot carry is left out with
    a warning in the log. Rotated videos are processed and written upright. A file that is damaged or cut off is
    processed as far as it goes, with a warning that says how far.

    The output appears under its name only when it is whole. On Ctrl-C what is finished is kept, playable, as
    `<stem>.partial<suffix>`, and the `KeyboardInterrupt` goes on. A command that is stopped has little time: frames
    that its encoder cannot finish meanwhile are left out.

    Args:
        source: the video.
        destination: the file to write; its suffix chooses the container, and with it the default encoder.
        process: the frame function.
        options: codec, quality, which part.
        workers: how many frames' work is done at once, where `process` leaves it to them.
        overwrite: replace an existing destination.
        progress: show a progress bar on stderr after two seconds, if that is a terminal.
        label: shown beside the bar, such as the composition; a function is asked for each frame.

    Raises:
        MissingFileError, MediaError: the source cannot be read.
        UsageError: impossible options.
        OutputError: the destination exists, or cannot be written.
        FrameError: `process` returned something of another shape or type.
    """
    source, destination = Path(source), Path(destination)
    open_video(source).close()
    choose_encoder(destination, options)
    check_destination(destination, overwrite=overwrite, source=source)
    with (
        VideoReader(source, options.start, options.duration) as reader,
        atomic_output(destination, overwrite=overwrite) as temporary,
    ):
        writer = VideoWriter(temporary, destination, reader, options)
        bar = tqdm(
            total=reader.expected_frames,
            desc=source.name,
            unit=" frames",
            delay=_PROGRESS_AFTER,
            # Without a terminal a bar would only fill a log.
            disable=not (progress and sys.stderr.isatty()),
            bar_format=_BAR if reader.expected_frames else None,
        )

        def work(picture: Picture) -> _Done | Work[_Done]:
            result = process(picture.image, picture.seconds)
            text = label() if callable(label) else label
            if text:
                bar.set_postfix_str(text, refresh=False)
            bar.update()
            if isinstance(result, Work):
                return Work(lambda: (picture, _checked(result.run(), picture)))
            return picture, _checked(result, picture)

        began = time.perf_counter()
        pipeline = Pipeline(reader, work, lambda pair: writer.write(*pair), writer.finish, workers)
        part = _Part(temporary, destination, writer)

        def stop(patience: float) -> None:
            writer.hurry(_SHARE * patience)
            if pipeline.interrupt(patience):
                part.keep()

        try:
            with bar, at_stop(stop):
                times = pipeline.run()
        except KeyboardInterrupt:
            part.keep()
            raise
        finally:
            writer.abort()
    times = replace(times, to_rgb=reader.seconds_converting, from_rgb=writer.seconds_converting)
    return VideoResult(destination, writer.frames, time.perf_counter() - began, times)


def _checked(result: Frame, picture: Picture) -> Frame:
    if not isinstance(result, np.ndarray) or result.dtype != np.uint8 or result.shape != picture.image.shape:
        found = f"{result.dtype} {result.shape}" if isinstance(result, np.ndarray) else type(result).__name__
        raise FrameError(f"the frame function returned {found}; expected uint8 {picture.image.shape}")
    return result


class _Part:
    """What an interrupted run has finished."""

    def __init__(self, temporary: Path, destination: Path, writer: VideoWriter) -> None:
        self._temporary, self._destination, self._writer = temporary, destination, writer
        self._turn = threading.Lock()

    def keep(self) -> None:
        """Keep it, if it is anything, under a name of its own that is free by now; a second call does nothing."""
        with self._turn:
            if not self._writer.frames or not self._temporary.exists():
                return
            stem, suffix, number = self._destination.stem, self._destination.suffix, 1
            kept = self._destination.with_name(f"{stem}.partial{suffix}")
            while kept.exists():
                number += 1
                kept = self._destination.with_name(f"{stem}.partial-{number}{suffix}")
            self._temporary.replace(kept)
            seconds, frames = self._writer.seconds, self._writer.frames
            log.warning("interrupted: the first %.1f s (%d frames) are kept as %s", seconds, frames, kept)
