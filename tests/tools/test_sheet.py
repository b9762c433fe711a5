"""The sheet of all families: every cell is what a member makes of the photo."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from uir.calibration.degradations import seed_for
from uir.calibration.degradations.families import FAMILIES
from uir.tools.sheet import COLUMNS, HEIGHT, NAMES, STRIP, WIDTH, draw_cell, draw_sheet


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


def test_each_row_is_a_family_and_each_cell_a_member(photo: Path, pixels: NDArray[np.uint8]) -> None:
    drawn = draw_sheet([photo, photo], 5)
    assert drawn.shape == (10 * (STRIP + HEIGHT), NAMES + COLUMNS * WIDTH, 3)
    shown = 0
    for row, (name, family) in enumerate(FAMILIES.items()):
        members = [member for _, member in family.values()]
        for column in range(COLUMNS):
            expected = draw_cell(pixels, members[column % len(members)], seed_for(f"{name} {column}", 5))
            top, left = row * (STRIP + HEIGHT) + STRIP, NAMES + column * WIDTH
            cell = drawn[top : top + HEIGHT, left : left + WIDTH]
            assert np.array_equal(cell, expected), (name, column)
            shown += not np.array_equal(cell, pixels[4:-4, 6:-6])
    assert shown > 80  # a smooth picture has little that blur and JPEG could take


def test_the_sheet_is_written_as_a_jpeg_and_never_over_another(photo: Path, tmp_path: Path) -> None:
    output = tmp_path / "sheet.jpg"
    assert sheet(output, photo).returncode == 0
    written = cv2.imread(str(output))
    assert written is not None
    assert np.abs(written[..., ::-1].astype(int) - draw_sheet([photo], 0)).mean() < 12
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
