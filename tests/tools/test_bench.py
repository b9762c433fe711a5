"""`uir-bench`: that its numbers are the right ones. Nothing timed is asserted."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from uir.calibration.degradations import degrade
from uir.export.cli import main as export
from uir.runtime import Restorer, UirError
from uir.runtime.backends.onnx_runtime import OnnxRuntimeBackend, OnnxRuntimeEngine
from uir.runtime.errors import MediaError, UsageError
from uir.tools.bench import lorair
from uir.tools.bench.cli import main as bench
from uir.tools.bench.media import PAN, texture, view
from uir.tools.bench.metrics import Score, score
from uir.tools.photos import read_photo
from uir.tools.bench.processes import run_watched
from uir.tools.bench.sheet import GAP, STRIP, WIDTH

Pixels = NDArray[np.uint8]
PAIR = "haze=0.5,rain=0.5"
SEED = 3


@pytest.fixture(scope="session")
def paired_package(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of random weights with two adapters, which lists their equal mix."""
    path = tmp_path_factory.mktemp("paired") / "restore.uir"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uir.export.zoo.ZOO", zoo)
        export(["--adapters", "rain,haze", "-o", str(path)])
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two colourful photos of different and odd sizes, and a file that is no photo."""
    folder = tmp_path_factory.mktemp("photos")
    for name, (height, width) in {"one.png": (40, 56), "two.png": (33, 41)}.items():
        y, x = np.mgrid[0:height, 0:width]
        pixels = np.stack([40 + 3 * x, 60 + 4 * y, 200 - 2 * x - y], axis=2).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / name), pixels[..., ::-1])
    (folder / "notes.txt").write_text("no photo")
    return folder


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


def degraded(photo: Path, severities: dict[str, float], seed: int = SEED) -> Pixels:
    """A photo degraded as the benchmark says it does, by its seed, the photo's name and the severity."""
    severity = next(iter(severities.values()))
    entropy = [seed, zlib.crc32(photo.name.encode()), round(severity * 10_000)]
    drawn = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    picture = degrade(read_png(photo).astype(np.float32) / np.float32(255), severities, drawn)
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


@pytest.mark.parametrize("benchmark", ["", "quality", "merge", "video", "size"])
def test_help(call: Callable[..., subprocess.CompletedProcess[str]], benchmark: str) -> None:
    result = call("uir-bench", *filter(None, [benchmark]), "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"usage: uir-bench {benchmark}".rstrip())
    assert ("--json" in result.stdout) == bool(benchmark) or "examples:" in result.stdout


def test_quality_is_what_the_definitions_give(
    call: Callable[..., subprocess.CompletedProcess[str]], paired_package: Path, photos: Path
) -> None:
    options = ["--severities", "0.4,0.9", "--seed", SEED, "--json", "-"]
    result = call("uir-bench", "quality", "--package", paired_package, "--photos", photos, *map(str, options))
    assert (result.returncode, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    files = [photos / "one.png", photos / "two.png"]
    clean = [read_png(file) for file in files]
    restorers = {key: Restorer(paired_package, key) for key in ("base", "rain", "haze", PAIR)}

    assert list(report["results"]["degradations"]) == ["haze", "rain"]
    for name, scores in report["results"]["degradations"].items():
        for severity in (0.4, 0.9):
            at = scores[f"{severity:g}"]
            inputs = [degraded(file, {name: severity}) for file in files]
            assert_near(at["input"], clean, inputs)
            assert_near(at["base"], clean, [restorers["base"](frame) for frame in inputs])
            assert_near(at["adapter"], clean, [restorers[name](frame) for frame in inputs])
        for method in ("input", "base", "adapter"):
            mean = (scores["0.4"][method]["psnr"] + scores["0.9"][method]["psnr"]) / 2
            assert scores["mean"][method]["psnr"] == pytest.approx(mean, abs=1e-9)

    assert list(report["results"]["pairs"]) == [PAIR]
    at = report["results"]["pairs"][PAIR]["0.9"]
    inputs = [degraded(file, {"haze": 0.9, "rain": 0.9}) for file in files]
    assert_near(at["input"], clean, inputs)
    for method, key in {"haze": "haze", "rain": "rain", "mix": PAIR}.items():
        assert_near(at[method], clean, [restorers[key](frame) for frame in inputs])

    assert list(report["results"]["clean"]) == ["base", "haze", "rain"]
    for name, found in report["results"]["clean"].items():
        assert_near(found, clean, [restorers[name](frame) for frame in clean])

    assert report["settings"]["photos"] == ["one.png", "two.png"]
    assert report["machine"]["cores"] >= 1
    assert report["machine"]["cpu"]


def test_quality_tables(paired_package: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = quality(paired_package, photos, tmp_path / "quality.json", "--severities", "0.4")
    text = capsys.readouterr().out
    assert "ONNX Runtime" in text.splitlines()[0]
    rain = report["results"]["degradations"]["rain"]["0.4"]
    gain = rain["adapter"]["psnr"] - rain["base"]["psnr"]
    row = next(line for line in text.splitlines() if line.startswith("rain"))
    assert row.split()[:5] == [
        "rain",
        "0.4",
        *(f"{rain[method]['psnr']:.2f}" for method in ("input", "base", "adapter")),
    ]
    assert row.split()[6] == f"{gain:+.2f}"
    pair = report["results"]["pairs"][PAIR]["0.4"]
    best = max(("haze", "rain"), key=lambda name: pair[name]["psnr"])
    row = next(line for line in text.splitlines() if line.startswith(PAIR))
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


def test_sheet(paired_package: Path, photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    quality(paired_package, photos, tmp_path / "q.json", "--severities", "0.2,0.6", "--seed", SEED, "--sheet", path)
    sheet = read_png(path)
    assert sheet.shape[1] == 5 * (WIDTH + GAP)  # clean, degraded, either adapter, mix
    # The first row: haze at the upper of the two severities, on the first photo.
    height = round(40 * WIDTH / 56)
    file = photos / "one.png"
    frame = degraded(file, {"haze": 0.6})
    expected = [read_png(file), frame, Restorer(paired_package, "base")(frame), Restorer(paired_package, "haze")(frame)]
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


def test_a_refusal_is_one_line(call: Callable[..., subprocess.CompletedProcess[str]], photos: Path) -> None:
    result = call("uir-bench", "quality", "--package", "nowhere.uir", "--photos", photos)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("uir-bench: error: nowhere.uir: no such package")
    assert len(result.stderr.splitlines()) == 1


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
    paired_package: Path,
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
    usual = ["--package", str(paired_package), "--photos", str(photos), "--severities", "0.5"]
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


def test_a_missing_extra_is_named(paired_package: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "skimage.metrics", raising=False)
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(UsageError, match=r"scikit-image: pip install 'uir-edge\[bench\]'"):
        bench(["quality", "--package", str(paired_package), "--photos", str(photos)])


def test_merge_switches_to_what_is_new(
    paired_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compiled: list[bytes] = []
    compile_model = OnnxRuntimeBackend.compile

    def watched(backend: OnnxRuntimeBackend, model: bytes) -> OnnxRuntimeEngine:
        compiled.append(model)
        return compile_model(backend, model)

    monkeypatch.setattr(OnnxRuntimeBackend, "compile", watched)
    monkeypatch.setattr(lorair, "WIDTH", 16)  # the same network, of 4 million parameters
    output = tmp_path / "merge.json"
    bench(["merge", "--package", str(paired_package), "--runs", "2", "--json", str(output)])
    found = json.loads(output.read_text())["results"]
    assert list(found["package"]) == ["rain", "haze", PAIR]
    # Two new ones beside each, and the three themselves: none came out of memory, and none was built twice.
    assert len(compiled) == len(set(compiled)) == 9
    parameters = json.loads((paired_package / "manifest.json").read_text())["base"]["parameters"]
    for times in found["package"].values():
        assert times["parameters"] == parameters
        assert min(times["merge"], times["switch_new"], times["switch_known"]) > 0
    assert list(found["lora_ir_shapes"]) == ["snow", "rain=0.3333,raindrop=0.3333,snow=0.3333"]
    assert "milliseconds" in capsys.readouterr().out


def test_lora_ir_shapes() -> None:
    """As counted in its published checkpoints: 248 convolutions, 68.6 of 68.9 million parameters, 4.26 in an expert."""
    shapes = [shape for _, shape in lorair.shapes()]
    assert len(shapes) == len(dict(lorair.shapes())) == 248
    assert sum(shape[2] == 1 for shape in shapes) == 206
    assert sum(shape[1:] == (1, 3, 3) for shape in shapes) == 36
    assert sum(shape[2] == 2 for shape in shapes) == 4
    assert sum(map(math.prod, shapes)) == 68_604_544
    factors = sum(
        8 * kernel * (width * kernel) + (1 if depthwise else out) * kernel * (8 * kernel)
        for out, within, kernel, _ in shapes
        for depthwise in [within == 1]
        for width in [out if depthwise else within]
    )
    assert round(factors / 1e6, 2) == 4.26


def test_lora_ir_factors_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lorair, "WIDTH", 16)
    base, experts = lorair.random_network()
    for expert in experts.values():
        assert expert.updates.keys() == base.keys()
        for name, update in expert.updates.items():
            assert update.size == base[name].size
            assert np.any(update.delta(base[name].shape))


def test_video(call: Callable[..., subprocess.CompletedProcess[str]], paired_package: Path, tmp_path: Path) -> None:
    options = ["--sizes", "64x48", "--seconds", "0.25", "--turns", "1", "--still", "66x48", "--json", "video.json"]
    result = call("uir-bench", "video", "--package", paired_package, *options, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "64x48" in result.stdout
    found = json.loads((tmp_path / "video.json").read_text())["results"]
    video, still = found["videos"]["64x48"], found["stills"]["66x48"]
    assert video["frames"] == 6
    assert video["ratio"] == pytest.approx(video["fps"] / video["engine_fps"])
    assert min(video["fps"], video["engine_fps"], video["seconds"], still["seconds"]) > 0
    # Python with numpy and ONNX Runtime takes tens of MiB; far more would be a leak of the benchmark's own.
    assert all(30 << 20 < taken["peak_bytes"] < 1 << 30 for taken in (video, still))
    assert [path.name for path in tmp_path.iterdir()] == ["video.json"]


def test_video_over_a_photo(paired_package: Path, photos: Path, tmp_path: Path) -> None:
    photo = photos / "one.png"
    arguments = ["--sizes", "64x48", "--seconds", "0.1", "--turns", "1", "--photo", str(photo)]
    bench(["video", "--package", str(paired_package), *arguments, "--json", str(tmp_path / "video.json")])
    assert json.loads((tmp_path / "video.json").read_text())["settings"]["photo"] == "one.png"


@pytest.mark.parametrize("size", ["640", "640x361", "8x8", "640x-2", "640x360,"])
def test_sizes_that_are_none(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        bench(["video", "--sizes", size])
    assert stop.value.code == 2
    assert re.search("such as 640x360|even numbers from 32", capsys.readouterr().err)


def test_the_pan_moves_and_has_no_edge() -> None:
    picture = texture()
    down, across = PAN
    frame, later = view(picture, 300, 200), view(picture, 300, 200, 5)
    assert np.array_equal(later[: -5 * down, : -5 * across], frame[5 * down :, 5 * across :])
    assert 30 < picture.std() < 80
    wide = view(picture, 2100, 40)
    assert np.array_equal(wide[:, :1024], wide[:, 2047:1023:-1])  # mirrored
    assert np.array_equal(wide[:, 2048:], wide[:, :52])  # and begun again


@pytest.fixture
def glutton(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module whose command takes 200 MiB for a moment and gives them back."""
    (tmp_path / "glutton.py").write_text(
        "import sys, time\n"
        "def run():\n"
        "    taken = bytearray(b'x') * (200 << 20)\n"
        "    time.sleep(0.3)\n"
        "    del taken\n"
        "    time.sleep(0.1)\n"
        "    print(sys.argv[1:])\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    yield "glutton"


def test_memory_is_the_peak_of_the_process_alone(glutton: str) -> None:
    ballast = bytearray(b"x") * (300 << 20)
    finished = run_watched(glutton, ["a", "b"])
    assert 200 << 20 <= finished.peak_bytes < 260 << 20
    assert finished.output == "['a', 'b']\n"
    assert finished.seconds >= 0.4
    assert len(ballast) == 300 << 20


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(
        UirError, match=r"uir.runtime.cli failed on nowhere.mp4: uir-run: error: nowhere.mp4: no such file"
    ):
        run_watched("uir.runtime.cli", ["nowhere.mp4"])


def test_size_is_that_of_what_export_writes(paired_package: Path, tmp_path: Path) -> None:
    output = tmp_path / "size.json"
    bench(["size", "--package", str(paired_package), "--json", str(output)])
    report = json.loads(output.read_text())
    sizes = report["results"]["bytes"]
    assert report["settings"]["adapters"] == ["rain", "haze"]
    assert sizes["2"] == sum(file.stat().st_size for file in paired_package.rglob("*") if file.is_file())
    added = (paired_package / "adapters" / "haze.safetensors").stat().st_size
    assert added < sizes["2"] - sizes["1"] < added + 1000  # and its lines in the manifest
