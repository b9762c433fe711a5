"""`uir-degrade` as a user meets it: a process, files, an exit status."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from uir.calibration.degradations import DEGRADATIONS, degrade
from uir.tools.degrade import degrade_frame

FRAMES, RATE = 8, 10


def uir_degrade(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "uir.tools.degrade", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def assert_refused(result: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    """One clear line and the exit status, no traceback."""
    assert result.returncode == status, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert result.stderr.startswith("uir-degrade: error: ")
    for word in words:
        assert word in result.stderr


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    """48 x 64 RGB: a smooth, coloured picture."""
    y, x = np.mgrid[0:48, 0:64]
    return np.stack([60 + 2 * x, 90 + y, 150 - x], axis=2).astype(np.uint8)


@pytest.fixture
def photo(tmp_path: Path, pixels: NDArray[np.uint8]) -> Path:
    path = tmp_path / "clean.png"
    assert cv2.imwrite(str(path), pixels[..., ::-1])
    return path


@pytest.fixture
def video(tmp_path: Path, pixels: NDArray[np.uint8]) -> Path:
    """Eight equal frames at ten a second, with a tone."""
    path = tmp_path / "clean.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", RATE, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", 48000, layout="mono")
        for n in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = n, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        for n in range(0, 48000 * FRAMES // RATE, 1024):
            tone = np.sin(np.arange(n, n + 1024) / 20).astype(np.float32)[None] / 4
            samples = av.AudioFrame.from_ndarray(tone, "fltp", "mono")
            samples.sample_rate, samples.pts, samples.time_base = 48000, n, Fraction(1, 48000)
            container.mux(sound.encode(samples))
        container.mux(stream.encode(None))
        container.mux(sound.encode(None))
    return path


def read_image(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path))
    assert image is not None
    return np.asarray(image[..., ::-1], np.uint8)


def read_video(path: Path) -> tuple[list[NDArray[np.uint8]], list[float]]:
    with av.open(path) as container:
        frames = list(container.decode(video=0))
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in frames], [
            float(frame.time or 0) for frame in frames
        ]


def test_an_image_is_degraded_as_the_functions_do(photo: Path, pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    output = tmp_path / "bad.png"
    result = uir_degrade(photo, output, "rain=0.7", "haze=0.3", "--seed", 5)
    assert result.returncode == 0, result.stderr
    assert str(output) in result.stdout
    truth = degrade(pixels.astype(np.float32) / np.float32(255), {"haze": 0.3, "rain": 0.7}, 5)
    assert np.array_equal(read_image(output), np.rint(truth * 255).astype(np.uint8))
    assert not np.array_equal(read_image(output), pixels)


def test_the_seed_decides(photo: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert uir_degrade(photo, tmp_path / f"{name}.png", "--seed", seed, "noise=0.5").returncode == 0
    a, b, c = (read_image(tmp_path / f"{name}.png") for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_severity_zero_changes_no_pixel(photo: Path, pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    assert uir_degrade(photo, tmp_path / "same.png", "rain=0,noise=0").returncode == 0
    assert np.array_equal(read_image(tmp_path / "same.png"), pixels)


def test_a_video_moves_and_keeps_its_times_and_sound(video: Path, tmp_path: Path) -> None:
    output = tmp_path / "bad.mp4"
    result = uir_degrade(video, output, "haze=0.3", "--quality", 5, "rain=0.9")
    assert result.returncode == 0, result.stderr
    clean, clean_times = read_video(video)
    bad, times = read_video(output)
    assert times == pytest.approx(clean_times)
    assert len(bad) == FRAMES
    for n, (before, after) in enumerate(zip(clean, bad, strict=True)):
        expected = degrade_frame(before, {"haze": 0.3, "rain": 0.9}, 0, times[n])
        others = degrade_frame(before, {"haze": 0.3, "rain": 0.9}, 0, times[n] + 0.5)
        error, wrong_time = (np.abs(after.astype(int) - e).mean() for e in (expected, others))
        assert error < 3, n  # what the encoder's chroma subsampling leaves
        assert error < wrong_time
    with av.open(video) as source, av.open(output) as copy:
        sounds = [[bytes(packet) for packet in file.demux(audio=0) if packet.size] for file in (source, copy)]
    assert sounds[0] == sounds[1]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert_refused(uir_degrade(tmp_path / "no.mp4", tmp_path / "out.mp4", "rain=0.5"), 1, "no.mp4", "no such file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rian=0.5"], "did you mean rain?"),
        (["rain=2"], "rain=2"),
        (["rain=nan"], "severity must be a number"),
        (["rain=-0.5"], "rain=-0.5"),
        (["rain"], "name=severity"),
        (["rain=0.2", "rain=0.3"], "given twice"),
        (["rain=0.2", "--seed", "-1"], "--seed -1"),
        (["rain=0.2", "--quality", "99"], "quality"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(video: Path, tmp_path: Path, words: list[str], message: str) -> None:
    assert_refused(uir_degrade(video, tmp_path / "out.mp4", *words), 2, message)
    assert list(tmp_path.iterdir()) == [video]


def test_an_existing_output_is_kept_unless_told(photo: Path, video: Path, tmp_path: Path) -> None:
    for source, output in ((photo, tmp_path / "out.png"), (video, tmp_path / "out.mp4")):
        output.write_text("precious")
        assert_refused(uir_degrade(source, output, "rain=0.5"), 1, output.name, "exists already", "--overwrite")
        assert output.read_text() == "precious"
        assert uir_degrade(source, output, "rain=0.5", "--overwrite").returncode == 0
        assert output.stat().st_size > len("precious")


def test_the_input_is_never_the_output(photo: Path) -> None:
    before = photo.read_bytes()
    assert_refused(uir_degrade(photo, photo, "rain=0.5", "--overwrite"), 1, "the input itself")
    assert photo.read_bytes() == before


def test_what_is_neither_picture_nor_video_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no pixels here\n" * 100)
    assert_refused(uir_degrade(text, tmp_path / "out.mp4", "rain=0.5"), 1, "notes.txt")
    assert list(tmp_path.iterdir()) == [text]


def test_an_image_cannot_become_a_video(photo: Path, tmp_path: Path) -> None:
    assert_refused(uir_degrade(photo, tmp_path / "out.mp4", "rain=0.5"), 2, "out.mp4")
    assert list(tmp_path.iterdir()) == [photo]


def test_no_degradation_at_all_is_a_usage_error(photo: Path, tmp_path: Path) -> None:
    result = uir_degrade(photo, tmp_path / "out.png")
    assert result.returncode == 2
    assert "NAME=SEVERITY" in result.stderr


def test_help_shows_an_example_and_every_name_in_order() -> None:
    result = uir_degrade("--help")
    assert result.returncode == 0
    assert "uir-degrade clean.mp4 rainy.mp4 rain=0.7 haze=0.3" in result.stdout
    assert ", ".join(DEGRADATIONS) in " ".join(result.stdout.split())
