"""What can be done to a good input to make it hostile: each way is one function, listed by `mutates`.

A mutator gets the path of a fresh copy and a seeded `random.Random`, changes the copy, and returns in a few words what
it did. The same seed always does the same. Where the change may be meant by an honest author (another weight, another
operator of the same shape), the picture may change: such a mutator says `picture="any"`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Target = Literal["package", "adapter"]
Picture = Literal["same", "any"]
Mutate = Callable[[Path, random.Random], str]


@dataclass(frozen=True)
class Mutator:
    """One way to make an input hostile.

    Attributes:
        target: what it changes: a package, which `uir-run` then restores a picture with; or an adapter's folder, which
            `uir-export` then reads beside a good one.
        picture: what a run that succeeds may give: the good input's picture alone, or any of the right size.
        weight: how often it is drawn, beside the others of its target.
    """

    name: str
    target: Target
    picture: Picture
    weight: int
    mutate: Mutate


MUTATORS: list[Mutator] = []


def mutates(target: Target, *, picture: Picture = "same", weight: int = 1) -> Callable[[Mutate], Mutate]:
    """List a function as a mutator, by its own name."""

    def register(mutate: Mutate) -> Mutate:
        MUTATORS.append(Mutator(mutate.__name__, target, picture, weight, mutate))
        return mutate

    return register


def targets() -> list[Target]:
    """What there are mutators of."""
    return sorted({each.target for each in MUTATORS})


def draw(target: Target, seed: int) -> tuple[Mutator, random.Random]:
    """The mutator of a seed, and its random numbers."""
    rng = random.Random(f"{target} {seed}")
    choices = [each for each in MUTATORS if each.target == target]
    return rng.choices(choices, [each.weight for each in choices])[0], rng
