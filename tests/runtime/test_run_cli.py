"""`uir-run` as its users meet it: a process of its own, real files, one clear line when something is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from uir.runtime import Restorer

Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(package: Path, call: Call) -> Call:
    """Runs uir-run in the folder where `restore.uir` is."""
    return lambda *arguments, **options: call("uir-run", *arguments, cwd=package.parent, **options)


@pytest.fixture
def photo(package: Path, frame: NDArray[np.uint8]) -> Path:
    path = package.parent / "photo.png"
    cv2.imwrite(str(path), frame[..., ::-1])
    return path


def listing(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_an_image_is_what_the_restorer_gives(run: Call, photo: Path, package: Path, frame: NDArray[np.uint8]) -> None:
    done = run("photo.png", "--compose", "haze=0.4,rain=0.6")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "photo.restored.png: haze=0.4,rain=0.6\n"
    written = cv2.imread(str(photo.with_name("photo.restored.png")))
    assert np.array_equal(written[..., ::-1], Restorer(package, "haze=0.4,rain=0.6")(frame))


def test_adapters_are_mixed_in_equal_parts(run: Call, photo: Path, package: Path, frame: NDArray[np.uint8]) -> None:
    assert run("photo.png", "--adapters", "rain,haze", "-o", "out.png").returncode == 0
    written = cv2.imread(str(photo.with_name("out.png")))
    assert np.array_equal(written[..., ::-1], Restorer(package, {"haze": 0.5, "rain": 0.5})(frame))


def test_a_video_keeps_its_times_and_its_sound(run: Call, make_video: Callable[..., Path], make_sound: Any) -> None:
    source = make_video("clip.mp4", frames=6, pts=[0, 512, 1100, 1536, 2500, 2560], sounds=[make_sound()])
    done = run("clip.mp4", "--adapters", "haze,rain", "--json")
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)
    assert report["frames"] == 6
    assert report["compositions"] == [{"seconds": 0.0, "composition": "haze=0.5,rain=0.5"}]
    with av.open(str(source)) as before, av.open(str(source.with_name("clip.restored.mp4"))) as after:
        times = [[frame.time for frame in container.decode(video=0)] for container in (before, after)]
    with av.open(str(source)) as before, av.open(str(source.with_name("clip.restored.mp4"))) as after:
        sounds = [[bytes(packet) for packet in container.demux(audio=0)] for container in (before, after)]
    assert times[0] == times[1]
    assert sounds[0] == sounds[1]


def test_a_folder_goes_on_past_a_bad_file(run: Call, photo: Path, make_video: Callable[..., Path]) -> None:
    folder = photo.parent / "in"
    folder.mkdir()
    shutil.copy(photo, folder / "a.png")
    (folder / "b.png").write_bytes(b"not a picture")
    shutil.move(make_video("c.mp4", frames=3), folder / "c.mp4")
    done = run("in", "-o", "out", "--adapters", "rain")
    assert done.returncode == 1
    assert "in/b.png" in done.stderr and "Traceback" not in done.stderr
    assert listing(photo.parent / "out") == {"a.png", "c.mp4"}


@pytest.mark.parametrize("arguments", [["in", "-o", "out"], ["in/*.png", "-o", "out/"], ["in/a.png", "-o", "out/"]])
def test_one_result_goes_into_a_folder_too(run: Call, photo: Path, arguments: list[str]) -> None:
    folder = photo.parent / "in"
    folder.mkdir()
    shutil.copy(photo, folder / "a.png")
    done = run(*arguments, "--adapters", "rain")
    assert done.returncode == 0, done.stderr
    assert listing(photo.parent / "out") == {"a.png"}


def test_a_name_may_begin_with_a_dash(run: Call, photo: Path) -> None:
    photo.rename(photo.with_name("-photo.png"))
    done = run("--adapters", "rain", "--", "-photo.png")
    assert done.returncode == 0, done.stderr
    assert photo.with_name("-photo.restored.png").is_file()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is hidden from root")
def test_what_may_not_be_read_is_said(run: Call, photo: Path) -> None:
    folder = photo.parent / "in"
    folder.mkdir()
    shutil.copy(photo, folder / "b.png")
    (folder / "a.mp4").touch()
    (folder / "a.mp4").chmod(0)
    done = run("in", "-o", "out", "--adapters", "rain")
    assert done.returncode == 1
    assert done.stderr == "uir-run: error: in/a.mp4: cannot be read: Permission denied\n"
    assert listing(photo.parent / "out") == {"b.png"}
    folder.chmod(0)
    assert run("in/b.png", "--adapters", "rain").stderr == "uir-run: error: in/b.png: Permission denied\n"
    folder.chmod(0o700)


def test_several_inputs_leave_earlier_results_out(run: Call, photo: Path) -> None:
    shutil.copy(photo, photo.with_name("other.png"))
    assert run("photo.png", "--adapters", "rain").returncode == 0
    done = run("other.png", "photo.png", "photo.restored.png", "-o", "out", "--adapters", "rain")
    assert done.returncode == 0, done.stderr
    assert listing(photo.parent / "out") == {"other.png", "photo.png"}


def test_compare_stands_side_by_side(run: Call, photo: Path, frame: NDArray[np.uint8]) -> None:
    assert run("photo.png", "--compare", "--adapters", "rain").returncode == 0
    both = cv2.imread(str(photo.with_name("photo.restored.png")))
    assert both.shape == (37, 106, 3)
    assert np.array_equal(both[:, :53, ::-1], frame)


def test_ctrl_c_keeps_a_playable_part(package: Path, make_video: Callable[..., Path]) -> None:
    source = make_video("long.mp4", frames=2000, width=320, height=240)
    process = subprocess.Popen(
        [Path(sys.executable).with_name("uir-run"), source, "--adapters", "noise"],
        cwd=package.parent,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 60
    # The hidden partial output appears when frames begin to flow; let some of them pass.
    while not any(source.parent.glob(".long.restored.*")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "long.restored.partial.mp4" in errors and "Traceback" not in errors
    with av.open(str(source.with_name("long.restored.partial.mp4"))) as kept:
        assert sum(1 for _ in kept.decode(video=0)) > 0
    assert not source.with_name("long.restored.mp4").exists()


def test_without_a_router_adapters_must_be_named(run: Call, photo: Path) -> None:
    before = listing(photo.parent)
    done = run("photo.png")
    assert done.returncode == 2
    assert "restore.uir: has no router" in done.stderr and "--adapters" in done.stderr
    assert "Traceback" not in done.stderr
    assert listing(photo.parent) == before


def damage_missing_package(folder: Path) -> None:
    shutil.rmtree(folder / "restore.uir")


def damage_adapter(folder: Path) -> None:
    file = folder / "restore.uir" / "adapters" / "rain.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def damage_schema(folder: Path) -> None:
    manifest = folder / "restore.uir" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema": 1', '"schema": 2'))


def damage_path(folder: Path) -> None:
    manifest = folder / "restore.uir" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("adapters/rain.safetensors", "../rain.safetensors"))


def nothing(folder: Path) -> None: ...


@pytest.mark.parametrize(
    ("damage", "arguments", "status", "said"),
    [
        (nothing, ["absent.mp4"], 1, ["absent.mp4", "no such file"]),
        (nothing, ["empty.mp4"], 1, ["empty.mp4", "empty"]),
        (nothing, ["text.mp4"], 1, ["text.mp4"]),
        (nothing, ["text.png"], 1, ["text.png"]),
        (nothing, ["photo.png", "--adapters", "rian"], 2, ["rian", "did you mean rain"]),
        (nothing, ["photo.png", "--compose", "rain=much"], 2, ["rain=much"]),
        (nothing, ["photo.png", "--adapters", "rain,rain"], 2, ["twice"]),
        (nothing, ["photo.png", "-o", "text.png"], 1, ["text.png", "exists"]),
        (nothing, ["photo.png", "-o", "no/such/out.png"], 1, ["no/such", "create it"]),
        (nothing, ["photo.png", "-o", "out.xyz"], 2, ["out.xyz"]),
        (nothing, ["photo.png", "-o", "out"], 2, ["out: has no suffix"]),
        (nothing, ["x" * 300 + ".png"], 1, ["xxx.png: File name too long"]),
        (nothing, ["photo.png", "--package", "text.png"], 1, ["text.png", "not a package"]),
        (nothing, ["photo.png", "--memory-limit", "0"], 2, ["--memory-limit"]),
        (nothing, ["photo.png", "--quality", "77"], 2, ["77"]),
        (nothing, ["photo.png", "--every", "0"], 2, ["--every 0: must be at least 1"]),
        (nothing, ["photo.png", "--fade", "-1"], 2, ["--fade -1"]),
        (nothing, ["photo.png", "--fade", "nan"], 2, ["--fade nan"]),
        (nothing, ["photo.png", "--explain"], 2, ["--explain and --trace", "name no adapters"]),
        (nothing, ["photo.png", "--trace", "seen.json"], 2, ["--explain and --trace", "name no adapters"]),
        (nothing, ["photo.png", "--device", "abacus"], 2, ["abacus"]),
        (damage_missing_package, ["photo.png"], 1, ["restore.uir", "uir-export"]),
        (damage_adapter, ["photo.png"], 1, ["rain.safetensors", "SHA-256"]),
        (damage_schema, ["photo.png"], 1, ["manifest.json", "schema 2"]),
        (damage_path, ["photo.png"], 1, ["../rain.safetensors", "outside"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_bad_input_is_one_clear_line(
    run: Call, photo: Path, damage: Callable[[Path], None], arguments: list[str], status: int, said: list[str]
) -> None:
    folder = photo.parent
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("this is no video " * 50)
    (folder / "text.png").write_text("this is no picture " * 50)
    damage(folder)
    before = listing(folder)
    named = [] if {"--adapters", "--compose"} & set(arguments) else ["--adapters", "rain"]
    done = run(*arguments, *named)
    assert done.returncode == status, done.stderr
    for words in said:
        assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if "error:" in line]) == 1
    assert listing(folder) == before
