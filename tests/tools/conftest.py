"""What the tests of the benchmarks share."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from uir.export.cli import main as export


@pytest.fixture(scope="session")
def paired_package(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of random weights with two adapters, which lists their equal mix."""
    path = tmp_path_factory.mktemp("paired") / "restore.uir"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uir.export.zoo.ZOO", zoo)
        export(["--adapters", "rain,haze", "-o", str(path)])
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two colourful photos of different and odd sizes, and a file that is no photo."""
    folder = tmp_path_factory.mktemp("photos")
    for name, (height, width) in {"one.png": (40, 56), "two.png": (33, 41)}.items():
        y, x = np.mgrid[0:height, 0:width]
        pixels = np.stack([40 + 3 * x, 60 + 4 * y, 200 - 2 * x - y], axis=2).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / name), pixels[..., ::-1])
    (folder / "notes.txt").write_text("no photo")
    return folder


@pytest.fixture(scope="session")
def typed_package(zoo: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of random weights with one adapter, in all precisions, calibrated on one small photo."""
    path = tmp_path_factory.mktemp("typed") / "restore.uir"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uir.export.zoo.ZOO", zoo)
        export(["--adapters", "rain", "--precision", "auto", "--calibrate", str(photos / "one.png"), "-o", str(path)])
    return path


@pytest.fixture(scope="session")
def routed(zoo: Path, colour_router: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package whose router takes red for rain, green for haze, blue for noise, and grey for clean."""
    path = tmp_path_factory.mktemp("routed") / "restore.uir"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uir.export.zoo.ZOO", zoo)
        export(["--adapters", "haze,noise,rain", "--router", str(colour_router), "-o", str(path)])
    return path


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's file, `there.png`, in the folder that the test is in; it holds `mine`."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "there.png"
    path.write_text("mine")
    return path
