"""A network of LoRA-IR's shapes (Ai et al. 2024) with random weights: large, and of every kind of convolution.

Shapes and factors are those of its published checkpoints: 248 convolutions of a NAFNet (Chen et al. 2022) of width 64,
each with loralib factors of rank 8: A (8 k x in k) and B (out / groups k x 8 k) for a kernel of k x k; three experts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from uir.runtime.factors import Adapter, DenseDelta, Factors, Update

WIDTH, PRIOR = 64, 384
ENCODERS, MIDDLE, DECODERS = (1, 1, 1, 28), 1, (1, 1, 1, 1)
RANK, SCALE = 8, 2.0
EXPERTS = ("snow", "rain", "raindrop")

Shape = tuple[int, int, int, int]


def random_network(seed: int = 0) -> tuple[dict[str, NDArray[np.float32]], dict[str, Adapter]]:
    """The convolutions' weights, float32 by name, and the experts as adapters by name."""
    rng = np.random.default_rng(seed)
    convolutions = dict(shapes())
    base = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in convolutions.items()}
    return base, {
        name: Adapter(name, {weight: _update(shape, rng) for weight, shape in convolutions.items()}) for name in EXPERTS
    }


def _update(shape: Shape, rng: np.random.Generator) -> Update:
    out, within, kernel, _ = shape
    depthwise = within == 1
    rows, inner, columns = (1 if depthwise else out) * kernel, RANK * kernel, (out if depthwise else within) * kernel
    # As a package stores it: whole where the factors are the larger part.
    if inner * (rows + columns) > math.prod(shape):
        return DenseDelta(rng.standard_normal(shape, dtype=np.float32))
    b = rng.standard_normal((rows, inner), dtype=np.float32)
    a = rng.standard_normal((inner, columns), dtype=np.float32)
    return Factors(b, a, SCALE)


def shapes() -> Iterator[tuple[str, Shape]]:
    """Each convolution's name and the shape of its weight: out, in / groups, k, k."""
    width = WIDTH
    yield "intro", (width, 3, 3, 3)
    yield "prior.0", (PRIOR, PRIOR, 1, 1)
    yield "prior.1", (PRIOR, PRIOR, 1, 1)
    for level, blocks in enumerate(ENCODERS):
        yield from _blocks(f"encoders.{level}", blocks, width)
        yield from _gate(f"gates.{level}", width)
        yield f"downs.{level}", (2 * width, width, 2, 2)
        width *= 2
    yield from _blocks("middle", MIDDLE, width)
    yield from _gate("gates.middle", width)
    for level, blocks in enumerate(DECODERS):
        yield f"ups.{level}", (2 * width, width, 1, 1)
        width //= 2
        yield from _blocks(f"decoders.{level}", blocks, width)
    yield "ending", (3, width, 3, 3)


def _blocks(name: str, count: int, width: int) -> Iterator[tuple[str, Shape]]:
    for index in range(count):
        yield f"{name}.{index}.conv1", (2 * width, width, 1, 1)
        yield f"{name}.{index}.conv2", (2 * width, 1, 3, 3)  # depthwise
        yield f"{name}.{index}.conv3", (width, width, 1, 1)
        yield f"{name}.{index}.attention", (width, width, 1, 1)
        yield f"{name}.{index}.conv4", (2 * width, width, 1, 1)
        yield f"{name}.{index}.conv5", (width, width, 1, 1)


def _gate(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    """From the degradation's prior to a weight for each channel."""
    yield f"{name}.0", (PRIOR // 3, PRIOR, 1, 1)
    yield f"{name}.1", (width, PRIOR // 3, 1, 1)
    yield f"{name}.2", (width // 16, width, 1, 1)
    yield f"{name}.3", (width, width // 16, 1, 1)
