"""Refitting: names are checked when the engine is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from uir.runtime.backends.tensorrt import TensorRTBackend
from uir.runtime.backends.tensorrt.bindings import Bindings
from uir.runtime.backends.tensorrt.device_memory import find_device
from uir.runtime.backends.tensorrt.log import Log
from uir.runtime.backends.tensorrt.network import parse
from uir.runtime.backends.tensorrt.refit import can_refit, mark_refittable
from uir.runtime.errors import BackendError

pytestmark = pytest.mark.rtx

Merged = Callable[[str], tuple[bytes, dict[str, Any]]]


def test_every_weight_of_the_shipped_base_can_be_marked(rtx: Bindings, merged: Merged) -> None:
    model, weights = merged("base")
    parsed = parse(rtx, Log(rtx.module), model)
    mark_refittable(rtx, parsed, sorted(weights))
    assert all(parsed.network.are_weights_marked_refittable(name) for name in weights)


def test_names_that_the_network_lacks_are_refused(rtx: Bindings, merged: Merged) -> None:
    model, weights = merged("base")
    parsed = parse(rtx, Log(rtx.module), model)
    with pytest.raises(BackendError, match=r"no weights named onnx::Mul_1, onnx::Mul_2, onnx::Mul_3 and 1 more in the"):
        mark_refittable(rtx, parsed, [*sorted(weights), *(f"onnx::Mul_{number}" for number in range(1, 5))])


def test_a_version_that_loses_biases_refits_nothing(rtx: Bindings, merged: Merged) -> None:
    parsed = parse(rtx, Log(rtx.module), merged("base")[0])
    broken = replace(rtx, flavour="tensorrt", version="11.3.0.99")
    with pytest.raises(BackendError, match=r"TensorRT 11\.3\.0\.99 loses biases"):
        mark_refittable(broken, parsed, ["intro.weight"])
    mark_refittable(broken, parsed, [])


def test_without_a_gpu_there_is_no_refittable_engine() -> None:
    if find_device() is not None:
        pytest.skip("there is a GPU here")
    assert TensorRTBackend("tensorrt-rtx").refittable(["intro.weight"]) is None


def test_a_broken_version_says_that_it_cannot(rtx: Bindings) -> None:
    assert can_refit(rtx)
    assert can_refit(replace(rtx, flavour="tensorrt", version="10.3.0.26"))
    assert not can_refit(replace(rtx, flavour="tensorrt", version="11.3.0.99"))
