"""What the router learns from: photos, degraded as a whole, and of each what the router sees of it.

Degrading whole pictures takes nearly all of the time, so it is done once: the looks are kept in files beside the run,
and training goes over them many times. Each picture is a pure function of the seed and its number.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from uir.runtime.atomic import atomic_output
from uir.runtime.errors import UsageError
from uir.runtime.looks import Look, look
from uir.tools.degrade import degrade_frame
from uir.tools.pairs import COMMON
from uir.tools.photos import read_photo

SHARD = 200  # pictures in a file

CLEAN_SHARE, SINGLES, PAIRS = 0.22, 0.42, 0.24
"""Shares of the pictures with no degradation, one and two of them; the rest have three."""

MILDEST = 0.1
"""The least severity that is drawn."""

PLAIN = 0.2
"""From this severity on a degradation must be recognised; below it counts for less and less, as it is seen less."""

SIDES = 384, 1600
"""The longer side of a picture, pixels, as videos have it; the small ones are drawn more often, and cost less."""

BLANK = 0.015
"""Share of the pictures that show nothing at all, as when a video fades: nothing is wrong with them."""

CODED = 0.4
"""Share of the pictures that come through a codec at good quality, as a camera's do: that is no fault of theirs."""

BARS = 0.04
"""Share of the pictures with black bars, as films have them."""


class Looks(NamedTuple):
    """What the router sees of n pictures, and what is on them.

    Attributes:
        thumbnails: uint8, n x side x side x 3.
        crops: uint8, n x crops x side x side x 3.
        severities: float32, n x degradations; 0 where there is none of it.
        weights: float32, n x (degradations + 1): how much each answer counts, 0 where it is not known, as on a photo
            that was hazy before; last whether the picture is clean.
    """

    thumbnails: NDArray[np.uint8]
    crops: NDArray[np.uint8]
    severities: NDArray[np.float32]
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class Plan:
    """What the pictures are drawn from.

    Attributes:
        photos: the clean photos.
        names: the degradations.
        excluded: for each degradation, names of photos that are themselves so degraded.
        seed: fixes everything.
    """

    photos: Sequence[Path]
    names: Sequence[str]
    excluded: Mapping[str, set[str]]
    seed: int


class DegradedLooks(Dataset[Looks]):
    """`dataset[i]` is the i-th shard of pictures.

    Args:
        plan: what they are drawn from; all photos are kept decoded in memory.
        count: pictures in all.

    Raises:
        UsageError: the exclusions leave no photo that is clean.
        MissingFileError, MediaError: a photo cannot be read.
    """

    def __init__(self, plan: Plan, count: int) -> None:
        self.plan, self.count = plan, count
        self.faulty = np.array([[p.name in plan.excluded.get(n, ()) for n in plan.names] for p in plan.photos])
        self.sound = np.flatnonzero(~self.faulty.any(axis=1))
        if not len(self.sound):
            raise UsageError("no photo is left that is clean; exclude fewer, or add photos")
        self.common = [pair for pair in COMMON if set(pair) <= set(plan.names)]
        self._photos: list[NDArray[np.uint8]] | None = None

    def __len__(self) -> int:
        return -(-self.count // SHARD)

    def __getitem__(self, shard: int) -> Looks:
        if shard >= len(self):
            raise IndexError(shard)
        return Looks(*(np.stack(parts) for parts in zip(*map(self._picture, self.numbers(shard)), strict=True)))

    def numbers(self, shard: int) -> range:
        """The numbers of a shard's pictures."""
        return range(shard * SHARD, min(self.count, (shard + 1) * SHARD))

    def _picture(self, number: int) -> tuple[NDArray[Any], ...]:
        """One entry of each of `Looks`."""
        rng = np.random.default_rng([self.plan.seed, number])
        names = self._degradations(rng)
        index = int(rng.integers(len(self.plan.photos)) if names else rng.choice(self.sound))
        severities = {name: float(rng.uniform(MILDEST, 1)) for name in names}
        frame = _blank(rng) if not names and rng.random() < BLANK / CLEAN_SHARE else self._clean(index, rng)
        seen = self._seen(frame, severities, rng)
        drawn = np.array([severities.get(name, 0) for name in self.plan.names], np.float32)
        plain = np.clip(drawn / PLAIN, 0, 1)
        # What is not there counts in full, unless the photo had it before.
        weights = np.where(drawn > 0, plain, ~self.faulty[index])
        return *seen, drawn, np.append(weights, plain.max() if names else 1.0).astype(np.float32)

    def example(self, name: str, number: int) -> Look:
        """One picture of a degradation alone, plain to see: what prototypes are made of."""
        rng = np.random.default_rng([self.plan.seed, number, 1])
        severity = float(rng.uniform(PLAIN, 1))
        return self._seen(self._clean(int(rng.choice(self.sound)), rng), {name: severity}, rng)

    def _seen(self, frame: NDArray[np.uint8], severities: Mapping[str, float], rng: np.random.Generator) -> Look:
        """What is seen of a picture once it is degraded and has come through what videos come through."""
        frame = degrade_frame(frame, severities, int(rng.integers(2**31)))
        if rng.random() < BARS:
            frame = _barred(frame, rng)
        return look(_coded(frame, rng) if rng.random() < CODED else frame)

    def _degradations(self, rng: np.random.Generator) -> list[str]:
        count = int(np.searchsorted(np.cumsum((CLEAN_SHARE, SINGLES, PAIRS)), rng.random(), side="right"))
        count = min(count, len(self.plan.names))
        if count == 2 and self.common and rng.random() < 0.5:
            return list(self.common[rng.integers(len(self.common))])
        return [str(name) for name in rng.choice(self.plan.names, size=count, replace=False)]

    def _clean(self, index: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """A part of a photo as a camera of some resolution would have it; never enlarged, which would blur it."""
        if self._photos is None:
            self._photos = [read_photo(path) for path in self.plan.photos]
        photo = self._photos[index]
        shares = rng.uniform(0.6, 1, 2)
        high, wide = (max(1, round(length * share)) for length, share in zip(photo.shape[:2], shares, strict=True))
        top, left = int(rng.integers(photo.shape[0] - high + 1)), int(rng.integers(photo.shape[1] - wide + 1))
        part = photo[top : top + high, left : left + wide]
        scale = min(1.0, SIDES[0] * (SIDES[1] / SIDES[0]) ** rng.random() ** 2 / max(high, wide))
        size = max(1, round(wide * scale)), max(1, round(high * scale))
        sharp = scale > 0.6 and rng.random() < 0.5  # cameras sharpen; bicubic does so a little
        sized = cv2.resize(part, size, interpolation=cv2.INTER_CUBIC if sharp else cv2.INTER_AREA)
        if rng.random() < 0.5:
            sized = sized[:, ::-1]
        if rng.random() < 0.5:  # the taste of the camera's maker
            curve = 255 * (np.arange(256) / 255) ** rng.uniform(0.85, 1.2)
            sized = np.rint(curve).astype(np.uint8)[sized]
        return np.ascontiguousarray(sized, dtype=np.uint8)


def _blank(rng: np.random.Generator) -> NDArray[np.uint8]:
    """One colour, often black or white, or a slow change from one to another."""
    height, width = (int(side) for side in rng.integers(180, 720, 2))
    colours = rng.choice([0, 255]) * np.ones((2, 2, 3)) if rng.random() < 0.5 else rng.uniform(0, 255, (2, 2, 3))
    if rng.random() < 0.5:
        colours[:] = colours[0, 0]
    return np.rint(cv2.resize(colours, (width, height), interpolation=cv2.INTER_LINEAR)).astype(np.uint8)


def _barred(frame: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The same with black bars above and below, or at the sides."""
    barred = frame.copy()
    along = barred if rng.random() < 0.7 else barred.swapaxes(0, 1)
    bar = max(1, round(len(along) * rng.uniform(0.03, 0.14)))
    along[:bar], along[-bar:] = 0, 0
    return barred


def _coded(frame: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """What a JPEG or an H.264 video of good quality leaves of a frame; one row less where it has an odd number."""
    if rng.random() < 0.5:
        sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 if rng.random() < 0.6 else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
        settings = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(86, 99)), cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
        stored = cv2.imencode(".jpg", frame[..., ::-1], settings)[1]
        return np.ascontiguousarray(np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])
    return _filmed(frame, quality=int(rng.integers(12, 24)))


def _filmed(frame: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """The frame as the only one of an H.264 video.

    Args:
        quality: x264's CRF, at which 18 can hardly be told from the source and 23 is usual.
    """
    height, width = frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2
    encoder = av.VideoCodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base = Fraction(1, 25)
    encoder.options = {"crf": str(quality), "preset": "veryfast", "threads": "1"}
    picture = VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
    packets = [*encoder.encode(picture.reformat(format="yuv420p")), *encoder.encode(None)]
    decoder = av.VideoCodecContext.create("h264", "r")
    pictures = [each for packet in packets for each in decoder.decode(packet)] + decoder.decode(None)
    return np.asarray(pictures[0].to_ndarray(format="rgb24"), np.uint8)


def gather(looks: DegradedLooks, folder: Path, workers: int) -> Looks:
    """All shards in one, made by so many processes; those that the folder has already are read.

    Args:
        folder: of this plan alone; what is made is kept there.

    Raises:
        UsageError: a file of the folder is damaged.
        OutputError: a shard cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{numbers[0]:05}-{numbers[-1]:05}.npz" for numbers in map(looks.numbers, range(len(looks)))]
    missing = [shard for shard, file in enumerate(files) if not file.exists()]
    # One process at least: this one holds no photos.
    loader = DataLoader(looks, None, sampler=missing, num_workers=max(1, workers), collate_fn=_as_it_is)
    for shard, made in zip(missing, tqdm(loader, total=len(missing), unit="shard", disable=None), strict=True):
        with atomic_output(files[shard]) as temporary, temporary.open("wb") as file:
            np.savez(file, **made._asdict())
    return Looks(*(np.concatenate(parts) for parts in zip(*map(_read, files), strict=True)))


def _as_it_is(looks: Any) -> Any:
    return looks


def _read(file: Path) -> Looks:
    try:
        with np.load(file, allow_pickle=False) as entries:
            return Looks(**entries)
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise UsageError(f"{file}: not a whole file of looks ({error}); delete it to have it made again") from error
