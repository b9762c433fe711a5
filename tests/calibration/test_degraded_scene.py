"""What lies between the scene and the lens: each degradation looks and moves as the real thing does."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest

from uir.calibration.degradations import Image, haze, rain, raindrop, shadow, snow
from uir.calibration.degradations._common import to_linear


def test_shadow_darkens_a_soft_edged_part_and_leaves_it_bluish() -> None:
    white = np.ones((180, 320, 3), np.float32)
    for seed in range(8):
        result = shadow(white, 0.8, seed)
        dark = result[..., 1] < 0.75
        assert 0.1 < dark.mean() < 0.5
        assert (result[..., 1] > 0.995).mean() > 0.4
        red, _, blue = result[dark].mean(axis=0)
        assert blue > red + 0.005
        assert float(np.abs(np.diff(result[..., 1], axis=0)).max()) < 0.15
        assert float(np.abs(np.diff(result[..., 1], axis=1)).max()) < 0.15


def test_shadow_dims_light_by_a_share_of_it() -> None:
    """As light does: what is twice as bright stays twice as bright, in the shadow too."""
    bright, dim = np.full((60, 80, 3), 0.8, np.float32), np.full((60, 80, 3), 0.4, np.float32)
    shares = [to_linear(shadow(picture, 0.7, 4)) / to_linear(picture) for picture in (bright, dim)]
    assert np.allclose(*shares, atol=1e-3)
    assert float(shares[0].min()) < 0.7


def test_haze_whitens_what_is_dark_and_takes_contrast(scene: Image) -> None:
    dark = np.zeros((48, 64, 3), np.float32)
    for seed in range(5):
        assert 0.3 < float(haze(dark, 0.5, seed).mean()) < 0.9
        assert float(np.std(haze(scene, 0.7, seed))) < 0.7 * float(np.std(scene))


def test_haze_lies_thicker_where_the_scene_is_far() -> None:
    dark = np.zeros((64, 64, 3), np.float32)
    tops, bottoms = zip(
        *((h[:16].mean(), h[-16:].mean()) for h in (haze(dark, 0.5, s) for s in range(20))), strict=True
    )
    assert np.mean(tops) > np.mean(bottoms) + 0.05


def test_haze_is_smooth_and_drifts_too_slowly_to_flicker() -> None:
    dark = np.zeros((180, 320, 3), np.float32)
    first, next_frame, later = haze(dark, 0.6, 2, 0.0), haze(dark, 0.6, 2, 1 / 30), haze(dark, 0.6, 2, 20.0)
    assert float(np.abs(np.diff(first, axis=0)).max()) < 0.02
    assert float(np.abs(next_frame - first).max()) < 1 / 255
    assert float(np.abs(later - first).max()) > 1 / 255


def test_snow_is_white_before_the_dark_and_grey_before_the_sky(scene: Image) -> None:
    dark = np.full((256, 256, 3), 0.1, np.float32)
    flakes = snow(dark, 0.6, 5) - dark
    assert float(flakes.min()) > -1e-4
    assert 0.02 < (flakes[..., 1] > 0.1).mean() < 0.4
    assert float((snow(np.ones_like(dark), 0.6, 5) - 1).max()) <= 0
    # The flakes are lit by the scene's sky: by night they are dimmer.
    assert float(snow(dark, 0.6, 5).max()) < float(snow(scene, 0.6, 5).max())


def test_a_flake_falls_on_its_way() -> None:
    """A thirtieth of a second later the picture is the same one, lower by a few pixels."""
    grey = np.full((180, 320, 3), 0.25, np.float32)
    for seed in range(3):
        now, soon = (snow(grey, 0.5, seed, t)[..., 1] for t in (1.0, 1.0 + 1 / 30))
        still = np.corrcoef(now[10:-10].ravel(), soon[10:-10].ravel())[0, 1]
        fallen = max(np.corrcoef(now[10 - d : -10 - d].ravel(), soon[10:-10].ravel())[0, 1] for d in range(1, 10))
        risen = max(np.corrcoef(soon[10 - d : -10 - d].ravel(), now[10:-10].ravel())[0, 1] for d in range(1, 10))
        assert fallen > still
        assert fallen > risen
    means = [float(snow(grey, 0.6, 8, n / 30).mean()) for n in range(12)]
    assert max(means) - min(means) < 1 / 255


def test_rain_only_adds_light_to_the_dark_and_keeps_it_sparse() -> None:
    dark = np.full((256, 256, 3), 0.1, np.float32)
    result = rain(dark, 0.4, 5)
    assert float((result - dark).min()) > -1e-4
    streaked = (result[..., 1] - np.median(result[..., 1])) > 0.03
    assert 0.005 < streaked.mean() < 0.3


def test_rain_streaks_lean_along_one_wind() -> None:
    """The picture varies least along its streaks: that direction is the same in all its quarters."""
    grey = np.full((512, 512, 3), 0.2, np.float32)

    def lean(part: Image) -> float:
        dy, dx = np.gradient(part[..., 1].astype(np.float64))
        return float(np.degrees(0.5 * np.arctan2(2 * (dx * dy).mean(), (dx * dx).mean() - (dy * dy).mean())))

    for seed in (1, 2, 3):
        result = rain(grey, 0.7, seed)
        leans = [lean(result[y : y + 256, x : x + 256]) for y in (0, 256) for x in (0, 256)]
        assert max(leans) - min(leans) < 8
        assert all(abs(angle) < 40 for angle in leans)


def test_rain_streaks_grow_with_the_picture() -> None:
    """Of a picture of twice the lines, halved, the rain looks like that of the picture itself, not twice as fine."""

    def detail(lines: int) -> float:
        grey = np.full((lines, lines, 3), 0.2, np.float32)
        image = cv2.resize(rain(grey, 0.6, 4), (540, 540), interpolation=cv2.INTER_AREA)[..., 1]
        return float(np.abs(np.diff(image, axis=1)).mean() / image.std())

    assert detail(1080) == pytest.approx(detail(540), rel=0.3)


def test_rain_falls_without_flicker() -> None:
    grey = np.full((180, 320, 3), 0.25, np.float32)
    frames = [rain(grey, 0.6, 8, n / 30) for n in range(12)]
    means = [float(frame.mean()) for frame in frames]
    assert max(means) - min(means) < 1 / 255
    for a, b in pairwise(frames):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.5


def test_a_drop_falls_on_its_way() -> None:
    """In an eighth of a frame the picture is the same one, lower: by a quarter of each streak's length."""
    grey = np.full((180, 320, 3), 0.25, np.float32)
    now, soon = (rain(grey, 0.5, 8, t)[..., 1] for t in (1.0, 1.0 + 1 / 240))
    still = np.corrcoef(now[10:-10].ravel(), soon[10:-10].ravel())[0, 1]
    fallen = max(np.corrcoef(now[10 - d : -10 - d].ravel(), soon[10:-10].ravel())[0, 1] for d in range(1, 10))
    assert fallen > 0.5
    assert fallen > still


@pytest.mark.parametrize("axis", [0, 1])
def test_a_raindrop_shows_the_scene_the_other_way_round(axis: int) -> None:
    """Light grows along the scene, and falls in the same direction within the drops."""
    lines = np.linspace(0.2, 0.8, 300, dtype=np.float32)
    scene = np.empty((300, 300, 3), np.float32)
    scene[:] = lines[:, None, None] if axis == 0 else lines[None, :, None]
    slopes = []
    for seed in range(4):
        result = raindrop(scene, 0.4, seed)
        changed = (np.abs(result - scene)[..., 1] > 1e-3).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(changed)
        for label in range(1, count):
            if 100 < stats[label, cv2.CC_STAT_AREA] < 900:
                where = np.nonzero(labels == label)
                slopes.append(np.polyfit(where[axis], result[..., 1][where], 1)[0])
    assert len(slopes) > 20
    assert np.median(slopes) < -float(lines[1] - lines[0])
    assert np.mean(np.array(slopes) < 0) > 0.8


def test_raindrops_cover_a_part_and_leave_the_rest_alone(scene: Image) -> None:
    shares = []
    for seed in range(8):
        changed = np.abs(raindrop(scene, 1.0, seed) - scene).max(axis=2) > 0.004
        assert np.allclose(raindrop(scene, 1.0, seed)[~changed], scene[~changed], atol=0.004)
        shares.append(float(changed.mean()))
    assert 0.2 < np.mean(shares) < 0.4


def test_most_raindrops_stick_and_some_slide_down() -> None:
    """Within a tenth of a second most of the water stays, and what moves is found a few pixels lower, not higher."""
    grey = np.full((400, 400, 3), 0.6, np.float32)
    for seed in range(6):
        now, later = (np.abs(raindrop(grey, 0.6, seed, t) - grey)[..., 1] for t in (0.0, 0.1))
        moved = np.abs(later - now) > 0.01
        assert 0 < moved.mean() < 0.5 * (now > 0.01).mean()
        where, after = moved[10:-10], later[10:-10]
        likeness = {d: np.corrcoef(now[10 - d : 390 - d][where], after[where])[0, 1] for d in range(-9, 10)}
        assert max(likeness, key=likeness.__getitem__) > 0
