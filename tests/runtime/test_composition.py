"""Compositions: one meaning, one form, one key."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uir.runtime.composition import MAX_WEIGHT, Composition, check_name
from uir.runtime.errors import UsageError

names = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,11}", fullmatch=True).filter(lambda name: name != "base")
weights = st.floats(0, MAX_WEIGHT)
mixes = st.dictionaries(names, weights, max_size=5)


@given(mixes)
def test_a_key_is_read_back_as_the_same_composition(mix: dict[str, float]) -> None:
    composition = Composition.of(mix)
    assert Composition.parse(composition.key) == composition
    assert Composition.parse(composition.key).key == composition.key


@given(mixes, st.randoms())
def test_the_order_of_writing_does_not_matter(mix: dict[str, float], random: object) -> None:
    shuffled = list(mix.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = Composition.of(mix), Composition.of(dict(shuffled))
    assert one == other
    assert hash(one) == hash(other)


@given(mixes, mixes)
def test_different_compositions_have_different_keys(mix: dict[str, float], other: dict[str, float]) -> None:
    one, two = Composition.of(mix), Composition.of(other)
    assert (one.key == two.key) == (one == two)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    try:
        composition = Composition.parse(text)
    except UsageError:
        return
    assert Composition.parse(composition.key) == composition


@given(mixes)
def test_a_key_names_a_folder(mix: dict[str, float]) -> None:
    key = Composition.of(mix).key
    assert key
    assert not set(key) & set("/\\\0 \n")
    assert not key.startswith(".")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("rain", "rain"),
        ("rain=1", "rain"),
        ("rain=1.0", "rain"),
        (" rain = 0.70 , haze=.3 ", "haze=0.3,rain=0.7"),
        ("rain=0.00004", "base"),
        ("rain=0.00006", "rain=0.0001"),
        ("rain=0,haze", "haze"),
        ("base", "base"),
        ("rain=99.9999", "rain=99.9999"),
        ("rain=1e-1", "rain=0.1"),
    ],
)
def test_keys(text: str, key: str) -> None:
    assert Composition.parse(text).key == key
    assert str(Composition.parse(text)) == key


def test_weights_that_round_alike_are_the_same_composition() -> None:
    assert Composition.of({"rain": 1 / 3}) == Composition.of({"rain": 0.33334})
    assert Composition.of({"rain": 0.3333}) != Composition.of({"rain": 0.3334})


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ",", "rain,", "rain=", "=1", "rain=x", "rain=nan", "rain=1=2", "rain rain", "rain;haze", "../rain"),
        *("rain=-0.1", "rain=inf", "rain=1e300", "rain,rain", "rain=1,rain=0", "base,rain", "base=0.5", "0.5", "règne"),
    ],
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Composition.parse(text)


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf, MAX_WEIGHT * 1.01])
def test_weights_that_cannot_be_merged_are_refused(weight: float) -> None:
    with pytest.raises(UsageError, match="rain"):
        Composition.of({"rain": weight})


@pytest.mark.parametrize("name", ["", "base", "a,b", "a=b", "a/b", "..", "a b", "-a", "a\n"])
def test_names_that_a_key_cannot_carry_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="not a name for an adapter"):
        Composition.of({name: 1.0})


def test_an_equal_mix_weighs_its_adapters_alike() -> None:
    assert Composition.equal_mix(["rain", "haze"]).weights == {"haze": 0.5, "rain": 0.5}
    assert Composition.equal_mix(["rain"]) == Composition.parse("rain")
    with pytest.raises(UsageError, match="twice"):
        Composition.equal_mix(["rain", "rain"])
    with pytest.raises(UsageError, match="no adapter"):
        Composition.equal_mix([])


def test_unknown_names_are_answered_with_near_ones() -> None:
    with pytest.raises(UsageError, match=r"rian: no such adapter; did you mean rain\?"):
        Composition.parse("rian").check_names(["haze", "rain"])
    with pytest.raises(UsageError, match="there are haze, rain"):
        Composition.parse("fog").check_names(["rain", "haze"])
    with pytest.raises(UsageError, match="there is none"):
        check_name("fog", [], "adapter")
    Composition.parse("rain,haze").check_names(["rain", "haze"])
