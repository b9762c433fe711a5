"""The router: what it sees of a frame, what it is like, and the composition that follows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.numpy
from fuzz.manifest import read_manifest, renew, replace, write_manifest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from uir.export.cli import main as export
from uir.runtime.composition import Composition
from uir.runtime.decision import CLEAN, CLEAN_NAME
from uir.runtime.errors import FrameError, PackageError, UsageError
from uir.runtime.looks import BLOCK, CROP, CROPS, FIXED, TEXTURED, THUMBNAIL, look
from uir.runtime.package import Package
from uir.runtime.router import Router, on_lattice


@pytest.fixture
def router(routed_package: Path) -> Router:
    return Router(Package(routed_package))


def edit(package: Path, change: Callable[[dict[str, Any]], None]) -> Package:
    """The package, its manifest's router changed."""
    manifest = read_manifest(package)
    change(manifest["router"])
    write_manifest(package, manifest)
    return Package(package)


def replaced(package: Path, name: str, content: bytes) -> Package:
    """The package, one file and its hash replaced."""
    replace(package, name, content)
    return Package(package)


def painted(red: int, green: int, blue: int, height: int = 90, width: int = 160) -> NDArray[np.uint8]:
    return np.full((height, width, 3), (red, green, blue), np.uint8)


def test_a_frame_is_as_similar_as_the_cosine_to_each_prototype(router: Router) -> None:
    similarities = router.look(painted(180, 60, 0))
    colour = np.array([180, 60, 0]) / np.hypot(180, 60)
    expected = {"rain": colour[0], "haze": colour[1], "noise": 0, CLEAN_NAME: colour.sum() / 3**0.5}
    assert similarities == pytest.approx(expected, abs=1e-4)
    assert router.weigh(similarities).key == "rain"  # haze is below the threshold of 0.35


@pytest.mark.parametrize(
    ("colour", "key"),
    [
        ((200, 0, 0), "rain"),
        ((0, 90, 0), "haze"),
        ((200, 200, 0), "clean"),  # as near to grey as red and green can be together
        ((90, 90, 90), "clean"),
        ((0, 0, 0), "clean"),
        ((255, 255, 255), "clean"),
        ((200, 90, 0), "haze=0.3125,rain=0.6875"),
    ],
)
def test_colours(router: Router, colour: tuple[int, int, int], key: str) -> None:
    assert router.weigh(router.look(painted(*colour))).key == key


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (8, 2000), (2000, 8), (63, 65), (64, 64), (361, 641)])
def test_frames_of_any_shape(router: Router, shape: tuple[int, int]) -> None:
    frame = painted(200, 0, 0, *shape)
    before = frame.copy()
    assert router.weigh(router.look(frame)).key == "rain"
    assert np.array_equal(frame, before)


@pytest.mark.parametrize("frame", [np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 3)), "x"])
def test_what_is_no_frame(router: Router, frame: Any) -> None:
    with pytest.raises(FrameError, match="a frame is"):
        router.look(frame)


def test_frames_are_looked_at_one_by_one(router: Router) -> None:
    with pytest.raises(FrameError, match="one frame at a time"):
        router.look(np.zeros((2, 4, 4, 3), np.uint8))


cosines = st.floats(-1, 1)


@given(cosines, cosines, cosines, cosines)
@example(1.0, 1.0, 1.0, 0.0)  # three equal ones cannot have equal sixteenths
def test_weights_are_on_the_lattice_and_sum_to_one(
    shared_router: Router, rain: float, haze: float, noise: float, clean: float
) -> None:
    similarities = {"rain": rain, "haze": haze, "noise": noise, CLEAN_NAME: clean}
    weights = shared_router.weigh(similarities).weights
    there = {name for name in ("rain", "haze", "noise") if similarities[name] >= 0.35}
    if not there or clean >= max(similarities[name] for name in there):
        assert weights == {}
    else:
        assert set(weights) == there
        assert sum(weights.values()) == 1
        assert all(weight * 16 == round(weight * 16) for weight in weights.values())
        less_similar = [pair for pair in permutations(there, 2) if similarities[pair[0]] < similarities[pair[1]]]
        assert all(weights[less] <= weights[more] for less, more in less_similar)
        assert len(there) != 2 or min(weights.values()) >= 0.25  # where the adapters were trained to be mixed


@pytest.fixture(scope="module")
def shared_router(tmp_path_factory: pytest.TempPathFactory, shared_package: Path, colour_router: Path) -> Router:
    """The router of a package that lists no router itself: the manifest is completed by hand."""
    path = Path(shutil.copytree(shared_package, tmp_path_factory.mktemp("shared") / "restore.uir"))
    manifest = read_manifest(path)
    for name in ("router.onnx", "prototypes.safetensors"):
        shutil.copy(colour_router / name, path / name)
        manifest["files"][name] = {}
    settings = json.loads((colour_router / "router.json").read_text())
    manifest["router"] = {**settings, "file": "router.onnx", "prototypes": "prototypes.safetensors"}
    write_manifest(path, manifest)
    renew(path)
    return Router(Package(path))


@given(st.lists(st.floats(1e-3, 1), min_size=1, max_size=5), st.integers(1, 40))
def test_the_lattice_rounds_to_the_next_step(parts: list[float], steps: int) -> None:
    whole = on_lattice(parts, steps)
    assert sum(whole) == steps
    assert all(abs(each - part / sum(parts) * steps) < 1 + 1e-9 for each, part in zip(whole, parts, strict=True))


def test_equal_parts_of_a_lattice_that_they_do_not_divide() -> None:
    assert on_lattice([1, 1, 1], 16) == [6, 5, 5]


def test_only_the_most_similar_are_taken(routed_package: Path) -> None:
    router = Router(edit(routed_package, lambda entry: entry.update(top_k=2)))
    assert router.weigh({"rain": 0.5, "haze": 0.6, "noise": 0.55, CLEAN_NAME: 0.1}).weights.keys() == {"haze", "noise"}


def test_a_softmax_follows_its_temperature(routed_package: Path) -> None:
    similarities = {"rain": 0.8, "haze": 0.4, "noise": 0.1, CLEAN_NAME: 0.0}
    keys = {}
    for temperature in (1e-3, 0.4, 100.0):
        changed = edit(routed_package, lambda entry, t=temperature: entry.update(norm="softmax", temperature=t))
        keys[temperature] = Router(changed).weigh(similarities).composition
    assert keys[1e-3] == Composition.of({"rain": 1})
    assert keys[0.4] == Composition.of({"rain": 12 / 16, "haze": 4 / 16})  # e / (1 + e) is 0.73
    assert keys[100.0] == Composition.of({"rain": 0.5, "haze": 0.5})


@pytest.mark.usefixtures("use_zoo")
def test_an_adapter_that_the_package_does_not_have_is_never_chosen(colour_router: Path, tmp_path: Path) -> None:
    export(["--adapters", "haze", "--router", str(colour_router), "-o", str(tmp_path / "haze.uir")])
    router = Router(Package(tmp_path / "haze.uir"))
    assert router.look(painted(200, 0, 0)).keys() == {"haze", CLEAN_NAME}
    assert router.weigh(router.look(painted(200, 0, 0))) == CLEAN
    assert router.weigh(router.look(painted(0, 200, 0))).key == "haze"
    # Nor one that only the prototypes' file knows.
    prototypes = (colour_router / "prototypes.safetensors").read_bytes()
    router = Router(replaced(tmp_path / "haze.uir", "prototypes.safetensors", prototypes))
    assert router.adapters == ["haze"]


def test_a_package_without_router(package: Path) -> None:
    with pytest.raises(UsageError, match="has no router that could choose among its adapters; say which by --adapters"):
        Router(Package(package))


def test_a_router_that_was_changed(routed_package: Path) -> None:
    file = routed_package / "router.onnx"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(PackageError, match=r"router\.onnx: is not the file that was exported"):
        Router(Package(routed_package))


def test_what_is_no_network(routed_package: Path) -> None:
    with pytest.raises(PackageError, match=r"router\.onnx: damaged"):
        Router(replaced(routed_package, "router.onnx", b"nothing"))


def test_a_network_of_other_inputs(routed_package: Path) -> None:
    model = onnx.load(routed_package / "router.onnx")
    model.graph.input[1].type.tensor_type.shape.dim[1].dim_value = CROPS + 1
    with pytest.raises(PackageError, match=r"router\.onnx: has the inputs .* not thumbnails"):
        Router(replaced(routed_package, "router.onnx", model.SerializeToString()))


@pytest.mark.parametrize("prototypes", [{"rain": [1, 0, 0]}, {CLEAN_NAME: [1, 0, 0], "rain": [1, 0]}])
def test_prototypes_that_do_not_fit(routed_package: Path, prototypes: dict[str, list[int]]) -> None:
    content = safetensors.numpy.save({name: np.array(each, np.float32) for name, each in prototypes.items()})
    with pytest.raises(PackageError, match=r"prototypes\.safetensors: not the prototypes of this router"):
        Router(replaced(routed_package, "prototypes.safetensors", content))


def test_settings_that_make_no_sense(routed_package: Path) -> None:
    with pytest.raises(PackageError, match="weights in steps of 1/7"):
        Router(edit(routed_package, lambda entry: entry.update(lattice=7)))
    for wrong in ({"threshold": 0}, {"top_k": 0}, {"norm": "max"}, {"temperature": 0}, {"file": "../router.onnx"}):
        changed = routed_package.with_name("changed.uir")
        shutil.copytree(routed_package, changed, dirs_exist_ok=True)
        with pytest.raises(PackageError):
            edit(changed, lambda entry, wrong=wrong: entry.update(wrong))


def test_places_are_where_most_and_least_is_to_be_seen() -> None:
    rng = np.random.default_rng(0)
    frame = np.full((720, 1280, 3), 128, np.uint8)
    frame += rng.integers(0, 40, frame.shape, dtype=np.uint8)
    frame[:96] = 255  # clipped, and flatter than all else
    frame[290:430, 900:1100] = 90  # flat
    frame[480:640, 320:480] = 255 * (np.indices((160, 160)).sum(0) // 32 % 2)[..., None]  # checks
    crops = look(frame).crops
    assert crops.shape == (CROPS, CROP, CROP, 3)
    assert {0, 255} <= set(np.unique(crops[FIXED]))
    flat = crops[FIXED + TEXTURED]
    assert (flat == 90).mean() > 0.5
    assert (crops[FIXED + TEXTURED :] == 255).mean() < 0.1


def test_places_begin_at_blocks() -> None:
    y, x = np.mgrid[0:333, 0:517]
    frame = np.stack([y % BLOCK, x % BLOCK, (y // 8 + x // 8) % 200], axis=2).astype(np.uint8)
    crops = look(frame).crops
    assert np.array_equal(crops[:, :, 0, 0], np.tile(np.arange(CROP) % BLOCK, (CROPS, 1)))
    assert np.array_equal(crops[:, 0, :, 1], np.tile(np.arange(CROP) % BLOCK, (CROPS, 1)))


def test_a_thumbnail_keeps_the_mean_colour() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (719, 1283, 3), dtype=np.uint8)
    frame[:360, :, 0] = 0
    small = look(frame).thumbnail
    assert small.shape == (THUMBNAIL, THUMBNAIL, 3)
    assert small.mean(axis=(0, 1)) == pytest.approx(frame.mean(axis=(0, 1)), abs=1.5)
    assert small[: THUMBNAIL // 2 - 2, :, 0].max() == 0
