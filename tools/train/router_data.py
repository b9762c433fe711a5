"""What the router learns from: photos, degraded as a whole, and of each what the router sees of it.

Each part of a photo is seen several times, clean and degraded in different ways, so that what differs is what is to be
learnt. Degrading whole pictures takes most of the time, so it is done once: the looks are kept in files beside the run,
and training goes over them many times. Each scene is a pure function of the seed and its number.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from uir.calibration.degradations import DEGRADATIONS, degrade
from uir.runtime.atomic import atomic_output
from uir.runtime.errors import UsageError
from uir.runtime.looks import THUMBNAIL, Look, look
from uir.tools.pairs import COMMON
from uir.tools.photos import Photo, read_photo
from uir.tools.train.router_pictures import barred, blank, coded, part_of

SHARD = 50  # scenes in a file

VIEWS = 4
"""Pictures of a scene: one clean, two with one degradation, and one with two or three."""

TRIPLES = 1 / 3
"""Share of the last ones that have three."""

HARD = ("shadow", "raindrop")
"""Drawn twice as often as others where there is one degradation: the least is to be seen of them."""

MILDEST = 0.1
"""The least severity that is drawn."""

PLAIN = 0.2
"""From this severity on a degradation must be recognised; below it counts for less and less, as it is seen less."""

BLANK = 0.015
"""Share of the pictures that show nothing at all, as when a video fades: nothing is wrong with them."""

CODED = 0.4
"""Share of the pictures that come through a codec at good quality, as a camera's do: that is no fault of theirs."""

BARS = 0.04
"""Share of the pictures with black bars, as films have them."""

GRID = THUMBNAIL // 16
"""Cells in each direction, in which it is noted how much each degradation changed the picture."""


class Looks(NamedTuple):
    """What the router sees of n pictures, `VIEWS` of each scene after another, and what is on them.

    Attributes:
        thumbnails: uint8, n x side x side x 3.
        crops: uint8, n x crops x side x side x 3.
        severities: float32, n x degradations; 0 where there is none of it.
        weights: float32, n x (degradations + 1): how much each answer counts, 0 where it is not known, as on a photo
            that was hazy before; last whether the picture is clean.
        changes: float16, n x degradations x grid x grid: by how many codes of 255 each changed the cells, on average.
    """

    thumbnails: NDArray[np.uint8]
    crops: NDArray[np.uint8]
    severities: NDArray[np.float32]
    weights: NDArray[np.float32]
    changes: NDArray[np.float16]


@dataclass(frozen=True)
class Plan:
    """What the pictures are drawn from.

    Attributes:
        photos: the clean photos.
        names: the degradations.
        excluded: for each degradation, names of photos that are themselves so degraded.
        seed: fixes everything.
    """

    photos: Sequence[Photo]
    names: Sequence[str]
    excluded: Mapping[str, set[str]]
    seed: int


class DegradedLooks(Dataset[Looks]):
    """`dataset[i]` is the i-th shard of scenes.

    Args:
        plan: what they are drawn from; all photos are kept decoded in memory.
        scenes: how many in all.

    Raises:
        UsageError: the exclusions leave no photo that is clean.
        MissingFileError, MediaError: a photo cannot be read.
    """

    def __init__(self, plan: Plan, scenes: int) -> None:
        self.plan, self.scenes = plan, scenes
        self.faulty = np.array([[p.name in plan.excluded.get(n, ()) for n in plan.names] for p in plan.photos])
        self.sound = np.flatnonzero(~self.faulty.any(axis=1))
        if not len(self.sound):
            raise UsageError("no photo is left that is clean; exclude fewer, or add photos")
        self.common = [pair for pair in COMMON if set(pair) <= set(plan.names)]
        favours = np.array([2.0 if name in HARD else 1.0 for name in plan.names])
        self.shares = favours / favours.sum()
        self._photos: list[NDArray[np.uint8]] | None = None

    def __len__(self) -> int:
        return -(-self.scenes // SHARD)

    def __getitem__(self, shard: int) -> Looks:
        if shard >= len(self):
            raise IndexError(shard)
        pictures = [picture for number in self.numbers(shard) for picture in self._scene(number)]
        return Looks(*(np.stack(parts) for parts in zip(*pictures, strict=True)))

    def numbers(self, shard: int) -> range:
        """The numbers of a shard's scenes."""
        return range(shard * SHARD, min(self.scenes, (shard + 1) * SHARD))

    def _scene(self, number: int) -> Iterator[tuple[NDArray[Any], ...]]:
        """The entries of `Looks` for each view of a scene."""
        rng = np.random.default_rng([self.plan.seed, number])
        index = int(rng.integers(len(self.plan.photos)))
        scene = self._clean(index, rng)
        for view in range(VIEWS):
            rng = np.random.default_rng([self.plan.seed, number, 1 + view])
            # A photo that has a fault already is never taken for clean.
            names = self._degradations((0, 1, 1, 2)[view] if index in self.sound else max(1, view - 1), rng)
            severities = {name: float(rng.uniform(MILDEST, 1)) for name in names}
            frame = blank(rng) if not names and rng.random() < BLANK * VIEWS else scene
            seen, changes = self._seen(frame, severities, rng)
            drawn = np.array([severities.get(name, 0) for name in self.plan.names], np.float32)
            plain = np.clip(drawn / PLAIN, 0, 1)
            # What is not there counts in full, unless the photo had it before.
            weights = np.where(drawn > 0, plain, ~self.faulty[index])
            weights = np.append(weights, plain.max() if names else 1.0).astype(np.float32)
            yield *seen, drawn, weights, changes

    def example(self, name: str, number: int) -> Look:
        """One picture of a degradation alone, plain to see: what prototypes are made of."""
        rng = np.random.default_rng([self.plan.seed, number, 0])
        severity = float(rng.uniform(PLAIN, 1))
        return self._seen(self._clean(int(rng.choice(self.sound)), rng), {name: severity}, rng)[0]

    def _seen(
        self, frame: NDArray[np.uint8], severities: Mapping[str, float], rng: np.random.Generator
    ) -> tuple[Look, NDArray[np.float16]]:
        """What is seen of a picture once it is degraded and has come through what videos come through."""
        frame, changes = self._degraded(frame, severities, int(rng.integers(2**31)))
        if rng.random() < BARS:
            frame = barred(frame, rng)
        return look(coded(frame, rng) if rng.random() < CODED else frame), changes

    def _degraded(
        self, frame: NDArray[np.uint8], severities: Mapping[str, float], seed: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """As `degrade` does it, one after the other, and what each of them changed."""
        changes = np.zeros((len(self.plan.names), GRID, GRID), np.float16)
        if not severities:
            return frame, changes
        image = frame.astype(np.float32) / np.float32(255)
        for name in DEGRADATIONS:
            if name in severities:
                before, image = image, degrade(image, {name: severities[name]}, seed)
                change = cv2.resize(cv2.absdiff(before, image), (GRID, GRID), interpolation=cv2.INTER_AREA)
                changes[self.plan.names.index(name)] = 255 * change.mean(2)
        return np.rint(255 * image).astype(np.uint8), changes

    def _degradations(self, count: int, rng: np.random.Generator) -> list[str]:
        """So many at once, or one more where two are asked for."""
        count = min(count + (count == 2 and rng.random() < TRIPLES), len(self.plan.names))
        if count == 2 and self.common and rng.random() < 0.5:
            return list(self.common[rng.integers(len(self.common))])
        shares = self.shares if count == 1 else None
        return [str(name) for name in rng.choice(self.plan.names, size=count, replace=False, p=shares)]

    def _clean(self, index: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        if self._photos is None:
            self._photos = [read_photo(path) for path in self.plan.photos]
        return part_of(self._photos[index], rng)


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
