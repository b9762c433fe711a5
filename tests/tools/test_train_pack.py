"""Photos in one file: what goes in comes out, under its own name."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from uir.runtime.errors import MediaError, MissingFileError, OutputError, UsageError
from uir.tools.photos import PackedPhoto, find_photos, gather_photos, read_photo
from uir.tools.train import cli


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photos of colourful waves, 160 x 96 and 96 x 160, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    y, x = np.mgrid[0:96, 0:160]
    waves = np.stack([128 + 100 * np.sin(x / 15 + 2 * c) * np.cos(y / 11 + c) for c in range(3)], axis=2)
    for name, picture in (("2.png", waves), ("10.jpg", waves.transpose(1, 0, 2))):
        assert cv2.imwrite(str(folder / name), picture.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 100])
    (folder / "notes.txt").write_text("not a photo")
    return folder


@pytest.fixture(scope="module")
def packed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pack = tmp_path_factory.mktemp("packs") / "photos.pack"
    cli.main(["pack", str(photos), "--side", "128", "--out", str(pack)])
    return pack


def test_a_pack_holds_every_photo_reduced_under_its_own_name(
    photos: Path, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = find_photos(photos), gather_photos([packed])
    assert [photo.name for photo in after] == [path.name for path in before] == ["2.png", "10.jpg"]
    for path, photo in zip(before, after, strict=True):
        pixels = read_photo(photo)
        assert max(pixels.shape[:2]) == 128
        assert cv2.PSNR(read_photo(path, 128), pixels) > 33  # and the colours are in their places
    # The same photos make the same file, and a pack is a source like a folder.
    cli.main(["pack", str(photos), "--side", "128", "--out", str(tmp_path / "again.pack")])
    assert (tmp_path / "again.pack").read_bytes() == packed.read_bytes()
    assert "2 photos, 0.0 MB, PSNR of the JPEGs" in capsys.readouterr().out
    cli.main(["pack", str(packed), "--side", "64", "--out", str(tmp_path / "small.pack")])
    assert [read_photo(photo).shape for photo in gather_photos([tmp_path / "small.pack"])] == [(38, 64, 3), (64, 38, 3)]
    assert [photo.name for photo in gather_photos([photos, packed])] == 2 * ["2.png", "10.jpg"]


def test_what_no_pack_can_hold_is_refused(photos: Path, packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "photos.pack"
    with pytest.raises(UsageError, match=r"2\.png and .*photos\.pack: 2\.png have the same name"):
        cli.main(["pack", str(photos), str(packed), "--out", str(out)])
    with pytest.raises(MissingFileError, match="no such file or folder"):
        cli.main(["pack", str(tmp_path / "none"), "--out", str(out)])
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(MediaError, match=r"broken\.jpg"):
        cli.main(["pack", str(photos), str(tmp_path / "bad"), "--out", str(out)])
    for options, words in (
        (["--quality", "101"], "--quality must be at most 100"),
        (["--quality", "0"], "--quality must be at least 1"),
        (["--side", "31"], "--side must be at least 32"),
    ):
        with pytest.raises(UsageError, match=words):
            cli.main(["pack", str(photos), *options, "--out", str(out)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad"]
    whole = packed.read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        cli.main(["pack", str(photos), "--out", str(packed)])
    assert packed.read_bytes() == whole


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda whole: whole[: len(whole) // 2], "neither a folder of photos nor a whole pack"),
        (lambda whole: whole[:200] + bytes([whole[200] ^ 255]) + whole[201:], "damaged pack of photos .*CRC"),
        (lambda _: b"", "neither a folder of photos nor a whole pack"),
    ],
)
def test_a_damaged_pack_is_said(damage: object, words: str, packed: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pack"
    broken.write_bytes(damage(packed.read_bytes()))  # type: ignore[operator]
    arguments = ["base", "--photos", str(broken), "--steps", "1", "--out", str(tmp_path / "run")]
    with pytest.raises(MediaError, match=words) as caught:
        cli.main(arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_pack_of_what_is_no_photo_is_said(tmp_path: Path) -> None:
    pack = tmp_path / "odd.pack"
    with zipfile.ZipFile(pack, "w") as archive:
        archive.writestr("notes.txt", "x")
    with pytest.raises(MissingFileError, match=r"odd\.pack: no photos in this pack"):
        gather_photos([pack])
    for content in (b"", b"no picture"):
        with zipfile.ZipFile(pack, "w") as archive:
            archive.writestr("one.jpg", content)
        (photo,) = gather_photos([pack])
        assert isinstance(photo, PackedPhoto)
        with pytest.raises(MediaError, match=r"odd\.pack: one\.jpg: not a picture"):
            read_photo(photo)


def test_exclusions_know_packed_photos_by_name(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "rainy.txt").write_text("2.png\n10.jpg\n")
    arguments = ["base", "--photos", str(packed), "--degradations", "rain", "--exclude", f"rain={tmp_path}/rainy.txt"]
    with pytest.raises(UsageError, match="no photo is left for rain"):
        cli.main([*arguments, "--out", str(tmp_path / "run")])


def test_processes_degrade_after_opencv_had_threads(packed: Path, photos: Path, tmp_path: Path) -> None:
    """A process that is forked while OpenCV has threads would wait for them without end."""
    program = (
        "import cv2, numpy; cv2.setNumThreads(4); cv2.GaussianBlur(numpy.zeros((2000, 2000, 3), 'uint8'), (9, 9), 0)"
    )
    program += "; from uir.tools.train import run; run()"
    arguments = ["base", "--photos", packed, "--photos", photos, "--degradations", "noise", "--rank", "2"]
    arguments += ["--steps", "2", "--patch", "32", "--large-patch", "32", "--batch", "2", "--workers", "2"]
    command = [sys.executable, "-c", program, *map(str, arguments), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "noise" / "adapter_model.safetensors").exists()
