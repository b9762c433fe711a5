"""`uir-bench quality`: that its numbers are what the definitions give, and that its tables and its sheet show them."""

from __future__ import annotations

import json
import math
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import safetensors.numpy
import torch
from numpy.typing import NDArray

from uir.calibration.degradations import degrade
from uir.export.bases import load_base
from uir.export.cli import main as export
from uir.runtime import Restorer, UirError
from uir.runtime.errors import BaseModelError, MediaError, MissingFileError, UsageError
from uir.tools.bench.cli import main as bench
from uir.tools.bench.foreign import ForeignScores
from uir.tools.bench.metrics import Score, score
from uir.tools.bench.oracle import with_oracle
from uir.tools.bench.peers import PEERS
from uir.tools.bench.quality_tables import Results, notes, tables
from uir.tools.bench.sample import Sample
from uir.tools.bench.sheet import GAP, STRIP, WIDTH
from uir.tools.photos import read_photo

Pixels = NDArray[np.uint8]
HALVES = "haze=0.5,rain=0.5"
SEED = 3


def read_png(path: Path) -> Pixels:
    image = cv2.imread(str(path))
    assert image is not None
    return np.asarray(image[..., ::-1], np.uint8)


def psnr(truth: Pixels, frame: Pixels) -> float:
    """PSNR by its definition."""
    error = float(np.mean((truth.astype(float) - frame.astype(float)) ** 2))
    return 10 * math.log10(255**2 / error)


def ssim(truth: Pixels, frame: Pixels) -> float:
    """SSIM by its definition (Wang et al. 2004): unbiased moments over each whole 7 x 7 window, the channels' mean."""
    values = []
    for channel in range(3):
        pictures = (truth[..., channel].astype(float), frame[..., channel].astype(float))
        x, y = (np.lib.stride_tricks.sliding_window_view(p, (7, 7)).reshape(-1, 49) for p in pictures)
        mx, my = x.mean(1), y.mean(1)
        covariance = ((x - mx[:, None]) * (y - my[:, None])).sum(1) / 48
        vx, vy = x.var(1, ddof=1), y.var(1, ddof=1)
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        values.append(((2 * mx * my + c1) * (2 * covariance + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())
    return float(np.mean(values))


def drawn(photo: Path, level: float, seed: int = SEED) -> int:
    """The seed of a photo's degradation, as the benchmark says: by its own seed, the photo's name and the level."""
    entropy = [seed, zlib.crc32(photo.name.encode()), round(level * 10_000)]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def degraded(photo: Path, severities: dict[str, float]) -> Pixels:
    """A photo degraded as the benchmark says it does."""
    seed = drawn(photo, next(iter(severities.values())))
    picture = degrade(read_png(photo).astype(np.float32) / np.float32(255), severities, seed)
    return np.rint(picture * 255).astype(np.uint8)


def assert_near(found: dict[str, float], truths: list[Pixels], frames: list[Pixels]) -> None:
    """The mean of each measure over the photos is what the definitions give."""
    pairs = list(zip(truths, frames, strict=True))
    assert found["psnr"] == pytest.approx(np.mean([psnr(truth, frame) for truth, frame in pairs]), abs=1e-9)
    assert found["ssim"] == pytest.approx(np.mean([ssim(truth, frame) for truth, frame in pairs]), abs=1e-9)


def quality(package: Path, photos: Path, output: Path, *more: object) -> Any:
    """Run `uir-bench quality` in this process and return its JSON."""
    bench(["quality", "--package", str(package), "--photos", str(photos), "--json", str(output), *map(str, more)])
    return json.loads(output.read_text())


def test_quality_is_what_the_definitions_give(
    call: Callable[..., subprocess.CompletedProcess[str]], shared_package: Path, photos: Path
) -> None:
    options = ["--severities", "0.4,0.9", "--seed", SEED, "--json", "-"]
    result = call("uir-bench", "quality", "--package", shared_package, "--photos", photos, *map(str, options))
    assert (result.returncode, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    files = [photos / "one.png", photos / "two.png"]
    clean = [read_png(file) for file in files]
    restorers = {key: Restorer(shared_package, key) for key in ("base", "rain", "haze", "noise", HALVES)}

    assert list(report["results"]["degradations"]) == ["haze", "rain", "noise"]
    for name, scores in report["results"]["degradations"].items():
        for severity in (0.4, 0.9):
            at = scores[f"{severity:g}"]
            inputs = [degraded(file, {name: severity}) for file in files]
            assert list(at) == ["input", "base", "adapter", "peer"]
            assert_near(at["input"], clean, inputs)
            assert_near(at["base"], clean, [restorers["base"](frame) for frame in inputs])
            assert_near(at["adapter"], clean, [restorers[name](frame) for frame in inputs])
            samples = [Sample(c, d, severity, drawn(f, severity)) for c, d, f in zip(clean, inputs, files, strict=True)]
            assert_near(at["peer"], clean, [PEERS[name].restore(sample) for sample in samples])
        for method in ("input", "base", "adapter", "peer"):
            mean = (scores["0.4"][method]["psnr"] + scores["0.9"][method]["psnr"]) / 2
            assert scores["mean"][method]["psnr"] == pytest.approx(mean, abs=1e-9)

    assert list(report["results"]["pairs"]) == ["rain+haze"]  # though the package does not list their mix
    at = report["results"]["pairs"]["rain+haze"]["0.9"]
    inputs = [degraded(file, {"haze": 0.9, "rain": 0.9}) for file in files]
    assert_near(at["input"], clean, inputs)
    for method, key in {"haze": "haze", "rain": "rain", "mix": HALVES}.items():
        assert_near(at[method], clean, [restorers[key](frame) for frame in inputs])

    assert list(report["results"]["clean"]) == ["base", "haze", "rain", "noise"]
    for name, found in report["results"]["clean"].items():
        assert_near(found, clean, [restorers[name](frame) for frame in clean])

    assert report["settings"]["photos"] == ["one.png", "two.png"]
    assert report["machine"]["cores"] >= 1
    assert report["machine"]["cpu"]


def test_gaussian_noise_has_its_sigma(shared_package: Path, photos: Path, tmp_path: Path) -> None:
    found = quality(shared_package, photos, tmp_path / "q.json", "--severities", "0.4", "--seed", SEED)["results"]
    files = [photos / "one.png", photos / "two.png"]
    clean = [read_png(file) for file in files]
    inputs = []
    for file, picture in zip(files, clean, strict=True):
        noise = np.random.default_rng(drawn(file, 25)).standard_normal(picture.shape)
        inputs.append(np.clip(np.rint(picture + 25 * noise), 0, 255).astype(np.uint8))
    assert_near(found["gaussian"]["input"], clean, inputs)
    assert found["gaussian"]["input"]["psnr"] == pytest.approx(
        20 * math.log10(255 / 25), abs=0.7
    )  # less what is clipped
    restorer = Restorer(shared_package, "noise")
    assert_near(found["gaussian"]["adapter"], clean, [restorer(frame) for frame in inputs])
    assert found["gaussian"].keys() == {"input", "base", "adapter", "peer"}


def test_quality_tables(shared_package: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = quality(shared_package, photos, tmp_path / "quality.json", "--severities", "0.4")["results"]
    lines = capsys.readouterr().out.splitlines()
    assert "ONNX Runtime" in lines[0]
    rain = report["degradations"]["rain"]["0.4"]
    gains = [rain["adapter"]["psnr"] - rain[other]["psnr"] for other in ("input", "base", "peer")]
    row = next(line for line in lines if line.startswith("rain "))
    assert row.split() == [
        "rain",
        "0.4",
        *(f"{rain[method]['psnr']:.2f}" for method in ("input", "base", "peer", "adapter")),
        *(f"{gain:+.2f}" for gain in gains),
    ]
    pair = report["pairs"]["rain+haze"]["0.4"]
    best = max(("haze", "rain"), key=lambda name: pair[name]["psnr"])
    row = next(line for line in lines if line.startswith("rain+haze"))
    assert row.split()[3:6] == [best, f"{pair[best]['psnr']:.2f}", f"{pair['mix']['psnr']:.2f}"]


def test_a_photo_is_degraded_the_same_among_others(paired_package: Path, photos: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "two.png").write_bytes((photos / "two.png").read_bytes())
    both = quality(paired_package, photos, tmp_path / "both.json", "--severities", "0.4")["results"]["degradations"]
    first = quality(paired_package, photos, tmp_path / "1.json", "--severities", "0.4", "--limit", "1")
    second = quality(paired_package, alone, tmp_path / "2.json", "--severities", "0.4")
    other = quality(paired_package, alone, tmp_path / "3.json", "--severities", "0.4", "--seed", "9")
    assert first["settings"]["photos"] == ["one.png"]
    for name in ("haze", "rain"):
        one, two = (run["results"]["degradations"][name]["0.4"]["input"]["psnr"] for run in (first, second))
        assert both[name]["0.4"]["input"]["psnr"] == pytest.approx((one + two) / 2, abs=1e-9)
        assert other["results"]["degradations"][name]["0.4"]["input"]["psnr"] != two


def test_large_photos_are_reduced_upright(tmp_path: Path) -> None:
    y, x = np.mgrid[0:60, 0:120]
    cv2.imwrite(str(tmp_path / "wide.png"), np.stack([y, y, x], axis=2).astype(np.uint8))
    photo = read_photo(tmp_path / "wide.png", 30)
    assert photo.shape == (15, 30, 3)
    assert np.abs(photo[..., 0].astype(int) - np.arange(1.5, 120, 4)).max() <= 1  # red, rising to the right
    cv2.imwrite(str(tmp_path / "grey.png"), y.astype(np.uint8))
    grey = read_photo(tmp_path / "grey.png", 120)
    assert np.array_equal(grey, np.stack([y, y, y], axis=2))


def test_sheet(shared_package: Path, photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    quality(shared_package, photos, tmp_path / "q.json", "--severities", "0.2,0.6", "--seed", SEED, "--sheet", path)
    sheet = read_png(path)
    assert sheet.shape[1] == 5 * (WIDTH + GAP)  # clean, degraded, base, adapter, peer
    # The first row: haze at the upper of the two severities, on the first photo.
    height = round(40 * WIDTH / 56)
    file = photos / "one.png"
    frame = degraded(file, {"haze": 0.6})
    expected = [read_png(file), frame, Restorer(shared_package, "base")(frame), Restorer(shared_package, "haze")(frame)]
    for column, picture in enumerate(expected):
        left = column * (WIDTH + GAP)
        enlarged = cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_NEAREST)
        assert np.array_equal(sheet[STRIP : STRIP + height, left : left + WIDTH], enlarged)
        assert sheet[:STRIP, left : left + WIDTH].max() > 200  # its caption


def test_scores_of_equal_and_tiny_pictures() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    assert score(picture, picture) == Score(100.0, 1.0)
    with pytest.raises(MediaError, match="6x9"):
        score(picture[:, :6], picture[:, :6])


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        (["--photos", "nowhere"], 1, "nowhere: no such"),
        (["--photos", "broken"], 1, "bad.png: .*truncated"),
        (["--photos", "empty"], 1, "empty: no photos"),
        (["--limit", "0"], 2, "--limit 0"),
        (["--max-side", "8"], 2, "--max-side 8"),
        (["--seed", "-1"], 2, "--seed -1"),
        (["--sheet", "sheet.jpg"], 2, r"sheet.jpg: .*\.png"),
        (["--sheet", "there.png"], 1, "there.png: exists"),
        (["--json", "there.json"], 1, "there.json: exists"),
        (["--json", "nowhere/q.json"], 1, "nowhere: no such folder"),
    ],
)
def test_refusals(
    shared_package: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: list[str],
    status: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("there.json", "there.png"):
        Path(name).write_text("mine")
    Path("broken").mkdir()
    Path("broken/bad.png").write_bytes((photos / "one.png").read_bytes()[:200])
    Path("empty").mkdir()
    Path("empty/clip.mp4").write_bytes(b"no photo")
    before = sorted(tmp_path.rglob("*"))
    usual = ["--package", str(shared_package), "--photos", str(photos), "--severities", "0.5"]
    with pytest.raises(UirError, match=words) as refused:
        bench(["quality", *usual, *change])
    assert refused.value.exit_status == status
    assert sorted(tmp_path.rglob("*")) == before
    assert {Path(name).read_text() for name in ("there.json", "there.png")} == {"mine"}


@pytest.mark.parametrize("severities", ["2", "rain", "0.3,,0.5", "nan"])
def test_severities_that_are_none(severities: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        bench(["quality", "--photos", str(photos), "--severities", severities])
    assert stop.value.code == 2
    assert "from 0 (unchanged) to 1 (heavy)" in capsys.readouterr().err


@pytest.mark.usefixtures("use_zoo")
def test_adapters_of_unknown_degradations(training_run: Path, photos: Path, tmp_path: Path) -> None:
    export(["--adapters", f"soot={training_run / 'rain'}", "-o", str(tmp_path / "soot.uir")])
    with pytest.raises(UsageError, match=r"soot.uir.*\(soot\).*haze"):
        bench(["quality", "--package", str(tmp_path / "soot.uir"), "--photos", str(photos)])
    # Beside known ones they are passed over.
    export(["--adapters", f"rain,soot={training_run / 'haze'}", "-o", str(tmp_path / "both.uir")])
    found = quality(tmp_path / "both.uir", photos, tmp_path / "q.json", "--severities", "0.5")["results"]
    assert (list(found["degradations"]), found["pairs"]) == (["rain"], {})


@pytest.fixture
def tuned(training_run: Path, tmp_path: Path) -> Path:
    """A base checkpoint whose weights all differ a little from those of the package's base."""
    weights = safetensors.numpy.load_file(training_run / "base.safetensors")
    rng = np.random.default_rng(4)
    changed = {
        name: (values * rng.uniform(0.8, 1.2, values.shape)).astype(np.float32) for name, values in weights.items()
    }
    safetensors.numpy.save_file(changed, tmp_path / "tuned.safetensors")
    return tmp_path / "tuned.safetensors"


def test_full_fine_tuning_runs_the_whole_network(
    paired_package: Path, photos: Path, tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--severities", "0.4", "--seed", SEED, "--limit", "1", "--full", f"rain={tuned}"]
    found = quality(paired_package, photos, tmp_path / "q.json", *options)["results"]["degradations"]
    assert "full" not in found["haze"]["0.4"]
    at = found["rain"]["0.4"]
    frame = degraded(photos / "one.png", {"rain": 0.4})
    picture = torch.from_numpy(frame).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        restored = load_base(tuned).network(picture)[0].permute(1, 2, 0).clamp(0, 1).numpy()
    truth = read_png(photos / "one.png")
    assert at["full"]["psnr"] == pytest.approx(psnr(truth, np.rint(restored * 255).astype(np.uint8)), abs=0.01)
    assert abs(at["full"]["psnr"] - at["base"]["psnr"]) > 0.05

    lines = capsys.readouterr().out.splitlines()
    head = next(line for line in lines if line.startswith("degradation")).split()
    assert head[2:7] == ["input", "base", "peer", "full", "adapter"]
    rain, haze = (next(line for line in lines if line.startswith(f"{name} ")).split() for name in ("rain", "haze"))
    assert (rain[5], rain[-1]) == (f"{at['full']['psnr']:.2f}", f"{at['adapter']['psnr'] - at['full']['psnr']:+.2f}")
    assert (haze[5], haze[-1]) == ("-", "-")


@pytest.mark.parametrize(
    ("full", "error", "words"),
    [
        (["rain"], UsageError, "--full rain: write it as NAME=FILE"),
        (["=tuned.safetensors"], UsageError, "write it as NAME=FILE"),
        (["fog=tuned.safetensors"], UsageError, "--full fog=.* has no adapter for fog"),
        (["snow=tuned.safetensors"], UsageError, "has no adapter for snow"),
        (["rain=tuned.safetensors", "rain=tuned.safetensors"], UsageError, "rain is given twice"),
        (["rain=nowhere.safetensors"], MissingFileError, "nowhere.safetensors: no such file.*uir-train full"),
        (["rain=text.safetensors"], BaseModelError, "text.safetensors: not a whole safetensors file"),
        (
            ["rain=short.safetensors"],
            BaseModelError,
            "short.safetensors: not fine-tuned from tiny.*is missing, and there",
        ),
        (["rain=wide.safetensors"], BaseModelError, r"wide.safetensors: .* is 5, and there 4"),
        (["rain=adapter_model.safetensors"], BaseModelError, "adapter_model.safetensors: not fine-tuned from"),
    ],
)
def test_full_that_does_not_fit(
    paired_package: Path,
    photos: Path,
    tuned: Path,
    training_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    full: list[str],
    error: type[UirError],
    words: str,
) -> None:
    monkeypatch.chdir(tuned.parent)
    weights = safetensors.numpy.load_file(tuned)
    Path("text.safetensors").write_text("no weights")
    first = min(weights)
    safetensors.numpy.save_file({name: weights[name] for name in weights if name != first}, "short.safetensors")
    bias = next(name for name in sorted(weights) if weights[name].shape == (4,))
    safetensors.numpy.save_file({**weights, bias: np.zeros(5, np.float32)}, "wide.safetensors")
    Path("adapter_model.safetensors").write_bytes((training_run / "rain" / "adapter_model.safetensors").read_bytes())
    options = [word for each in full for word in ("--full", each)]
    with pytest.raises(error, match=words):
        bench(["quality", "--package", str(paired_package), "--photos", str(photos), *options])


def test_the_oracle_tries_the_grid_on_each_photo(
    paired_package: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--severities", "0.4,0.8", "--seed", SEED, "--oracle"]
    found = quality(paired_package, photos, tmp_path / "q.json", *options)["results"]["pairs"]["rain+haze"]
    files = [photos / "one.png", photos / "two.png"]
    restorer = Restorer(paired_package)
    best, means = [], {}
    for step in range(9):
        key = restorer.compose({"rain": step / 8, "haze": 1 - step / 8}).key
        scores = [score(read_png(file), restorer(degraded(file, {"rain": 0.8, "haze": 0.8}))) for file in files]
        means[key] = float(np.mean([each.psnr for each in scores]))
        best.append([(each.psnr, each.ssim) for each in scores])
    oracle = np.array(best).max(axis=0).mean(axis=0)
    assert found["0.8"]["oracle"] == pytest.approx({"psnr": oracle[0], "ssim": oracle[1]}, abs=1e-9)
    assert found["0.8"]["haze=0.25,rain=0.75"]["psnr"] == pytest.approx(means["haze=0.25,rain=0.75"], abs=1e-9)
    assert found["0.8"]["mix"]["psnr"] == pytest.approx(means[HALVES], abs=1e-9)
    for at in found.values():
        assert len(at) == 1 + 9 + 1  # the input, the grid and its best
        tried = [at[name] for name in at if name not in ("input", "oracle")]
        assert all(at["oracle"][measure] >= each[measure] for each in tried for measure in ("psnr", "ssim"))
    fixed = max(means, key=lambda key: means[key])
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("rain+haze")]
    assert rows[1][1] == "0.8"
    assert rows[1][-4:-1] == [fixed, f"{means[fixed]:.2f}", f"{found['0.8']['oracle']['psnr']:.2f}"]


def scores(*psnr: float) -> list[Score]:
    """Scores of these PSNRs, the SSIMs in the opposite order."""
    return [Score(each, 1 - each / 100) for each in psnr]


def test_the_oracle_is_the_best_of_each_photo_and_each_measure() -> None:
    pair = {"1": {"input": scores(90, 90), "rain": scores(10, 40), "haze": scores(20, 30), "mix": scores(15, 35)}}
    found = with_oracle(pair, {"1": {"input": scores(90, 90), "haze=0.25,rain=0.75": scores(25, 20)}})["1"]
    assert found["oracle"] == [Score(25, 0.9), Score(40, 0.8)]
    assert list(found) == ["input", "rain", "haze", "mix", "haze=0.25,rain=0.75", "oracle"]


def test_notes_say_where_adapters_lose_and_mixes_win() -> None:
    def at(**methods: tuple[float, float]) -> dict[str, Score]:
        return {name: Score(*each) for name, each in methods.items()}

    lost, won = at(input=(30, 0.9), adapter=(29.5, 0.95)), at(input=(20, 0.5), adapter=(25, 0.4))
    pairs = {
        "rain+haze": {"mean": at(input=(9, 0.1), rain=(10, 0.4), haze=(14, 0.3), mix=(15, 0.3))},
        "noise+jpeg": {"mean": at(input=(9, 0.1), noise=(20, 0.4), jpeg=(14, 0.3), mix=(18, 0.6))},
        "blur+jpeg": {"mean": at(input=(9, 0.1), blur=(20, 0.4), jpeg=(14, 0.3), mix=(20, 0.4))},
    }
    foreign = [ForeignScores("other", name, "rain", {"mean": each}) for name, each in (("Drip", lost), ("Pour", won))]
    results = Results({"rain": {"0.3": lost, "0.8": won, "mean": won}}, {}, {"base": Score(40, 1)}, pairs, foreign)
    text = notes(results)
    assert text == [
        "Peers: rain: median 3 x 3, where darker.",
        "Adapters below their input: by PSNR rain 0.3 (-0.50); by SSIM rain 0.8 (-0.1000).",
        # +1, -2 and 0 dB; -0.1, +0.2 and 0
        "Mixes over the better adapter alone, mean of 3 pairs: -0.33 dB, +0.0333 SSIM; "
        "better by PSNR in 1, by SSIM in 1, by either in 2 of 3.",
        "Other libraries' pictures made worse, at the mean of their levels: "
        "by PSNR other.Drip (-0.50); by SSIM other.Pour (-0.1000).",
    ]
    fine = Results({"blur": {"0.3": at(input=(1, 0.1), adapter=(2, 0.2))}}, {}, {}, {}, [])
    assert notes(fine)[1:] == ["Adapters below their input: by PSNR none; by SSIM none."]


def test_a_mean_over_all_needs_all() -> None:
    """A peer that there is not for each degradation has no mean over all of them, and a dash where there is none."""
    one = {"input": Score(20, 0.5), "base": Score(21, 0.5), "adapter": Score(24, 0.6), "peer": Score(22, 0.5)}
    other = {"input": Score(10, 0.5), "base": Score(11, 0.5), "adapter": Score(15, 0.6)}
    found = {name: {"0.5": at, "mean": at} for name, at in (("rain", one), ("raindrop", other))}
    table = tables(Results(found, {}, {"base": Score(40, 1), "rain": Score(30, 1), "raindrop": Score(20, 1)}, {}, []))
    rows = {(row[0], row[1]): list(row[2:]) for row in table[0].rows}
    assert rows["rain", "0.5"] == ["20.00", "21.00", "22.00", "24.00", "+4.00", "+3.00", "+2.00"]
    assert rows["raindrop", "0.5"] == ["10.00", "11.00", "-", "15.00", "+5.00", "+4.00", "-"]
    assert rows["all", "mean"] == ["15.00", "16.00", "-", "19.50", "+4.50", "+3.50", "-"]
    assert table[2].rows[-1] == ["all adapters", "25.00", "1.0000"]
