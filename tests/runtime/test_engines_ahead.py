"""Engines that were built ahead of time are the ones that are asked for: by commands, restorers and followers alike.

The names of the files in the cache are the keys' digests, so that an engine that nobody foresaw is a new file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from uir.export.cli import main as export
from uir.runtime import Decision, Follower, Package, Restorer, Router, UirError
from uir.runtime.backends import Frames
from uir.runtime.cli import main as run
from uir.runtime.composition import Composition
from uir.runtime.decision import CLEAN
from uir.runtime.errors import UsageError

Frame = NDArray[np.uint8]
WIDTH, HEIGHT = 64, 48


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UIR_CACHE", str(tmp_path / "engines"))
    return tmp_path / "engines"


def keys(cache: Path) -> set[str]:
    return {path.stem for path in cache.glob("*.engine")}


def painted(red: int, green: int, blue: int, height: int = HEIGHT, width: int = WIDTH) -> Frame:
    """A frame whose colour tells the routed package's router what to see."""
    return np.full((height, width, 3), (red, green, blue), np.uint8)


class Untouched:
    """Stands in for what a GPU would run: frames come back as they are."""

    nbytes, held_pixels = 1, 0.0

    def run(self, frames: Frames) -> Frames:
        return frames


@pytest.fixture(params=["openvino", "rtx"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Devices that build for one size. TensorRT-RTX really builds here; without a GPU its plans are not loaded."""
    name = str(request.param)
    pytest.importorskip({"openvino": "openvino", "rtx": "tensorrt_rtx"}[name])
    if name == "rtx":
        from uir.runtime.backends import devices
        from uir.runtime.backends.tensorrt import TensorRTBackend
        from uir.runtime.backends.tensorrt.options import BuildOptions

        def opened(_: object) -> TensorRTBackend:
            return TensorRTBackend("tensorrt-rtx", BuildOptions(compute_capabilities=("8.6",)))

        monkeypatch.setitem(devices._OPENERS, "rtx", opened)
        monkeypatch.setattr(TensorRTBackend, "load", lambda *_: Untouched())
    monkeypatch.setenv("UIR_DEVICE", name)
    return name


def camera(package: Path, device: str, **options: Any) -> None:
    """The README's loop, through the compositions that the package lists."""
    restorer = Restorer(package, device=device, **options)
    for composition in Package(package).listed:
        restorer.compose(composition)
        restorer(painted(100, 100, 100))


def follow(package: Path, device: str) -> None:
    """The same with the router, which sees rain, then haze, then noise."""
    restorer = Restorer(package, device=device)
    follower = Follower(restorer, Router(restorer.package))
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    for number in range(48):
        follower(painted(*colours[number // 16]), number * 10.0)  # so slow that each engine is waited for


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("ahead", ["uir-run", "uir-export"])
def test_what_was_built_ahead_is_what_is_asked_for(
    routed_package: Path, cache: Path, device: str, ahead: str, tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    size, package = f"{WIDTH}x{HEIGHT}", routed_package
    if ahead == "uir-run":
        run(["--package", str(package), "--engines", "build", "--size", size])
    else:
        package = tmp_path / "again.uir"
        export(["--adapters", "haze,noise,rain", "-o", str(package), "--build", size])
    built = keys(cache)
    assert len(built) == len(Package(package).listed)

    camera(package, device)
    camera(package, device, frame_size=(HEIGHT, WIDTH))
    camera(package, device, throughput=True)
    if ahead == "uir-run":  # the other package has the zoo's router, which looks for more than colours
        follow(package, device)
    video = make_video(frames=4, width=WIDTH, height=HEIGHT)
    for adapter in ("rain", "haze"):
        options = ["--package", str(package), "--adapters", adapter, "-o", str(tmp_path / f"{adapter}.mp4")]
        assert run([str(video), *options]) == 0
    assert keys(cache) == built


@pytest.mark.usefixtures("device")
def test_engines_for_pictures_of_all_sizes_are_built_ahead_too(shared_package: Path, cache: Path, device: str) -> None:
    run(["--package", str(shared_package), "--engines", "build", "--compose", "rain"])
    built = keys(cache)
    assert len(built) == 1
    restorer = Restorer(shared_package, "rain", device=device, frame_size="any")
    for height, width in [(16, 16), (40, 24), (33, 47)]:
        restorer(painted(1, 2, 3, height, width))
    assert keys(cache) == built


def test_frames_in_tiles_have_the_same_engines_however_many_are_computed_at_once(
    shared_package: Path, cache: Path
) -> None:
    pytest.importorskip("openvino")
    pixels = Package(shared_package).manifest.frame.bytes_per_pixel
    options: dict[str, Any] = {"device": "openvino", "memory_limit": 150 * 150 * pixels}
    frame = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    one, several = (Restorer(shared_package, "rain", throughput=wanted, **options) for wanted in (False, True))
    restored = one(frame)
    (key,) = keys(cache)
    with ThreadPoolExecutor(several.at_once) as pool:
        for again in pool.map(several, [frame] * several.at_once):
            assert np.array_equal(again, restored)
    assert keys(cache) == {key}


@pytest.mark.usefixtures("device")
def test_nothing_is_built_before_the_size_is_known(shared_package: Path, cache: Path, device: str) -> None:
    restorer = Restorer(shared_package, device=device)
    for text in ("rain", "haze", "noise"):
        restorer.compose(text)
    assert keys(cache) == set()
    assert not restorer.ready("noise")
    with pytest.raises(UsageError, match="frame_size"):
        restorer.prepare("noise")
    with pytest.raises(UsageError, match="no such adapter"):
        restorer.compose("fog")
    restorer(painted(1, 2, 3))
    assert len(keys(cache)) == 1
    assert restorer.ready("noise")
    restorer.prepare("haze").result(60)
    assert len(keys(cache)) == 2


def test_the_size_may_be_said_first(shared_package: Path, cache: Path) -> None:
    pytest.importorskip("openvino")
    restorer = Restorer(shared_package, "rain", device="openvino", frame_size=(HEIGHT, WIDTH))
    assert len(keys(cache)) == 1  # it is made here, and not at the first frame
    restorer(painted(1, 2, 3))
    assert len(keys(cache)) == 1


def test_threads_whose_first_frames_come_at_once_share_one_engine(shared_package: Path, cache: Path) -> None:
    pytest.importorskip("openvino")
    for _ in range(5):
        shutil.rmtree(cache, ignore_errors=True)
        restorer = Restorer(shared_package, "rain", device="openvino")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(restorer, [painted(9, 9, 9)] * 4))
        assert len(keys(cache)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory_limit": float("nan")},
        {"memory_limit": float("inf")},
        {"memory_limit": -1},
        {"memory_limit": 0},
        {"memory_limit": "x"},
        {"memory_limit": None},
        {"memory_limit": True},
        {"precision": 16},
        {"precision": ["fp32"]},
        {"precision": "fp8"},
        {"device": 5},
        {"device": "tpu"},
        {"composition": 5},
        {"composition": ["rain"]},
        {"composition": {"rain": "x"}},
        {"composition": CLEAN},
        {"frame_size": 5},
        {"frame_size": "all"},
        {"frame_size": (0, 5)},
        {"frame_size": (5.5, 5)},
        {"frame_size": (1, 2, 3)},
        {"frame_size": ()},
        {"package": None},
        {"package": 5},
    ],
    ids=str,
)
def test_arguments_that_make_no_sense_are_usage_errors(shared_package: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Restorer(**{"package": shared_package, **wrong})


def test_a_decision_is_no_composition(shared_package: Path, frame: Frame) -> None:
    restorer = Restorer(shared_package, "rain")
    untouched = restorer(frame, CLEAN)
    assert np.array_equal(untouched, frame)
    assert untouched is not frame  # the caller may change one of them
    assert not np.array_equal(restorer(frame, Composition()), frame)  # the base alone is something else
    assert Decision(Composition()) != CLEAN
    assert np.array_equal(restorer(frame, Decision(Composition.parse("haze"))), restorer(frame, "haze"))
    assert restorer.compose(Decision(Composition.parse("haze"))).key == "haze"
    with pytest.raises(UsageError, match="clean is no composition"):
        restorer.compose(CLEAN)
    assert restorer.composition.key == "haze"
    for wrong in (5, {"rain": "x"}, "rain=x", ["rain"]):
        with pytest.raises(UirError):
            restorer(frame, wrong)


@pytest.mark.parametrize("seconds", ["x", None, float("nan"), float("inf"), True, [1.0]])
def test_a_time_that_is_none_is_refused(routed_package: Path, frame: Frame, seconds: Any) -> None:
    restorer = Restorer(routed_package)
    follower = Follower(restorer, Router(restorer.package))
    with pytest.raises(UsageError, match="time"):
        follower(frame, seconds)
    assert follower(frame, 0).shape == frame.shape  # and the stream goes on


def test_a_follower_takes_a_restorer_and_a_router(routed_package: Path, frame: Frame) -> None:
    restorer = Restorer(routed_package)
    for wrong in ((frame, "x"), (restorer, "x"), (restorer, None), (restorer, Router(restorer.package), "x")):
        with pytest.raises(UsageError):
            Follower(*wrong)  # type: ignore[arg-type]
