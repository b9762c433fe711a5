"""PEFT's patterns, matched without trying: the same answers as PEFT's own, and none that takes for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peft.utils.other import get_pattern_key

from uir.export.patterns import LONGEST, MOST, MOST_REGULAR, Patterns
from uir.runtime.errors import AdapterError

MODULES = [
    *("body.0", "body.10", "bodyx0", "line", "head.line", "xline", "a.b.c", "axb.c", "b", "ab", "aab", "a-b"),
    *("model.layers.1.self_attn.q_proj", "model.layers.12.self_attn.v_proj", "layers.1.mlp", "encoders.0.1.conv1"),
    *("net.decoders.3.0.conv2", "middle.0.conv1", "middle.10.conv1", "ups.0.conv", "intro", "ending"),
]

REAL = [
    *("body.0", "0", "line", "^line", "line$", r"body\.0", "body.[03]", "a.b", "ups.0.conv", "conv1", "1.conv1"),
    *("^model.layers.1.self_attn.q_proj$", "model.layers.(0|1|2).self_attn.(q_proj|v_proj)", r".*\.(q|v)_proj"),
    *(r"layers\.\d+\.self_attn\.[qv]_proj", r"^(?:en|de)coders\.\d\.\d\.conv[12]", "[^.]+", "(middle|ups).*conv"),
    *(
        r"(?:.*\.)?conv1",
        r"middle\.\d{1,2}\.\w+",
        "^intro|ending$",
        "a?b",
        "a+b",
        "(a|aa)*b",
        "",
        ".",
        "..",
        ".*",
        "^",
        "$",
    ),
]


def of_peft(keys: list[str], module: str) -> int:
    """The number of the pattern that PEFT takes for a module; -1 where none fits."""
    found = get_pattern_key(keys, module)
    return keys.index(found) if found in keys else -1


def ours(keys: list[str], module: str) -> float:
    return Patterns({key: number for number, key in enumerate(keys)}).get(module, -1)


@pytest.mark.parametrize("key", REAL)
def test_a_pattern_fits_what_peft_says_that_it_fits(key: str) -> None:
    assert [ours([key], f"{module}!"[:-1]) for module in MODULES] == [
        -1 if get_pattern_key([key, "\0"], module) != key else 0 for module in MODULES
    ]


def test_the_first_of_many_is_taken() -> None:
    keys = [key for key in REAL if key not in MODULES]
    taken = {module: ours(keys, module) for module in MODULES}
    assert taken == {module: of_peft(keys, module) for module in MODULES}
    assert len(set(taken.values())) > 3


parts = st.sampled_from(["a", "b", "1", ".", r"\.", "_", "-", "[ab]", "[^a.]", r"\d", r"\w", "(a|b.)", "(?:1|a)", "x"])
pieces = st.tuples(parts, st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{1,2}", "*?"])).map("".join)


@given(st.lists(pieces, max_size=6).map("".join), st.text("ab1._-x", min_size=1, max_size=10))
def test_any_pattern_of_the_kind_fits_what_peft_says(key: str, module: str) -> None:
    assert (ours([key], module) == 0) == (get_pattern_key([key, "\0"], module) == key or key == module)


BOMBS = ["(([a-z0-9.]+)+)+X", "(a|a)*" * 20 + "X", "(.*)*" * 8 + "X", ".*" * 60 + "X", "((a?){9}){9}" * 5 + "X"]


@pytest.mark.parametrize("key", BOMBS)
def test_a_pattern_that_python_would_try_for_ever_is_answered(key: str) -> None:
    assert ours([key], "encoders.0.0.conv1" * 5 + "a" * 90) == -1
    assert ours([key], "a" * 30 + "X") == 0


@pytest.mark.parametrize(
    "key",
    [
        *("(" * 90 + ")" * 80, "[" * 100, "[", "(", "*", "a**", "\\", "(?", "a{2", "a{1,1000}", "[[:alpha:]]", "a{,3}"),
        *("(?=(.*)*X)", "(?!x)", r"(.)\1*", "(?P<n>.+)(?P=n)", "(?i)a", r"\bx", r"\Qx\E", r"\x41", "é", "\0", "a\n"),
    ],
)
def test_what_two_matchers_might_read_differently_is_refused(key: str) -> None:
    with pytest.raises(AdapterError, match="not a pattern of module names"):
        Patterns({key: 1})


def test_patterns_are_few_and_short() -> None:
    with pytest.raises(AdapterError, match="longer than 200 characters"):
        Patterns({"x" * (LONGEST + 1): 1})
    with pytest.raises(AdapterError, match="longer than 200 characters"):
        Patterns({"(" * 20_000 + ")" * 20_000: 1})
    Patterns({f"module.{number}": number for number in range(MOST)})
    with pytest.raises(AdapterError, match="more than 4096 modules"):
        Patterns({f"module.{number}": number for number in range(MOST + 1)})
    with pytest.raises(AdapterError, match="20 patterns that are more than a name"):
        Patterns({f"module.{number}.*": number for number in range(MOST_REGULAR + 1)})
