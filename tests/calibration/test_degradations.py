"""The synthetic degradations: pure, graded, reproducible, and coherent in time."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest

from uir.calibration.degradations import (
    DEGRADATIONS,
    Degradation,
    Image,
    degrade,
    haze,
    lowlight,
    noise,
    parse_severities,
    rain,
)
from uir.runtime.errors import UsageError

every_degradation = pytest.mark.parametrize("name", list(DEGRADATIONS))


@pytest.fixture(scope="module")
def scene() -> Image:
    """A 96 x 160 picture with what a photograph has: a bright smooth sky, dark ground, texture and colour."""
    rng = np.random.default_rng(7)
    texture = cv2.resize(rng.random((24, 40, 3), dtype=np.float32), (160, 96), interpolation=cv2.INTER_CUBIC)
    light = np.linspace(0.8, 0.15, 96, dtype=np.float32)[:, None, None]
    return np.clip(light * (0.7 + 0.4 * texture), 0, 1).astype(np.float32)


def psnr(image: Image, reference: Image) -> float:
    return float(-10 * np.log10(np.mean((image - reference) ** 2)))


@every_degradation
def test_severity_zero_is_the_identity_in_a_new_array(name: str, scene: Image) -> None:
    result = DEGRADATIONS[name](scene, 0.0, 3)
    assert np.array_equal(result, scene)
    assert not np.shares_memory(result, scene)


@every_degradation
def test_the_input_is_left_alone(name: str, scene: Image) -> None:
    before = scene.copy()
    DEGRADATIONS[name](scene, 0.8, 3)
    assert np.array_equal(scene, before)


@every_degradation
def test_a_seed_fixes_the_picture_and_another_changes_it(name: str, scene: Image) -> None:
    function = DEGRADATIONS[name]
    assert np.array_equal(function(scene, 0.6, 3, 1.25), function(scene, 0.6, 3, 1.25))
    assert not np.array_equal(function(scene, 0.6, 3), function(scene, 0.6, 4))


@every_degradation
def test_more_severity_takes_more_of_the_picture(name: str, scene: Image) -> None:
    for seed in range(5):
        qualities = [psnr(DEGRADATIONS[name](scene, s, seed), scene) for s in (0.05, 0.2, 0.4, 0.6, 0.8, 1.0)]
        assert all(b < a - 0.3 for a, b in pairwise(qualities)), (seed, qualities)


@every_degradation
def test_a_little_severity_is_nearly_the_identity(name: str, scene: Image) -> None:
    assert psnr(DEGRADATIONS[name](scene, 0.002, 3), scene) > 40


@every_degradation
@pytest.mark.parametrize("size", [(1, 1), (7, 3), (1, 200), (129, 65), (1001, 37)])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_any_size_keeps_shape_type_and_range(name: str, size: tuple[int, int], value: float) -> None:
    image = np.full((*size, 3), value, np.float32)
    result = DEGRADATIONS[name](image, 1.0, 11, 0.5)
    assert result.shape == image.shape
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    assert result.min() >= 0 and result.max() <= 1


@every_degradation
def test_a_view_with_odd_strides_gives_what_its_copy_gives(name: str, scene: Image) -> None:
    view = scene[5:70, ::-1, ::-1]
    assert np.array_equal(DEGRADATIONS[name](view, 0.7, 2), DEGRADATIONS[name](view.copy(), 0.7, 2))


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


def test_degrade_applies_in_the_physical_order_whatever_the_mapping_has(scene: Image) -> None:
    assert list(DEGRADATIONS) == ["haze", "rain", "lowlight", "noise"]
    one = degrade(scene, {"noise": 0.4, "rain": 0.5, "haze": 0.3}, 9, 0.5)
    other = degrade(scene, {"haze": 0.3, "rain": 0.5, "noise": 0.4}, 9, 0.5)
    assert np.array_equal(one, other)
    by_hand = degrade(degrade(scene, {"haze": 0.3}, 9, 0.5), {"rain": 0.5}, 9, 0.5)
    assert np.array_equal(one, degrade(by_hand, {"noise": 0.4}, 9, 0.5))


def test_each_name_has_a_seed_of_its_own(monkeypatch: pytest.MonkeyPatch, scene: Image) -> None:
    seen: dict[str, list[int]] = {name: [] for name in DEGRADATIONS}

    def spy(name: str) -> Degradation:
        def record(image: Image, severity: float, seed: int, seconds: float = 0.0) -> Image:  # noqa: ARG001
            seen[name].append(seed)
            return image

        return record

    for name in list(DEGRADATIONS):
        monkeypatch.setitem(DEGRADATIONS, name, spy(name))
    degrade(scene, {"rain": 0.5}, 1)
    degrade(scene, {"rain": 0.5, "haze": 0.2, "noise": 0.1}, 1)
    degrade(scene, {"rain": 0.5}, 2)
    assert seen["rain"][0] == seen["rain"][1] != seen["rain"][2]
    assert len({seen["rain"][0], seen["haze"][0], seen["noise"][0]}) == 3


def test_degrade_with_nothing_gives_a_copy(scene: Image) -> None:
    result = degrade(scene, {}, 0)
    assert np.array_equal(result, scene)
    assert not np.shares_memory(result, scene)


def test_an_unknown_name_suggests_the_near_one(scene: Image) -> None:
    with pytest.raises(UsageError, match=r"'rian'.*did you mean rain\?"):
        degrade(scene, {"rian": 0.5}, 0)
    with pytest.raises(UsageError, match="there are haze, rain, lowlight, noise"):
        degrade(scene, {"zzz": 0.5}, 0)


@pytest.mark.parametrize("severity", [-0.1, 1.01, float("nan"), float("inf")])
def test_an_impossible_severity_is_refused(severity: float, scene: Image) -> None:
    with pytest.raises(UsageError, match="severity"):
        degrade(scene, {"rain": severity}, 0)
    for function in DEGRADATIONS.values():
        with pytest.raises(UsageError, match="severity"):
            function(scene, severity, 0)


def test_a_negative_seed_is_refused(scene: Image) -> None:
    with pytest.raises(UsageError, match="seed -1"):
        degrade(scene, {"rain": 0.5}, -1)
    with pytest.raises(UsageError, match="seed -1"):
        rain(scene, 0.5, -1)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((8, 8), np.float32),
        np.zeros((8, 8, 4), np.float32),
        np.zeros((0, 8, 3), np.float32),
    ],
)
def test_what_is_no_image_is_refused(image: Image) -> None:
    with pytest.raises(UsageError, match="float32 H x W x 3"):
        degrade(image, {"haze": 0.5}, 0)
    with pytest.raises(UsageError, match="float32 H x W x 3"):
        degrade(image, {}, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rain=0.7", {"rain": 0.7}),
        ("rain=0.7,haze=.3", {"rain": 0.7, "haze": 0.3}),
        (["rain=0.7", "haze=1"], {"rain": 0.7, "haze": 1.0}),
        (["rain=0.7, haze=0", "noise=5e-1,"], {"rain": 0.7, "haze": 0.0, "noise": 0.5}),
    ],
)
def test_severities_are_read_from_words(text: str | list[str], expected: dict[str, float]) -> None:
    assert parse_severities(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no degradation given"),
        ([], "no degradation given"),
        ("rain", "name=severity"),
        ("=0.5", "name=severity"),
        ("rain=", "'' is not a number"),
        ("rain=heavy", "'heavy' is not a number"),
        ("rain=0.5,rain=0.6", "given twice"),
        ("hase=0.5", "did you mean haze"),
        ("rain=2", "severity must be a number from 0"),
        ("rain=nan", "severity must be a number from 0"),
        ("rain=-1", "severity must be a number from 0"),
    ],
)
def test_malformed_severities_are_refused(text: str | list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_severities(text)
