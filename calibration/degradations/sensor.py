"""What a camera adds: too little light, and noise."""

from __future__ import annotations

import numpy as np

from uir.calibration.degradations._common import Image, check, frame_rng, scene_rng, to_encoded, to_linear


def lowlight(image: Image, severity: float, seed: int, seconds: float = 0.0) -> Image:
    """Expose the picture too little.

    In linear light, the exposure falls to 1/20 at severity 1 (about 1/3 at 0.3). What is left is noisy as a sensor is:
    shot noise, whose variance follows the light, and read noise, which does not (A. Foi et al., "Practical
    Poissonian-Gaussian noise modeling and fitting for single-image raw-data", IEEE TIP 2008), both as of a gain that
    the camera turns up as the light falls. Then the usual sRGB curve.

    The seed fixes the exposure's exact value and the sensor; noise is fresh at each of `seconds`.

    Args:
        image: float32 H x W x 3, RGB, sRGB-encoded, in [0, 1].
        severity: 0 (unchanged) to 1 (1/20 of the light).
        seed: 0 or more.
        seconds: time in the video.

    Returns:
        A new array of the same shape, type and range.

    Raises:
        UsageError: as `check` says.
    """
    check("lowlight", image, severity, seed)
    if severity == 0:
        return np.array(image)
    scene = scene_rng(seed)
    stops = np.log2(20) * severity**0.83 * scene.uniform(0.93, 1.07)
    sensor = scene.uniform(0.5, 1.5)
    linear = to_linear(image)
    linear *= np.float32(2.0**-stops)
    shot, read = 1.5e-4 * sensor * severity, 1.0e-3 * sensor * severity
    deviation = np.sqrt(linear * np.float32(shot) + np.float32(read**2))
    linear += deviation * frame_rng(seed, seconds).standard_normal(image.shape, dtype=np.float32)
    return to_encoded(linear)


def noise(image: Image, severity: float, seed: int, seconds: float = 0.0) -> Image:
    """Add sensor noise.

    Gaussian and Poisson (shot) noise, in the sRGB-encoded domain, where denoising is customarily measured: severity 1
    is about sigma 50/255, 0.5 about 25/255. The variance is `sigma**2 * ((1 - k) + 2 * k * x)` for a value x: k of it
    is shot noise, which grows with the light (the normal approximation of Poisson, right from about ten photons on).

    The seed fixes k and the exact level; noise is fresh at each of `seconds`.

    Args:
        image: float32 H x W x 3, RGB, sRGB-encoded, in [0, 1].
        severity: 0 (unchanged) to 1 (sigma about 50/255).
        seed: 0 or more.
        seconds: time in the video.

    Returns:
        A new array of the same shape, type and range.

    Raises:
        UsageError: as `check` says.
    """
    check("noise", image, severity, seed)
    if severity == 0:
        return np.array(image)
    scene = scene_rng(seed)
    sigma = 50 / 255 * severity * scene.uniform(0.92, 1.08)
    shot = scene.uniform(0, 0.6)
    noisy: Image = np.sqrt(image * np.float32(2 * shot * sigma**2) + np.float32((1 - shot) * sigma**2))
    noisy *= frame_rng(seed, seconds).standard_normal(image.shape, dtype=np.float32)
    noisy += image
    np.clip(noisy, 0, 1, out=noisy)
    return noisy
