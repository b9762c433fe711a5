"""What the quality tables are made of: a case is one way of degrading photos and the methods tried against it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from uir.calibration.degradations import DEGRADATIONS
from uir.runtime.composition import Composition
from uir.runtime.restorer import Restorer
from uir.tools.bench.metrics import Frame, Score, mean, score
from uir.tools.bench.peers import PEERS
from uir.tools.bench.sample import Method, Sample
from uir.tools.degrade import degrade_frame

PhotoScores = dict[str, dict[str, list[Score]]]
"""By level (`0.5`), by method (`input` and those of the case), one for each photo."""

Scores = dict[str, dict[str, Score]]
"""By level, and `mean` of them all, then by method: means over the photos."""

INPUT, BASE, PEER, FULL, ADAPTER, MIX = "input", "base", "peer", "full", "adapter", "mix"
MEAN = "mean"

PAIRS = (
    ("rain", "haze"),
    ("noise", "lowlight"),
    ("blur", "jpeg"),
    ("snow", "haze"),
    ("noise", "jpeg"),
    ("rain", "lowlight"),
)
"""What often comes together."""

SIGMA = 25.0  # of 255: the noise that denoisers are usually compared on


@dataclass(frozen=True)
class Case:
    """A way of degrading photos, and what is tried against it.

    Attributes:
        name: as tables call it.
        degrade: a clean picture, one of the levels and a seed to the degraded picture.
        levels: how much of it: each is measured.
        methods: by name; the untouched input is compared as well.
    """

    name: str
    degrade: Callable[[Frame, float, int], Frame]
    levels: Sequence[float]
    methods: Mapping[str, Method]

    def sample(self, clean: Frame, photo: Path, level: float, seed: int) -> Sample:
        """A clean photo, degraded; it counts by its file's name, so that it looks the same among other photos."""
        entropy = [seed, zlib.crc32(photo.name.encode()), round(level * 10_000)]
        drawn = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        return Sample(clean, self.degrade(clean, level, drawn), level, drawn)


def by(restorer: Restorer, composition: Composition) -> Method:
    """Restoration by one composition of the restorer's package."""

    def restore(sample: Sample) -> Frame:
        restorer.compose(composition)
        return restorer(sample.degraded)

    return restore


def degrading(*names: str) -> Callable[[Frame, float, int], Frame]:
    """What applies our own degradations together, at one severity."""
    return lambda clean, severity, seed: degrade_frame(clean, dict.fromkeys(names, severity), seed)


def single_cases(restorer: Restorer, severities: Sequence[float], full: Mapping[str, Method]) -> list[Case]:
    """A case for each adapter that is named as a degradation is.

    Args:
        full: networks that were wholly fine-tuned, by degradation; there need not be one for each.
    """
    cases = []
    for name in DEGRADATIONS:
        if name in restorer.adapters:
            methods = {BASE: by(restorer, Composition()), ADAPTER: by(restorer, Composition.of({name: 1}))}
            if name in PEERS:
                methods[PEER] = PEERS[name].restore
            if name in full:
                methods[FULL] = full[name]
            cases.append(Case(name, degrading(name), severities, methods))
    return cases


def gaussian(clean: Frame, sigma: float, seed: int) -> Frame:
    """A picture with Gaussian white noise, of a standard deviation of `sigma` of 255, rounded to 8 bits."""
    noisy = clean + sigma * np.random.default_rng(seed).standard_normal(clean.shape)
    return np.rint(noisy).clip(0, 255).astype(np.uint8)


def as_jpeg(clean: Frame, quality: float, _seed: int) -> Frame:
    """A picture that was stored as JPEG, by OpenCV, its colour at half the resolution (4:2:0), and read back."""
    how = [cv2.IMWRITE_JPEG_QUALITY, int(quality)]
    how += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
    stored = cv2.imencode(".jpg", clean[..., ::-1], how)[1]
    return np.ascontiguousarray(np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])


def gaussian_case(noise: Case) -> Case:
    """What is tried against noise, on that of the literature: of sigma 25."""
    return Case(f"Gaussian, sigma {SIGMA:g}", gaussian, [SIGMA], noise.methods)


def pair_cases(restorer: Restorer, severities: Sequence[float]) -> list[Case]:
    """A case for each of `PAIRS` whose adapters the package has: each adapter alone, by its name, and their mix."""
    cases = []
    for names in PAIRS:
        if set(names) <= set(restorer.adapters):
            methods = {name: by(restorer, Composition.of({name: 1})) for name in names}
            methods[MIX] = by(restorer, Composition.equal_mix(names))
            cases.append(Case("+".join(names), degrading(*names), severities, methods))
    return cases


def measure_case(
    case: Case, photos: Iterable[tuple[Path, Frame]], seed: int, done: Callable[[int], object]
) -> PhotoScores:
    """Score the input and each method on each photo at each level.

    Args:
        photos: paths and clean pictures.
        done: called with the number of pictures scored since it was last called.
    """
    methods: dict[str, Method] = {INPUT: lambda sample: sample.degraded, **case.methods}
    found: PhotoScores = {f"{level:g}": {name: [] for name in methods} for level in case.levels}
    for photo, clean in photos:
        samples = [case.sample(clean, photo, level, seed) for level in case.levels]
        # All the levels by one method: an engine that has given way to others is built once for a photo.
        for name, method in methods.items():
            for sample in samples:
                found[f"{sample.level:g}"][name].append(score(clean, method(sample)))
            done(len(samples))
    return found


def summarise(found: PhotoScores) -> Scores:
    """Means over the photos, and over the levels as well."""
    scores = {level: {name: mean(each) for name, each in at.items()} for level, at in found.items()}
    names = next(iter(scores.values()))
    return {**scores, MEAN: {name: mean([at[name] for at in scores.values()]) for name in names}}


def measure_clean(method: Method, photos: Iterable[Frame], done: Callable[[], object]) -> Score:
    """What a method leaves of pictures that nothing is wrong with."""
    scores = []
    for clean in photos:
        scores.append(score(clean, method(Sample(clean, clean, 0, 0))))
        done()
    return mean(scores)
