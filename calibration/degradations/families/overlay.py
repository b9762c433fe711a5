"""What falls through the air, laid over the picture: lines and spots, and the ways to composite them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.calibration.degradations._common import Image, to_encoded, to_linear
from uir.calibration.degradations.families.scene import Effect, Plane, Scene, clipped, soft

Numbers = NDArray[np.float64]


def lines(
    shape: tuple[int, int],
    start: tuple[Numbers, Numbers],
    run: tuple[Numbers, Numbers],
    shade: Numbers,
    width: Numbers,
) -> Plane:
    """Straight lines from `start` along `run` (x and y, pixels), of a shade in [0, 1]: H x W.

    Shades are rounded to six steps, since all lines of one shade and width are drawn by one call.
    """
    canvas = np.zeros(shape, np.uint8)
    ends = np.stack([*start, start[0] + run[0], start[1] + run[1]], axis=1).reshape(-1, 2, 2)
    points = np.rint(ends * 16).astype(np.int32)  # 1/16 pixel coordinates
    thick = np.clip(np.rint(width), 1, 60).astype(int)
    steps = np.ceil(np.clip(shade, 0.001, 1) * 6).astype(int)
    for step in np.unique(steps).tolist():  # from faint to strong, so that the strong ones stay on top
        for pixels in np.unique(thick).tolist():
            chosen = points[(steps == step) & (thick == pixels)]
            if len(chosen):
                cv2.polylines(canvas, list(chosen), False, round(step * 42.5), pixels, cv2.LINE_AA, 4)
    return canvas * np.float32(1 / 255)


def scattered(shape: tuple[int, int], count: int, margin: float, rng: np.random.Generator) -> tuple[Numbers, Numbers]:
    """Random places in the picture and so far around it; `count` is for the picture alone."""
    height, width = shape
    tall, wide = height + 2 * margin, width + 2 * margin
    total = int(rng.poisson(min(count, 60_000) * tall * wide / (height * width)))
    return rng.random(total) * wide - margin, rng.random(total) * tall - margin


def streak_kernel(length: float, degrees: float, width: float) -> Plane:
    """A line through the middle of an odd square, its ends faded, of peak 1; degrees from the vertical."""
    half = int(np.ceil(length / 2)) + 1
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    sine, cosine = np.float32(np.sin(np.radians(degrees))), np.float32(np.cos(np.radians(degrees)))
    along, aside = x * sine + y * cosine, x * cosine - y * sine
    kernel = np.exp(-0.5 * (aside / np.float32(max(0.35, width / 2.4))) ** 2)
    kernel *= np.clip(np.float32(1.6) * (1 - np.abs(along) / np.float32(length / 2 + 0.5)), 0, 1)
    return np.asarray(kernel / kernel.max(), np.float32)


def smeared(impulses: Plane, kernel: Plane, shape: tuple[int, int]) -> Plane:
    """The kernel wherever the (larger) plane has an impulse, its middle cut out: H x W."""
    drawn = cv2.filter2D(impulses, -1, kernel, borderType=cv2.BORDER_REFLECT)
    top, left = (drawn.shape[0] - shape[0]) // 2, (drawn.shape[1] - shape[1]) // 2
    return np.asarray(drawn[top : top + shape[0], left : left + shape[1]], np.float32)


def composite(scene: Scene, cover: Plane, rng: np.random.Generator) -> Effect:
    """Lay a cover in [0, 1], H x W, over the picture, in one of five ways.

    Added; by screen, as image editors do; by alpha, in sRGB codes or in linear light; or by alpha towards the light of
    the surroundings, which is what a drop refracts (K. Garg and S. K. Nayar, "Vision and Rain", IJCV 2007).
    """
    bright = rng.uniform(0.6, 1.0)
    colour = np.clip(bright * (1 + rng.normal(0, 0.02, 3)), 0, 1).astype(np.float32)
    share = np.clip(cover, 0, 1)[..., None]
    way = int(rng.integers(5))
    if way == 0:
        light = share * colour
        return lambda image: clipped(image + light)
    if way == 1:
        passed = 1 - share * colour
        return lambda image: clipped(1 - (1 - image) * passed)
    if way == 2:
        return lambda image: clipped(image + share * (colour - image))
    if way == 3:
        linear = to_linear(colour[None, None])

        def mixed(image: Image) -> Image:
            light = to_linear(image)
            light += share * (linear - light)
            return to_encoded(light)

        return mixed
    spread, lift = 12 * scene.size, np.float32(rng.uniform(0.25, 0.75))

    def refracted(image: Image) -> Image:
        around = soft(image, spread)
        around += lift * (colour - around)
        around -= image
        return clipped(image + share * around)

    return refracted


def veil(scene: Scene, strength: float, rng: np.random.Generator) -> Effect:
    """Cover the picture with the sky's light: what is too far to be seen singly.

    Evenly, in slow drifts, or more of it at the top (the distance) or the bottom (the spray of a street).
    """
    slope = np.float32(rng.choice((0.0, rng.uniform(-2, 2))))
    even = 1 + np.float32(rng.uniform(0, 0.4)) * scene.clouds(3, rng, 2) + slope * (scene.down() - np.float32(0.5))
    share = np.float32(strength) * np.clip(even, 0, 2)
    colour = np.clip(rng.uniform(0.5, 0.95) + rng.normal(0, 0.015, 3), 0, 1).astype(np.float32)
    cover = np.clip(share, 0, 1)[..., None]
    return lambda image: clipped(image + cover * (colour - image))


def both(first: Effect, second: Effect) -> Effect:
    """One effect after the other."""
    return lambda image: second(first(image))
