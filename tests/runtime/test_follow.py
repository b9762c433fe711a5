"""Following a stream: what is decided, when it is switched to, and that no frame waits or is lost.

The router is a script here, so that what it sees at each frame is known; what restores is real.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from uir.runtime import Composition, Restorer
from uir.runtime.arguments import Composable, FrameSize
from uir.runtime.backends import Engine
from uir.runtime.cuts import CutDetector
from uir.runtime.decision import CLEAN, Decision
from uir.runtime.errors import BackendError, FrameError, OutputError
from uir.runtime.follow import Follower, FollowOptions, Moment
from uir.runtime.trace import Trace, explain, write_traces

Frame = NDArray[np.uint8]
RAIN, HAZE, NOISE, BOTH = (Decision(Composition.parse(key)) for key in ("rain", "haze", "noise", "haze=0.5,rain=0.5"))
EACH = FollowOptions(every=1, confirm=2)
RATE = 24


@dataclass
class Script:
    """Sees the given compositions one after another, the last one for good: an adapter's similarity is its weight."""

    seen: Sequence[str]
    looks: int = 0

    def look(self, frame: Frame) -> dict[str, float]:
        assert frame.dtype == np.uint8
        key = self.seen[min(self.looks, len(self.seen) - 1)]
        weights = {} if key == CLEAN.key else Composition.parse(key).weights
        self.looks += 1
        return {name: weights.get(name, 0.0) for name in ("rain", "haze", "noise")}

    def weigh(self, similarities: Mapping[str, float]) -> Decision:
        there = {name: value for name, value in similarities.items() if value >= 0.2}
        total = sum(there.values())
        return Decision(Composition.of({name: value / total for name, value in there.items()})) if there else CLEAN


class Held(Restorer):
    """Its engines are made when the test says so, and fail where it says so."""

    def __init__(self, package: Path) -> None:
        super().__init__(package)
        self.asked: list[Decision] = []
        self.held: dict[Decision, Future[Engine]] = {}

    def prepare(self, composition: Composable, frame_size: FrameSize | None = None) -> Future[Engine]:
        assert isinstance(composition, Decision)
        assert frame_size is None
        self.asked.append(composition)
        return self.held.setdefault(composition, Future())

    def finish(self, decision: Decision) -> None:
        self.held[decision].set_result(super().prepare(decision).result(30))


@dataclass
class Stream:
    """A follower with what it told."""

    package: Path
    script: Script
    options: FollowOptions = EACH
    restorer: Restorer | None = None
    moments: list[Moment] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.restorer = self.restorer or Restorer(self.package)
        self.follower = Follower(self.restorer, self.script, self.options, self.moments.append)

    def run(self, frame: Frame, count: int = 1) -> list[Frame]:
        return [self.follower(frame, len(self.moments) / RATE) for _ in range(count)]

    @property
    def wanted(self) -> list[str]:
        return [moment.wanted.key for moment in self.moments]

    @property
    def served(self) -> list[str]:
        return [moment.served.key for moment in self.moments]


def test_the_first_look_decides_and_its_engine_is_waited_for(shared_package: Path, frame: Frame) -> None:
    stream = Stream(shared_package, Script(["rain"]))
    (restored,) = stream.run(frame)
    assert np.array_equal(restored, Restorer(shared_package, "rain")(frame))
    assert stream.served == ["rain"]
    assert stream.moments[0].precision == "fp32"


def test_a_clean_frame_passes_untouched_without_an_engine(shared_package: Path, frame: Frame) -> None:
    stream = Stream(shared_package, Script(["clean"]))
    assert stream.run(frame)[0] is frame
    assert (stream.served, stream.moments[0].precision, stream.follower.label) == (["clean"], None, "clean")


def test_one_odd_look_changes_nothing_and_two_do(shared_package: Path, frame: Frame) -> None:
    stream = Stream(shared_package, Script(["rain", "rain", "haze", "rain", "haze", "haze"]))
    stream.run(frame, 6)
    assert stream.wanted == ["rain"] * 5 + ["haze"]


def test_what_the_looks_disagree_about_is_decided_by_their_mean(shared_package: Path, frame: Frame) -> None:
    """A picture between two: each look sees one of them, or both."""
    stream = Stream(shared_package, Script(["rain", "haze", "noise", "haze=0.5,noise=0.5"]))
    stream.run(frame, 6)
    assert stream.wanted == ["rain"] * 2 + ["haze=0.5,noise=0.5"] * 4


def test_the_same_adapters_at_nearly_the_same_weights_are_no_change(shared_package: Path, frame: Frame) -> None:
    script = Script(["haze=0.5,rain=0.5", *["haze=0.3,rain=0.7"] * 5, *["haze=0.2,rain=0.8"] * 2])
    stream = Stream(shared_package, script)
    stream.run(frame, 8)
    assert stream.wanted == ["haze=0.5,rain=0.5"] * 7 + ["haze=0.2,rain=0.8"]


def test_a_decision_holds_nothing_of_what_was_before(shared_package: Path, frame: Frame) -> None:
    options = FollowOptions(every=1, confirm=3)
    stream = Stream(shared_package, Script(["rain", "haze", "haze", "haze=0.6,noise=0.4"]), options)
    stream.run(frame, 4)
    assert stream.wanted[:3] == ["rain"] * 3
    assert stream.moments[3].wanted == HAZE  # noise is there in the last alone, too little
    stream = Stream(shared_package, Script(["rain", "clean", "clean", "rain", "clean", "clean", "clean"]), options)
    stream.run(frame, 7)
    assert stream.wanted == ["rain"] * 6 + ["clean"]


@pytest.mark.parametrize(("rate", "looked"), [(60, [0, 3, 6, 9]), (24, [0, 3, 6, 9]), (15, [0, 2, 4, 6, 8]), (8, None)])
def test_where_frames_are_few_more_of_them_are_looked_at(
    shared_package: Path, frame: Frame, rate: int, looked: list[int] | None
) -> None:
    stream = Stream(shared_package, Script(["clean"]), FollowOptions())
    for i in range(10):
        stream.follower(frame, round(i / rate, 3))
    assert [i for i, m in enumerate(stream.moments) if m.similarities] == (looked or list(range(10)))


def test_it_looks_at_each_nth_frame_and_where_a_scene_begins(shared_package: Path, frame: Frame) -> None:
    script = Script(["rain", "rain", "haze"])
    stream = Stream(shared_package, script, FollowOptions(every=4))
    stream.run(frame, 6)
    stream.run(np.ascontiguousarray(255 - frame[::-1]), 3)  # another scene
    looked = [i for i, moment in enumerate(stream.moments) if moment.similarities is not None]
    assert looked == [0, 4, 6]
    assert [i for i, moment in enumerate(stream.moments) if moment.cut] == [6]
    assert stream.wanted == ["rain"] * 6 + ["haze"] * 3  # at once, and nothing of the scene before is left


def test_no_frame_waits_for_an_engine(shared_package: Path, frame: Frame) -> None:
    restorer = Held(shared_package)
    stream = Stream(shared_package, Script(["rain", "haze"]), restorer=restorer)
    stream.run(frame, 5)
    assert stream.wanted == ["rain", "rain"] + ["haze"] * 3
    assert stream.served == ["rain"] * 5
    assert restorer.asked == [HAZE]  # once
    restorer.finish(HAZE)
    restored = stream.run(frame, 2)
    assert stream.served[5:] == ["haze"] * 2
    assert np.array_equal(restored[0], Restorer(shared_package, "haze")(frame))


def test_the_nearest_composition_serves_meanwhile(shared_package: Path, frame: Frame) -> None:
    restorer = Held(shared_package)
    script = Script(["haze=0.5,rain=0.5", *["noise"] * 3, *["haze=0.8,rain=0.2"] * 3])
    stream = Stream(shared_package, script, restorer=restorer)
    stream.run(frame, 4)
    restorer.finish(NOISE)
    stream.run(frame, 3)
    assert stream.wanted == ["haze=0.5,rain=0.5"] * 2 + ["noise"] * 3 + ["haze=0.8,rain=0.2"] * 2
    # Until its own engine is there, what serves is the mix of the start, and not noise.
    assert stream.served == ["haze=0.5,rain=0.5"] * 4 + ["noise"] + ["haze=0.5,rain=0.5"] * 2


def test_a_change_of_mind_while_an_engine_is_made(shared_package: Path, frame: Frame) -> None:
    restorer = Held(shared_package)
    stream = Stream(shared_package, Script(["rain", "haze", "haze", "noise", "noise"]), restorer=restorer)
    stream.run(frame, 5)
    restorer.finish(HAZE)
    stream.run(frame)
    assert stream.served == ["rain"] * 6
    restorer.finish(NOISE)
    stream.run(frame)
    assert (stream.served[-1], restorer.asked) == ("noise", [HAZE, NOISE])


def test_an_engine_that_cannot_be_made_is_said_once_and_the_stream_goes_on(
    shared_package: Path, frame: Frame, caplog: pytest.LogCaptureFixture
) -> None:
    restorer = Held(shared_package)
    stream = Stream(shared_package, Script(["rain", "haze", "haze", "haze", "noise"]), restorer=restorer)
    stream.run(frame, 3)
    restorer.held[HAZE].set_exception(BackendError("no memory"))
    with caplog.at_level(logging.WARNING):
        stream.run(frame, 1)
    assert [record.message for record in caplog.records] == ["haze cannot be used, rain goes on: no memory"]
    stream.run(frame, 2)
    restorer.finish(NOISE)
    stream.run(frame)
    assert stream.served == ["rain"] * 6 + ["noise"]


def test_a_defect_in_the_background_is_not_swallowed(shared_package: Path, frame: Frame) -> None:
    restorer = Held(shared_package)
    stream = Stream(shared_package, Script(["rain", "haze"]), restorer=restorer)
    stream.run(frame, 3)
    restorer.held[HAZE].set_exception(ZeroDivisionError("a defect"))
    with pytest.raises(ZeroDivisionError, match="a defect"):
        stream.run(frame)


@pytest.mark.parametrize(("before", "after"), [("rain", "haze"), ("rain", "clean"), ("clean", "rain")])
def test_a_change_may_blend_over(shared_package: Path, frame: Frame, before: str, after: str) -> None:
    options = FollowOptions(every=1, confirm=2, fade=4 / RATE)
    restorer = Restorer(shared_package)
    for name in {before, after} - {"clean"}:
        restorer.compose(name)  # so that both are ready
    stream = Stream(shared_package, Script([before, after]), options, restorer)
    frames = stream.run(frame, 8)
    first, last = (frame if name == "clean" else Restorer(shared_package, name)(frame) for name in (before, after))
    assert stream.served == [before] * 2 + [after] * 6
    for step, restored in enumerate(frames[2:]):
        share = min(1.0, step / 4)
        blend = (1 - share) * first.astype(np.float64) + share * last
        assert np.abs(restored - blend).max() <= 0.51


@pytest.mark.parametrize("before", [2, 3])
def test_nothing_is_blended_over_a_cut(shared_package: Path, frame: Frame, before: int) -> None:
    """Neither a change that comes with it, nor one that is under way."""
    restorer = Restorer(shared_package)
    for name in ("rain", "haze"):
        restorer.compose(name)  # so that both are ready
    stream = Stream(
        shared_package, Script(["rain", "haze"]), FollowOptions(every=1, confirm=2, fade=4 / RATE), restorer
    )
    stream.run(frame, before)
    other = np.ascontiguousarray(255 - frame[::-1])
    (restored,) = stream.run(other)
    assert stream.moments[-1].cut
    assert stream.served == ["rain"] * 2 + ["haze"] * (before - 1)
    assert np.array_equal(restored, Restorer(shared_package, "haze")(other))


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        [[1, 2, 3]],
    ],
)
def test_what_is_no_frame_is_refused(shared_package: Path, frame: Frame, wrong: Any) -> None:
    stream = Stream(shared_package, Script(["clean"]))
    with pytest.raises(FrameError):
        stream.run(wrong)
    assert stream.run(frame)[0] is frame  # and the stream goes on
    assert len(stream.moments) == 1


def test_traces_say_when_what_changed(shared_package: Path, frame: Frame, tmp_path: Path) -> None:
    stream = Stream(shared_package, Script(["clean", "clean", "haze=0.5,rain=0.5"]), FollowOptions(every=2, confirm=2))
    stream.run(frame, 9)
    trace = Trace("clip.mp4", "an engine")
    assert [i for i, moment in enumerate(stream.moments) if trace.add(moment)] == [0, 6]
    assert trace.changes == [(0.0, CLEAN), (6 / RATE, BOTH)]
    assert explain(stream.moments[6]) == "rain 0.50, haze 0.50, noise 0.00 -> haze=0.5,rain=0.5"
    target = tmp_path / "seen.json"
    write_traces(target, [trace], overwrite=False)
    (written,) = json.loads(target.read_text())["files"]
    assert (written["input"], written["engine"], len(written["frames"])) == ("clip.mp4", "an engine", 9)
    assert written["frames"][0] == {
        "seconds": 0.0,
        "similarities": {"rain": 0.0, "haze": 0.0, "noise": 0.0},
        "cut": False,
        "wanted": "clean",
        "served": "clean",
        "precision": None,
    }
    assert written["frames"][1]["similarities"] is None
    with pytest.raises(OutputError, match="exists"):
        write_traces(target, [trace], overwrite=False)


def test_a_long_stream_need_not_be_kept(shared_package: Path, frame: Frame) -> None:
    stream = Stream(shared_package, Script(["clean", "rain", "rain"]))
    stream.run(frame, 4)
    trace = Trace("clip.mp4", "an engine", keep=False)
    for moment in stream.moments:
        trace.add(moment)
    assert (len(trace.changes), trace.moments) == (2, [])


def moving(index: int, rng: np.random.Generator | None = None) -> Frame:
    """A textured scene that moves by three pixels a frame, with noise where there is a generator."""
    texture = np.random.default_rng(5).integers(0, 256, (4, 20, 3)).astype(np.uint8)
    scene = cv2.resize(texture, (960, 144), interpolation=cv2.INTER_CUBIC)[:, 3 * index : 3 * index + 256]
    noise = 0 if rng is None else rng.normal(0, 40, scene.shape)
    return np.clip(scene.astype(np.float32) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("noisy", [False, True])
def test_only_another_scene_is_a_cut(noisy: bool) -> None:
    rng = np.random.default_rng(1) if noisy else None
    detector = CutDetector()
    frames = [moving(i, rng) for i in range(30)] + [moving(i, rng)[::-1] for i in range(90, 120)]
    assert [i for i, each in enumerate(frames) if detector(each)] == [30]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 2), (18, 32), (17, 31)])
def test_cuts_are_looked_for_in_frames_of_any_size(size: tuple[int, int]) -> None:
    detector = CutDetector()
    frames = [np.full((*size, 3), 90, np.uint8)] * 3
    assert [detector(each) for each in frames] == [False] * 3
