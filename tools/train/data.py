"""Photos to training batches: every batch is a pure function of the seed and its number.

So a run that resumes sees what an uninterrupted run would have seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from uir.calibration.degradations.families import pair
from uir.runtime.errors import UsageError
from uir.tools.pairs import COMMON
from uir.tools.photos import Photo, read_photo
from uir.tools.processor import usable_cores
from uir.tools.train.settings import Sampling

CONCENTRATION = 8.0
"""Of the Dirichlet distribution that draws a mix's weights: around equal ones, for two mostly within 1/4 and 3/4."""


@dataclass(frozen=True)
class Batch:
    """Pictures, N x H x W x 3 uint8, and the composition to restore them with.

    What is called clean has still what names no degradation: the lens, the grain, the file (`families.pair`). Both are
    in the 8-bit codes that frames come and go in; rounding the clean ones adds an error of -59 dB.
    """

    weights: dict[str, float]
    degraded: NDArray[np.uint8]
    clean: NDArray[np.uint8]


class DegradedPatches(Dataset[Batch]):
    """`dataset[number, large]` is the batch of that number, of large patches or of small ones.

    Args:
        photos: all are kept decoded in memory (3 bytes a pixel), which processes that are forked share.
        names: the degradations that are learnt.
        excluded: for each degradation, names of photos that are themselves so degraded, and no clean target for it.
        beside: degradations whose adapters are frozen: they appear in pairs and triples with the others, never alone.

    Raises:
        UsageError: the exclusions leave no photo for a degradation, or for some that are drawn together.
        MissingFileError, MediaError: a photo cannot be read.
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        names: Sequence[str],
        sampling: Sampling,
        seed: int,
        excluded: dict[str, set[str]] | None = None,
        beside: Sequence[str] = (),
    ) -> None:
        self.names, self.beside, self.sampling, self.seed = tuple(names), tuple(beside), sampling, seed
        everyone = (*self.names, *self.beside)
        self.common = [pair for pair in COMMON if set(pair) <= set(everyone) and set(pair) & set(self.names)]
        self.usable = {
            name: {i for i, p in enumerate(photos) if p.name not in (excluded or {}).get(name, set())}
            for name in everyone
        }
        times = np.array([sampling.favour.get(name, 1.0) for name in self.names])
        self.odds = times / times.sum()
        largest = 3 if sampling.triples else 2 if sampling.pairs else 1
        for count in range(1, largest + 1):
            for together in itertools.combinations(everyone, count):
                if not set.intersection(*(self.usable[name] for name in together)):
                    raise UsageError(f"no photo is left for {' with '.join(together)}; exclude fewer, or add photos")
        with ThreadPoolExecutor(usable_cores()) as pool:
            self.pictures = list(pool.map(read_photo, photos))

    def __getitem__(self, key: tuple[int, bool]) -> Batch:
        number, large = key
        rng = np.random.default_rng([self.seed, number])
        weights = self._composition(rng)
        usable = set(range(len(self.pictures))).intersection(*(self.usable[name] for name in weights))
        choices = np.array(sorted(usable))
        count, side = self.sampling.shape(large)
        clean, degraded = [], []
        for _ in range(count):
            patch = self._patch(self.pictures[rng.choice(choices)], side, rng)
            present = () if rng.random() < self.sampling.intact else tuple(weights)
            worse, better = pair(patch, present, present, int(rng.integers(2**31)))
            clean.append(better)
            degraded.append(worse)
        return Batch(weights, _codes(degraded), _codes(clean))

    def _composition(self, rng: np.random.Generator) -> dict[str, float]:
        """Adapters and their weights, which sum to one: at least one of `names`, or none at all."""
        shares = (self.sampling.singles, self.sampling.pairs, self.sampling.triples)
        draw, count = rng.random(), 0
        for size, bound in enumerate(itertools.accumulate(shares), 1):
            if draw < bound:
                count = min(size, len(self.names) + len(self.beside))
                break
        if count == 0:
            return {}
        if count == 2 and self.common and rng.random() < 0.5:
            chosen = list(self.common[rng.integers(len(self.common))])
        else:
            first = str(rng.choice(self.names, p=self.odds))
            others = [name for name in (*self.names, *self.beside) if name != first]
            chosen = [first, *(str(name) for name in rng.choice(others, size=count - 1, replace=False))]
        weights = rng.dirichlet([CONCENTRATION] * count)
        return dict(zip(chosen, (float(weight) for weight in weights), strict=True))

    def _patch(self, picture: NDArray[np.uint8], side: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """A random square of the picture at a random scale, float32 in [0, 1], mirrored half of the time."""
        height, width = picture.shape[:2]
        source = min(int(side * rng.uniform(1.0, 2.5)), height, width)
        top, left = int(rng.integers(height - source + 1)), int(rng.integers(width - source + 1))
        patch = picture[top : top + source, left : left + source]
        interpolation = cv2.INTER_AREA if source > side else cv2.INTER_CUBIC
        sized = cv2.resize(patch, (side, side), interpolation=interpolation)
        if rng.random() < 0.5:
            sized = sized[:, ::-1]
        return np.ascontiguousarray(sized, dtype=np.float32) / np.float32(255)


def _codes(pictures: Sequence[NDArray[np.float32]]) -> NDArray[np.uint8]:
    codes: NDArray[np.uint8] = np.rint(np.stack(pictures).clip(0, 1) * 255).astype(np.uint8)
    return codes
