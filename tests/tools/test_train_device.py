"""`uir-train` on any device and in so many minutes: its clock, its feed, where it starts from and what it needs."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import safetensors.numpy
import torch

from uir.export.adapters import load_adapter
from uir.export.bases import LoadedBase, load_base, save_base
from uir.export.trace import trace
from uir.runtime.errors import MissingFileError, UsageError
from uir.tools.processor import usable_cores
from uir.tools.publish import publish
from uir.tools.train import cli, device, feed, loop, progress
from uir.tools.train.data import DegradedPatches
from uir.tools.train.settings import Sampling, Schedule

SMALL = ["--patch", "32", "--large-patch", "64", "--batch", "4", "--rank", "2", "--workers", "0"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo of waves, 96 x 80."""
    folder = tmp_path_factory.mktemp("photos")
    y, x = np.mgrid[0:80, 0:96]
    waves = np.stack([128 + 80 * np.sin(x / (5 + 4 * c) + y / 13) for c in range(3)], axis=2)
    assert cv2.imwrite(str(folder / "waves.png"), waves.astype(np.uint8))
    return folder


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A function that sets the clock of training, on which each look takes a quarter of a second."""

    def set_to(start: float) -> None:
        ticks = itertools.count(start, 0.25)
        for module in (cli, loop, progress):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(ticks)))

    return set_to


def arguments(photos: Path, out: Path, *more: str) -> list[str]:
    return ["base", "--photos", str(photos), "--degradations", "noise,rain", *SMALL, *more, "--out", str(out)]


def place(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(run / "checkpoint.pt", weights_only=True)["place"]
    return found


def test_a_run_ends_in_its_minutes_and_an_interruption_takes_none_of_them(
    photos: Path, tmp_path: Path, clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, save, rates = tmp_path / "run", loop._save, []
    minute = arguments(photos, run, "--minutes", "1", "--large-share", "0.5")

    class StoppedError(Exception):
        pass

    def stop_after(*given: Any) -> None:
        save(*given)
        raise StoppedError

    clock(500)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "CHECKPOINT_SECONDS", 20.0)
        patch.setattr(loop, "_save", stop_after)
        with pytest.raises(StoppedError):
            cli.main(minute)
    halfway = place(run)
    assert not halfway["ended"]
    assert 20 < halfway["seconds"] < 30
    assert halfway["large_from"] is None
    assert not (run / "base.safetensors").exists()

    clock(9000)  # much later
    step = loop._step

    def noted(network: Any, mix: Any, batches: Any, optimiser: Any) -> Any:
        rates.append((optimiser.param_groups[0]["lr"], batches[0][1].shape[2]))
        return step(network, mix, batches, optimiser)

    monkeypatch.setattr(loop, "_step", noted)
    cli.main(minute)
    ended = place(run)
    assert ended["ended"]
    assert 57 < ended["seconds"] <= 60
    assert ended["step"] == halfway["step"] + len(rates)
    assert halfway["step"] < ended["large_from"] < ended["step"]
    falling, sides = zip(*rates, strict=True)
    assert list(falling) == sorted(falling, reverse=True)
    assert falling[-1] < 0.01 * Schedule.lr < falling[0]
    assert list(sides) == sorted(sides)
    assert set(sides) == {32, 64}
    assert sides.count(32) == ended["large_from"] - halfway["step"]
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] == ended["step"]
    assert {"seconds", "patches a second", "waited for patches"} < last.keys()
    assert last["psnr"]

    before = (run / "base.safetensors").read_bytes()
    clock(20000)
    cli.main(minute)  # done: the same command changes nothing
    assert place(run) == ended
    assert (run / "base.safetensors").read_bytes() == before

    clock(0)
    with pytest.raises(UsageError, match=r"--minutes 0\.04 were over before the first step"):
        cli.main(arguments(photos, tmp_path / "none", "--minutes", "0.04"))
    assert not (tmp_path / "none" / "base.safetensors").exists()


def test_of_steps_and_minutes_what_ends_first_holds(
    photos: Path, tmp_path: Path, clock: Callable[[float], None]
) -> None:
    for minutes, steps in ((1.0, 3), (0.1, 1000)):
        run = tmp_path / str(steps)
        clock(0)
        cli.main(arguments(photos, run, "--minutes", str(minutes), "--steps", str(steps)))
        assert (place(run)["step"] == steps) == (steps == 3)
        assert place(run)["seconds"] <= 60 * minutes


def test_the_learning_rate_rises_and_falls_to_nothing() -> None:
    assert progress.rate(0.0) == 0.0
    assert progress.rate(0.02) == 1.0
    assert progress.rate(0.51) == pytest.approx(0.5)
    assert progress.rate(1.0) == pytest.approx(0.0)


class Numbered(DegradedPatches):
    """Batches whose pixels are all their number, from the left to the right a little brighter."""

    def __init__(self) -> None:
        self.sampling = Sampling(batch=1, patch=16, large=16)

    def __getitem__(self, key: tuple[int, bool]) -> Any:
        number, _ = key
        pixels = np.full((1, 16, 16, 3), number, np.uint8)
        pixels[:, :, 8:] += 1
        return SimpleNamespace(weights={"noise": float(number)}, degraded=pixels, clean=pixels + 100)


def drawn(count: int, turn: int, workers: int = 0, reuse: int = 3) -> list[tuple[float, int, int, bool]]:
    """Of each turn: the batch by its weight, by its pixels and by those of its target, and whether it is mirrored."""
    turns = feed.feed(Numbered(), torch.device("cpu"), large=False, first=20, turn=turn, reuse=reuse, workers=workers)
    found = []
    for weights, pair, mirrored in itertools.islice(turns, count):
        degraded, clean = (255 * part for part in feed.pictures(pair, mirrored))
        assert degraded.shape == (1, 3, 16, 16)
        assert degraded.is_contiguous(memory_format=torch.channels_last)
        left, right = float(degraded[0, 0, 0, 0]), float(degraded[0, 0, 0, -1])
        assert (left > right) == mirrored
        found.append((weights["noise"], round(min(left, right)), round(float(clean.min())) - 100, mirrored))
    turns.close()
    return found


def test_each_batch_is_used_so_many_times_far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "GAP", 4)
    turns = drawn(90, 0)
    assert all(weight == seen == wanted for weight, seen, wanted, _ in turns)
    numbers = [seen for _, seen, _, _ in turns]
    assert numbers[:3] == [20, 20, 20]  # there is no other yet
    assert numbers[60:66] == [40, 36, 32, 41, 37, 33]
    assert {numbers.count(number) for number in range(30, 40)} == {3}
    assert [mirrored for *_, mirrored in turns[:6]] == [False, True, False] * 2
    # Whoever begins later sees what follows; so does who has the batches made by other processes.
    assert drawn(29, 61) == turns[61:]
    assert drawn(40, 50, workers=2) == turns[50:]
    assert [seen for _, seen, _, _ in drawn(5, 2, reuse=1)] == [22, 23, 24, 25, 26]


def test_a_step_on_several_compositions_goes_by_the_mean_of_their_losses() -> None:
    """A step on two batches moves the weights as the mean of their losses does."""
    network = torch.nn.Conv2d(3, 3, 1)
    pairs = [torch.randint(0, 255, (2, 4, 8, 8, 3), dtype=torch.uint8) for _ in range(2)]
    turns: list[feed.Turn] = [({}, pair, False) for pair in pairs]
    gradients = []
    for batches in ([turns[0]], [turns[1]], turns):
        optimiser = torch.optim.SGD(network.parameters(), lr=0.0)
        loop._step(network, SimpleNamespace(weights={}), batches, optimiser)  # type: ignore[arg-type]
        assert network.weight.grad is not None
        gradients.append(network.weight.grad.clone())
    torch.testing.assert_close(gradients[2], (gradients[0] + gradients[1]) / 2)


def test_the_average_begins_as_the_weights_and_follows_them() -> None:
    network, average = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    loop._follow(average, network, 5, 0.9)
    assert torch.equal(average.weight, network.weight)
    before = network.weight.detach().clone()
    torch.nn.init.ones_(network.weight)
    loop._follow(average, network, 10, 0.9)
    torch.testing.assert_close(average.weight.detach(), before * 0.9**5 + (1 - 0.9**5))


def test_a_zoo_is_a_place_to_start_from(zoo: Path, photos: Path, tmp_path: Path) -> None:
    """With a learning rate next to nothing, what was read is what is written; and that can be published."""
    run = tmp_path / "run"
    cli.main(arguments(photos, run, "--steps", "1", "--lr", "1e-12", "--init", str(zoo)))
    before = load_base(zoo / "base" / "base.safetensors").network.state_dict()
    after = load_base(run / "base.safetensors").network.state_dict()
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight, atol=1e-6, rtol=0)
    for name in ("noise", "rain"):
        updates = load_adapter(run / name).updates
        for weight, update in load_adapter(zoo / "adapters" / name).updates.items():
            size = (update.size,)
            np.testing.assert_allclose(updates[weight].delta(size), update.delta(size), atol=1e-6)
    record = json.loads((run / "record.json").read_text())
    assert sorted(record["began from"]) == ["base", "noise", "rain"]
    assert record["device"]
    publish(run, tmp_path / "zoo", "again")
    assert (tmp_path / "zoo" / "base" / "graph.onnx").exists()
    with pytest.raises(MissingFileError, match=r"none/base\.safetensors"):
        cli.main(arguments(photos, tmp_path / "other", "--init", str(tmp_path / "none")))


def test_a_training_that_diverges_is_said_and_writes_nothing(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(UsageError, match="the training diverged; choose another --out, and a lower --lr"):
        cli.main(arguments(photos, run, "--steps", "8", "--lr", "1e30"))
    assert sorted(path.name for path in run.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--minutes", "0"], "--minutes must be a number above 0"),
        (["--minutes", "-1"], "--minutes must be a number above 0"),
        (["--minutes", "nan"], "--minutes must be a number above 0"),
        (["--minutes", "inf"], "--minutes must be a number above 0"),
        (["--compositions", "0"], "--compositions must be at least 1"),
        (["--reuse", "0"], "--reuse must be at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(photos: Path, tmp_path: Path, options: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        cli.main(arguments(photos, tmp_path / "run", *options))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("options", [["--workers", "many"], ["--device", "tpu"]])
def test_words_that_are_none_are_refused(photos: Path, tmp_path: Path, options: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments(photos, tmp_path / "run", *options))
    assert caught.value.code == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--device cuda: torch sees no NVIDIA GPU here"):
        cli.main(arguments(photos, tmp_path / "run", "--device", "cuda"))
    assert not (tmp_path / "run").exists()


def test_a_gpu_is_fed_by_all_cores_but_one() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert device.processes(None, cpu) == 1
    assert device.processes(None, gpu) == max(1, usable_cores() - 1)
    assert [device.processes(asked, each) for asked in (0, 3) for each in (cpu, gpu)] == [0, 0, 3, 3]


@pytest.mark.requires_gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_run_on_a_gpu_goes_on_on_a_cpu(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = loop._save

    def only_first(path: Path, parts: Any, identity: Any, where: loop.Place) -> None:
        if where.step <= 6:
            save(path, parts, identity, where)

    options = ["--steps", "12", "--compositions", "2", "--reuse", "2", "--workers", "2"]
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_save", only_first)
        patch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
        cli.main(arguments(photos, run, *options, "--device", "cuda"))
    on_gpu = safetensors.numpy.load_file(run / "base.safetensors")
    assert place(run)["step"] == 6
    for trainer in ("cpu", "cuda"):
        cli.main(arguments(photos, run, *options, "--device", trainer))
        for name, weight in safetensors.numpy.load_file(run / "base.safetensors").items():
            np.testing.assert_allclose(weight, on_gpu[name], atol=2e-3)
    assert place(run)["ended"]


def test_the_medium_base_is_of_six_times_the_work_and_traces(tmp_path: Path) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    work = []
    for size in ("unet", "unet-medium"):
        made = LoadedBase.new(size)
        assert made.architecture == "unet"
        with FlopCounterMode(display=False) as counter, torch.device("meta"):
            made.network.to("meta")(torch.empty(1, 3, 64, 64))
        work.append(counter.get_total_flops())
    assert 5 < work[1] / work[0] < 8
    medium = LoadedBase.new("unet-medium")
    save_base(tmp_path / "base.safetensors", "unet", medium.network.state_dict())
    again = load_base(tmp_path / "base.safetensors").network
    assert sum(map(torch.numel, again.parameters())) == sum(map(torch.numel, medium.network.parameters()))
    traced = trace(again)
    assert traced.frame.multiple_of == 16


def test_training_a_base_needs_neither_onnx_nor_videos() -> None:
    code = "import sys, uir.tools.train.work; print(*{name.split('.')[0] for name in sys.modules})"
    answered = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert answered.returncode == 0, answered.stderr
    assert not {"av", "onnx", "onnxruntime", "onnxscript", "PIL", "filelock"} & set(answered.stdout.split())
