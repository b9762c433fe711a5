"""The sheet of all degradations: every cell is what the degradation makes of the photo."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from uir.calibration.degradations import DEGRADATIONS
from uir.tools.degrade import degrade_frame
from uir.tools.sheet import HEIGHT, NAMES, SEVERITIES, STRIP, WIDTH, draw_sheet


def sheet(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "uir.tools.sheet", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    """A smooth coloured picture, a little larger than a cell."""
    y, x = np.mgrid[0 : HEIGHT + 8, 0 : WIDTH + 12]
    return np.stack([40 + x // 2, 60 + y, 200 - x // 2], axis=2).astype(np.uint8)


@pytest.fixture
def photo(tmp_path: Path, pixels: NDArray[np.uint8]) -> Path:
    path = tmp_path / "clean.png"
    assert cv2.imwrite(str(path), pixels[..., ::-1])
    return path


def test_each_row_is_a_degradation_and_each_cell_a_severity(photo: Path, pixels: NDArray[np.uint8]) -> None:
    drawn = draw_sheet([photo, photo], 5)
    assert drawn.shape == (STRIP + 10 * HEIGHT, NAMES + 6 * WIDTH, 3)
    for row, name in enumerate(DEGRADATIONS):
        for column in range(6):
            expected = degrade_frame(pixels, {name: SEVERITIES[column % 3]}, 5 + column // 3)
            top, left = STRIP + row * HEIGHT, NAMES + column * WIDTH
            assert np.array_equal(drawn[top : top + HEIGHT, left : left + WIDTH], expected[4:-4, 6:-6]), (name, column)


def test_the_sheet_is_written_as_a_jpeg_and_never_over_another(photo: Path, tmp_path: Path) -> None:
    output = tmp_path / "sheet.jpg"
    assert sheet(output, photo).returncode == 0
    written = cv2.imread(str(output))
    assert written is not None
    assert np.abs(written[..., ::-1].astype(int) - draw_sheet([photo], 0)).mean() < 8
    before = output.read_bytes()
    again = sheet(output, photo, "--seed", 3)
    assert again.returncode == 1
    assert "exists already" in again.stderr
    assert output.read_bytes() == before
    assert sheet(output, photo, "--seed", 3, "--overwrite").returncode == 0
    assert output.read_bytes() != before


def test_refusals_leave_nothing_behind(photo: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.png"
    assert cv2.imwrite(str(small), np.zeros((40, 300, 3), np.uint8))
    for arguments, status, message in (
        ((tmp_path / "sheet.gif", photo), 2, "ends in .jpg"),
        ((tmp_path / "sheet.jpg", small), 2, "small.png: too small"),
        ((tmp_path / "sheet.jpg", tmp_path / "none.png"), 1, "none.png"),
        ((tmp_path / "sheet.jpg", photo, "--seed", -1), 2, "seed -1"),
    ):
        result = sheet(*arguments)
        assert (result.returncode, len(result.stderr.strip().splitlines())) == (status, 1), result.stderr
        assert message in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.png", "small.png"]
