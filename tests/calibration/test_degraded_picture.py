"""What camera, file and hand do to the picture: each by the measure that it is known by."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from uir.calibration.degradations import (
    Image,
    blur,
    degrade,
    inpaint,
    inpaint_mask,
    jpeg,
    lowlight,
    noise,
    seed_for,
)
from uir.calibration.degradations._common import to_linear
from uir.runtime.errors import UsageError


def test_blur_of_a_constant_picture_is_that_picture() -> None:
    picture = np.empty((90, 120, 3), np.float32)
    picture[:] = (0.9, 0.4, 0.02)
    for seed in range(6):
        assert np.allclose(blur(picture, 1.0, seed), picture, atol=1e-5)


def test_blur_spreads_light_without_loss_or_shift_by_disc_or_by_path() -> None:
    """The picture of a point of light is the kernel: its sum, centre and spread tell what it is."""
    point = np.zeros((101, 101, 3), np.float32)
    point[50, 50] = 1
    y, x = np.mgrid[-50:51, -50:51]
    ratios = []
    for seed in range(12):
        light = to_linear(blur(point, 0.8, seed))[..., 1].astype(np.float64)
        assert light.sum() == pytest.approx(1, abs=1e-3)
        assert (light * x).sum() == pytest.approx(0, abs=0.05)
        assert (light * y).sum() == pytest.approx(0, abs=0.05)
        spread = np.array([[(light * x * x).sum(), (light * x * y).sum()], [0, (light * y * y).sum()]])
        small, large = np.linalg.eigvalsh(spread, UPLO="U")
        ratios.append(large / small)
    discs = [ratio for ratio in ratios if ratio < 1.05]
    paths = [ratio for ratio in ratios if ratio > 2]
    assert len(discs) + len(paths) == 12
    assert len(discs) >= 2 and len(paths) >= 2


def test_lowlight_takes_the_stops_that_it_says() -> None:
    """A grey of half the light, 0.735 encoded: a third of it at severity 0.3, a twentieth at 1, in linear light."""
    grey = np.full((64, 64, 3), 0.735, np.float32)
    for severity, share in ((0.3, 1 / 3), (1.0, 1 / 20)):
        encoded = [float(np.mean(lowlight(grey, severity, seed))) for seed in range(20)]
        light = ((np.mean(encoded) + 0.055) / 1.055) ** 2.4
        assert light / 0.5 == pytest.approx(share, rel=0.12)


def test_lowlight_keeps_its_exposure_and_renews_its_noise(scene: Image) -> None:
    first, second = lowlight(scene, 0.8, 5, 0.0), lowlight(scene, 0.8, 5, 1 / 30)
    assert not np.array_equal(first, second)
    assert float(first.mean()) == pytest.approx(float(second.mean()), rel=0.01)


def test_noise_has_the_sigma_that_denoisers_are_measured_at() -> None:
    grey = np.full((128, 128, 3), 0.5, np.float32)
    measured = [255 * float(np.std(noise(grey, 0.5, seed))) for seed in range(30)]
    assert np.mean(measured) == pytest.approx(25, abs=1)
    assert min(measured) > 22 and max(measured) < 28


def test_noise_is_not_the_same_in_each_channel_or_frame() -> None:
    grey = np.full((64, 64, 3), 0.5, np.float32)
    first, second = noise(grey, 0.3, 1, 0.0) - grey, noise(grey, 0.3, 1, 1 / 60) - grey
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(first[..., 0].ravel(), first[..., 2].ravel())[0, 1]) < 0.08


@pytest.mark.parametrize("severity", [0.1, 0.5, 1.0])
def test_jpeg_is_what_a_real_encoder_leaves(severity: float, scene: Image) -> None:
    """Some quality and some colour sampling of a JPEG give the very same bytes; they fall as severity grows."""
    pixels = np.rint(scene[..., ::-1] * 255).astype(np.uint8)
    for seed in (0, 1, 2):
        result = np.rint(jpeg(scene, severity, seed) * 255).astype(np.uint8)[..., ::-1]
        found = []
        for sampling in (cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444):
            for quality in range(5, 101):
                settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
                decoded = cv2.imdecode(cv2.imencode(".jpg", pixels, settings)[1], cv2.IMREAD_COLOR)
                if np.array_equal(decoded, result):
                    found.append(quality)
        assert len(found) == 1
        assert found[0] == pytest.approx(8 * 11.5 ** (1 - severity), rel=0.16)


def test_jpeg_refuses_what_no_jpeg_can_hold() -> None:
    with pytest.raises(UsageError, match="65501 x 1 is too large"):
        jpeg(np.zeros((1, 65501, 3), np.float32), 0.5, 0)


def test_inpaint_paints_one_colour_where_its_mask_says(scene: Image) -> None:
    colours = set()
    for seed in range(20):
        result, mask = inpaint(scene, 0.7, seed, 1.5), inpaint_mask((192, 320), 0.7, seed, 1.5)
        assert mask.shape == (192, 320) and mask.dtype == np.bool_
        assert np.array_equal(result[~mask], scene[~mask])
        assert (result[mask] == result[mask][0]).all()
        assert not np.array_equal(result[mask], scene[mask])
        colours.add(tuple(result[mask][0].tolist()))
    assert {(0.0,) * 3, (0.5,) * 3, (1.0,) * 3} < colours


def test_inpaint_hides_a_fifth_at_most_and_only_adds_strokes() -> None:
    shares = []
    for seed in range(20):
        light, heavy = inpaint_mask((270, 480), 0.4, seed), inpaint_mask((270, 480), 1.0, seed)
        assert (heavy | ~light).all()
        shares.append(float(heavy.mean()))
    assert 0.17 < np.mean(shares) < 0.23
    assert not inpaint_mask((64, 64), 0.0, 0).any()


def test_the_mask_of_a_mixture_is_known_too(scene: Image) -> None:
    result = degrade(scene, {"noise": 0.3, "inpaint": 0.6}, 7, 0.5)
    mask = inpaint_mask((192, 320), 0.6, seed_for("inpaint", 7), 0.5)
    assert (result[mask] == result[mask][0]).all()
    assert np.array_equal(result[~mask], degrade(scene, {"noise": 0.3}, 7, 0.5)[~mask])


def test_a_mask_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="no picture is 8 x 0"):
        inpaint_mask((0, 8), 0.5, 0)
    with pytest.raises(UsageError, match="severity"):
        inpaint_mask((8, 8), 1.5, 0)
    with pytest.raises(UsageError, match="seed -1"):
        inpaint_mask((8, 8), 0.5, -1)
