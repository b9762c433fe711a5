"""What can be set of a training. Apart from what trains, since the command's help is there without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ARCHITECTURES = ("nafnet", "unet", "unet-medium")
"""What `uir.export.bases.sizes` names, which itself needs torch."""


@dataclass(frozen=True)
class Sampling:
    """What is trained on. All patches of a batch have the same composition.

    Attributes:
        singles: share of the batches that merge one adapter, on its own degradation.
        pairs: share of the batches that merge two adapters, on both degradations.
        triples: the same for three. The remaining batches merge none, on clean pictures, so that the base alone stays
            the identity.
        intact: share of the patches that are left clean although adapters are merged, so that these learn to leave
            alone what is not degraded.
        patch: side of the square patches, pixels.
        batch: patches in a batch.
        large: side of the large patches that training ends with, as many as hold the same number of pixels: a small
            patch shows less of a picture than the network can see, and teaches it borders that whole frames do not
            have.
        favour: how often a degradation is drawn, alone or as the first of several, over one that is not named here.
    """

    singles: float = 0.6
    pairs: float = 0.3
    triples: float = 0.05
    intact: float = 0.1
    patch: int = 128
    batch: int = 16
    large: int = 256
    favour: Mapping[str, float] = field(default_factory=dict)

    def shape(self, large: bool) -> tuple[int, int]:
        """How many patches a batch has, and their side."""
        if not large:
            return self.batch, self.patch
        return max(1, self.batch * self.patch**2 // self.large**2), self.large


@dataclass(frozen=True)
class Schedule:
    """How the weights move.

    Attributes:
        steps: optimiser steps in all; None for as many as there is time for.
        minutes: of the clock, from the command's start to its end; None for as many as the steps take. Of both, what
            ends first holds. Over the first 2% the learning rate warms up, and then falls to zero along a cosine.
        lr: AdamW's learning rate at its peak.
        lora_plus: the learning rate of the factors B over that of everything else (LoRA+, Hayou et al. 2024, section
            4).
        large_share: share of the run, at its end, that trains on large patches.
        compositions: batches, each of a composition of its own, in a step, which goes by the mean of their losses.
        reuse: times that each batch is trained on, every other time mirrored: where degrading cannot keep up.
        ema: decay, a step, of the exponential moving average of the weights, which is what a run puts out.
        train_base: whether the base's own weights move too.
    """

    steps: int | None = None
    minutes: float | None = None
    lr: float = 4e-4
    lora_plus: float = 1.0
    large_share: float = 0.4
    compositions: int = 1
    reuse: int = 1
    ema: float = 0.998
    train_base: bool = False


@dataclass(frozen=True)
class Course:
    """How the network is trained.

    Attributes:
        epochs: times that all pictures are gone over.
        lr: the peak learning rate.
    """

    epochs: int = 12
    lr: float = 2e-3
