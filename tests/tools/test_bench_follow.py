"""`uir-bench follow`: that its numbers are the right ones. Nothing timed is asserted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from uir.export.cli import main as export
from uir.export.package_writer import ExportRouter
from uir.export.router import MEAN_OF_CLEAN, save_router
from uir.export.zoo import zoo_router
from uir.runtime import Composition, Restorer, UirError
from uir.runtime.decision import CLEAN, Decision
from uir.runtime.errors import MediaError, MissingFileError, OutputError, UsageError
from uir.runtime.follow import FollowOptions, Moment
from uir.runtime.manifest import RouterSettings
from uir.runtime.router import EMBEDDINGS, INPUTS
from uir.tools.bench.cli import main as bench
from uir.tools.bench.follow import fixed_decisions, follow
from uir.tools.bench.follow_results import Run, judge
from uir.tools.bench.metrics import Frame
from uir.tools.bench.weather import Segment, degraded, parse_segments, read_clip
from uir.tools.degrade import degrade_frame

BUNNY = Path(__file__).parents[1] / "media" / "bunny.mp4"
RATE, SIDE = 24, 64
RAIN, HAZE, BOTH = (Decision(Composition.parse(key)) for key in ("rain", "haze", "haze=0.5,rain=0.5"))


def one_sided_network() -> bytes:
    """A router's network to which every frame looks the same: its embedding is (1, 0)."""
    given = [helper.make_tensor_value_info(name, TensorProto.UINT8, ["n", *INPUTS[name]]) for name in INPUTS]
    embeddings = helper.make_tensor_value_info(EMBEDDINGS, TensorProto.FLOAT, ["n", 2])
    axes = numpy_helper.from_array(np.array([1, 2, 3]), "axes")
    nothing = numpy_helper.from_array(np.zeros((1, 2), np.float32), "nothing")
    same = numpy_helper.from_array(np.array([[1, 0]], np.float32), "same")
    nodes = [
        helper.make_node("Cast", ["thumbnails"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values", "axes"], ["mean"], keepdims=1),
        helper.make_node("Squeeze", ["mean", "last"], ["number"]),
        helper.make_node("MatMul", ["number", "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "same"], [EMBEDDINGS]),
    ]
    last = numpy_helper.from_array(np.array([2, 3]), "last")
    graph = helper.make_graph(nodes, "router", given, [embeddings], [axes, nothing, same, last])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def rainy_package(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package whose router sees rain everywhere; it knows nothing of noise."""
    folder = tmp_path_factory.mktemp("rainy")
    settings = RouterSettings(threshold=0.3, top_k=2, norm="sum", temperature=1.0, lattice=8)
    places = {"rain": (1, 0), "haze": (0, 1), "clean": (-1, 0), MEAN_OF_CLEAN: (-1, 0)}
    prototypes = {name: np.array(place, np.float32) for name, place in places.items()}
    shutil.copytree(zoo, folder / "zoo")
    (folder / "zoo" / "router").mkdir()
    save_router(folder / "zoo" / "router", ExportRouter(one_sided_network(), settings, prototypes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uir.export.zoo.ZOO", folder / "zoo")
        export(["--adapters", "rain,haze,noise", "-o", str(folder / "restore.uir")])
    return folder / "restore.uir"


def measured(package: Path, output: Path, *more: object) -> Any:
    """Run `uir-bench follow` in this process and return its JSON."""
    usual = ["--video", BUNNY, "--seconds", 0.25, "--max-side", SIDE, "--seed", 3, "--stride", 2]
    bench([str(each) for each in ["follow", "--package", package, *usual, "--json", output, *more]])
    return json.loads(output.read_text())


@dataclass
class Known:
    """Sees the truth: what each of some frames needs, by which frame it is."""

    frames: Sequence[Frame]
    needs: Sequence[Decision]

    def look(self, frame: NDArray[np.uint8]) -> dict[str, float]:
        (index,) = (i for i, each in enumerate(self.frames) if each is frame)
        return {name: self.needs[index].weights.get(name, 0.0) for name in ("rain", "haze")}

    def weigh(self, similarities: Mapping[str, float]) -> Decision:
        there = {name: value for name, value in similarities.items() if value > 0.3}
        return Decision(Composition.of(there)) if there else CLEAN


def test_a_router_that_sees_only_rain(rainy_package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segments = "clean,rain=0.6,rain=0.5+haze=0.5"
    trace, plot = tmp_path / "seen.json", tmp_path / "plot.png"
    report = measured(rainy_package, tmp_path / "f.json", "--segments", segments, "--trace", trace, "--plot", plot)
    results, settings = report["results"], report["settings"]
    assert (settings["segments"], settings["rate"], settings["size"]) == (segments.split(","), RATE, [64, 36])
    assert results["frames"] == {"in": 18, "out": 18}
    found = results["segments"]
    assert [(each["segment"], each["begins"]) for each in found] == [("clean", 0), ("rain", 0.25), ("rain+haze", 0.5)]
    assert [each["delay"] for each in found] == [None, 0, None]
    assert [each["served"] for each in found] == [None, 0, None]
    assert [(each["changes"], each["right"]) for each in found] == [(0, 0), (0, 1), (0, 0)]
    quality = results["psnr"]
    assert list(quality) == ["follower", "clean", "rain", "haze", "haze=0.5,rain=0.5"]
    assert quality["follower"] == quality["rain"]  # which is what served
    assert quality["clean"]["segments"][0] == 100
    # By hand: each second frame of the rain, under the seed of the second segment.
    clean, _ = read_clip(BUNNY, 0.25, 3, SIDE)
    drawn = int(np.random.SeedSequence([3, 1]).generate_state(1)[0])
    restorer = Restorer(rainy_package, "rain")
    squares = [
        (restorer(degrade_frame(clean[i], {"rain": 0.6}, drawn, i / RATE)).astype(float) - clean[i]) ** 2
        for i in (6, 8, 10)
    ]
    assert quality["rain"]["segments"][1] == pytest.approx(10 * np.log10(255**2 / np.mean(squares)), abs=1e-4)
    text = capsys.readouterr().out
    assert "Followed later than 0.5 s, or never: clean, rain+haze." in text
    assert "Frames in and out: 18 and 18" in text
    best = max(list(quality)[1:], key=lambda name: quality[name]["all"])
    assert f"The best fixed composition is {best}," in text
    (traced,) = json.loads(trace.read_text())["files"]
    assert [frame["served"] for frame in traced["frames"]] == ["rain"] * 18
    assert cv2.imread(str(plot)) is not None


def test_the_usual_segments_are_those_that_the_router_knows(
    rainy_package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = measured(rainy_package, tmp_path / "f.json")
    assert report["settings"]["segments"] == ["clean", "rain=0.6", "rain=0.5+haze=0.5"]
    assert "Left out, for want of adapters that the router knows: lowlight+noise." in capsys.readouterr().out


def test_a_router_that_knows_follows_each_change_once(shared_package: Path) -> None:
    segments = parse_segments("clean,rain=0.6,rain=0.5+haze=0.1")
    clean, rate = read_clip(BUNNY, 0.5, 3, SIDE)
    frames = list(degraded(clean, rate, segments, 0))
    needs = [each for each in (CLEAN, RAIN, BOTH) for _ in range(12)]
    done: list[None] = []
    run = follow(
        Restorer(shared_package),
        Known(frames, needs),
        FollowOptions(every=2, confirm=2),
        clean,
        frames,
        rate,
        range(0, 36, 5),
        lambda: done.append(None),
    )
    assert len(done) == len(run.moments) == len(run.seconds) == 36
    assert [moment.seconds for moment in run.moments] == [i / 24 for i in range(36)]
    assert sorted(run.errors) == [*range(0, 36, 5)]
    assert run.errors[0] == run.errors[5] == 0  # clean frames pass through
    assert run.errors[35] > 0
    dry, rain, both = judge(run, segments, rate)
    assert (dry.delay, dry.changes, dry.right) == (0, 0, 1)
    # Looked at with each second frame, and the second look confirms.
    assert [(each.delay, each.changes) for each in (rain, both)] == [(2, 1), (2, 1)]
    assert rain.delay_seconds == pytest.approx(2 / 24)
    assert rain.right == pytest.approx(10 / 12)


def moment(wanted: Decision, served: Decision) -> Moment:
    return Moment(0.0, None, False, wanted, served, None)


def test_how_a_segment_is_judged() -> None:
    """Chatter, an engine that comes late, and a stall."""
    wanted = [CLEAN, RAIN, CLEAN, CLEAN, CLEAN, HAZE, RAIN, RAIN]
    served = [CLEAN, CLEAN, CLEAN, CLEAN, CLEAN, CLEAN, HAZE, RAIN]
    seconds = [9.0, 1.0, 1.0, 2.0, 1.0, 4.0, 6.0, 7.0]
    moments = [moment(*each) for each in zip(wanted, served, strict=True)]
    dry, wet = judge(Run(moments, seconds, {}), parse_segments("clean,rain=0.5"), 8)
    assert (dry.begins, dry.frames, dry.delay, dry.changes, dry.right) == (0, 4, 0, 2, 0.75)
    assert (dry.usual, dry.longest, dry.stall) == (1, 2, 1)  # the first frame does not count
    assert (wet.begins, wet.delay, wet.delay_seconds, wet.served) == (0.5, 2, 0.25, 3)
    assert (wet.changes, wet.right) == (2, 0.5)
    assert (wet.usual, wet.longest, wet.stall) == (5, 7, 3)  # 4 seconds for a clean frame, where 1 is usual


def test_what_is_compared_with() -> None:
    found = fixed_decisions(parse_segments("clean,rain=0.6,rain=0.5+haze=0.5,haze=0.2+rain=0.1"))
    assert [decision.key for decision in found] == ["clean", "rain", "haze", "haze=0.5,rain=0.5"]


def test_a_short_clip_goes_back_and_forth() -> None:
    once, rate = read_clip(BUNNY, 4.0, 1, 16)
    frames, _ = read_clip(BUNNY, 3.0, 3, 16)
    assert (rate, len(once), len(frames)) == (24, 96, 216)
    for i, j in [(0, 0), (95, 95), (96, 94), (190, 0), (191, 1), (215, 25)]:
        assert np.array_equal(frames[i], once[j])
    assert not np.array_equal(once[94], once[95])


def test_the_footage_goes_on_while_the_weather_changes() -> None:
    clean, rate = read_clip(BUNNY, 0.25, 3, SIDE)
    segments = parse_segments("clean,noise=0.5,clean")
    frames = list(degraded(clean, rate, segments, 1))
    assert np.array_equal(frames[:6] + frames[12:], clean[:6] + clean[12:])
    drawn = int(np.random.SeedSequence([1, 1]).generate_state(1)[0])
    assert np.array_equal(frames[7], degrade_frame(clean[7], {"noise": 0.5}, drawn, 7 / 24))


def test_segments_are_read_as_they_are_written() -> None:
    assert parse_segments("clean, rain=0.6,rain=0.5+haze=0.4") == [
        Segment({}),
        Segment({"rain": 0.6}),
        Segment({"rain": 0.5, "haze": 0.4}),
    ]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (["--segments", "clean,noise=0.5"], UsageError, r"restore.uir: its router knows haze, rain; leave out noise"),
        (["--segments", "rain=0.5"], UsageError, "nothing changes with fewer than two segments"),
        (["--segments", "clean,fog=1"], UsageError, "'fog': no such degradation"),
        (["--segments", "clean,"], UsageError, "no degradation given"),
        (["--segments", "clean,rain=2"], UsageError, "rain"),
        (["--seconds", "0"], UsageError, "--seconds 0: must be more than 0"),
        (["--seconds", "nan"], UsageError, "--seconds nan"),
        (["--seconds", "0.05"], UsageError, "--seconds 0.05: .*two of them at least"),
        (["--seconds", "1e7"], UsageError, "take more than 4 GiB"),
        (["--max-side", "8"], UsageError, "--max-side 8"),
        (["--every", "0"], UsageError, "--every 0"),
        (["--stride", "0"], UsageError, "--stride 0"),
        (["--stride", "7"], UsageError, "--stride 7: a segment has 6 frames"),
        (["--seed", "-1"], UsageError, "--seed -1"),
        (["--video", "nowhere.mp4"], MissingFileError, "nowhere.mp4"),
        (["--video", __file__], MediaError, "test_bench_follow.py"),
        (["--package", "nowhere.uir"], UirError, "nowhere.uir: no such package"),
        (["--plot", "plot.svg"], UsageError, "plot.svg: a plot is a .png file"),
        (["--trace", __file__], OutputError, "exists already"),
    ],
)
def test_refusals(rainy_package: Path, tmp_path: Path, change: list[str], error: type[UirError], words: str) -> None:
    with pytest.raises(error, match=words):
        measured(rainy_package, tmp_path / "f.json", *change)
    assert not (tmp_path / "f.json").exists()


def test_a_package_without_a_router_is_refused(shared_package: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no router"):
        measured(shared_package, tmp_path / "f.json")


@pytest.mark.skipif(zoo_router() is None, reason="the zoo has no router")
def test_the_shipped_router_follows_rain(tmp_path: Path) -> None:
    export(["--adapters", "rain", "-o", str(tmp_path / "restore.uir")])
    arguments = ("--segments", "clean,rain=0.8", "--seconds", 0.5, "--max-side", 256, "--stride", 6)
    report = measured(tmp_path / "restore.uir", tmp_path / "f.json", *arguments)
    dry, wet = report["results"]["segments"]
    assert (dry["delay"], dry["changes"], wet["changes"]) == (0, 0, 1)
    assert wet["delay_seconds"] <= 0.5
