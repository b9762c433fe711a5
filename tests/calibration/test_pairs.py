"""Training pairs: the target lacks what is removed, and has all else that the input has."""

from __future__ import annotations

import numpy as np
import pytest

from uir.calibration.degradations import DEGRADATIONS, Image
from uir.calibration.degradations.families import FAMILIES, Effect, Scene, chain, pair
from uir.runtime.errors import UsageError

SEEDS = range(12)


def test_a_pair_is_a_function_of_its_seed_and_leaves_the_picture_alone(scene: Image) -> None:
    before = scene.copy()
    for one, same in zip(
        pair(scene, {"rain", "haze"}, {"rain"}, 3), pair(scene, ["haze", "rain"], ["rain"], 3), strict=True
    ):
        assert np.array_equal(one, same)
        assert one.dtype == np.float32 and one.shape == scene.shape
        assert one.min() >= 0 and one.max() <= 1
        assert not np.shares_memory(one, scene)
    assert np.array_equal(scene, before)
    assert not np.array_equal(pair(scene, {"rain"}, {"rain"}, 3)[0], pair(scene, {"rain"}, {"rain"}, 4)[0])


@pytest.mark.parametrize("name", ["shadow", "haze", "snow", "rain", "raindrop", "inpaint"])
def test_with_all_removed_the_target_is_the_clean_picture_and_its_history(name: str, scene: Image) -> None:
    for seed in SEEDS:
        seen, target = pair(scene, {name}, {name}, seed)
        assert np.array_equal(target, pair(scene, (), (), seed)[0])
        assert not np.array_equal(seen, target)


def test_a_history_is_in_both_and_some_pictures_have_none(scene: Image) -> None:
    pairs = [pair(scene, (), (), seed) for seed in range(60)]
    assert all(np.array_equal(seen, target) for seen, target in pairs)
    assert 0.3 < np.mean([np.array_equal(seen, scene) for seen, _ in pairs]) < 0.75


@pytest.mark.parametrize(
    ("detail", "field"), [("rain", "haze"), ("snow", "haze"), ("raindrop", "shadow"), ("inpaint", "lowlight")]
)
def test_a_detail_that_is_removed_leaves_the_field_as_it_was(detail: str, field: str, scene: Image) -> None:
    for seed in SEEDS:
        seen, target = pair(scene, {detail, field}, {detail}, seed)
        assert np.array_equal(target, pair(scene, {field}, {field}, seed)[0])
        assert not np.array_equal(seen, target)


def test_noise_that_is_removed_from_the_dark_leaves_it_dark(scene: Image) -> None:
    for seed in SEEDS:
        seen, target = pair(scene, {"noise", "lowlight"}, {"noise"}, seed)
        assert abs(float(np.median(seen) - np.median(target))) < 0.08
        assert np.abs(np.diff(target, axis=1)).mean() < np.abs(np.diff(seen, axis=1)).mean()


def test_a_field_that_is_removed_leaves_the_detail_as_it_falls(scene: Image) -> None:
    for seed in SEEDS:
        _, target = pair(scene, {"rain", "haze"}, {"haze"}, seed)
        assert np.array_equal(target, pair(scene, {"rain"}, {"rain"}, seed)[0])


def test_effects_come_in_their_physical_order(monkeypatch: pytest.MonkeyPatch, scene: Image) -> None:
    seen: list[str] = []

    def spy(name: str, scene: Scene, rng: np.random.Generator) -> Effect:  # noqa: ARG001
        def effect(image: Image) -> Image:
            seen.append(name)
            return image

        return effect

    monkeypatch.setattr(chain, "draw", spy)
    pair(scene, sorted(DEGRADATIONS), (), 0)
    assert seen == list(DEGRADATIONS)


def test_the_mild_form_of_what_is_present_is_left_out(monkeypatch: pytest.MonkeyPatch, scene: Image) -> None:
    monkeypatch.setattr(chain, "_PRISTINE", 0.0)
    monkeypatch.setattr(chain, "_FOOTAGE", 1.0)
    monkeypatch.setattr(chain, "_AGAIN", 1.0)

    def steps(*present: str) -> set[str]:
        drawn = Scene(scene, 192, present=frozenset(present))
        return {name for seed in range(60) for name, _ in chain._effects(drawn, seed)}

    everything = {name for name, mild in chain._CHAIN if mild}
    assert steps() == everything
    assert steps("rain") == everything | {"rain"}
    assert steps("noise") == everything - {"grain"} | {"noise"}
    assert steps("blur") == everything - {"lens"} | {"blur"}
    assert steps("jpeg") == everything - {"footage", "stored", "stored again"} | {"jpeg"}


def test_grain_of_a_dark_exposure_is_not_kept_once_it_is_brightened(
    monkeypatch: pytest.MonkeyPatch, scene: Image
) -> None:
    monkeypatch.setattr(chain, "_effects", lambda *_: iter([("lowlight", lambda x: x / 4), ("grain", lambda x: x + 1)]))
    assert np.array_equal(pair(scene, {"lowlight"}, {"lowlight"}, 0)[1], scene)
    assert np.array_equal(pair(scene, {"lowlight"}, (), 0)[1], scene / 4 + 1)


def test_every_member_is_drawn_and_sometimes_two(monkeypatch: pytest.MonkeyPatch, scene: Image) -> None:
    drawn: list[str] = []

    def spy(title: str) -> tuple[float, object]:
        def member(scene: Scene, severity: float, rng: np.random.Generator) -> Effect:  # noqa: ARG001
            assert 0 < severity <= 1
            drawn.append(title)
            return lambda image: image

        return FAMILIES["rain"][title][0], member

    monkeypatch.setitem(chain.FAMILIES, "rain", {title: spy(title) for title in FAMILIES["rain"]})
    for seed in range(300):
        chain.draw("rain", Scene(scene, 192), np.random.default_rng(seed))
    assert set(drawn) == set(FAMILIES["rain"])
    assert 315 < len(drawn) < 360


@pytest.mark.parametrize(
    ("present", "removed", "seed", "message"),
    [
        ({"rian"}, (), 0, "'rian': no such degradation; there are shadow"),
        ({"rain"}, {"haze"}, 0, "'haze': is removed, but not present"),
        ({"rain"}, (), -1, "seed -1"),
    ],
)
def test_refusals_say_what_is_wrong(
    present: set[str], removed: set[str], seed: int, message: str, scene: Image
) -> None:
    with pytest.raises(UsageError, match=message):
        pair(scene, present, removed, seed)


def test_a_picture_that_is_none_is_refused(scene: Image) -> None:
    with pytest.raises(UsageError, match="31 x 40 is too small"):
        pair(np.zeros((40, 31, 3), np.float32), (), (), 0)
    with pytest.raises(UsageError, match="float32"):
        pair(scene.astype(np.float64), (), (), 0)
