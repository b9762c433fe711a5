"""Engines that run: all of this needs a GPU, and has not been run on one yet."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from uir.export.zoo import zoo_adapters
from uir.runtime.backends import Frames, Shapes
from uir.runtime.backends.tensorrt import BuildOptions, TensorRTBackend
from uir.runtime.backends.tensorrt.bindings import Flavour
from uir.runtime.backends.tensorrt.device_memory import Device
from uir.runtime.errors import BackendError

pytestmark = pytest.mark.requires_gpu

Merged = Callable[[str], tuple[bytes, dict[str, NDArray[np.float32]]]]

ONE = Shapes.only((1, 64, 96))
RANGE = Shapes((1, 32, 32), (1, 64, 96), (2, 128, 128))


@pytest.fixture(scope="module", params=["tensorrt", "tensorrt-rtx"])
def flavour(request: pytest.FixtureRequest, device: Device) -> Flavour:  # noqa: ARG001 - the GPU comes first
    """Each TensorRT that is installed here."""
    found: Flavour = request.param
    try:
        TensorRTBackend(found)
    except BackendError as error:
        pytest.skip(str(error))
    return found


def frames(number: int, height: int = 64, width: int = 96) -> Frames:
    return np.random.default_rng(number).integers(0, 256, (number, height, width, 3), dtype=np.uint8)


def expected(model: bytes, given: Frames) -> Frames:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    restored: Frames = session.run(None, {"frame": given})[0]
    return restored


def close(restored: Frames, reference: Frames) -> bool:
    """Alike to rounding: TF32 has 10 bits of mantissa, so a code of 256 may be the next one."""
    difference = np.abs(restored.astype(int) - reference)
    return bool(difference.max() <= 2 and difference.mean() < 0.1)


@pytest.mark.parametrize("shapes", [ONE, RANGE], ids=["static", "dynamic"])
def test_an_engine_restores_as_onnx_runtime_does_again_and_again(
    shapes: Shapes, flavour: Flavour, merged: Merged
) -> None:
    model, _ = merged(next(iter(zoo_adapters())))
    backend = TensorRTBackend(flavour)
    engine = backend.load(backend.build(model, shapes))
    given = frames(1)
    reference = expected(model, given)
    first = engine.run(given)
    assert first is not given
    assert close(first, reference)
    for _ in range(4):  # the second run records, the third launches what was recorded
        assert np.array_equal(engine.run(given), first)
    other = given[:, ::-1].copy()
    assert close(engine.run(other), expected(model, other))
    assert np.array_equal(engine.run(given), first)
    assert engine.nbytes > 1_000_000


def test_sizes_change_and_many_frames_are_parted(flavour: Flavour, merged: Merged) -> None:
    model, _ = merged("base")
    backend = TensorRTBackend(flavour)
    engine = backend.load(backend.build(model, RANGE))
    for number, height, width in ((1, 64, 96), (2, 32, 128), (5, 64, 96), (1, 64, 96), (5, 128, 128)):
        given = frames(number, height, width)
        assert close(engine.run(given), expected(model, given))
    strided = frames(4, 64, 64)[::2]
    assert close(engine.run(strided), expected(model, np.ascontiguousarray(strided)))


def test_threads_share_an_engine(flavour: Flavour, merged: Merged) -> None:
    model, _ = merged("base")
    backend = TensorRTBackend(flavour)
    engine = backend.load(backend.build(model, ONE))
    given = [frames(1 + number % 3) for number in range(12)]
    alone = [engine.run(each) for each in given]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(engine.run, given))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_frames_of_other_sizes_are_refused_and_the_engine_goes_on(flavour: Flavour, merged: Merged) -> None:
    backend = TensorRTBackend(flavour)
    engine = backend.load(backend.build(merged("base")[0], ONE))
    with pytest.raises(BackendError, match=r"from \(1, 64, 96\) to \(1, 64, 96\), and was given \(1, 96, 64\)"):
        engine.run(frames(1, 96, 64))
    assert engine.run(frames(1)).shape == (1, 64, 96, 3)


def test_bytes_that_are_no_plan_are_refused(flavour: Flavour) -> None:
    with pytest.raises(BackendError, match="cannot load the engine"):
        TensorRTBackend(flavour).load(b"garbage")


def test_refitting_there_and_back_gives_the_same_bits(flavour: Flavour, merged: Merged) -> None:
    first, second = list(zoo_adapters())[:2]
    (model, a), (other_model, b) = merged(first), merged(second)
    backend = TensorRTBackend(flavour, BuildOptions(refittable=tuple(sorted(a))))
    engine = backend.load(backend.build(merged("base")[0], ONE))
    given = frames(1)
    results: list[Frames] = []
    for weights in (a, b, a):
        engine.refit(weights)
        results += [engine.run(given) for _ in range(3)]
    assert close(results[0], expected(model, given))
    assert close(results[3], expected(other_model, given))
    assert not np.array_equal(results[0], results[3])
    assert all(np.array_equal(results[0], again) for again in (*results[1:3], *results[6:]))


def test_a_refit_that_leaves_weights_out_is_refused(flavour: Flavour, merged: Merged) -> None:
    model, weights = merged("base")
    backend = TensorRTBackend(flavour, BuildOptions(refittable=tuple(sorted(weights))))
    engine = backend.load(backend.build(model, ONE))
    lacking: dict[str, Any] = {name: weight for name, weight in weights.items() if name != "intro.bias"}
    with pytest.raises(BackendError, match=r"they differ in intro\.bias"):
        engine.refit(lacking)
    with pytest.raises(BackendError, match=r"intro\.bias: the engine has 32 values there and was given 1"):
        engine.refit({**weights, "intro.bias": np.zeros(1, np.float32)})
    plain = TensorRTBackend(flavour)
    with pytest.raises(BackendError, match="not built to be refitted"):
        plain.load(plain.build(model, ONE)).refit(weights)
