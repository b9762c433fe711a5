"""`uir-bench trace`: that it draws what a follower traced, and refuses what is no trace."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib.figure
import numpy as np
import pytest

from uir.runtime.composition import Composition
from uir.runtime.decision import CLEAN, Decision
from uir.runtime.errors import MediaError, MissingFileError, OutputError, UirError, UsageError
from uir.runtime.follow import Moment
from uir.runtime.trace import Trace, write_traces
from uir.tools.bench.cli import main as bench
from uir.tools.bench.trace import draw_trace, read_trace

RAIN, MIX = (Decision(Composition.parse(key)) for key in ("rain", "haze=0.25,rain=0.75"))


def moment(index: int, wanted: Decision, served: Decision) -> Moment:
    looked = {"haze": 0.1 * index, "rain": 0.5, "clean": 0.3} if index % 2 == 0 else None
    return Moment(index / 24, looked, index == 3, wanted, served, None if served == CLEAN else "fp32")


def trace(name: str, wanted: Sequence[Decision]) -> Trace:
    """A trace in which each decision is served one frame later."""
    made = Trace(name, "an engine")
    for i, each in enumerate(wanted):
        made.add(moment(i, each, wanted[max(0, i - 1)]))
    return made


@pytest.fixture
def traced(tmp_path: Path) -> Path:
    """What uir-run writes for a video, a file that could not be opened, and a picture."""
    path = tmp_path / "seen.json"
    traces = [trace("clip.mp4", [CLEAN, CLEAN, RAIN, MIX, MIX]), trace("broken.mp4", []), trace("photo.png", [RAIN])]
    write_traces(path, traces, overwrite=False)
    return path


def test_each_file_becomes_a_picture(traced: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench(["trace", str(traced), "-o", str(tmp_path / "plot.png"), "--json", str(tmp_path / "numbers.json")])
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["plot-1.png", "plot-2.png"]
    for path in tmp_path.glob("*.png"):
        picture = cv2.imread(str(path))
        assert picture is not None
        assert picture.shape[1] > 1000
        assert len(np.unique(picture[::9, ::9].reshape(-1, 3), axis=0)) > 5
    first, second = json.loads((tmp_path / "numbers.json").read_text())["results"]
    assert first["decisions"] == [
        {"seconds": 0.0, "wanted": "clean", "frames": 2},
        {"seconds": round(2 / 24, 6), "wanted": "rain", "frames": 1},
        {"seconds": round(3 / 24, 6), "wanted": "haze=0.25,rain=0.75", "frames": 2},
    ]
    assert (first["frames"], first["looks"], first["cuts"]) == (5, 3, [0.125])
    assert first["served"] == {"clean": 3, "rain": 1, "haze=0.25,rain=0.75": 1}
    assert (second["input"], second["frames"]) == ("photo.png", 1)
    text = capsys.readouterr().out
    assert "clip.mp4: 5 frames, scene cuts: 1" in text
    assert "Without a frame: broken.mp4." in text


def test_what_is_drawn(traced: Path) -> None:
    figure = draw_trace(read_trace(traced)[0], [(0.1, "rain")])
    assert isinstance(figure, matplotlib.figure.Figure)
    seen, wanted, served = figure.axes
    lines = {tuple(line.get_ydata()) for line in seen.lines}  # type: ignore[arg-type]
    assert {(0.0, 0.2, 0.4), (0.5, 0.5, 0.5), (0.3, 0.3, 0.3)} <= lines
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["haze", "rain", "clean", "scene cut", "real change"]
    assert [text.get_text() for text in seen.texts] == ["rain"]
    for axes in (wanted, served):  # haze, rain and clean, each as high as its weight
        haze, rain, clean = (collection.get_paths()[0].vertices[:, 1] for collection in axes.collections)
        assert haze.max() == 0.25
        assert (rain.max(), clean.max()) == (1, 1)
        assert axes.get_xlim()[1] == pytest.approx(5 / 24, rel=1e-4)  # the last frame has its time, too


def test_one_file_of_several(traced: Path, tmp_path: Path) -> None:
    bench(["trace", str(traced), "-o", str(tmp_path / "plot.png"), "--file", "3"])
    assert [path.name for path in tmp_path.glob("*.png")] == ["plot.png"]


def test_what_stands_there_is_kept(traced: Path, tmp_path: Path) -> None:
    (tmp_path / "plot-2.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"plot-2.png: exists already"):
        bench(["trace", str(traced), "-o", str(tmp_path / "plot.png")])
    assert [path.name for path in tmp_path.glob("*.png")] == ["plot-2.png"]
    bench(["trace", str(traced), "-o", str(tmp_path / "plot-2.png"), "--file", "3", "--overwrite"])
    assert (tmp_path / "plot-2.png").read_bytes()[:4] == b"\x89PNG"


FRAME = {"seconds": 0, "similarities": None, "cut": False, "wanted": "rain", "served": "rain", "precision": None}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no JSON",
        b"\xff\xfe{}",
        b"[]",
        b'{"benchmark": "size", "results": []}',
        b'{"files": [{"input": "a", "engine": "b", "frames": [{"seconds": "soon"}]}]}',
        json.dumps({"files": [{"input": "a", "engine": "b", "frames": [{**FRAME, "wanted": "rain="}]}]}).encode(),
    ],
)
def test_what_is_no_trace_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "seen.json"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"seen.json: not a trace that uir-run --trace wrote"):
        bench(["trace", str(path), "-o", str(tmp_path / "plot.png")])


@pytest.mark.parametrize("files", [[], [{"input": "a", "engine": "b", "frames": []}]])
def test_nothing_to_draw(files: list[object], tmp_path: Path) -> None:
    path = tmp_path / "seen.json"
    path.write_text(json.dumps({"files": files}))
    with pytest.raises(MediaError, match=r"seen.json: no frame was traced"):
        bench(["trace", str(path), "-o", str(tmp_path / "plot.png")])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (["nowhere.json"], MissingFileError, "nowhere.json: no such file"),
        (["--file", "0"], UsageError, "--file 0: must be 1 or more"),
        (["--file", "4"], UsageError, r"--file 4: .*seen.json has 3"),
        (["--file", "2"], MediaError, "no frame was traced"),
        (["-o", "plot.svg"], UsageError, "plot-1.svg: a plot is a .png file"),
        (["-o", "nowhere/plot.png"], OutputError, "nowhere: no such folder"),
    ],
)
def test_refusals(traced: Path, tmp_path: Path, change: list[str], error: type[UirError], words: str) -> None:
    usual = ["-o", str(tmp_path / "plot.png")]
    arguments = [*usual, *change] if change[0].startswith("-") else [*change, *usual]
    with pytest.raises(error, match=words):
        bench(["trace", *([] if change == ["nowhere.json"] else [str(traced)]), *arguments])
    assert not list(tmp_path.glob("*.png"))
