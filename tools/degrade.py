"""Degrade a clean image or video, to have the truth that a restoration is measured against.

Each degradation is given as name=severity, from 0 (unchanged) to 1 (heavy). They are
applied in the order that light and picture meet them, whatever order they are given in:
shadow, haze, snow, rain, raindrop, blur, lowlight, noise, jpeg, inpaint. In a video the rain
falls, the haze drifts and the noise is fresh in each frame. The same seed gives the same
weather again. Sound, subtitles and metadata are copied.

Examples:
  uir-degrade clean.mp4 rainy.mp4 rain=0.7 haze=0.3
  uir-degrade photo.png dark.png lowlight=0.8 noise=0.2 --seed 5
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uir.calibration.degradations import degrade, parse_severities
from uir.runtime.console import run_command
from uir.runtime.errors import UsageError
from uir.runtime.images import process_image
from uir.runtime.picture_formats import is_image
from uir.runtime.version import add_version
from uir.runtime.video.options import VideoOptions
from uir.runtime.video.process import process_video


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    command = argparse.ArgumentParser(
        prog="uir-degrade", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_version(command)
    command.add_argument("input", type=Path, metavar="INPUT", help="the clean image or video")
    command.add_argument("output", type=Path, metavar="OUTPUT", help="the file to write; its suffix chooses the format")
    command.add_argument("severities", nargs="+", metavar="NAME=SEVERITY", help="what to add, for example rain=0.7")
    command.add_argument("--seed", type=int, default=0, help="fixes everything random (default: %(default)s)")
    command.add_argument(
        "--quality",
        type=int,
        default=VideoOptions.quality,
        metavar="CRF",
        help="of a video: 0 is lossless, 51 the smallest file (default: %(default)s)",
    )
    command.add_argument("--overwrite", action="store_true", help="replace an existing output")
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Degrade one file.

    Raises:
        UirError: the arguments make no sense, or the files cannot be read or written; nothing half-written is left.
    """
    options = parser().parse_intermixed_args(arguments)
    severities = parse_severities(options.severities)
    if options.seed < 0:
        raise UsageError(f"--seed {options.seed}: must be 0 or more")
    label = ",".join(f"{name}={severity:g}" for name, severity in severities.items())

    def process(frame: NDArray[np.uint8], seconds: float = 0.0) -> NDArray[np.uint8]:
        return degrade_frame(frame, severities, options.seed, seconds)

    if is_image(options.input):
        for note in process_image(options.input, options.output, process, overwrite=options.overwrite):
            print(f"uir-degrade: {note}", file=sys.stderr)
    else:
        quality = VideoOptions(quality=options.quality)
        process_video(options.input, options.output, process, quality, overwrite=options.overwrite, label=label)
    print(f"{options.output}: {label}, seed {options.seed}")
    return 0


def degrade_frame(
    frame: NDArray[np.uint8], severities: Mapping[str, float], seed: int, seconds: float = 0.0
) -> NDArray[np.uint8]:
    """`degrade` for an H x W x 3 uint8 RGB frame: exact where nothing changes, rounded to the nearest step elsewhere.

    Raises:
        UsageError: as `degrade`.
    """
    degraded = degrade(frame.astype(np.float32) / np.float32(255), severities, seed, seconds)
    degraded *= 255
    return np.rint(degraded, out=degraded).astype(np.uint8)


def run() -> None:
    """Entry point of the `uir-degrade` command."""
    run_command("uir-degrade", main)


if __name__ == "__main__":
    run()
