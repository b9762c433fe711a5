"""What each stage of a video costs by itself, in time of the processors: what bounds the whole on this machine."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from uir.runtime.restorer import Restorer
from uir.runtime.video.options import VideoOptions
from uir.runtime.video.reader import VideoReader
from uir.runtime.video.writer import VideoWriter
from uir.tools.bench.metrics import Frame
from uir.tools.processor import usable_cores

ENGINE_SECONDS = 2.0  # of a measurement, and at least ENGINE_FRAMES of each thread
ENGINE_FRAMES = 3


@dataclass(frozen=True)
class StageCosts:
    """Seconds of processor time a frame, all threads together, each stage alone.

    Attributes:
        read: decoding and turning to RGB.
        engine: restoring.
        write: turning from RGB and encoding.
    """

    read: float
    engine: float
    write: float

    @property
    def sum(self) -> float:
        """Of all stages."""
        return self.read + self.engine + self.write

    def bound(self, engine_fps: float) -> float:
        """Frames per second that no arrangement of the stages can be above.

        They are as fast as the engine alone at most, and together use no more than all cores.
        """
        return min(engine_fps, usable_cores() / self.sum)


def media_costs(source: Path, result: Path) -> dict[str, float]:
    """The costs of reading a video, and of writing its frames as they are, as `StageCosts` has them.

    Raises:
        UirError: the video cannot be read, or the result not be written.
    """
    with VideoReader(source) as reader:
        began = time.process_time()
        frames = sum(1 for _ in reader)
        reading = time.process_time() - began
    with VideoReader(source) as reader:
        writer = VideoWriter(result, result, reader, VideoOptions())
        began = time.process_time()
        for picture in reader:
            writer.write(picture, picture.image)
        writer.finish()
        both = time.process_time() - began
    return {"read": reading / frames, "write": max(0.0, both - reading) / frames}


def engine_speed(restorer: Restorer, frame: Frame) -> tuple[float, float]:
    """Frames a second of the restorer alone, given as many at once as it likes, and processor time of one, seconds."""
    counts = [0] * restorer.at_once
    wall, busy = time.perf_counter(), time.process_time()
    end = wall + ENGINE_SECONDS

    def work(worker: int) -> None:
        while counts[worker] < ENGINE_FRAMES or time.perf_counter() < end:
            restorer(frame)
            counts[worker] += 1

    with ThreadPoolExecutor(restorer.at_once) as pool:
        list(pool.map(work, range(restorer.at_once)))
    frames = sum(counts)
    return frames / (time.perf_counter() - wall), (time.process_time() - busy) / frames
