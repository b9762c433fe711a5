"""`uir-run` where no adapters are named: the router chooses. Here it tells degradations by their colour."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from uir.runtime import Composition, Restorer
from uir.runtime.cli import main as run
from uir.runtime.errors import OutputError, PackageError

Frame = NDArray[np.uint8]
GREY, RED, GREEN = (120, 120, 120), (170, 30, 30), (30, 170, 30)  # clean, rain, haze
RATE, LENGTH = 24, 24


def painted(colour: tuple[int, int, int]) -> Frame:
    frame = np.full((48, 64, 3), colour, np.uint8)
    frame[8:24, 8:40] += 20
    return frame


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A second each of a clean picture, rain and haze."""
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("ffv1", rate=Fraction(RATE))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for colour in (GREY, RED, GREEN):
            for _ in range(LENGTH):
                output.mux(stream.encode(av.VideoFrame.from_ndarray(painted(colour), format="rgb24")))
        output.mux(stream.encode(None))
    return path


def frames_of(path: Path) -> list[Frame]:
    with av.open(str(path)) as video:
        return [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]


def test_a_video_is_followed(routed_package: Path, clip: Path, tmp_path: Path, capsys: Any) -> None:
    seen, out = tmp_path / "seen.json", tmp_path / "out.mkv"
    options = ["--package", str(routed_package), "--codec", "ffv1", "--json", "--explain", "--trace", str(seen)]
    assert run([str(clip), "-o", str(out), *options]) == 0
    told = capsys.readouterr()
    (report,) = json.loads(told.out)
    assert report["frames"] == 3 * LENGTH == len(frames_of(out))
    names = [each["composition"] for each in report["compositions"]]
    assert names == ["clean", "rain", "haze"]
    for each, real in zip(report["compositions"], (0, 1, 2), strict=True):
        assert real <= each["seconds"] <= real + 0.5
    assert 0 < report["stages"]["router"] < report["stages"]["process"]
    said = told.err.splitlines()
    assert len(said) == 3
    assert said[0].startswith(f"{clip}: 0.00 s: clean 1.00, ") and said[0].endswith(" -> clean")
    (trace,) = json.loads(seen.read_text())["files"]
    assert trace["input"] == str(clip) and len(trace["frames"]) == 3 * LENGTH
    served = [each["served"] for each in trace["frames"]]
    assert (served[0], served[2 * LENGTH - 1], served[-1]) == ("clean", "rain", "haze")
    given, restored = frames_of(clip), frames_of(out)
    for index, name in ((LENGTH - 1, "clean"), (2 * LENGTH - 1, "rain"), (3 * LENGTH - 1, "haze")):
        # The codec keeps half of the colours' detail: what it is nearest to in brightness says what was done.
        could_be = {each: Restorer(routed_package, each)(given[index]) for each in ("rain", "haze", "noise")}
        could_be["clean"] = given[index]
        grey = {each: cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(int) for each, frame in could_be.items()}
        found = cv2.cvtColor(restored[index], cv2.COLOR_RGB2GRAY)
        distances = {each: np.abs(found - frame).mean() for each, frame in grey.items()}
        assert min(distances, key=lambda each: distances[each]) == name


def test_it_says_in_a_line_what_it_chose(routed_package: Path, clip: Path, tmp_path: Path, capsys: Any) -> None:
    run([str(clip), "-o", str(tmp_path / "out.mp4"), "--package", str(routed_package)])
    told = capsys.readouterr()
    assert "out.mp4: clean; rain; haze (2 changes), 72 frames in " in told.out
    assert told.err == ""


@pytest.mark.parametrize(("colour", "name"), [(GREY, "base"), (RED, "rain"), (GREEN, "haze")])
def test_each_picture_is_looked_at(
    routed_package: Path, tmp_path: Path, capsys: Any, colour: tuple[int, int, int], name: str
) -> None:
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), painted(colour)[..., ::-1])
    run([str(photo), "--package", str(routed_package), "--json"])
    (report,) = json.loads(capsys.readouterr().out)
    written = cv2.imread(str(tmp_path / "photo.restored.png"))[..., ::-1]
    expected = painted(colour) if name == "base" else Restorer(routed_package, name)(painted(colour))
    assert np.array_equal(written, expected)
    shown = "clean" if name == "base" else Composition.parse(name).key
    assert [each["composition"] for each in report["compositions"]] == [shown]


def test_a_trace_that_stands_there_is_kept(routed_package: Path, clip: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen.json"
    seen.write_text("mine")
    with pytest.raises(OutputError, match=r"seen\.json.*exists"):
        run([str(clip), "--package", str(routed_package), "--trace", str(seen)])
    assert seen.read_text() == "mine"
    assert not list(tmp_path.glob("*restored*"))


def test_a_damaged_router_is_said_and_named_adapters_still_run(
    routed_package: Path, tmp_path: Path, frame: Frame
) -> None:
    (routed_package / "router.onnx").write_bytes(b"not a network")
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), frame)
    with pytest.raises(PackageError, match=r"router\.onnx: is not the file that was exported"):
        run([str(photo), "--package", str(routed_package)])
    assert not list(tmp_path.glob("*restored*"))
    assert run([str(photo), "--package", str(routed_package), "--adapters", "rain"]) == 0


def test_following_may_be_slowed_and_blended(
    routed_package: Path, clip: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    look: Callable[..., Any] = __import__("uir.runtime.router", fromlist=["Router"]).Router.look
    monkeypatch.setattr("uir.runtime.router.Router.look", lambda self, frame: looked.append(1) or look(self, frame))
    options = ["--package", str(routed_package), "--every", "8", "--fade", "0.25", "--json"]
    run([str(clip), "-o", str(tmp_path / "out.mkv"), *options])
    assert len(looked) == 3 * LENGTH / 8
    (report,) = json.loads(capsys.readouterr().out)
    assert [each["composition"] for each in report["compositions"]] == ["clean", "rain", "haze"]
