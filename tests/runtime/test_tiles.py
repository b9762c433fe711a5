"""Tiles: every pixel once, within the limit, and no seam."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from uir.runtime.errors import PackageError
from uir.runtime.package import Package
from uir.runtime.restorer import Restorer
from uir.runtime.tiles import Frame, plan, restore_tiled

cells = st.integers(1, 24)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    """Height, width, multiple, overlap and limit, as a restorer could ask for them."""
    multiple = draw(st.sampled_from([1, 2, 4, 16]))
    height, width, overlap = draw(cells) * multiple, draw(cells) * multiple, draw(st.integers(0, 6)) * multiple
    return height, width, multiple, overlap, draw(st.integers(0, height * width))


@given(layouts())
def test_every_pixel_is_written_once_and_no_window_leaves_the_frame(layout: tuple[int, int, int, int, int]) -> None:
    height, width, multiple, overlap, limit = layout
    grid = plan(height, width, multiple=multiple, overlap=overlap, max_pixels=limit)
    frame = np.arange(height * width * 3, dtype=np.uint32).reshape(height, width, 3).astype(np.uint8)
    shapes = []

    def run(window: Frame) -> Frame:
        shapes.append(window.shape)
        return 255 - window

    assert np.array_equal(restore_tiled(frame, run, grid, multiple=multiple, overlap=overlap), 255 - frame)
    assert set(shapes) == {(1, grid.height, grid.width, 3)}
    assert len(shapes) == grid.rows * grid.columns
    assert grid.height % multiple == grid.width % multiple == 0
    assert grid.height <= height
    assert grid.width <= width


@given(layouts())
def test_every_kept_pixel_has_its_surroundings(layout: tuple[int, int, int, int, int]) -> None:
    """A run that adds up what lies within the overlap tells whether a window's edge comes too near."""
    height, width, multiple, overlap, limit = layout
    grid = plan(height, width, multiple=multiple, overlap=overlap, max_pixels=limit)
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)

    def run(window: Frame) -> Frame:
        reach = [(0, 0), (overlap, overlap), (overlap, overlap), (0, 0)]
        total = np.pad(window.astype(np.int64), reach).cumsum(1).cumsum(2)
        total = np.pad(total, [(0, 0), (1, 0), (1, 0), (0, 0)])
        side = 2 * overlap + 1
        boxes = total[:, side:, side:] - total[:, :-side, side:] - total[:, side:, :-side] + total[:, :-side, :-side]
        return (boxes % 251).astype(np.uint8)

    tiled = restore_tiled(frame, run, grid, multiple=multiple, overlap=overlap)
    assert np.array_equal(tiled, run(frame[None])[0])


@given(layouts())
def test_the_limit_holds_wherever_it_can(layout: tuple[int, int, int, int, int]) -> None:
    height, width, multiple, overlap, limit = layout
    grid = plan(height, width, multiple=multiple, overlap=overlap, max_pixels=limit)
    smallest = min(height, multiple + 2 * overlap) * min(width, multiple + 2 * overlap)
    assert grid.height * grid.width <= max(limit, smallest)
    if height * width <= limit:
        assert (grid.rows, grid.columns) == (1, 1)


def test_a_frame_s_edges_need_no_overlap() -> None:
    """Two windows side by side overlap by twice the radius, and no more: what is computed twice is that strip."""
    grid = plan(2160, 3840, multiple=16, overlap=160, max_pixels=2160 * 2080)
    assert (grid.rows, grid.columns, grid.height, grid.width) == (1, 2, 2160, (3840 + 2 * 160) // 2)
    assert grid.pixels == 2160 * (3840 + 2 * 160)
    grid = plan(4320, 7680, multiple=16, overlap=160, max_pixels=2320 * 1792)
    assert (grid.rows, grid.columns, grid.height, grid.width) == (2, 5, 2320, 1792)


@pytest.mark.parametrize(
    ("height", "width", "limit_pixels"),
    [(128, 160, 6000), (61, 203, 5000), (200, 50, 4000), (97, 101, 9000), (160, 160, 160 * 100), (250, 57, 1)],
)
def test_tiles_of_the_unet_leave_no_seam(shared_package: Path, height: int, width: int, limit_pixels: int) -> None:
    frame = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    package = Package(shared_package)
    assert package.manifest.frame.exact_tiles
    limit = int(limit_pixels * package.manifest.frame.bytes_per_pixel)
    tiled = Restorer(package, "rain", memory_limit=limit)(frame)
    assert np.array_equal(tiled, Restorer(package, "rain")(frame))


def test_an_overlap_below_the_radius_shows(shared_package: Path) -> None:
    restorer = Restorer(shared_package, "rain")
    engine = restorer._active.engines[None]  # the engine's own output, without the restorer's tiles
    contract = restorer.package.manifest.frame
    frame = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    whole = engine.run(frame[None])[0]

    def differing(overlap: int) -> NDArray[np.int64]:
        grid = plan(160, 160, multiple=contract.multiple_of, overlap=overlap, max_pixels=80 * 80)
        assert grid.rows * grid.columns > 1
        tiled = restore_tiled(frame, engine.run, grid, multiple=contract.multiple_of, overlap=overlap)
        return np.argwhere(tiled != whole)

    assert len(differing(0)) > 100
    assert len(differing(contract.multiple_of)) > 0
    assert len(differing(contract.overlap)) == 0


def test_a_frame_smaller_than_a_window_is_restored_whole() -> None:
    for height, width in ((4, 4), (4, 400), (400, 4)):
        grid = plan(height, width, multiple=4, overlap=24, max_pixels=1)
        assert (grid.height, grid.width) == (min(height, 52), min(width, 52))


@pytest.mark.parametrize("overlap", [0, 4])
def test_a_package_that_lies_about_how_far_its_network_looks_is_refused(
    package: Path, edit_manifest: Callable[..., None], overlap: int
) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (160, 120, 3), dtype=np.uint8)
    limit = int(64 * 64 * Package(package).manifest.frame.bytes_per_pixel)
    assert np.array_equal(Restorer(package, "rain", memory_limit=limit)(frame), Restorer(package, "rain")(frame))
    edit_manifest(lambda manifest: manifest["frame"].update(overlap=overlap))
    restorer = Restorer(package, "rain", memory_limit=limit)
    with pytest.raises(PackageError, match=r"manifest\.json: frame\.overlap is too small for the network"):
        restorer(frame)
    assert restorer(frame[:32, :32]).shape == (32, 32, 3)  # what needs no tiles is right


def test_a_network_that_looks_nowhere_else_needs_no_overlap() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    grid = plan(64, 64, multiple=4, overlap=4, max_pixels=24 * 24)
    tiled = restore_tiled(frame, lambda window: 255 - window, grid, multiple=4, overlap=4, exact=True)
    assert np.array_equal(tiled, 255 - frame)
