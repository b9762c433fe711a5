"""Export refuses what restores nothing: on the shipped weights, whose good compositions must pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from uir.export.adapters import load_adapter
from uir.export.package_writer import ExportBase
from uir.export.picture_check import check_pictures, correlation
from uir.export.zoo import zoo_adapters, zoo_base
from uir.runtime.composition import Composition
from uir.runtime.errors import AdapterError, BaseModelError
from uir.runtime.factors import Adapter, DenseDelta


@pytest.fixture(scope="module")
def base() -> ExportBase:
    return zoo_base()


@pytest.fixture(scope="module")
def adapters() -> list[Adapter]:
    return [load_adapter(folder, name) for name, folder in zoo_adapters().items()]


def test_all_that_is_shipped_passes(base: ExportBase, adapters: list[Adapter]) -> None:
    """Each adapter alone, the strongest half as strong again, and mixes."""
    alone = [Composition.of({adapter.name: 1}) for adapter in adapters]
    strong = [Composition.of({name: 1.5}) for name in ("rain", "haze", "lowlight")]
    mixes = [Composition.equal_mix(names) for names in (("rain", "haze"), ("snow", "haze", "lowlight"))]
    check_pictures(base, adapters, [*alone, *strong, *mixes, Composition()])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rain=5", "rain=5: makes black and white alone"),
        ("noise=3", "noise=3: makes "),
        ("rain=4", r"makes something else \(a correlation of 0\.\d\d, where 0\.30 is the least\)"),
        ("rain=100", "rain=100: gives NaN or infinity"),
        ("rain,haze=100", "see to lora_alpha and the training of haze, rain"),
    ],
)
def test_weights_that_leave_nothing_of_the_picture(
    base: ExportBase, adapters: list[Adapter], text: str, words: str
) -> None:
    with pytest.raises(AdapterError, match=words):
        check_pictures(base, adapters, [Composition.parse("rain"), Composition.parse(text)])


def adapter_of(base: ExportBase, change: Callable[[str, NDArray[np.float32]], NDArray[np.float32]]) -> Adapter:
    return Adapter("rain", {name: DenseDelta(change(name, weight).ravel()) for name, weight in base.weights.items()})


def test_what_overflows_on_the_way_is_refused(base: ExportBase) -> None:
    """All weights are finite; the activations are not."""
    strong = adapter_of(base, lambda _, weight: weight * np.float32(1e20))
    with pytest.raises(AdapterError, match="rain: gives NaN or infinity for a photo"):
        check_pictures(base, [strong], [Composition.parse("rain")])


def test_one_flat_colour_is_refused(base: ExportBase) -> None:
    def grey(name: str, weight: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.full_like(weight, 1e6 if name == "ending.bias" else 0)

    with pytest.raises(AdapterError, match="rain: makes one flat colour of a photo"):
        check_pictures(base, [adapter_of(base, grey)], [Composition.parse("rain")])


def test_an_adapter_for_the_night_passes_though_it_takes_the_day_to_white(base: ExportBase) -> None:
    """A network that adds 0.7 to all values: of the photo little is left, of the dark one all."""

    def bright(name: str, weight: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.full_like(weight, 0.85 if name == "ending.bias" else 0)

    check_pictures(base, [adapter_of(base, bright)], [Composition.parse("rain")])


@pytest.mark.parametrize("value", [np.float32(3e38), np.float32(np.inf), np.float32(np.nan)])
def test_a_base_that_is_not_finite_is_refused(base: ExportBase, value: np.float32) -> None:
    weights = {name: np.full_like(weight, value) for name, weight in base.weights.items()}
    broken = dataclasses.replace(base, weights=weights)
    with pytest.raises(BaseModelError, match="its training has diverged"):
        check_pictures(broken, [], [Composition()])


def test_a_base_alone_is_refused_where_it_is_listed(base: ExportBase) -> None:
    weights = {n: np.full_like(w, 1e6) if n == "ending.bias" else w for n, w in base.weights.items()}
    white = dataclasses.replace(base, weights=weights)
    with pytest.raises(BaseModelError, match="base: makes one flat colour of a photo; leave it out, or give another"):
        check_pictures(white, [], [Composition()])


def test_the_correlation_is_pearsons() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    greys = [frame.mean(2).ravel() for frame in (one, other)]
    assert correlation(one, other) == pytest.approx(np.corrcoef(*greys)[0, 1])
    assert correlation(one, one) == pytest.approx(1)
    assert correlation(one, np.full_like(one, 7)) == 0


def test_the_photo_is_cut_as_the_base_asks(base: ExportBase, adapters: list[Adapter]) -> None:
    """A base whose frames are multiples of more than the crop's side."""
    frame = msgspec.structs.replace(base.frame, multiple_of=256, overlap=256)
    check_pictures(dataclasses.replace(base, frame=frame), adapters, [Composition.parse("rain")])
