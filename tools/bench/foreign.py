"""Degradations by other people's libraries: how the adapters do on weather that they were not trained on.

The operators are those of albumentations (A. Buslaev et al., "Albumentations: Fast and Flexible Image Augmentations",
Information 2020) and of imagecorruptions (C. Michaelis et al., "Benchmarking Robustness in Object Detection", 2019,
after D. Hendrycks and T. Dietterich, ICLR 2019), each restored by the adapter of the degradation that is named like it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import packages_distributions, version
from typing import Any

import numpy as np

from uir.runtime.composition import Composition
from uir.runtime.errors import MediaError
from uir.runtime.restorer import Restorer
from uir.tools.bench.cases import ADAPTER, Case, Scores, by
from uir.tools.bench.metrics import Frame

LEVELS = (1, 3, 5)
"""Severities, as imagecorruptions counts them."""

SMALLEST = 32  # pixels of the shorter side, which imagecorruptions asks for


@dataclass(frozen=True)
class Operator:
    """One operator of another library.

    Attributes:
        adapter: what restores it.
        settings: of albumentations, which has no severities: each argument's value at each of `LEVELS`.
    """

    library: str
    name: str
    adapter: str
    settings: Mapping[str, Sequence[object]] = field(default_factory=dict)

    def degrade(self, clean: Frame, level: float, seed: int) -> Frame:
        """Apply it to an H x W x 3 uint8 RGB picture, at one of `LEVELS`.

        Raises:
            MediaError: the picture is smaller than the libraries take.
        """
        height, width = clean.shape[:2]
        if min(height, width) < SMALLEST:
            raise MediaError(
                f"a picture of {width}x{height} is too small for --foreign; "
                f"give photos of {SMALLEST}x{SMALLEST} or more"
            )
        library = import_module(self.library)
        degraded: Frame
        if self.library == "imagecorruptions":
            degraded = _corrupt(library, clean, self.name, int(level), seed)
        else:
            arguments = {name: values[LEVELS.index(int(level))] for name, values in self.settings.items()}
            transform = getattr(library, self.name)(**arguments, p=1)
            transform.set_random_seed(seed)
            degraded = transform(image=clean)["image"]
        return degraded


def _corrupt(library: Any, clean: Frame, name: str, severity: int, seed: int) -> Frame:
    """It draws from numpy's global generator, which is put back as it was."""
    state = np.random.get_state()
    try:
        np.random.seed(seed)
        corrupted: Frame = library.corrupt(clean, severity, name)
    finally:
        np.random.set_state(state)
    return corrupted


def _exactly(*values: float) -> list[tuple[float, float]]:
    """Ranges of no width: nothing but the level decides how strong an operator is."""
    return [(value, value) for value in values]


OPERATORS = (
    Operator("albumentations", "RandomFog", "haze", {"fog_coef_range": _exactly(0.2, 0.5, 0.8)}),
    Operator("albumentations", "RandomSnow", "snow", {"snow_point_range": _exactly(0.1, 0.2, 0.3)}),
    Operator("albumentations", "RandomRain", "rain", {"rain_type": ("drizzle", "heavy", "torrential")}),
    Operator("albumentations", "MotionBlur", "blur", {"blur_limit": _exactly(5, 11, 19)}),
    Operator("albumentations", "Defocus", "blur", {"radius": _exactly(2, 4, 7), "alias_blur": _exactly(0.3, 0.3, 0.3)}),
    Operator("albumentations", "GlassBlur", "blur", {"max_delta": (1, 2, 4)}),
    Operator("albumentations", "GaussNoise", "noise", {"std_range": _exactly(0.06, 0.1, 0.16)}),
    Operator(
        "albumentations",
        "ISONoise",
        "noise",
        {"intensity": _exactly(0.1, 0.3, 0.5), "color_shift": _exactly(0.03, 0.03, 0.03)},
    ),
    Operator("albumentations", "ImageCompression", "jpeg", {"quality_range": _exactly(40, 25, 12)}),
    Operator("imagecorruptions", "fog", "haze"),
    Operator("imagecorruptions", "snow", "snow"),
    Operator("imagecorruptions", "motion_blur", "blur"),
    Operator("imagecorruptions", "defocus_blur", "blur"),
    Operator("imagecorruptions", "gaussian_noise", "noise"),
    Operator("imagecorruptions", "shot_noise", "noise"),
    Operator("imagecorruptions", "jpeg_compression", "jpeg"),
)


@dataclass(frozen=True)
class ForeignScores:
    """What became of one operator's pictures."""

    library: str
    operator: str
    adapter: str
    scores: Scores


def foreign_cases(restorer: Restorer) -> list[tuple[Operator, Case]]:
    """The operators whose adapter the package has, and a case for each."""
    return [
        (operator, Case(operator.name, operator.degrade, LEVELS, {ADAPTER: by(restorer, adapter)}))
        for operator in OPERATORS
        if operator.adapter in restorer.adapters
        for adapter in [Composition.of({operator.adapter: 1})]
    ]


def libraries() -> list[str]:
    """The distributions that the operators come from, and their versions.

    Raises:
        ModuleNotFoundError: one is missing.
    """
    names = sorted({operator.library for operator in OPERATORS})
    for name in names:
        import_module(name)
    distributions = packages_distributions()
    return [f"{found} {version(found)}" for name in names for found in distributions[name]]
