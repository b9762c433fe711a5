"""The classical peers: what one would reach for, for each degradation, without a network.

Parameters were tuned roughly, by PSNR on five photos of the training set, long side 640, at severities 0.3, 0.5 and
0.8; the figures below are those means. One setting serves all severities. No peer is told what was done to the picture,
but for inpainting, which is told where. There is no usual one for raindrops and shadows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.calibration.degradations import inpaint_mask, seed_for
from uir.tools.bench.dehaze import dehaze
from uir.tools.bench.metrics import Frame
from uir.tools.bench.sample import Method, Sample


@dataclass(frozen=True)
class Peer:
    """A method, and what it is called in the field."""

    title: str
    restore: Method


def denoise(frame: Frame) -> Frame:
    """Non-local means (A. Buades et al., "A non-local algorithm for image denoising", CVPR 2005), OpenCV's for colour.

    Its strength is 0.8 of the noise's estimated sigma for light and for colour: 27.7 dB; 27.5 by 0.6 and 27.0 by 1.

    Args:
        frame: H x W x 3, uint8.
    """
    strength = 0.8 * noise_level(frame)
    return np.asarray(cv2.fastNlMeansDenoisingColored(frame, None, strength, strength, 7, 21), np.uint8)


def noise_level(frame: Frame) -> float:
    """The sigma of a picture's noise, in codes: the median of its finest diagonal details (Haar's), over 0.6745.

    D. Donoho and I. Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika 1994: most of these details
    are noise alone, and the median does not mind the rest.
    """
    x = frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2].astype(np.float32)
    details = (x[::2, ::2] - x[1::2, ::2] - x[::2, 1::2] + x[1::2, 1::2]) / 2
    return float(np.median(np.abs(details))) / 0.6745


def brighten(frame: Frame) -> Frame:
    """One gamma that takes the picture's mean to 0.45.

    19.3 dB, and 19.0 to a mean of 0.5. CLAHE of the lightness (8 x 8 tiles) reached 15.2 at its best, with a clip limit
    of 4.
    """
    level = float(np.clip(frame.mean() / 255, 1 / 255, 254 / 255))
    gamma = math.log(0.45) / math.log(level)
    curve: Frame = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    return curve[frame]


def sharpen(frame: Frame) -> Frame:
    """Wiener's filter by scikit-image, for a Gaussian blur of sigma 1.5: nobody knows the true one.

    25.3 dB, as for sigma 1 and for a disc of radius 3; larger guesses ring. Unsharp masking reached 25.2 at its best.
    """
    # Slow to import: --help should not wait for it.
    import skimage.restoration

    restoration: Any = skimage.restoration  # its functions have no types
    kernel = cv2.getGaussianKernel(13, 1.5)
    margin = len(kernel)
    padded = cv2.copyMakeBorder(frame, margin, margin, margin, margin, cv2.BORDER_REFLECT) / 255
    sharp = np.stack([restoration.wiener(padded[..., channel], kernel @ kernel.T, 0.1) for channel in range(3)], axis=2)
    codes: NDArray[np.float64] = 255 * np.clip(sharp[margin:-margin, margin:-margin], 0, 1)
    return np.rint(codes).astype(np.uint8)


def deblock(frame: Frame) -> Frame:
    """A bilateral filter (C. Tomasi and R. Manduchi, ICCV 1998) of sigma 30 codes and 4 pixels.

    30.5 dB, as by 20 codes; 30.4 by 2 pixels, and 30.3 by 40 codes.
    """
    return np.asarray(cv2.bilateralFilter(frame, 0, 30, 4), np.uint8)


def median(frame: Frame, size: int) -> Frame:
    """The darker of a pixel and the median about it, since drops and flakes only brighten.

    For rain 3 pixels did least harm (24.1 dB, the input 24.8); for snow 15 helped most (24.1 dB, the input 23.7). The
    plain median made both worse, at any size, by more than a decibel.
    """
    return np.minimum(frame, cv2.medianBlur(frame, size))


def fill(sample: Sample) -> Frame:
    """OpenCV's Navier-Stokes inpainting (M. Bertalmio et al., CVPR 2001) from 9 pixels around, told the true mask.

    33.4 dB; A. Telea's method ("An image inpainting technique based on the fast marching method", 2004) reached 33.3.
    """
    hidden = inpaint_mask(sample.degraded.shape[:2], sample.level, seed_for("inpaint", sample.seed))
    return np.asarray(cv2.inpaint(sample.degraded, hidden.astype(np.uint8), 9, cv2.INPAINT_NS), np.uint8)


PEERS = {
    "haze": Peer("dark-channel prior in linear light", lambda sample: dehaze(sample.degraded)),
    "snow": Peer("median 15 x 15, where darker", lambda sample: median(sample.degraded, 15)),
    "rain": Peer("median 3 x 3, where darker", lambda sample: median(sample.degraded, 3)),
    "blur": Peer("Wiener filter", lambda sample: sharpen(sample.degraded)),
    "lowlight": Peer("gamma to a mean of 0.45", lambda sample: brighten(sample.degraded)),
    "noise": Peer("non-local means", lambda sample: denoise(sample.degraded)),
    "jpeg": Peer("bilateral filter", lambda sample: deblock(sample.degraded)),
    "inpaint": Peer("Navier-Stokes inpainting with the true mask", fill),
}
"""By degradation."""
