"""Things painted over the picture or scratched out of it, outside which nothing changes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.calibration.degradations._common import Image
from uir.calibration.degradations.families.overlay import lines, scattered
from uir.calibration.degradations.families.scene import Effect, Family, Plane, Scene, log_uniform, shipped
from uir.calibration.degradations.inpaint import inpaint

_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SCRIPT_SIMPLEX)
_LETTERS = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.,-:/"))


def _paint(rng: np.random.Generator) -> NDArray[np.float32]:
    """Black, white, grey or any colour."""
    kind = rng.integers(6)
    return np.full(3, (0, 1, rng.random())[kind], np.float32) if kind < 3 else rng.random(3, dtype=np.float32)


def _filled(scene: Scene, mask: Plane, rng: np.random.Generator) -> Effect:
    """Cover the picture where the mask is not 0: with a flat colour, noise, or a smooth gradient."""
    colour: Image = np.broadcast_to(_paint(rng), scene.image.shape).astype(np.float32)
    way = rng.random()
    if way < 0.12:
        colour = rng.random(scene.image.shape, dtype=np.float32)
    elif way < 0.24:
        colour = np.clip(colour + np.float32(0.25) * scene.clouds(4, rng)[..., None], 0, 1)
    share = np.clip(mask, 0, 1)[..., None]

    def effect(image: Image) -> Image:
        # Where the share is 0 the very same number comes out.
        return np.where(share > 0, image + share * (colour - image), image)

    return effect


def _half(rng: np.random.Generator) -> np.float32:
    """Most paint hides what it covers."""
    return np.float32(rng.uniform(0.5, 0.95) if rng.random() < 0.15 else 1)


def brush(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Free-form strokes of all widths, jagged or smooth, with or without smooth edges.

    (J. Yu et al., "Free-Form Image Inpainting with Gated Convolution", ICCV 2019.)
    """
    mask = np.zeros(scene.shape, np.uint8)
    size, turn = scene.size, rng.uniform(0.1, 1.2)
    width = log_uniform(2, 26, rng) * size
    run = log_uniform(20, 90, rng) * size
    count = int(np.ceil((0.004 + 0.24 * severity) * scene.area / (5 * run * width)))
    kind = cv2.LINE_AA if rng.random() < 0.5 else cv2.LINE_8
    for x, y in zip(*scattered(scene.shape, min(count, 400), run, rng), strict=True):
        headings = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, turn, rng.integers(2, 9)))
        steps = np.exp(1j * headings) * run * rng.uniform(0.3, 1.2, headings.size)
        path = x + 1j * y + np.array([0, *np.cumsum(steps)])
        corners = np.rint(np.stack([path.real, path.imag], axis=1) * 16).astype(np.int32)
        thick = max(1, round(width * rng.uniform(0.6, 1.4)))
        cv2.polylines(mask, [corners], False, 255, thick, kind, 4)
    return _filled(scene, mask * (_half(rng) / np.float32(255)), rng)


def text(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Lettering: subtitles, dates, watermarks."""
    mask = np.zeros(scene.shape, np.uint8)
    height, width = scene.shape
    scale = log_uniform(0.5, 3, rng) * max(scene.size, 0.6)
    font, thick = int(rng.choice(_FONTS)), max(1, round(scale * rng.uniform(0.8, 3)))
    rows = 1 + round(severity * rng.uniform(0.3, 1) * height / (30 * scale))
    for _ in range(rows):
        words = "".join(rng.choice(_LETTERS, rng.integers(3, 18)).tolist())
        place = int(rng.uniform(-0.2, 0.5) * width), int(rng.uniform(0.1, 1) * height)
        cv2.putText(mask, words, place, font, scale, 255, thick, cv2.LINE_AA)
    return _filled(scene, mask * (_half(rng) / np.float32(255)), rng)


def holes(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Rectangles and ellipses that are missing, or lost packets: whole rows of blocks."""
    mask = np.zeros(scene.shape, np.float32)
    size, height, width = scene.size, *scene.shape
    large = log_uniform(8, 70, rng) * size
    lost = rng.random() < 0.25
    count = int(np.ceil((0.002 + 0.25 * severity) * height * width / (16 * 16 * 8 if lost else large**2)))
    for x, y in zip(*scattered(scene.shape, min(count, 400), large / 2, rng), strict=True):
        tall, wide = large * rng.uniform(0.4, 1.4), large * rng.uniform(0.4, 1.4)
        if lost:
            row, column, run = int(y) // 16 * 16, int(x) // 16 * 16, 16 * int(rng.integers(1, 12))
            cv2.rectangle(mask, (column, row), (column + run - 1, row + 15), 1.0, -1)
        elif rng.random() < 0.6:
            cv2.rectangle(mask, (int(x), int(y)), (int(x + wide), int(y + tall)), 1.0, -1)
        else:
            axes = int(8 * wide), int(8 * tall)
            cv2.ellipse(mask, (int(16 * x), int(16 * y)), axes, rng.uniform(0, 180), 0, 360, 1.0, -1, cv2.LINE_AA, 4)
    return _filled(scene, mask, rng)


def torn(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Patches of any outline, as peeling, stains and burns leave them."""
    field = scene.clouds(720 / log_uniform(20, 120, rng), rng, octaves=int(rng.integers(1, 4)))
    limit = np.quantile(field[::3, ::3], 1 - (0.004 + 0.2 * severity) * rng.uniform(0.5, 1))
    mask = np.clip((field - np.float32(limit)) * np.float32(log_uniform(5, 60, rng)), 0, 1)
    return _filled(scene, mask * _half(rng), rng)


def old_film(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Scratches along the film, hairs and dust, light or dark.

    (Z. Wan et al., "Bringing Old Films Back to Life", CVPR 2022; A. Kokaram, "Motion Picture Restoration", 1998.)
    """
    size, height, width = scene.size, *scene.shape
    mask = np.zeros((height, width), np.float32)
    many = max(1, round(severity * rng.uniform(0.5, 1) * 14 * width / (1.5 * scene.lines) + rng.random()))
    start = rng.random(many) * width, rng.uniform(-0.4, 0.6, many) * height
    run = rng.normal(0, 0.01, many) * height, rng.uniform(0.2, 1.6, many) * height
    wide = rng.uniform(0.5, 2.2, many) * size
    mask = np.maximum(mask, lines(scene.shape, start, run, rng.uniform(0.3, 1, many), wide))
    specks = int(2.5e-3 * severity * rng.uniform(0.2, 1) * height * width / size**2)
    for x, y in zip(*scattered(scene.shape, min(specks, 400), 4, rng), strict=True):
        radius = 16 * rng.lognormal(0.2, 0.6) * size
        axes = int(radius) + 4, int(radius * rng.uniform(0.4, 1)) + 4
        cv2.ellipse(mask, (int(16 * x), int(16 * y)), axes, rng.uniform(0, 180), 0, 360, 1.0, -1, cv2.LINE_AA, 4)
    for _ in range(rng.integers(0, 2 + int(3 * severity))):
        middle = rng.random(2) * (width, height) + np.cumsum(rng.normal(0, 9 * size, (12, 2)), axis=0)
        cv2.polylines(mask, [np.rint(middle * 16).astype(np.int32)], False, 0.9, 1, cv2.LINE_AA, 4)
    dark = np.full(3, rng.uniform(0, 0.15) if rng.random() < 0.4 else rng.uniform(0.85, 1), np.float32)
    share = np.clip(mask, 0, 1)[..., None] * np.float32(rng.uniform(0.6, 1))
    return lambda image: np.where(share > 0, image + share * (dark - image), image)


def old_print(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Cracks and folds of a photograph on paper: thin, branching, light, with a shadow beside."""
    size, height, width = scene.size, *scene.shape
    mask = np.zeros((height, width), np.float32)
    for _ in range(1 + int(severity * rng.uniform(3, 12))):
        x, y, heading = rng.random() * width, rng.random() * height, rng.uniform(0, 2 * np.pi)
        headings = heading + np.cumsum(rng.normal(0, 0.25, 24))
        path = np.cumsum(np.stack([np.cos(headings), np.sin(headings)], axis=1) * 22 * size, axis=0) + np.array([x, y])
        corners = np.rint(path * 16).astype(np.int32)
        cv2.polylines(mask, [corners], False, float(rng.uniform(0.5, 1)), max(1, round(2 * size)), cv2.LINE_AA, 4)
        if rng.random() < 0.5:
            branch = corners[8:] + (corners[8] - corners[7]) * 3 * rng.integers(-1, 2) * np.arange(16)[:, None]
            cv2.polylines(mask, [branch.astype(np.int32)], False, 0.7, 1, cv2.LINE_AA, 4)
    return _filled(scene, mask, rng)


INPAINT: Family = {
    "shipped": (0.26, shipped(inpaint)),
    "brush": (0.24, brush),
    "text": (0.12, text),
    "holes": (0.12, holes),
    "torn": (0.08, torn),
    "old_film": (0.12, old_film),
    "old_print": (0.06, old_print),
}
