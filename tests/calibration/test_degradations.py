"""The synthetic degradations: pure, graded, reproducible, and coherent in time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from uir.calibration.degradations import DEGRADATIONS, Degradation, Image, degrade, parse_severities, rain
from uir.runtime.errors import UsageError

every_degradation = pytest.mark.parametrize("name", list(DEGRADATIONS))


def psnr(image: Image, reference: Image) -> float:
    return float(-10 * np.log10(np.mean((image - reference) ** 2) + 1e-12))


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


@pytest.mark.parametrize("name", ["shadow", "haze", "raindrop", "blur", "inpaint"])
def test_what_moves_slowly_hardly_changes_from_frame_to_frame(name: str, scene: Image) -> None:
    function = DEGRADATIONS[name]
    for seed in range(3):
        now, next_frame, later = (function(scene, 0.7, seed, t) for t in (2.0, 2.0 + 1 / 30, 4.0))
        assert psnr(next_frame, now) > psnr(later, now) + 6
        assert psnr(next_frame, now) > psnr(now, scene) + 6


def test_degrade_applies_in_the_physical_order_whatever_the_mapping_has(scene: Image) -> None:
    assert " ".join(DEGRADATIONS) == "shadow haze snow rain raindrop blur lowlight noise jpeg inpaint"
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
    with pytest.raises(UsageError, match="there are shadow, haze, snow, rain"):
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
