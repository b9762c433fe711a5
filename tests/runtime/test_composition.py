"""Compositions: one meaning, one form, one key."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uir.runtime.composition import MAX_WEIGHT, Composition, check_name
from uir.runtime.errors import UsageError


def repr_or_type(value: object) -> str:
    return type(value).__name__


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


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "weight",
    [
        *(None, "0.5", "x", b"1", True, False, np.True_, 1j, 1 + 0j, np.complex64(1), [0.5], (1,), {"a": 1}, object()),
        *(Unprintable(), np.array([0.5]), np.array(1), np.nan, 10**400, 10**5000, Fraction(10**400), -(10**5000)),
        *(
            Decimal("NaN"),
            Decimal("sNaN"),
            Decimal("Infinity"),
            Decimal(10) ** 999,
            np.float32("inf"),
            np.int64(-1),
            "\n",
        ),
    ],
    ids=lambda weight: type(weight).__name__,
)
def test_weights_that_are_no_numbers_are_refused(weight: Any) -> None:
    with pytest.raises(UsageError, match=r"^rain=.*: weights are numbers from 0 to 100, such as 0\.5$") as caught:
        Composition.of({"rain": weight})
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "weight",
    [
        1,
        0.5,
        Fraction(1, 2),
        Decimal("0.5"),
        np.float16(0.5),
        np.float32(0.5),
        np.float64(0.5),
        np.int8(1),
        np.uint64(1),
    ],
    ids=lambda weight: type(weight).__name__,
)
def test_weights_are_numbers_of_any_type(weight: Any) -> None:
    composition = Composition.of({"rain": weight})
    assert composition == Composition.parse(f"rain={float(weight)}")
    assert [type(value) for value in composition.weights.values()] == [float]


@pytest.mark.parametrize(
    "name", [None, 3, b"rain", ("rain",), 1.5, True, Unprintable(), "x\ny", "\x1b[2J"], ids=repr_or_type
)
def test_names_that_are_no_text_are_refused(name: Any) -> None:
    for make in (lambda: Composition.of({name: 1}), lambda: Composition.equal_mix([name, "haze"])):
        with pytest.raises(UsageError, match="not a name for an adapter") as caught:
            make()
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("given", [None, 3, "rain", ["rain"], {"rain"}, Unprintable(), [("rain", 1)]], ids=repr_or_type)
def test_what_is_no_mapping_is_refused(given: Any) -> None:
    with pytest.raises(UsageError, match="not a composition; give weights by name"):
        Composition.of(given)


@pytest.mark.parametrize("given", [None, 3, b"rain", ["rain"], {"rain": 1}, 0.5, Unprintable()], ids=repr_or_type)
def test_what_is_no_text_is_not_parsed(given: Any) -> None:
    with pytest.raises(UsageError, match="not a composition; write it as"):
        Composition.parse(given)


@pytest.mark.parametrize("given", [None, 3, "rain"], ids=repr_or_type)
def test_what_is_no_list_is_not_mixed(given: Any) -> None:
    with pytest.raises(UsageError, match="not a list of adapters"):
        Composition.equal_mix(given)
    with pytest.raises(UsageError, match="not a name for an adapter"):
        Composition.equal_mix([["rain"], "haze"])  # type: ignore[list-item]


def test_a_long_text_is_refused_in_a_short_line() -> None:
    with pytest.raises(UsageError) as caught:
        Composition.parse("rain=\n" * 100_000)
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


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
