"""What the tests of the degradations share."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from uir.calibration.degradations import Image


@pytest.fixture(scope="module")
def scene() -> Image:
    """A 192 x 320 picture with what a photograph has: a bright smooth sky, dark ground, texture and colour."""
    rng = np.random.default_rng(7)
    texture = cv2.resize(rng.random((24, 40, 3), dtype=np.float32), (320, 192), interpolation=cv2.INTER_CUBIC)
    light = np.linspace(0.8, 0.15, 192, dtype=np.float32)[:, None, None]
    return np.clip(light * (0.7 + 0.4 * texture), 0, 1).astype(np.float32)
