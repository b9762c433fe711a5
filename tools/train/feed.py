"""Batches to the device that trains, each as often as it is to be used."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Generator

import cv2
import torch
from threadpoolctl import threadpool_limits
from torch.utils.data import DataLoader

from uir.tools.train.data import DegradedPatches, DeviceBatch

GAP = 32
"""Batches from one use of a batch to its next."""

AHEAD = 4
"""Batches that each process makes ahead."""


def feed(
    patches: DegradedPatches, device: torch.device, *, large: bool, first: int, turn: int, reuse: int, workers: int
) -> Generator[tuple[DeviceBatch, bool], None, None]:
    """What to train on, turn by turn and without end: a batch on the device, and whether to mirror it.

    Degrading takes a processor longer than it takes a GPU to learn from it, so each batch is used `reuse` times: turn t
    takes batch `n - i * GAP`, where n, i = divmod(t, reuse). The device keeps those that are to be used again. While
    there are not yet so many, one of those that are there is taken.

    Args:
        large: whether of large patches.
        first: the number of the first batch, of turn 0.
        turn: where to begin, as if the turns before had been taken.
        workers: processes that degrade; with 0 this one does.
    """
    depth = GAP * (reuse - 1)
    oldest = max(0, turn // reuse - depth)
    loader = DataLoader(
        patches,
        batch_size=None,
        sampler=((first + n, large) for n in itertools.count(oldest)),
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        worker_init_fn=_one_thread,
        # Forked processes share the photos' memory.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
    )
    kept: dict[int, DeviceBatch] = {}
    for n, batch in enumerate(loader, oldest):
        kept[n] = DeviceBatch.of(batch, device)
        kept.pop(n - depth - 1, None)
        for i in range(reuse):
            if n * reuse + i >= turn:
                yield kept[(n - i * GAP) % (n + 1)], i % 2 == 1


def _one_thread(_: int) -> None:
    """A process that degrades takes one core: the others belong to the network, or to its like."""
    cv2.setNumThreads(1)
    threadpool_limits(1)
