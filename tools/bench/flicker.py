"""Hold photos still, degrade them as a video, and see how much the restored video flickers.

In a video of a photo that is held still, all that changes from frame to frame is the degradation: rain falls, haze
drifts, noise is fresh. Frames are restored one by one. For each adapter that is named as a known degradation:
how far a sample strays over the frames (standard deviation, in 8-bit codes, mean over all samples) in the degraded
video and in the restored one. What restores well leaves less than came in; but taking haze or darkness away stretches
contrast, and with it what is left of the flicker.

The same seed degrades a photo the same way again.
"""

from __future__ import annotations

import argparse
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from uir.calibration.degradations import DEGRADATIONS
from uir.runtime.errors import UsageError
from uir.runtime.restorer import Restorer
from uir.tools.bench.media import RATE
from uir.tools.bench.metrics import Frame
from uir.tools.bench.options import add_package_option, add_photo_options, check_least, check_photo_options
from uir.tools.bench.report import Report, Table
from uir.tools.degrade import degrade_frame
from uir.tools.photos import find_photos, read_photo


@dataclass(frozen=True)
class Flicker:
    """Temporal standard deviations in 8-bit codes, means over all samples and photos.

    Attributes:
        ratio: restored by input; None where the input does not change at all.
    """

    input: float
    restored: float
    ratio: float | None


def add_options(command: argparse.ArgumentParser) -> None:
    """The benchmark's options."""
    add_package_option(command)
    add_photo_options(command)
    command.add_argument(
        "--frames", type=int, default=RATE, metavar="N", help=f"of each video, {RATE} a second (default: %(default)s)"
    )
    command.add_argument("--severity", type=float, default=0.5, metavar="S", help="from 0 to 1 (default: %(default)s)")


def measure(options: argparse.Namespace) -> Report:
    """Run the benchmark.

    Raises:
        UirError: the options make no sense, or the package or a photo cannot be read.
    """
    _check(options)
    photos = find_photos(options.photos, options.limit)
    restorer = Restorer(options.package)
    names = [name for name in DEGRADATIONS if name in restorer.adapters]
    if not names:
        raise UsageError(
            f"{options.package}: none of its adapters ({', '.join(restorer.adapters) or 'it has none'}) is named as a "
            f"known degradation is ({', '.join(DEGRADATIONS)}), so there is nothing to test them on"
        )
    found: dict[str, Flicker] = {}
    with tqdm(total=len(names) * len(photos) * options.frames, unit="frame", disable=None) as bar:
        for name in names:
            bar.set_postfix_str(name)
            restorer.compose(name)
            pairs = [_deviations(_video(photo, name, options), restorer, bar.update) for photo in photos]
            found[name] = _flicker(pairs)
    settings = {
        "package": str(options.package),
        "engine": restorer.describe(),
        "photos": [photo.name for photo in photos],
        "frames": options.frames,
        "rate": RATE,
        "severity": options.severity,
        "seed": options.seed,
        "max_side": options.max_side,
    }
    higher = [name for name, each in found.items() if each.restored > each.input]
    notes = [
        f"{len(photos)} photos held for {options.frames} frames at {RATE} a second, severity {options.severity:g}, "
        f"seed {options.seed}.",
        f"Restored flickers more than its input: {', '.join(higher) or 'none'}.",
    ]
    return Report(settings, found, [_table(found)], notes)


def _check(options: argparse.Namespace) -> None:
    check_photo_options(options)
    check_least(options, "frames", 2)
    if not 0 <= options.severity <= 1:  # NaN neither
        raise UsageError(f"--severity {options.severity:g}: must be from 0 (unchanged) to 1 (heavy)")


def _video(photo: Path, name: str, options: argparse.Namespace) -> Iterator[Frame]:
    """The frames of a photo held still under one degradation, which counts by the photo's name, not by its place."""
    clean = read_photo(photo, options.max_side)
    drawn = np.random.SeedSequence([options.seed, zlib.crc32(photo.name.encode())]).generate_state(1)
    for index in range(options.frames):
        yield degrade_frame(clean, {name: options.severity}, int(drawn[0]), index / RATE)


def _deviations(
    frames: Iterable[Frame], restore: Callable[[Frame], Frame], done: Callable[[], object]
) -> tuple[float, float]:
    """How far a sample strays over some frames, and over what becomes of them. `done` is called after each frame.

    The standard deviation of the population, in codes, mean over all samples. Frames come one by one, and are summed as
    whole numbers: nothing is rounded before the root.
    """
    count, sums, squares = 0, np.zeros((), np.int64), np.zeros((), np.int64)
    for frame in frames:
        both = np.stack([frame, restore(frame)]).astype(np.int64)
        count, sums, squares = count + 1, sums + both, squares + both * both
        done()
    deviations = np.sqrt(count * squares - sums * sums) / count
    before, after = deviations.mean(axis=(1, 2, 3))
    return float(before), float(after)


def _flicker(pairs: Sequence[tuple[float, float]]) -> Flicker:
    before, after = (math.fsum(values) / len(pairs) for values in zip(*pairs, strict=True))
    return Flicker(before, after, after / before if before else None)


def _table(found: Mapping[str, Flicker]) -> Table:
    rows = [
        [name, f"{each.input:.3f}", f"{each.restored:.3f}", "-" if each.ratio is None else f"{each.ratio:.2f}"]
        for name, each in found.items()
    ]
    title = "Flicker of photos held still (standard deviation over time, 8-bit codes)"
    return Table(title, ["degradation", "input", "restored", "ratio"], rows)
