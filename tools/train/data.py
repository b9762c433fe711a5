"""Photos to training batches: every batch is a pure function of the seed and the step.

So a run that resumes at step n sees what an uninterrupted run would have seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from uir.calibration.degradations import degrade
from uir.runtime.errors import MissingFileError, UsageError
from uir.runtime.images import IMAGE_SUFFIXES


def find_photos(folder: Path) -> list[Path]:
    """The photos in a folder, sorted by name: the order is part of what a seed fixes.

    Raises:
        MissingFileError: there is no such folder, or no photo in it.
    """
    if not folder.is_dir():
        raise MissingFileError(f"{folder}: no such folder of photos")
    photos = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not photos:
        raise MissingFileError(f"{folder}: no photos in it ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return photos


def read_photo(path: Path) -> NDArray[np.uint8]:
    """An H x W x 3 RGB uint8 photo, turned the way its EXIF says.

    Raises:
        MissingFileError: it cannot be decoded.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise MissingFileError(f"{path}: not a photo that can be decoded; remove it from the folder")
    return np.ascontiguousarray(picture[..., ::-1])


@dataclass(frozen=True)
class Sampling:
    """What a step trains on.

    Attributes:
        singles: share of the steps that merge one adapter, on its own degradation.
        pairs: share of the steps that merge two adapters by halves, on both degradations. The remaining steps merge
            none, on clean pictures, so that the base alone stays the identity.
        patch: side of the square patches, pixels.
        batch: patches in a step; all have the step's composition.
    """

    singles: float = 0.7
    pairs: float = 0.25
    patch: int = 128
    batch: int = 8


@dataclass(frozen=True)
class Batch:
    """One step's pictures, N x 3 x H x W in [0, 1], and the composition to restore them with."""

    weights: dict[str, float]
    degraded: Tensor
    clean: Tensor


class DegradedPatches(Dataset[Batch]):
    """`dataset[step]` is the batch of that step.

    Args:
        photos: the photos' paths; all are kept decoded in memory (about 3 bytes a pixel).
        excluded: for each degradation, names of photos that are themselves so degraded, and no clean target for it.

    Raises:
        UsageError: the exclusions leave no photo for a degradation, or for a pair of them.
        MissingFileError: a photo cannot be decoded.
    """

    def __init__(
        self,
        photos: Sequence[Path],
        names: Sequence[str],
        sampling: Sampling,
        seed: int,
        excluded: dict[str, set[str]] | None = None,
    ) -> None:
        self.names, self.sampling, self.seed = tuple(names), sampling, seed
        self.usable = {
            name: {i for i, p in enumerate(photos) if p.name not in (excluded or {}).get(name, set())} for name in names
        }
        for together in [(name,) for name in names] + list(itertools.combinations(names, 2)):
            if not set.intersection(*(self.usable[name] for name in together)):
                raise UsageError(f"no photo is left for {' with '.join(together)}; exclude fewer, or add photos")
        self.pictures = [read_photo(path) for path in photos]

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        degradations = self._composition(rng)
        usable = set(range(len(self.pictures))).intersection(*(self.usable[name] for name in degradations))
        choices = np.array(sorted(usable))
        clean, degraded = [], []
        for _ in range(self.sampling.batch):
            patch = self._patch(self.pictures[rng.choice(choices)], rng)
            severities = {name: float(rng.uniform(0.02, 1.0)) for name in degradations}
            clean.append(patch)
            worse = degrade(patch, severities, seed=int(rng.integers(2**31)))
            # Frames arrive as 8-bit codes; train on what will be seen.
            degraded.append((np.rint(worse * 255) / 255).astype(np.float32))
        weights = {name: 1 / len(degradations) for name in degradations}
        return Batch(weights, _to_tensor(degraded), _to_tensor(clean))

    def _composition(self, rng: np.random.Generator) -> list[str]:
        draw = rng.random()
        if draw < self.sampling.singles or (
            len(self.names) == 1 and draw < self.sampling.singles + self.sampling.pairs
        ):
            return [str(rng.choice(self.names))]
        if draw < self.sampling.singles + self.sampling.pairs:
            return [str(name) for name in rng.choice(self.names, size=2, replace=False)]
        return []

    def _patch(self, picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
        """A random square of the picture at a random scale, float32 in [0, 1], mirrored half of the time."""
        height, width = picture.shape[:2]
        side = self.sampling.patch
        source = min(int(side * rng.uniform(1.0, 2.5)), height, width)
        top, left = int(rng.integers(height - source + 1)), int(rng.integers(width - source + 1))
        patch = picture[top : top + source, left : left + source]
        interpolation = cv2.INTER_AREA if source > side else cv2.INTER_CUBIC
        sized = cv2.resize(patch, (side, side), interpolation=interpolation)
        if rng.random() < 0.5:
            sized = sized[:, ::-1]
        return np.ascontiguousarray(sized, dtype=np.float32) / np.float32(255)


def _to_tensor(pictures: Sequence[NDArray[np.float32]]) -> Tensor:
    return torch.from_numpy(np.stack(pictures).astype(np.float32)).permute(0, 3, 1, 2)
