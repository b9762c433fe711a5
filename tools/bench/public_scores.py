"""What was measured on sets of pictures: picture by picture, and what it comes to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from uir.runtime.decision import CLEAN_NAME
from uir.tools.bench.cases import INPUT
from uir.tools.bench.metrics import IDENTICAL, Frame, Score, mean

AUTOMATIC = "automatic"

HARM = 0.3
"""dB: a picture that has lost more is called worse."""

LUMA = np.array([65.481, 128.553, 24.966]) / 255
"""Y of BT.601 in studio range, less 16: what MATLAB's rgb2ycbcr gives, on which deraining is usually measured."""


@dataclass(frozen=True)
class PictureScores:
    """One picture of a set.

    Attributes:
        decision: what automatic mode restored it with, or `clean`.
        seen: the adapters of it.
        scores: by method: `input`, adapters by name, `automatic`.
        luma: PSNR of the luma in dB, by method.
    """

    name: str
    decision: str
    seen: list[str]
    scores: Mapping[str, Score]
    luma: Mapping[str, float]


@dataclass(frozen=True)
class Change:
    """What a method did to the pictures of a set, against their inputs.

    Attributes:
        mean: mean change of each measure.
        worst: the smallest change of each measure.
        worst_picture: that of the smallest change of PSNR.
        worse: share of pictures that lost more than `HARM`, from 0 to 1.
    """

    mean: Score
    worst: Score
    worst_picture: str
    worse: float


@dataclass(frozen=True)
class SetScores:
    """A set of pairs.

    Attributes:
        adapters: those that were tried.
        means: by method.
        luma: mean PSNR of the luma in dB, by method.
        changes: by method, the input left aside.
        chosen: how many pictures automatic mode restored with which adapters (`noise+jpeg`), the most frequent first.
    """

    name: str
    adapters: Sequence[str]
    means: Mapping[str, Score]
    luma: Mapping[str, float]
    changes: Mapping[str, Change]
    chosen: Mapping[str, int]
    pictures: Sequence[PictureScores]


@dataclass(frozen=True)
class CleanScores:
    """What automatic mode made of clean pictures.

    Attributes:
        untouched: share of pictures that were left as they are, from 0 to 1.
        changed: mean of what the others came to; None where there are no others.
        worst: the lowest of each measure among them.
        worst_picture: that of the lowest PSNR.
        chosen: as of a `SetScores`.
    """

    name: str
    untouched: float
    changed: Score | None
    worst: Score | None
    worst_picture: str | None
    chosen: Mapping[str, int]
    pictures: Sequence[PictureScores]


@dataclass(frozen=True)
class PublicResults:
    """All that was measured."""

    sets: Sequence[SetScores]
    clean: Sequence[CleanScores]


def luma_psnr(truth: Frame, frame: Frame) -> float:
    """PSNR in dB of the luma of two H x W x 3 uint8 pictures, at most 100; the peak is 255, as of all samples."""
    error = float(np.mean((np.rint(truth @ LUMA) - np.rint(frame @ LUMA)) ** 2))
    return min(IDENTICAL, 20 * math.log10(255) - 10 * math.log10(error)) if error else IDENTICAL


def summarise(name: str, adapters: Sequence[str], pictures: Sequence[PictureScores]) -> SetScores:
    """What the scores of a set's pictures come to."""
    methods = [INPUT, *adapters, AUTOMATIC]
    return SetScores(
        name=name,
        adapters=adapters,
        means={method: mean([each.scores[method] for each in pictures]) for method in methods},
        luma={method: math.fsum(each.luma[method] for each in pictures) / len(pictures) for method in methods},
        changes={method: _change(pictures, method) for method in methods[1:]},
        chosen=_chosen(pictures),
        pictures=pictures,
    )


def summarise_clean(name: str, pictures: Sequence[PictureScores]) -> CleanScores:
    """What the scores of clean pictures come to."""
    changed = [each for each in pictures if each.decision != CLEAN_NAME]
    scores = [each.scores[AUTOMATIC] for each in changed]
    worst = min(changed, key=lambda each: each.scores[AUTOMATIC].psnr, default=None)
    return CleanScores(
        name=name,
        untouched=1 - len(changed) / len(pictures),
        changed=mean(scores) if scores else None,
        worst=_lowest(scores) if scores else None,
        worst_picture=worst.name if worst else None,
        chosen=_chosen(pictures),
        pictures=pictures,
    )


def _change(pictures: Sequence[PictureScores], method: str) -> Change:
    changes = [_less(each.scores[method], each.scores[INPUT]) for each in pictures]
    worst = min(range(len(changes)), key=lambda i: changes[i].psnr)
    worse = sum(change.psnr < -HARM for change in changes) / len(changes)
    return Change(mean(changes), _lowest(changes), pictures[worst].name, worse)


def _less(one: Score, other: Score) -> Score:
    return Score(one.psnr - other.psnr, one.ssim - other.ssim)


def _lowest(scores: Sequence[Score]) -> Score:
    return Score(min(each.psnr for each in scores), min(each.ssim for each in scores))


def _chosen(pictures: Sequence[PictureScores]) -> dict[str, int]:
    return dict(Counter("+".join(each.seen) or CLEAN_NAME for each in pictures).most_common())
