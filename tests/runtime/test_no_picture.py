"""Weights that leave nothing of a picture are refused when a frame shows it, and pictures never are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from uir.calibration.frames import PHOTOS
from uir.export.zoo import zoo_adapters
from uir.runtime import Restorer
from uir.runtime.cli import main as run
from uir.runtime.composition import Composition
from uir.runtime.errors import AdapterError
from uir.runtime.no_picture import restores

Frame = NDArray[np.uint8]
RAIN = Composition.parse("rain")


@pytest.fixture(scope="module")
def photo() -> Frame:
    picture = cv2.imread(str(PHOTOS / "judge" / "arles.jpg"))
    assert picture is not None
    return np.ascontiguousarray(picture[:192, :256, ::-1])


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of all the shipped adapters."""
    from uir.export.cli import main as export

    path = tmp_path_factory.mktemp("shipped") / "ten.uir"
    export(["--preset", "ten", "-o", str(path)])
    return path


@pytest.mark.parametrize("name", sorted(zoo_adapters()))
def test_a_weight_that_leaves_nothing_is_refused(shipped: Path, photo: Frame, name: str) -> None:
    restorer = Restorer(shipped, name)
    restorer(photo)
    for weight in (10, 100):
        with pytest.raises(AdapterError, match=f"{name}={weight}: makes .* of the frame; use smaller weights"):
            restorer(photo, {name: weight})
    for dark in (photo, (photo * 0.2).astype(np.uint8)):  # what is strong, and what is made for the night, is none
        restorer(dark, {name: 1.5})


def test_the_restorer_that_refused_goes_on_with_another(shipped: Path, photo: Frame) -> None:
    restorer = Restorer(shipped, {"haze": 100})
    with pytest.raises(AdapterError):
        restorer(photo)
    restorer.compose("haze")
    assert np.array_equal(restorer(photo), Restorer(shipped, "haze")(photo))


def test_the_command_refuses_it_and_writes_nothing(shipped: Path, photo: Frame, tmp_path: Path) -> None:
    source, target = tmp_path / "photo.png", tmp_path / "restored.png"
    assert cv2.imwrite(str(source), photo)
    with pytest.raises(AdapterError):
        run([str(source), "-o", str(target), "--package", str(shipped), "--compose", "haze=100"])
    assert sorted(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    "make",
    [lambda p: np.zeros_like(p), lambda p: np.full_like(p, 255), lambda p: p // 128 * 255, lambda p: p // 100 + 7],
)
def test_a_frame_with_little_in_it_shows_nothing(photo: Frame, make: Callable[[Frame], Frame]) -> None:
    flat = np.zeros_like(photo)
    assert not restores(RAIN, make(photo), flat)
    assert restores(RAIN, photo, photo)


def test_nothing_is_judged_by_a_frame_that_shows_nothing(shipped: Path, photo: Frame) -> None:
    restorer = Restorer(shipped, {"haze": 100})
    restorer(np.zeros_like(photo))
    with pytest.raises(AdapterError):
        restorer(photo)
