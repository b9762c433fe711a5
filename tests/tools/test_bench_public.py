"""`uir-bench quality` on public sets: that every number is what the pictures give, and that faulty sets are refused."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from uir.export.cli import main as export
from uir.runtime import Restorer, Router
from uir.runtime.package import Package
from uir.tools.bench.cases import as_jpeg
from uir.tools.bench.cli import main as bench
from uir.tools.bench.metrics import Score, score
from uir.tools.bench.public_scores import PictureScores, luma_psnr, summarise

Pixels = NDArray[np.uint8]
ADAPTERS = ["haze", "noise", "rain"]


def textured(colour: tuple[int, int, int], seed: int, size: tuple[int, int] = (40, 56)) -> Pixels:
    """A picture about a colour, which differs from seed to seed."""
    texture = np.random.default_rng(seed).integers(-20, 21, (*size, 1))
    return (np.array(colour) + texture).clip(0, 255).astype(np.uint8)


RED, GREEN, BLUE, GREY = (220, 20, 20), (20, 220, 20), (20, 20, 220), (120, 120, 120)


def write(path: Path, pixels: Pixels) -> Pixels:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels[..., ::-1])
    return pixels


def psnr(truth: Pixels, frame: Pixels) -> float:
    """PSNR by its definition."""
    return 10 * math.log10(255**2 / float(np.mean((truth.astype(float) - frame.astype(float)) ** 2)))


def quality(package: Path, output: Path, *options: object) -> Any:
    """Run `uir-bench quality` and return its JSON."""
    bench(["quality", "--package", str(package), "--json", str(output), *map(str, options)])
    return json.loads(output.read_text())


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A set of two pairs: a red picture and a grey one; in natural order, and one truth of another format."""
    folder = tmp_path / "sets" / "wet"
    for name, colour, seed in (("2.png", RED, 1), ("10.png", GREY, 2)):
        truth = write(folder / "truth" / name, textured(colour, seed))
        write(folder / "input" / name, (truth * 0.9).astype(np.uint8))
    (folder / "truth" / "10.png").rename(folder / "truth" / "10.PNG")
    (folder / "input" / "Thumbs.db").write_text("no picture")
    return folder


def read(path: Path) -> Pixels:
    image = cv2.imread(str(path))
    assert image is not None
    return np.asarray(image[..., ::-1], np.uint8)


def test_the_adapter_and_automatic_mode_side_by_side(
    routed: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = quality(routed, tmp_path / "q.json", "--pairs", f"noise={pairs}")
    (found,) = report["results"]["sets"]
    assert (found["name"], found["adapters"], report["results"]["clean"]) == ("wet", ["noise"], [])
    assert [each["name"] for each in found["pictures"]] == ["2.png", "10.png"]

    restorer, router = Restorer(routed), Router(Package(routed))
    inputs = [read(pairs / "input" / name) for name in ("2.png", "10.png")]
    truths = [read(pairs / "truth" / name) for name in ("2.png", "10.PNG")]
    decisions = [router.weigh(router.look(frame)) for frame in inputs]
    assert [decision.key for decision in decisions] == ["rain", "clean"]
    frames = {
        "input": inputs,
        "noise": [restorer(frame, "noise") for frame in inputs],
        "automatic": [restorer(inputs[0], "rain"), inputs[1]],
    }
    assert [each["decision"] for each in found["pictures"]] == ["rain", "clean"]
    assert found["chosen"] == {"rain": 1, "clean": 1}
    values = {
        method: [psnr(t, f) for t, f in zip(truths, restored, strict=True)] for method, restored in frames.items()
    }
    for method, restored in frames.items():
        similarity = [score(t, f).ssim for t, f in zip(truths, restored, strict=True)]
        for picture, value, ssim in zip(found["pictures"], values[method], similarity, strict=True):
            assert picture["scores"][method] == pytest.approx({"psnr": value, "ssim": ssim}, abs=1e-9)
        assert found["means"][method]["psnr"] == pytest.approx(np.mean(values[method]), abs=1e-9)
    for method in ("noise", "automatic"):
        changes = np.subtract(values[method], values["input"])
        assert found["changes"][method]["mean"]["psnr"] == pytest.approx(changes.mean(), abs=1e-9)
        assert found["changes"][method]["worst"]["psnr"] == pytest.approx(changes.min(), abs=1e-9)
        assert found["changes"][method]["worst_picture"] == ("2.png", "10.png")[int(changes.argmin())]
        assert found["changes"][method]["worse"] == (changes < -0.3).mean()

    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if line.startswith("wet ")).split()
    change = np.subtract(values["automatic"], values["input"])
    assert row[1:7] == [
        "2",
        f"{np.mean(values['input']):.2f}",
        "noise",
        f"{np.mean(values['noise']):.2f}",
        f"{np.mean(values['automatic']):.2f}",
        f"{change.mean():+.2f}",
    ]
    assert row[-2:] == ["rain", "50%"]
    assert "M parameters" in printed
    assert report["settings"]["work"]["gflop"] > 0


def test_every_adapter_is_tried_where_none_is_named(
    routed: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = quality(routed, tmp_path / "q.json", "--pairs", pairs, "--pairs", f"rain={pairs}", "--limit", "1")
    every, named = report["results"]["sets"]
    assert (every["adapters"], named["adapters"]) == (ADAPTERS, ["rain"])
    assert len(every["pictures"]) == len(named["pictures"]) == 1
    assert every["means"]["rain"] == named["means"]["rain"] == named["means"]["automatic"]
    best = max(ADAPTERS, key=lambda name: every["means"][name]["psnr"])
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("wet ")).split()
    assert row[3:5] == [best, f"{every['means'][best]['psnr']:.2f}"]


def test_a_folder_may_have_an_equals_sign_in_its_name(routed: Path, pairs: Path, tmp_path: Path) -> None:
    odd = pairs.rename(pairs.with_name("rain=heavy"))
    (found,) = quality(routed, tmp_path / "q.json", "--pairs", odd, "--limit", "1")["results"]["sets"]
    assert (found["name"], len(found["adapters"])) == ("rain=heavy", 3)


def test_clean_pictures_are_left_alone_or_counted(
    routed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "fine"
    red, grey = write(folder / "red.png", textured(RED, 3)), write(folder / "grey.png", textured(GREY, 4))
    write(folder / "blue.png", textured(BLUE, 5))
    write(folder / "green.png", textured(GREY, 6))
    report = quality(routed, tmp_path / "q.json", "--clean", folder)
    assert report["results"]["sets"] == []
    (found,) = report["results"]["clean"]
    assert (found["untouched"], found["chosen"]) == (0.5, {"clean": 2, "noise": 1, "rain": 1})
    restorer = Restorer(routed)
    changed = [psnr(red, restorer(red, "rain")), psnr(textured(BLUE, 5), restorer(textured(BLUE, 5), "noise"))]
    assert found["changed"]["psnr"] == pytest.approx(np.mean(changed), abs=1e-9)
    assert found["worst"]["psnr"] == pytest.approx(min(changed), abs=1e-9)
    assert found["worst_picture"] == ("red.png", "blue.png")[int(np.argmin(changed))]
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("fine ")).split()
    assert row[:5] == ["fine", "4", "50.0%", f"{np.mean(changed):.2f}", f"{min(changed):.2f}"]

    for name in ("red", "blue"):
        (folder / f"{name}.png").unlink()
    (found,) = quality(routed, tmp_path / "2.json", "--clean", folder)["results"]["clean"]
    assert (found["untouched"], found["changed"], found["worst"]) == (1.0, None, None)
    assert len(grey) == 40


def test_noise_and_jpeg_are_those_of_the_literature(routed: Path, tmp_path: Path) -> None:
    # noise has an adapter here, JPEG has none: its pictures are told by the function alone
    picture = write(tmp_path / "fine" / "one.png", textured(GREY, 7, (60, 90)))
    options = ["--clean", tmp_path / "fine", "--noise", "15,50", "--seed", 3]
    report = quality(routed, tmp_path / "q.json", *options)
    again = quality(routed, tmp_path / "again.json", *options)
    assert again["results"] == report["results"]
    assert [each["name"] for each in report["results"]["sets"]] == ["fine, noise 15", "fine, noise 50"]
    for sigma, found in zip((15, 50), report["results"]["sets"], strict=True):
        entropy = [3, zlib.crc32(b"one.png"), sigma * 10_000]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        noisy = picture + sigma * np.random.default_rng(seed).standard_normal(picture.shape)
        frame = np.rint(noisy).clip(0, 255).astype(np.uint8)
        assert found["means"]["input"]["psnr"] == pytest.approx(psnr(picture, frame), abs=1e-9)
        assert found["means"]["noise"]["psnr"] == pytest.approx(
            psnr(picture, Restorer(routed, "noise")(frame)), abs=1e-9
        )

    colourful = np.random.default_rng(8).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for subsampling, near in ((2, True), (0, False)):  # Pillow's numbers for 4:2:0 and 4:4:4
        Image.fromarray(colourful).save(tmp_path / "p.jpg", quality=30, subsampling=subsampling)
        stored = np.asarray(Image.open(tmp_path / "p.jpg"))
        difference = float(np.abs(as_jpeg(colourful, 30, 0).astype(int) - stored).mean())
        assert (difference < 1) == near


def test_jpeg_is_measured_by_its_adapter(
    zoo: Path, training_run: Path, colour_router: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uir.export.zoo.ZOO", zoo)
    path = tmp_path / "jpeg.uir"
    export(["--adapters", f"rain,jpeg={training_run / 'noise'}", "--router", str(colour_router), "-o", str(path)])
    picture = write(tmp_path / "fine" / "one.png", textured(GREY, 9))
    found = quality(path, tmp_path / "q.json", "--clean", tmp_path / "fine", "--jpeg", "10,40")["results"]["sets"]
    assert [each["name"] for each in found] == ["fine, JPEG 10", "fine, JPEG 40"]
    for each, level in zip(found, (10, 40), strict=True):
        assert each["adapters"] == ["jpeg"]
        assert each["means"]["input"]["psnr"] == pytest.approx(psnr(picture, as_jpeg(picture, level, 0)), abs=1e-9)


def test_luma_is_that_of_bt_601() -> None:
    black, white = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    assert luma_psnr(black, white) == pytest.approx(20 * math.log10(255 / 219))
    assert luma_psnr(black, black) == 100
    green = black.copy()
    green[..., 1] = 255
    assert luma_psnr(black, green) == pytest.approx(20 * math.log10(255 / 129))  # 128.553, rounded


def test_worse_is_more_than_three_tenths() -> None:
    def picture(name: str, change: float) -> PictureScores:
        scores = {"input": Score(30, 0.9), "rain": Score(31, 0.8), "automatic": Score(30 + change, 0.9)}
        return PictureScores(name, "rain", ["rain"], scores, {"input": 30, "rain": 31, "automatic": 30})

    found = summarise("set", ["rain"], [picture("a", -0.25), picture("b", -0.5), picture("c", 3), picture("d", 0)])
    assert (found.changes["automatic"].worse, found.changes["rain"].worse) == (0.25, 0)
    assert found.changes["automatic"].worst_picture == "b"
    assert found.changes["rain"].worst.ssim == pytest.approx(-0.1)
