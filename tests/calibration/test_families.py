"""The members of the families: deterministic, pure, graded, and fit for any picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from uir.calibration.degradations import DEGRADATIONS, Image
from uir.calibration.degradations.families import FAMILIES, Effect, Member, Scene
from uir.calibration.degradations.families.capture import CAPTURE

PHOTO = Path(__file__).parents[2] / "calibration/photos/judge/chambord.jpg"
MEMBERS = {f"{name} {title}": member for name, family in FAMILIES.items() for title, (_, member) in family.items()}
every_member = pytest.mark.parametrize("title", MEMBERS)
every_effect = pytest.mark.parametrize("title", [*MEMBERS, *(f"capture {title}" for title in CAPTURE)])


def member_of(title: str) -> Member:
    return MEMBERS[title] if title in MEMBERS else CAPTURE[title.removeprefix("capture ")][1]


def effect_of(title: str, image: Image, severity: float, seed: int, lines: float | None = None) -> Effect:
    rng = np.random.default_rng(seed)
    return member_of(title)(Scene.draw(image, rng, lines or image.shape[0]), severity, rng)


def psnr(image: Image, reference: Image) -> float:
    return float(-10 * np.log10(np.mean((image - reference) ** 2) + 1e-12))


@pytest.fixture(scope="module")
def photo() -> Image:
    """A sharp photograph, 160 x 208."""
    pixels = cv2.imread(str(PHOTO))
    assert pixels is not None
    sized = cv2.resize(pixels, (320, 240), interpolation=cv2.INTER_AREA)[40:200, 40:248, ::-1]
    return np.ascontiguousarray(sized, dtype=np.float32) / np.float32(255)


def test_each_degradation_is_a_family_of_several_that_has_the_one_of_uir_degrade() -> None:
    assert list(FAMILIES) == list(DEGRADATIONS)
    for family in FAMILIES.values():
        assert len(family) >= 5
        assert "shipped" in family
        assert sum(share for share, _ in family.values()) == pytest.approx(1)


@every_effect
def test_a_seed_fixes_the_effect_and_another_changes_it(title: str, photo: Image) -> None:
    one, same = effect_of(title, photo, 0.8, 3)(photo), effect_of(title, photo, 0.8, 3)(photo)
    assert np.array_equal(one, same)
    assert any(not np.array_equal(one, effect_of(title, photo, 0.8, seed)(photo)) for seed in (4, 5, 6))


@every_effect
def test_an_effect_is_pure_and_draws_nothing_more(title: str, photo: Image) -> None:
    before, effect = photo.copy(), effect_of(title, photo, 0.8, 3)
    one = effect(photo)
    assert not np.shares_memory(one, photo)
    assert np.array_equal(photo, before)
    effect(1 - photo)
    assert np.array_equal(effect(photo), one)


@every_effect
@pytest.mark.parametrize("size", [(32, 32), (33, 71), (200, 45)])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_any_picture_keeps_shape_type_and_range(title: str, size: tuple[int, int], value: float) -> None:
    image = np.full((*size, 3), value, np.float32)
    for seed, lines in ((1, None), (2, 1000.0)):
        result = effect_of(title, image, 1.0, seed, lines)(image)
        assert result.shape == image.shape
        assert result.dtype == np.float32
        assert np.isfinite(result).all()
        assert result.min() >= 0 and result.max() <= 1


@every_member
def test_no_severity_is_hardly_visible_and_full_severity_is(title: str, photo: Image) -> None:
    seeds = range(12)
    faint = [psnr(effect_of(title, photo, 0.002, seed)(photo), photo) for seed in seeds]
    strong = [psnr(effect_of(title, photo, 1.0, seed)(photo), photo) for seed in seeds]
    if not title.startswith("inpaint"):  # whose least is one stroke, and a stroke hides what it covers
        assert np.median(faint) > 33
    assert np.median(faint) > np.median(strong) + 5
    assert np.median(strong) < 28.5


@pytest.mark.parametrize("title", [title for title in MEMBERS if title.startswith("inpaint")])
def test_outside_what_is_painted_nothing_changes(title: str, photo: Image) -> None:
    for seed in range(6):
        same = (effect_of(title, photo, 0.7, seed)(photo) == photo).all(axis=2)
        assert 0.3 < same.mean() < 1


@pytest.mark.parametrize("title", [title for title in MEMBERS if title.startswith("lowlight")])
def test_the_dark_is_nowhere_brighter_than_the_day(title: str, photo: Image) -> None:
    for seed in range(6):
        dark = effect_of(title, photo, 0.8, seed)(photo)
        assert dark.mean() < 0.8 * photo.mean()
        assert np.quantile(dark - photo, 0.98) < 0.06  # but for noise, a cast of the lamps, and a raised black


def test_some_lamps_stay_bright_in_the_dark(photo: Image) -> None:
    lamp = photo * np.float32(0.5)
    lamp[60:70, 60:70] = 1
    kept = [effect_of("lowlight exposed", lamp, 0.7, seed)(lamp)[65, 65].min() > 0.95 for seed in range(20)]
    assert 3 < sum(kept) < 17


def test_a_sensor_has_its_noise_where_the_light_was() -> None:
    red = np.zeros((64, 64, 3), np.float32) + np.float32([0.6, 0.02, 0.02])
    grains = [(effect_of("noise sensor", red, 1.0, seed)(red) ** 2.2).std(axis=(0, 1)) for seed in range(12)]
    assert np.median([grain[0] / grain[2] for grain in grains]) > 1.5


def test_a_crop_of_a_larger_picture_has_larger_things_in_it(photo: Image) -> None:
    small, large = (Scene(photo, lines) for lines in (160.0, 1440.0))
    assert large.size == 2 * Scene(photo, 720).size == 4 * small.size
    rng = np.random.default_rng(0)
    rough, smooth = (np.abs(np.diff(scene.clouds(6, rng), axis=0)).mean() for scene in (small, large))
    assert rough > 4 * smooth


def test_a_patch_is_placed_in_pictures_of_all_heights(photo: Image) -> None:
    scenes = [Scene.draw(photo, np.random.default_rng(seed)) for seed in range(200)]
    heights = np.array([scene.lines for scene in scenes])
    assert heights.min() >= 160 and heights.max() <= 1440
    assert 0.4 < np.mean(heights < 480) < 0.6
    assert all(scene.top >= 0 and scene.down()[-1, 0] < 1 for scene in scenes)
