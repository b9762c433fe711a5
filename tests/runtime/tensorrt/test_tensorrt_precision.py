"""The types of an engine's layers are those of the graph: int8 convolutions are int8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

pytestmark = pytest.mark.rtx

KernelTypes = Callable[..., dict[str, str]]


def test_a_quantized_convolution_is_int8_and_its_neighbour_is_not(
    kernel_types: KernelTypes, quantized: Callable[..., bytes]
) -> None:
    assert kernel_types(quantized()) == {"quantized": "Int8", "plain": "Float"}


def test_a_half_convolution_is_half(kernel_types: KernelTypes, frame_model: Callable[..., bytes]) -> None:
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 3)).astype(np.float16)
    nodes = [
        helper.make_node("Cast", ["x"], ["halves"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["halves", "kernel"], ["h"], name="half", pads=[1] * 4),
        helper.make_node("Cast", ["h"], ["y"], to=TensorProto.FLOAT),
    ]
    assert kernel_types(frame_model(nodes, {"kernel": kernel})) == {"half": "Half"}


def test_all_convolutions_of_the_shipped_base_are_float32(
    kernel_types: KernelTypes, merged: Callable[[str], tuple[bytes, dict[str, Any]]]
) -> None:
    model, weights = merged("base")
    found = kernel_types(model)
    assert len(found) == sum(weight.ndim == 4 for weight in weights.values())
    assert set(found.values()) == {"Float"}
