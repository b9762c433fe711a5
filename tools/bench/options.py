"""Options that several benchmarks have alike: the package, the photos and the size of frames."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

from uir.runtime.errors import UsageError
from uir.runtime.package import DEFAULT_PACKAGE

LEAST, MOST = 32, 16384  # pixels, of a side

Size = tuple[int, int]
"""Width and height, pixels."""


def add_package_option(command: argparse.ArgumentParser) -> None:
    """The package that is measured."""
    command.add_argument(
        "--package", type=Path, default=Path(DEFAULT_PACKAGE), metavar="FOLDER", help="default: %(default)s"
    )


def add_photo_options(command: argparse.ArgumentParser, *, required: bool = True) -> None:
    """The photos that are degraded, how many and how large, and what is drawn for them.

    Args:
        required: False where the benchmark has pictures of other kinds as well (see `of_photos`).
    """
    command.add_argument(
        "--photos", type=Path, required=required, metavar="FOLDER", help="clean photos, which no adapter was trained on"
    )
    command.add_argument("--seed", type=int, default=0, help="fixes everything random (default: %(default)s)")
    command.add_argument("--limit", type=int, metavar="N", help="only the first N photos")
    command.add_argument(
        "--max-side",
        type=int,
        default=640,
        metavar="PIXELS",
        help="reduce larger photos to this (default: %(default)s)",
    )


def add_severities_option(command: argparse.ArgumentParser) -> None:
    """How much of each degradation: each is measured."""
    command.add_argument(
        "--severities",
        type=_severities,
        default=[0.3, 0.5, 0.8],
        metavar="S,S",
        help="each from 0 to 1 (default: 0.3,0.5,0.8)",
    )


def check_photo_options(options: argparse.Namespace) -> None:
    """Raise a UsageError where one of the photo options makes no sense."""
    for name, least in (("seed", 0), ("limit", 1), ("max_side", 16)):
        check_least(options, name, least)


def of_photos(command: argparse.ArgumentParser, *names: str) -> None:
    """Say which options, that were added before, mean nothing where --photos is not given."""
    command.set_defaults(of_photos={name: command.get_default(name) for name in names})


def check_without_photos(options: argparse.Namespace) -> None:
    """Raise a UsageError where an option was given that means nothing without --photos."""
    for name, default in options.of_photos.items():
        if getattr(options, name) != default:
            raise UsageError(f"--{name.replace('_', '-')} goes with --photos, which was not given")


def check_least(options: argparse.Namespace, name: str, least: int) -> None:
    """Raise a UsageError where an option was given a number below `least`."""
    value = getattr(options, name)
    if value is not None and value < least:
        raise UsageError(f"--{name.replace('_', '-')} {value}: must be {least} or more")


def add_size_option(command: argparse.ArgumentParser) -> None:
    """The size of the frames that engines are given."""
    command.add_argument(
        "--size", type=frame_size, default=(640, 360), metavar="WxH", help="of the frames, pixels (default: 640x360)"
    )


def frame_size(text: str) -> Size:
    """`640x360` to width and height, for argparse."""
    match = re.fullmatch(r"(\d+)x(\d+)", text.strip())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}: write a size as WIDTHxHEIGHT, such as 640x360")
    size = int(match[1]), int(match[2])
    if not all(LEAST <= side <= MOST and side % 2 == 0 for side in size):
        raise argparse.ArgumentTypeError(f"{text!r}: sides are even numbers from {LEAST} to {MOST}")
    return size


def _severities(text: str) -> list[float]:
    try:
        severities = sorted({float(number) for number in text.split(",")})
    except ValueError:
        severities = [math.nan]
    if not all(0 <= severity <= 1 for severity in severities):
        raise argparse.ArgumentTypeError(f"{text!r}: write numbers from 0 (unchanged) to 1 (heavy), such as 0.3,0.8")
    return severities
