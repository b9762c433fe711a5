"""How near a picture is to the truth: PSNR and SSIM, as scikit-image has them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uir.runtime.errors import MediaError

Frame = NDArray[np.uint8]
"""H x W x 3, RGB."""

IDENTICAL = 100.0  # dB, for pictures that do not differ at all: their PSNR is infinite, and so would every mean be
WINDOW = 7  # pixels, the side of SSIM's window


@dataclass(frozen=True)
class Score:
    """PSNR in dB, at most 100, and SSIM in [-1, 1]; higher is nearer."""

    psnr: float
    ssim: float


def score(truth: Frame, frame: Frame) -> Score:
    """Compare two H x W x 3 uint8 pictures, all colours together.

    PSNR is over all samples; SSIM (Wang et al. 2004) is the mean of the channels', with a uniform 7 x 7 window.

    Raises:
        MediaError: the pictures are smaller than SSIM's window.
    """
    # An extra, and slow to import: --help should not wait for it.
    import skimage.metrics

    measures: Any = skimage.metrics  # its functions have no types
    height, width = truth.shape[:2]
    if min(height, width) < WINDOW:
        raise MediaError(
            f"a picture of {width}x{height} is too small to compare; give photos of {WINDOW}x{WINDOW} or more"
        )
    with np.errstate(divide="ignore"):
        psnr: float = measures.peak_signal_noise_ratio(truth, frame, data_range=255)
    ssim: float = measures.structural_similarity(truth, frame, data_range=255, channel_axis=2, win_size=WINDOW)
    return Score(min(float(psnr), IDENTICAL), float(ssim))


def mean(scores: Sequence[Score]) -> Score:
    """The mean of each measure."""
    count = len(scores)
    return Score(math.fsum(s.psnr for s in scores) / count, math.fsum(s.ssim for s in scores) / count)
