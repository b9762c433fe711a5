"""An engine made by putting weights into another's: the same as a compiled one, or it is compiled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from uir.runtime.backends import Shapes
from uir.runtime.backends.devices import open_backend
from uir.runtime.backends.openvino import OpenVinoBackend
from uir.runtime.backends.openvino_template import Template
from uir.runtime.composition import Composition
from uir.runtime.merge import merged_model
from uir.runtime.package import Package

MIXES = ("rain", "haze", "noise", "haze=0.5,rain=0.5", "noise=0.25,rain=0.75")


@pytest.mark.parametrize("shapes", [None, Shapes.only((1, 48, 64))], ids=["any size", "one size"])
def test_all_engines_of_one_backend_are_as_if_each_had_been_compiled(
    shared_package: Path, shapes: Shapes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    package, frames = Package(shared_package), np.random.default_rng(0).integers(0, 256, (1, 48, 64, 3), np.uint8)
    compiled: list[object] = []
    one = open_backend("openvino")
    assert isinstance(one, OpenVinoBackend)
    compile_ = one._compile
    monkeypatch.setattr(one, "_compile", lambda *a: compiled.append(a) or compile_(*a))
    seen = set()
    for count, mix in enumerate(MIXES, 1):
        model = merged_model(package, Composition.parse(mix), "fp32").SerializeToString()
        restored = one.load(one.build(model, shapes)).run(frames)
        assert len(compiled) == min(count, 2)
        fresh = open_backend("openvino")
        assert np.array_equal(restored, fresh.load(fresh.build(model, shapes)).run(frames)), mix
        seen.add(restored.tobytes())
    assert len(seen) == len(MIXES)
    # Another size is another network.
    one.build(model, Shapes.only((1, 32, 32)))
    assert len(compiled) == 3


def model_of(*weights: np.ndarray, scale: float = 1.0) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(values.astype(np.float32), f"w{i}") for i, values in enumerate(weights)]
    tensors.append(numpy_helper.from_array(np.float32(scale), "scale"))
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    return helper.make_model(helper.make_graph([], "g", [value], [value], tensors))


def exported(model: onnx.ModelProto, noise: bytes = b"") -> bytes:
    """As a compiler may write them: a head, the weights with something between them, and names that change."""
    return b"head" + b"--".join(tensor.raw_data for tensor in model.graph.initializer) + b"tail" + noise


def built(template: Template, model: onnx.ModelProto, output: bytes, options: str = "") -> bytes | None:
    """What the template gave of its own, None where it had this compiled."""
    result = template.build(model, options, lambda: output)
    return None if result is output else result


def some(seed: int, *sizes: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=size) for size in sizes]


def test_the_third_is_filled_and_has_what_compiling_would_have_given() -> None:
    template = Template()
    models = [model_of(*some(seed, 100, 40, 3)) for seed in range(4)]
    small = models[0].graph.initializer[2]  # too small to be exchanged, so it is the same in all
    for model in models[1:]:
        model.graph.initializer[2].CopyFrom(small)
    assert built(template, models[0], exported(models[0], b"1")) is None
    assert built(template, models[1], exported(models[1], b"23")) is None
    for model in models[2:]:
        assert built(template, model, b"") == exported(model, b"1")


def test_what_differs_by_more_than_its_weights_is_compiled() -> None:
    template = Template()
    models = [model_of(*some(seed, 100)) for seed in range(3)]
    for model in models:
        built(template, model, exported(model))
    assert built(template, models[0], b"") is not None
    other = model_of(*some(3, 100), scale=2)
    assert built(template, models[0], exported(models[0]), "another size") is None
    for _ in range(2):
        assert built(template, other, exported(other)) is None


@pytest.mark.parametrize("fault", ["changed", "derived", "alike"])
def test_a_format_that_is_not_understood_is_never_filled(fault: str) -> None:
    def output(model: onnx.ModelProto) -> bytes:
        first, second = (tensor.raw_data for tensor in list(model.graph.initializer)[:2])
        if fault == "changed":  # one of them is not there as it was given
            return first + second[::-1]
        if fault == "derived":  # something else depends on them
            return first + first[:8] + second
        return first + b"of which there is one"

    template = Template()
    for seed in range(4):
        first = some(seed, 100)[0]
        model = model_of(first, first if fault == "alike" else some(seed + 9, 100)[0])
        assert built(template, model, output(model)) is None, seed
