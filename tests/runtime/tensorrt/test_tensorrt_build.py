"""Builds of what ships: the merged weights are in the plan, in each way that frames can be given."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper

from uir.export.zoo import zoo_adapters
from uir.runtime.backends import Shapes
from uir.runtime.backends.tensorrt import BuildOptions, TensorRTBackend
from uir.runtime.backends.tensorrt.bindings import Bindings
from uir.runtime.backends.tensorrt.build import build_plan
from uir.runtime.backends.tensorrt.device_memory import find_device
from uir.runtime.backends.tensorrt.log import Log
from uir.runtime.backends.tensorrt.network import parse
from uir.runtime.errors import BackendError, UsageError

pytestmark = pytest.mark.rtx

Weights = dict[str, NDArray[np.float32]]
Merged = Callable[[str], tuple[bytes, Weights]]
Build = Callable[..., bytes]


def holds(plan: bytes, weight: NDArray[np.float32]) -> bool:
    """Whether a weight stands in a plan as it is, or a kernel with its channels last, as TensorRT turns them."""
    turned = weight.transpose(0, 2, 3, 1) if weight.ndim == 4 else weight
    return weight.tobytes() in plan or turned.tobytes() in plan


@pytest.mark.parametrize("adapter", zoo_adapters())
def test_each_shipped_adapter_is_in_the_plan(adapter: str, merged: Merged, build: Build) -> None:
    model, weights = merged(adapter)
    _, base = merged("base")
    plan = build(model)
    touched = [name for name, weight in weights.items() if weight.tobytes() != base[name].tobytes()]
    assert len(touched) > 20
    for name, weight in weights.items():
        assert holds(plan, weight), f"{name} {weight.shape}"
    pointwise = [name for name in touched if weights[name].shape[2:] == (1, 1)]
    assert pointwise
    for name in pointwise:
        assert not holds(plan, base[name]), f"{name}, as it was before the merge"


def test_the_same_mix_gives_the_same_plan(merged: Merged, build: Build) -> None:
    first, second = list(zoo_adapters())[:2]
    model, again = (merged(f"{first}=0.4,{second}=0.6")[0] for _ in range(2))
    assert build(model) == build(again)


@pytest.mark.parametrize(
    "shapes", [Shapes.only((2, 32, 48)), Shapes((1, 16, 16), (1, 64, 96), (4, 128, 256))], ids=["static", "dynamic"]
)
def test_frames_are_uint8_of_the_sizes_asked_for(shapes: Shapes, merged: Merged, build: Build, rtx: Bindings) -> None:
    log = Log(rtx.module, verbose=True)
    build(merged("base")[0], shapes, log, layer_details=True)
    (listed,) = (text for text in log.lines if text.startswith("Layers:"))
    frame, restored = re.findall(r"Name: (\w+), IOMode: (\w+), DataType: (\w+), .*?ProfileInfo: \[ \{(.*?)\}", listed)
    assert frame[:3] == ("frame", "Input", "UInt8")
    assert restored[:3] == ("restored", "Output", "UInt8")
    sizes = [tuple(map(int, found.split(","))) for found in re.findall(r"Shape: \[([\d,]+)\]", frame[3])]
    assert sizes == [(*shape, 3) for shape in (shapes.smallest, shapes.usual, shapes.largest)]


def test_a_graph_whose_sizes_are_fixed_builds_for_those(frame_model: Callable[..., bytes], build: Build) -> None:
    fixed = frame_model([helper.make_node("Relu", ["x"], ["y"])], {}, shape=(1, 16, 16, 3))
    assert build(fixed)
    with pytest.raises(BackendError, match="frame"):
        build(fixed, Shapes.only((1, 32, 32)))


def test_the_network_is_strongly_typed(rtx: Bindings, merged: Merged) -> None:
    parsed = parse(rtx, Log(rtx.module), merged("base")[0])
    assert parsed.network.get_flag(rtx.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def test_more_targets_make_other_plans(small_model: bytes, build: Build) -> None:
    one, other, every = (build(small_model, compute_capabilities=targets) for targets in (("8.6",), ("12.0",), ()))
    assert len({one, other, every}) == 3
    assert len(every) > len(one)


def test_the_backend_builds_without_a_gpu_and_says_so(small_model: bytes, rtx: Bindings) -> None:
    if find_device():
        pytest.skip("there is a GPU here")
    backend = TensorRTBackend("tensorrt-rtx")
    assert backend.describe() == f"TensorRT-RTX {rtx.version} with no GPU"
    assert (backend.name, backend.static, backend.durable) == ("tensorrt-rtx", True, True)
    assert backend.preferred == ("fp16", "int8", "fp32")
    built = backend.build(small_model, Shapes.only((1, 16, 16)))
    with pytest.raises(BackendError, match=r"no NVIDIA driver .*--device cpu"):
        backend.load(built)
    with pytest.raises(BackendError, match="refittable engines on a machine with an NVIDIA GPU only"):
        TensorRTBackend("tensorrt-rtx", BuildOptions(refittable=("w",))).build(b"", Shapes.only((1, 16, 16)))


def test_whatever_makes_engines_differ_is_in_the_identity(rtx: Bindings) -> None:
    usual = BuildOptions()
    found = TensorRTBackend("tensorrt-rtx").identity()
    assert found["backend"] == "tensorrt-rtx"
    assert found["version"] == rtx.version == rtx.module.__version__
    assert (found["os"], found["architecture"]) == (platform.system(), platform.machine())
    if find_device() is None:
        assert (found["device"], found["compute_capability"]) == ("none", "none")
        assert found["targets"].split(",")[:2] == ["7.5", "8.0"]
    others = (
        replace(usual, workspace_share=0.25),
        replace(usual, compute_capabilities=("8.6",)),
        replace(usual, refittable=("a", "b")),
        replace(usual, refittable=("a", "c")),
        replace(usual, layer_details=True),
    )
    identities = [TensorRTBackend("tensorrt-rtx", options).identity() for options in (usual, *others)]
    assert identities[0] == found
    assert len({tuple(sorted(identity.items())) for identity in identities}) == len(identities)
    assert all(isinstance(value, str) for identity in identities for value in identity.values())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"compute_capabilities": ("8.7",)}, r"cannot build for compute capability 8\.7; it can for 7\.5, 8\.0"),
        ({"workspace_share": 0.0}, "must be above 0"),
        ({"workspace_share": 1.5}, "at most 1"),
    ],
)
def test_impossible_options_are_refused_at_once(options: dict[str, object], words: str, rtx: Bindings) -> None:
    with pytest.raises(UsageError, match=words):
        TensorRTBackend(rtx.flavour, BuildOptions(**options))  # type: ignore[arg-type]


def test_timings_are_kept_in_a_file(tmp_path: Path, rtx: Bindings, small_model: bytes) -> None:
    # TensorRT-RTX times nothing, but still has TensorRT's calls for it.
    timing = replace(rtx, flavour="tensorrt")
    file, shapes = tmp_path / "timings", Shapes.only((1, 16, 16))
    file.write_bytes(b"damaged")
    with pytest.warns(DeprecationWarning):
        build_plan(timing, Log(rtx.module), small_model, shapes, BuildOptions(), device=None, timing_cache=file)
    kept = file.read_bytes()
    assert kept.startswith(b"ptrtd")
    assert list(tmp_path.iterdir()) == [file]
    build_plan(rtx, Log(rtx.module), small_model, shapes, BuildOptions(), device=None, timing_cache=tmp_path / "none")
    assert list(tmp_path.iterdir()) == [file]
