"""`uir-train` for a few real steps: it resumes to the bit, and what it writes is what it trained."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from peft import PeftModel
from torch import nn

from uir.export.adapters import load_adapter
from uir.export.bases import load_base
from uir.runtime.composition import Composition
from uir.runtime.errors import BaseModelError, MediaError, MissingFileError, OutputError, UirError, UsageError
from uir.runtime.factors import Factors
from uir.runtime.merge import merge
from uir.tools.photos import find_photos
from uir.tools.train import cli, loop, work
from uir.tools.train.data import COMMON, DegradedPatches
from uir.tools.train.lora import LowRankUpdate
from uir.tools.train.settings import Sampling

SMALL = ["--steps", "10", "--patch", "32", "--large-patch", "64", "--batch", "8", "--rank", "2", "--workers", "0"]
STILL = [*SMALL, "--steps", "1", "--lr", "1e-12"]
"""One step with a learning rate next to nothing: what it read is what it writes."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photos: smooth shapes with a little grain, 96 x 80."""
    folder = tmp_path_factory.mktemp("photos")
    y, x = np.mgrid[0:80, 0:96]
    for number in range(2):
        rng = np.random.default_rng(number)
        waves = [128 + 80 * np.sin(x / rng.uniform(5, 20) + y / rng.uniform(5, 20)) for _ in range(3)]
        picture = np.stack(waves, axis=2) + rng.normal(0, 3, (80, 96, 3))
        assert cv2.imwrite(str(folder / f"{number}.png"), picture.clip(0, 255).astype(np.uint8))
    (folder / "notes.txt").write_text("not a photo")
    return folder


def interrupted(at: int, how: int, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run uir-train in a process of its own whose last checkpoint is of step `at`, stopped two steps on."""
    code = f"""
import os, sys
from uir.tools.train import loop, run
loop.CHECKPOINT_SECONDS = -1.0
save = loop._save
def save_until(path, parts, identity, place):
    if place.step <= {at}:
        save(path, parts, identity, place)
    elif place.step == {at} + 2:
        os.killpg(0, {how})  # as Ctrl-C does: the whole group
loop._save = save_until
sys.argv = ["uir-train", *sys.argv[1:]]
run()
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-c", code, *arguments]
    return subprocess.run(program, capture_output=True, text=True, env=environment, timeout=120, start_new_session=True)


def outputs(run: Path) -> dict[str, bytes]:
    """Every file of weights in a run's folder."""
    return {str(file.relative_to(run)): file.read_bytes() for file in sorted(run.rglob("*.safetensors"))}


def test_a_run_that_was_killed_and_interrupted_ends_as_if_it_had_not_been(photos: Path, tmp_path: Path) -> None:
    def arguments(name: str, workers: int) -> list[str]:
        chosen = ["base", "--photos", str(photos), "--degradations", "rain,noise", *SMALL]
        return [
            *chosen,
            "--workers",
            str(workers),
            "--singles",
            "0.5",
            "--lora-plus",
            "4",
            "--compositions",
            "2",
            "--reuse",
            "3",
            "--out",
            str(tmp_path / name),
        ]

    cli.main(arguments("whole", 0))
    whole = outputs(tmp_path / "whole")
    assert sorted(whole) == ["base.safetensors", *(f"{n}/adapter_model.safetensors" for n in ("noise", "rain"))]

    killed = interrupted(3, signal.SIGKILL, arguments("broken", 1))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert outputs(tmp_path / "broken") == {}
    stopped = interrupted(6, signal.SIGINT, arguments("broken", 1))
    assert stopped.returncode == 130, stopped.stderr
    assert "the same command goes on from" in stopped.stderr + stopped.stdout
    assert "Traceback" not in stopped.stderr
    assert outputs(tmp_path / "broken") == {}

    with pytest.raises(UsageError, match=r"checkpoint\.pt: was made with other settings \(seed\)"):
        cli.main([*arguments("broken", 0), "--seed", "2"])
    with pytest.raises(UsageError, match=r"other settings \(rank, alpha\)"):
        cli.main([*arguments("broken", 0), "--rank", "3"])
    with pytest.raises(UsageError, match=r"other settings \(schedule\)"):
        cli.main([*arguments("broken", 0), "--steps", "20"])

    assert torch.load(tmp_path / "broken" / "checkpoint.pt", weights_only=True)["place"]["step"] == 6
    cli.main(arguments("broken", 0))
    assert outputs(tmp_path / "broken") == whole
    record = json.loads((tmp_path / "broken" / "record.json").read_text())
    assert record["adapters"] == ["noise", "rain"]
    assert record["command"][:2] == ["uir-train", "base"]

    cli.main(arguments("broken", 0))  # done: the same command changes nothing
    assert outputs(tmp_path / "broken") == whole


@pytest.fixture(scope="module")
def trained(photos: Path, training_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """Two adapters trained over the small frozen base, and the network that was trained."""
    run = tmp_path_factory.mktemp("adapters")
    networks: list[nn.Module] = []

    def keep(*given: Any, **options: Any) -> nn.Module:
        networks.append(loop.train(*given, **options))
        return networks[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "train", keep)
        arguments = ["adapter", "rain", "noise", "--base", str(training_run / "base.safetensors")]
        arguments += ["--photos", str(photos), *SMALL, "--steps", "40", "--alpha", "3", "--out", str(run)]
        cli.main(arguments)
    return run, networks[0]


@pytest.mark.parametrize("name", ["rain", "noise"])
def test_peft_computes_what_was_trained_and_what_is_merged(
    trained: tuple[Path, nn.Module], training_run: Path, name: str
) -> None:
    run, network = trained
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    base = load_base(training_run / "base.safetensors").network
    adapter = load_adapter(run / name)
    merged = copy.deepcopy(base)
    weights = {key: tensor.numpy() for key, tensor in base.state_dict().items()}
    updated = merge(weights, {name: adapter}, Composition.of({name: 1.0}))
    merged.load_state_dict({key: torch.from_numpy(weight) for key, weight in updated.items()})
    for update in network.modules():
        if isinstance(update, LowRankUpdate):
            update.mix.weights = {name: 1.0}
    with torch.no_grad():
        alone, ours, as_trained = base(picture), merged(picture), network(picture)
        theirs = PeftModel.from_pretrained(copy.deepcopy(base), run / name).eval()(picture)
    assert (ours - alone).abs().max() > 1e-3  # it learnt something
    torch.testing.assert_close(as_trained, ours, atol=1e-5, rtol=0)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)


def test_a_frozen_base_stays_as_it_was(trained: tuple[Path, nn.Module], training_run: Path) -> None:
    run, network = trained
    before = safetensors.numpy.load_file(training_run / "base.safetensors")
    after = {name: tensor.numpy() for name, tensor in work.base_weights(network).items()}
    assert before.keys() == after.keys()
    for name, weight in before.items():
        np.testing.assert_array_equal(after[name], weight)
    # A step without adapters would have nothing to learn, and no gradient.
    sampling = json.loads((run / "record.json").read_text())["sampling"]
    assert sampling["singles"] + sampling["pairs"] + sampling["triples"] == pytest.approx(1)


def test_training_may_start_from_adapters(
    trained: tuple[Path, nn.Module], photos: Path, training_run: Path, tmp_path: Path
) -> None:
    """With a learning rate next to nothing, what was read is what is written."""
    run, _ = trained
    arguments = ["adapter", "rain", "--base", str(training_run / "base.safetensors"), "--photos", str(photos), *SMALL]
    arguments += ["--steps", "1", "--lr", "1e-12", "--init", str(run)]
    cli.main([*arguments, "--alpha", "5", "--out", str(tmp_path / "again")])
    before, after = load_adapter(run / "rain"), load_adapter(tmp_path / "again" / "rain")
    for name, update in before.updates.items():
        size = (update.size,)
        np.testing.assert_allclose(after.updates[name].delta(size), update.delta(size), atol=1e-6)
    with pytest.raises(UsageError, match="has no factors of the asked rank"):
        cli.main([*arguments, "--rank", "3", "--out", str(tmp_path / "third")])


def deltas(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    return {name: update.delta((update.size,)) for name, update in load_adapter(folder).updates.items()}


def test_a_base_may_start_from_a_run_and_take_new_adapters_in(
    trained: tuple[Path, nn.Module], photos: Path, training_run: Path, tmp_path: Path
) -> None:
    begin = tmp_path / "begin"
    shutil.copytree(trained[0] / "rain", begin / "rain")
    shutil.copy(training_run / "base.safetensors", begin)
    arguments = ["base", *STILL, "--degradations", "rain,snow", "--init", str(begin), "--photos", str(photos)]
    cli.main([*arguments, "--out", str(tmp_path / "run")])
    before, after = (safetensors.numpy.load_file(f / "base.safetensors") for f in (begin, tmp_path / "run"))
    for name, weight in before.items():
        np.testing.assert_allclose(after[name], weight, atol=1e-6)
    for name, delta in deltas(begin / "rain").items():
        np.testing.assert_allclose(deltas(tmp_path / "run" / "rain")[name], delta, atol=1e-6)
    assert all(np.abs(delta).max() < 1e-6 for delta in deltas(tmp_path / "run" / "snow").values())
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert sorted(record["began from"]) == ["base", "rain"]

    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match=r"empty/base\.safetensors"):
        cli.main([*arguments, "--init", str(tmp_path / "empty"), "--out", str(tmp_path / "other")])


def test_a_later_adapter_joins_while_the_others_stay(
    trained: tuple[Path, nn.Module], photos: Path, training_run: Path, tmp_path: Path
) -> None:
    networks: list[nn.Module] = []

    def keep(*given: Any, **options: Any) -> nn.Module:
        networks.append(loop.train(*given, **options))
        return networks[0]

    arguments = ["adapter", "snow", "--base", str(training_run / "base.safetensors"), "--photos", str(photos), *SMALL]
    arguments += ["--steps", "20", "--singles", "0.2", "--init", str(trained[0])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "train", keep)
        cli.main([*arguments, "--beside", "rain,noise", "--alpha", "3", "--out", str(tmp_path / "run")])
    assert sorted(path.name for path in (tmp_path / "run").glob("*/")) == ["snow"]
    assert max(np.abs(delta).max() for delta in deltas(tmp_path / "run" / "snow").values()) > 1e-4
    for name in ("rain", "noise"):
        before = load_adapter(trained[0] / name).updates
        for weight, update in work.updates(networks[0]):
            factors = before[weight]
            assert isinstance(factors, Factors)
            np.testing.assert_array_equal(update.a[name].detach().numpy(), factors.a)
            np.testing.assert_array_equal(update.b[name].detach().numpy(), factors.b)

    with pytest.raises(UsageError, match="--beside rain: these stay frozen"):
        cli.main(["adapter", "rain", *arguments[1:], "--beside", "rain", "--out", str(tmp_path / "other")])
    with pytest.raises(UsageError, match="no such degradation: fog"):
        cli.main([*arguments, "--beside", "fog", "--out", str(tmp_path / "other")])
    without = arguments[: arguments.index("--init")]
    with pytest.raises(UsageError, match="--beside needs --init"):
        cli.main([*without, "--beside", "rain", "--out", str(tmp_path / "other")])


def test_a_whole_network_starts_from_base_and_adapter(
    trained: tuple[Path, nn.Module], photos: Path, training_run: Path, tmp_path: Path
) -> None:
    base = training_run / "base.safetensors"
    arguments = ["full", "rain", "--base", str(base), "--photos", str(photos), "--init", str(trained[0])]
    cli.main([*arguments, *STILL, "--out", str(tmp_path / "still")])
    before, after = safetensors.numpy.load_file(base), safetensors.numpy.load_file(tmp_path / "still/base.safetensors")
    assert before.keys() == after.keys()
    added = deltas(trained[0] / "rain")
    for name, weight in before.items():
        expected = weight + added[name].reshape(weight.shape) if name in added else weight
        np.testing.assert_allclose(after[name], expected, atol=1e-6)
    cli.main([*arguments, *SMALL, "--out", str(tmp_path / "moved")])
    moved = safetensors.numpy.load_file(tmp_path / "moved" / "base.safetensors")
    assert all(not np.array_equal(moved[name], after[name]) for name in before)
    assert sorted(path.name for path in (tmp_path / "moved").glob("*/")) == []


def test_every_batch_is_a_function_of_seed_and_number(photos: Path) -> None:
    def batches(seed: int) -> DegradedPatches:
        sampling = Sampling(0.4, 0.4, 0.0, intact=0.0, patch=32, batch=8, large=64)
        return DegradedPatches(find_photos(photos), ["noise", "rain"], sampling, seed)

    one, same, other = batches(1), batches(1), batches(2)
    mixes, seen = set(), []
    for number in (7, 3, 11, *range(20, 40)):
        large = number >= 30
        batch, again = one[number, large], same[number, large]
        shape = (2, 64, 64, 3) if large else (8, 32, 32, 3)  # as many pixels
        assert batch.degraded.shape == batch.clean.shape == shape
        assert batch.degraded.dtype == batch.clean.dtype == np.uint8
        np.testing.assert_array_equal(batch.degraded, again.degraded)
        np.testing.assert_array_equal(batch.clean, again.clean)
        assert batch.weights == again.weights
        assert not np.array_equal(batch.clean, other[number, large].clean)
        if batch.weights:
            assert sum(batch.weights.values()) == pytest.approx(1)
            seen += (cv2.absdiff(batch.degraded, batch.clean).max((1, 2, 3)) > 1).tolist()
        else:
            np.testing.assert_array_equal(batch.degraded, batch.clean)
        mixes.add(tuple(sorted(batch.weights)))
    assert mixes == {(), ("noise",), ("rain",), ("noise", "rain")}
    assert np.mean(seen) > 0.8  # mild rain may miss a small patch


def test_what_is_drawn_has_the_asked_shares(photos: Path) -> None:
    """Over ten thousand draws; nothing is degraded for it."""
    names = ["blur", "haze", "noise", "rain", "snow"]
    sampling = Sampling(0.5, 0.3, 0.1, patch=32, batch=1, large=32)
    drawn = DegradedPatches(find_photos(photos), names, sampling, 1)
    rng = np.random.default_rng(0)
    compositions = [drawn._composition(rng) for _ in range(10_000)]
    shares = [sum(len(c) == count for c in compositions) / 10_000 for count in range(4)]
    assert shares == pytest.approx([0.1, 0.5, 0.3, 0.1], abs=0.02)
    pairs = [c for c in compositions if len(c) == 2]
    common = {frozenset(pair) for pair in COMMON} & {frozenset(c) for c in pairs}
    assert common == {frozenset(p) for p in (("rain", "haze"), ("snow", "haze"), ("noise", "blur"))}
    # Half of them by intent, and three of the ten possible pairs by chance.
    assert sum(frozenset(c) in common for c in pairs) / len(pairs) == pytest.approx(0.5 + 0.5 * 0.3, abs=0.04)
    weights = np.array([next(iter(c.values())) for c in pairs])
    assert weights.mean() == pytest.approx(0.5, abs=0.02)
    assert np.mean(np.abs(weights - 0.5) < 0.25) > 0.9


def test_a_favoured_degradation_is_drawn_more_often(photos: Path) -> None:
    sampling = Sampling(0.6, 0.4, 0.0, patch=32, batch=1, large=32, favour={"noise": 4.0, "rain": 0.5})
    drawn = DegradedPatches(find_photos(photos), ["noise", "rain", "shadow"], sampling, 1)
    rng = np.random.default_rng(0)
    firsts = [next(iter(drawn._composition(rng))) for _ in range(5_000)]
    shares = [firsts.count(name) / len(firsts) for name in ("noise", "rain", "shadow")]
    assert shares == pytest.approx([4 / 5.5, 0.5 / 5.5, 1 / 5.5], abs=0.02)


def test_frozen_adapters_are_drawn_only_beside_those_that_learn(photos: Path) -> None:
    sampling = Sampling(0.5, 0.3, 0.2, patch=32, batch=1, large=32)
    drawn = DegradedPatches(find_photos(photos), ["snow"], sampling, 1, beside=["haze", "rain"])
    rng = np.random.default_rng(0)
    compositions = {tuple(sorted(drawn._composition(rng))) for _ in range(300)}
    assert compositions == {("snow",), ("haze", "snow"), ("rain", "snow"), ("haze", "rain", "snow")}


def test_some_patches_stay_clean_under_an_adapter(photos: Path) -> None:
    sampling = Sampling(1.0, 0.0, 0.0, intact=0.5, patch=32, batch=64, large=32)
    batch = DegradedPatches(find_photos(photos), ["noise"], sampling, 1)[0, False]
    clean = (batch.degraded == batch.clean).all((1, 2, 3))
    assert 0.25 < clean.mean() < 0.75


def base_arguments(photos: Path, out: Path) -> list[str]:
    return ["base", "--photos", str(photos), "--degradations", "rain,noise", *SMALL, "--out", str(out)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--degradations", "rian"], "no such degradation: rian; there are .*rain"),
        (["--degradations", ""], "no degradation is named"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--rank", "0"], "--rank must be at least 1"),
        (["--workers", "-1"], "--workers must be at least 0"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--patch", "40"], "--patch 40: this base takes multiples of 16"),
        (["--patch", "0"], "--patch must be at least 1"),
        (["--lr", "0"], "--lr must be a number above 0"),
        (["--lr", "nan"], "--lr must be a number above 0"),
        (["--alpha", "-1"], "--alpha must be a number above 0"),
        (["--lora-plus", "inf"], "--lora-plus must be a number above 0"),
        (["--large-patch", "72"], "--large-patch 72: this base takes multiples of 16"),
        (["--large-share", "1.5"], "--large-share is a share, from 0 to 1"),
        (["--intact", "nan"], "--intact is a share"),
        (["--singles", "0.9", "--pairs", "0.2"], "--singles, --pairs and --triples are shares"),
        (["--singles", "0", "--pairs", "0", "--triples", "0"], "are shares: none below 0, together above 0"),
        (["--triples", "-0.1"], "are shares"),
        (["--favour", "fog=2"], "--favour: fog is not among what is learnt"),
        (["--favour", "rain=0"], "each NAME=TIMES must be a number above 0"),
        (["--exclude", "rain"], "write it as NAME=FILE"),
        (["--exclude", "fog=list.txt"], "write it as NAME=FILE"),
    ],
)
def test_options_that_make_no_sense_are_refused(photos: Path, tmp_path: Path, options: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        cli.main([*base_arguments(photos, tmp_path / "run"), *options])
    assert not (tmp_path / "run").exists()


def test_missing_and_damaged_photos_are_said(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(MissingFileError, match="no such"):
        cli.main(base_arguments(tmp_path / "none", run))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x")
    with pytest.raises(MissingFileError, match="no images or videos in this folder"):
        cli.main(base_arguments(tmp_path / "empty", run))
    (tmp_path / "empty" / "broken.jpg").write_bytes((photos / "0.png").read_bytes()[:100])
    with pytest.raises(MediaError, match=r"broken\.jpg"):
        cli.main(base_arguments(tmp_path / "empty", run))
    assert not run.exists()


def test_exclusions_must_leave_photos(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "rain.txt").write_text("0.png\n1.png\n")
    (tmp_path / "half.txt").write_text("0.png\n")
    (tmp_path / "other.txt").write_text("1.png\n")
    arguments = base_arguments(photos, tmp_path / "run")
    with pytest.raises(UsageError, match="no photo is left for rain; exclude fewer"):
        cli.main([*arguments, "--exclude", f"rain={tmp_path / 'rain.txt'}"])
    with pytest.raises(UsageError, match="no photo is left for noise with rain"):
        cli.main([*arguments, f"--exclude=rain={tmp_path / 'half.txt'}", f"--exclude=noise={tmp_path / 'other.txt'}"])
    with pytest.raises(MissingFileError, match=r"none\.txt: cannot be read"):
        cli.main([*arguments, "--exclude", f"rain={tmp_path / 'none.txt'}"])


def test_a_run_that_cannot_be_written_or_read_is_said(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be the run's folder"):
        cli.main(base_arguments(photos, tmp_path / "file"))
    (tmp_path / "run").mkdir()
    for content in (b"", b"garbage", b"PK\x03\x04garbage"):
        (tmp_path / "run" / "checkpoint.pt").write_bytes(content)
        with pytest.raises(UsageError, match=r"checkpoint\.pt: not a whole checkpoint; delete it"):
            cli.main(base_arguments(photos, tmp_path / "run"))


def test_an_adapter_needs_a_base(photos: Path, tmp_path: Path, training_run: Path) -> None:
    arguments = ["adapter", "rain", "--photos", str(photos), *SMALL, "--out", str(tmp_path / "run")]
    for base, error in (
        (tmp_path / "none.safetensors", MissingFileError),
        (training_run / "rain" / "adapter_model.safetensors", BaseModelError),
    ):
        with pytest.raises(error) as caught:
            cli.main([*arguments, "--base", str(base)])
        assert isinstance(caught.value, UirError)


def test_a_checkpoint_of_another_base_is_refused(
    photos: Path, tmp_path: Path, training_run: Path, make_unet: Callable[[], nn.Module]
) -> None:
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file(make_unet().state_dict(), other)
    arguments = ["adapter", "rain", "--photos", str(photos), *SMALL, "--steps", "1", "--out", str(tmp_path / "run")]
    cli.main([*arguments, "--base", str(training_run / "base.safetensors")])
    with pytest.raises(UsageError, match=r"other settings \(began from\)"):
        cli.main([*arguments, "--base", str(other)])
