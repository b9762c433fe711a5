"""The oracle: how well a pair could be mixed if someone told the weights, by trying all of a grid on each photo."""

from __future__ import annotations

from uir.runtime.composition import Composition
from uir.runtime.restorer import Restorer
from uir.tools.bench.cases import INPUT, Case, PhotoScores, by
from uir.tools.bench.metrics import Score

ORACLE = "oracle"
STEPS = 8
"""Of the grid: the weights are multiples of 1/8 that sum to one."""


def grid_case(restorer: Restorer, pair: Case) -> Case:
    """The weights of the grid that the pair's own case does not try: all but either adapter alone and the halves."""
    first, second = pair.name.split("+")
    mixes = [Composition.of({first: step / STEPS, second: 1 - step / STEPS}) for step in range(1, STEPS)]
    methods = {mix.key: by(restorer, mix) for mix in mixes if mix != Composition.equal_mix((first, second))}
    return Case(pair.name, pair.degrade, pair.levels, methods)


def with_oracle(pair: PhotoScores, grid: PhotoScores) -> PhotoScores:
    """A pair's scores with those of the rest of the grid, and with the best of them all for each photo.

    PSNR and SSIM have each its own best.
    """
    found: PhotoScores = {}
    for level, at in pair.items():
        tried = {name: each for name, each in {**at, **grid[level]}.items() if name != INPUT}
        best = [
            Score(max(score.psnr for score in scores), max(score.ssim for score in scores))
            for scores in zip(*tried.values(), strict=True)
        ]
        found[level] = {INPUT: at[INPUT], **tried, ORACLE: best}
    return found
