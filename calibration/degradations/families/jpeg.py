"""Too few bytes: JPEG and its kin, once and again."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from uir.calibration.degradations._common import Image
from uir.calibration.degradations.families.scene import Effect, Family, Scene, clipped, shipped
from uir.calibration.degradations.jpeg import jpeg

_SAMPLINGS = (
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
)


def encoded(image: Image, suffix: str, settings: list[int]) -> Image:
    """The image as it is after an encode and a decode."""
    codes = cv2.cvtColor(np.rint(image * np.float32(255)).astype(np.uint8), cv2.COLOR_RGB2BGR)
    decoded = np.asarray(cv2.imdecode(cv2.imencode(suffix, codes, settings)[1], cv2.IMREAD_COLOR))
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.float32) * np.float32(1 / 255)


def settings(quality: float, rng: np.random.Generator) -> list[int]:
    """Of libjpeg: the quality, colour for brightness alike or not, and any halving of the colours' resolution."""
    chosen = [cv2.IMWRITE_JPEG_QUALITY, int(np.clip(round(quality), 1, 100))]
    chosen += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, int(rng.choice(_SAMPLINGS))]
    if rng.random() < 0.2:
        colours = int(np.clip(quality * rng.uniform(0.5, 1.3), 1, 100))
        chosen += [cv2.IMWRITE_JPEG_LUMA_QUALITY, chosen[1], cv2.IMWRITE_JPEG_CHROMA_QUALITY, colours]
    return chosen


def _quality(severity: float, rng: np.random.Generator) -> float:
    """From 97 down to 6, geometrically."""
    return float(6 * (97 / 6) ** (1 - severity) * rng.uniform(0.85, 1.03))


def single(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Stored once; where its blocks begin is where a crop happens to have them."""
    chosen, (across, down) = settings(_quality(severity, rng), rng), rng.integers(0, 8, 2).tolist()
    height, width = scene.shape

    def effect(image: Image) -> Image:
        framed = cv2.copyMakeBorder(image, down, 0, across, 0, cv2.BORDER_REFLECT)
        return encoded(np.asarray(framed, np.float32), ".jpg", chosen)[down : down + height, across : across + width]

    return effect


def twice(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Stored, cropped or shown at another size, and stored again: two grids of blocks, the first of any size.

    (J. Jiang et al., "Towards Flexible Blind JPEG Artifacts Removal", ICCV 2021; second order as in Real-ESRGAN.)
    """
    first = (single, scaled)[rng.integers(2)](scene, severity, rng)
    second = single(scene, severity * rng.random(), rng)
    return lambda image: second(first(image))


def scaled(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Stored at another size than it is shown at: blocks larger or smaller than eight pixels, with soft edges."""
    height, width = scene.shape
    factor = rng.uniform(0.55, 1.8)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    way, chosen = int(rng.choice((cv2.INTER_LINEAR, cv2.INTER_CUBIC))), settings(_quality(severity, rng), rng)

    def effect(image: Image) -> Image:
        resized = clipped(cv2.resize(image, size, interpolation=way))
        # Only what the compression did: the loss of sharpness by scaling is a blur's.
        lost = encoded(resized, ".jpg", chosen) - resized
        return clipped(image + cv2.resize(lost, (width, height), interpolation=way))

    return effect


def coarse(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:
    """Blocks of 4 to 32 pixels, each kept by the larger terms of its cosine transform: codecs other than JPEG.

    Quantised with a dead zone by steps that grow with the frequency (H.264 and HEVC have such blocks; J. Ohm and G.
    Sullivan, "High Efficiency Video Coding", IEEE SPM 2013), in Y'CbCr, the colours more coarsely.
    """
    side = int(rng.choice((4, 8, 16, 16, 32)))
    wave = np.cos(np.pi / side * (np.arange(side) + 0.5) * np.arange(side)[:, None]) * np.sqrt(2 / side)
    wave[0] *= np.sqrt(0.5)
    matrix = wave.astype(np.float32)
    rising = np.hypot(*np.mgrid[0:side, 0:side]) / side
    step = 0.8 * severity**1.5 * (0.15 + rng.uniform(0.3, 1.2) * rising) + 1e-4
    steps = (step[..., None] * np.array([1, *rng.uniform(1, 3, 2)])).astype(np.float32)
    dead = np.float32(rng.uniform(0.35, 0.5))
    height, width = scene.shape
    down, across = rng.integers(0, side, 2).tolist()
    bottom, right = -(height + down) % side, -(width + across) % side
    deblocked = rng.random() < 0.5

    def effect(image: Image) -> Image:
        framed = cv2.copyMakeBorder(image, down, bottom, across, right, cv2.BORDER_REPLICATE)
        plane = np.asarray(cv2.cvtColor(framed, cv2.COLOR_RGB2YCrCb), np.float32)
        rows, columns = plane.shape[0] // side, plane.shape[1] // side
        blocks = plane.reshape(rows, side, columns, side, 3).transpose(0, 2, 4, 1, 3)
        terms = matrix @ blocks @ matrix.T / steps.transpose(2, 0, 1)
        kept = np.sign(terms) * np.floor(np.abs(terms) + dead) * steps.transpose(2, 0, 1)
        decoded = (matrix.T @ kept @ matrix).transpose(0, 3, 1, 4, 2).reshape(plane.shape)
        result = clipped(cv2.cvtColor(np.ascontiguousarray(decoded, np.float32), cv2.COLOR_YCrCb2RGB))
        result = result[down : down + height, across : across + width]
        return _deblocked(result, side) if deblocked else result

    return effect


def _deblocked(image: Image, side: int) -> Image:
    """Smoothed a little, as the filters in the loop of video codecs do where a step is small."""
    smooth = cv2.bilateralFilter(np.ascontiguousarray(image), min(side // 4, 2) * 2 + 1, 0.06, 1.2)
    return clipped(smooth)


def webp(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:  # noqa: ARG001
    """Stored as WebP: predicted blocks, a deblocking filter, colours at half the resolution."""
    quality = int(np.clip(96 - 95 * severity**0.6 * rng.uniform(0.9, 1.0), 1, 100))
    return lambda image: encoded(image, ".webp", [cv2.IMWRITE_WEBP_QUALITY, quality])


def video(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:  # noqa: ARG001
    """One frame of H.264 at a constant rate factor from 15 to 45."""
    factor = round(15 + 30 * severity * rng.uniform(0.85, 1.0))
    return lambda image: filmed(image, factor)


def filmed(image: Image, factor: int) -> Image:
    """The picture as the key frame of an H.264 stream."""
    import av  # a codec's libraries: only where it is drawn

    height, width = image.shape[:2]
    framed = cv2.copyMakeBorder(image, 0, height % 2 + 2, 0, width % 2 + 2, cv2.BORDER_REPLICATE)
    codes: NDArray[np.uint8] = np.rint(framed * np.float32(255)).astype(np.uint8)
    stream = av.CodecContext.create("libx264", "w")
    stream.width, stream.height, stream.pix_fmt = codes.shape[1], codes.shape[0], "yuv420p"
    stream.thread_count = 1
    stream.options = {"crf": str(factor), "preset": "veryfast", "tune": "zerolatency"}
    packets = [*stream.encode(av.VideoFrame.from_ndarray(codes, "rgb24").reformat(format="yuv420p")), *stream.encode()]
    reader = av.CodecContext.create("h264", "r")
    reader.thread_count = 1
    frames = [frame for packet in [*packets, None] for frame in reader.decode(packet)]
    decoded = frames[0].to_ndarray(format="rgb24")[:height, :width]
    return decoded.astype(np.float32) * np.float32(1 / 255)


JPEG: Family = {
    "shipped": (0.2, shipped(jpeg)),
    "single": (0.28, single),
    "twice": (0.18, twice),
    "scaled": (0.12, scaled),
    "coarse": (0.14, coarse),
    "webp": (0.04, webp),
    "video": (0.04, video),
}
