"""Batches to the device that trains, each as often as it is to be used."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Generator
from multiprocessing import RawArray
from multiprocessing.util import get_temp_dir

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from uir.tools.train.data import DegradedPatches

GAP = 32
"""Batches from one use of a batch to its next."""

AHEAD = 4
"""Batches that each process makes ahead."""

Turn = tuple[dict[str, float], Tensor, bool]
"""The composition of a batch, its pictures on the device as `pictures` takes them, and whether to mirror them."""


def feed(
    patches: DegradedPatches, device: torch.device, *, large: bool, first: int, turn: int, reuse: int, workers: int
) -> Generator[Turn, None, None]:
    """What to train on, turn by turn and without end.

    Degrading takes a processor longer than it takes a GPU to learn from it, so each batch is used `reuse` times: turn t
    takes batch `n - i * GAP`, where n, i = divmod(t, reuse), mirrored where i is odd. The device keeps those that are
    to be used again. While there are not yet so many, one of those that are there is taken.

    Args:
        large: whether of large patches.
        first: the number of the first batch, of turn 0.
        turn: where to begin, as if the turns before had been taken.
        workers: processes that degrade; with 0 this one does.
    """
    depth = GAP * (reuse - 1)
    oldest = max(0, turn // reuse - depth)
    # While one is read, so many may be written, and the next one too.
    shared = _SharedBatches(patches, large, slots=workers * AHEAD + 2)
    get_temp_dir()  # which the workers then share, and which goes with this process
    loader = DataLoader(
        shared,
        batch_size=None,
        sampler=(first + n for n in itertools.count(oldest)),
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        worker_init_fn=_one_thread,
        # Forked processes share the photos' memory.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
    )
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # ends its threads: a process that is forked from them would wait for them forever
    batches = iter(loader)
    cv2.setNumThreads(threads)
    kept: dict[int, tuple[dict[str, float], Tensor]] = {}
    for n, (number, weights) in enumerate(batches, oldest):
        kept[n] = weights, _moved(shared.slot(number), device)
        kept.pop(n - depth - 1, None)
        for i in range(reuse):
            if n * reuse + i >= turn:
                yield *kept[(n - i * GAP) % (n + 1)], i % 2 == 1


def pictures(pair: Tensor, mirrored: bool) -> tuple[Tensor, Tensor]:
    """2 x N x H x W x 3 uint8 as what is degraded and what is clean, N x 3 x H x W float32 in [0, 1], channels_last."""
    pair = pair.flip(3) if mirrored else pair
    degraded, clean = (pair.permute(0, 1, 4, 2, 3).float() / 255).unbind(0)
    return degraded, clean


class _SharedBatches(Dataset[tuple[int, dict[str, float]]]):
    """`dataset[number]` leaves the batch of that number in memory that all processes see.

    Through a pipe it would take the process that trains as long to receive a batch as to learn from it. Slots are
    written over, the oldest first.
    """

    def __init__(self, patches: DegradedPatches, large: bool, slots: int) -> None:
        count, side = patches.sampling.shape(large)
        self.patches, self.large, self.shape = patches, large, (slots, 2, count, side, side, 3)
        self.memory = RawArray("B", math.prod(self.shape))

    def __getitem__(self, number: int) -> tuple[int, dict[str, float]]:
        batch = self.patches[number, self.large]
        slot = self.slot(number)
        slot[0], slot[1] = batch.degraded, batch.clean
        return number, batch.weights

    def slot(self, number: int) -> NDArray[np.uint8]:
        """The pictures of a batch, degraded and clean, 2 x N x H x W x 3."""
        slots = np.frombuffer(self.memory, np.uint8).reshape(self.shape)
        slot: NDArray[np.uint8] = slots[number % len(slots)]
        return slot


def _moved(pair: NDArray[np.uint8], device: torch.device) -> Tensor:
    """A copy on the device; to a GPU out of pinned memory, so that nothing waits for it."""
    here = torch.from_numpy(pair)
    return here.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else here.clone()


def _one_thread(_: int) -> None:
    """A process that degrades takes one core: the others belong to the network, or to its like."""
    cv2.setNumThreads(1)
    threadpool_limits(1)
