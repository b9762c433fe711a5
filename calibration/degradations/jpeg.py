"""JPEG: what is lost when a picture is stored in too few bytes."""

from __future__ import annotations

import cv2
import numpy as np

from uir.calibration.degradations._common import Image, check, scene_rng
from uir.runtime.errors import UsageError

_LONGEST = 65500
"""The longest side, in pixels, that libjpeg encodes."""


def jpeg(image: Image, severity: float, seed: int, seconds: float = 0.0) -> Image:  # noqa: ARG001
    """Store the picture as a JPEG and read it back.

    A real encode and decode (libjpeg, ITU-T T.81) in memory, at a quality that falls geometrically, as its effect on
    the eye goes: 92 next to severity 0, 44 at 0.3, 27 at 0.5, 13 at 0.8, 8 at 1.

    The seed varies the quality by up to a tenth, and decides whether the encoder halves the resolution of colour, as in
    three of four seeds. Nothing moves with `seconds`: each frame is encoded alone.

    Args:
        image: float32 H x W x 3, RGB, sRGB-encoded, in [0, 1].
        severity: 0 (unchanged) to 1 (quality 8).
        seed: 0 or more.
        seconds: time in the video.

    Returns:
        A new array of the same shape, type and range.

    Raises:
        UsageError: as `check` says, or a side is longer than a JPEG's can be.
    """
    check("jpeg", image, severity, seed)
    if severity == 0:
        return np.array(image)
    height, width = image.shape[:2]
    if max(height, width) > _LONGEST:
        raise UsageError(f"jpeg: {width} x {height} is too large; no side may be longer than {_LONGEST} pixels")
    rng = scene_rng(seed)
    quality = round(8 * (92 / 8) ** (1 - severity) * rng.uniform(0.9, 1.1))
    halved = rng.random() < 0.75
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 if halved else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    pixels = np.rint(image[..., ::-1] * np.float32(255)).astype(np.uint8)
    stored = cv2.imencode(".jpg", pixels, settings)[1]
    decoded = np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR), np.float32)
    return np.ascontiguousarray(decoded[..., ::-1]) / np.float32(255)
