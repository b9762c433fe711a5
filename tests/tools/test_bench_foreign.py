"""`uir-bench quality --foreign`: other libraries' degradations are seeded, whole, and restored by the right adapter."""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path

import cv2
import imagecorruptions
import numpy as np
import pytest
from numpy.typing import NDArray

from uir.calibration.degradations import DEGRADATIONS
from uir.runtime import Restorer
from uir.runtime.errors import MediaError, UsageError
from uir.tools.bench.cli import main as bench
from uir.tools.bench.foreign import LEVELS, OPERATORS, Operator
from uir.tools.bench.metrics import score


@pytest.fixture(scope="module")
def scene() -> NDArray[np.uint8]:
    """A colourful picture of 120 x 160, neither dark nor light."""
    rng = np.random.default_rng(3)
    picture = cv2.resize(rng.integers(20, 190, (12, 16, 3), dtype=np.uint8), (160, 120), interpolation=cv2.INTER_CUBIC)
    return np.asarray(picture, np.uint8)


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: f"{operator.library}.{operator.name}")
def test_an_operator_is_seeded_and_grows_with_its_level(scene: NDArray[np.uint8], operator: Operator) -> None:
    clean, state = scene.copy(), np.random.get_state()[1]
    first = [operator.degrade(clean, level, 11) for level in LEVELS]
    again = [operator.degrade(clean, level, 11) for level in LEVELS]
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert {(frame.shape, frame.dtype.name) for frame in first} == {(scene.shape, "uint8")}
    assert np.array_equal(clean, scene)
    nearness = [score(scene, frame).psnr for frame in first]
    if operator.name != "RandomRain":  # it also darkens the picture, which makes up for the light of its drops
        assert nearness[0] > nearness[-1] + 1
    assert len(set(nearness)) == len(LEVELS)
    assert nearness[0] < 60
    assert np.array_equal(np.random.get_state()[1], state)  # numpy's own generator is put back
    assert operator.adapter in DEGRADATIONS


def test_what_is_random_differs_by_seed(scene: NDArray[np.uint8]) -> None:
    fixed = {
        f"{operator.library}.{operator.name}"
        for operator in OPERATORS
        if np.array_equal(operator.degrade(scene, 3, 1), operator.degrade(scene, 3, 2))
    }
    assert fixed == {
        "albumentations.RandomSnow",
        "albumentations.Defocus",
        "albumentations.ImageCompression",
        "imagecorruptions.defocus_blur",
        "imagecorruptions.jpeg_compression",
    }


def test_too_small_a_picture_is_refused(scene: NDArray[np.uint8]) -> None:
    with pytest.raises(MediaError, match="160x31 is too small for --foreign"):
        OPERATORS[0].degrade(scene[:31], 1, 0)


def test_the_table_is_what_the_operators_and_adapters_give(
    shared_package: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--package", shared_package, "--photos", photos, "--severities", "0.5", "--limit", "1", "--foreign"]
    bench(["quality", *map(str, arguments), "--json", str(tmp_path / "q.json")])
    report = json.loads((tmp_path / "q.json").read_text())
    found = {f"{each['library']}.{each['operator']}": each for each in report["results"]["foreign"]}
    there = {"haze", "rain", "noise"}  # the package's adapters
    assert found.keys() == {f"{each.library}.{each.name}" for each in OPERATORS if each.adapter in there}
    assert [each.partition(" ")[0] for each in report["settings"]["foreign"]] == [
        "nrtk-albumentations",
        "imagecorruptions-imaug",
    ]

    image = cv2.imread(str(photos / "one.png"))
    assert image is not None
    clean = np.ascontiguousarray(image[..., ::-1]).astype(np.uint8)
    entropy = [0, zlib.crc32(b"one.png"), 3 * 10_000]
    np.random.seed(np.random.SeedSequence(entropy).generate_state(1)[0])
    foggy = imagecorruptions.corrupt(clean, 3, "fog")
    at = found["imagecorruptions.fog"]["scores"]["3"]
    before, after = score(clean, foggy), score(clean, Restorer(shared_package, "haze")(foggy))
    assert at["input"] == pytest.approx({"psnr": before.psnr, "ssim": before.ssim})
    assert at["adapter"] == pytest.approx({"psnr": after.psnr, "ssim": after.ssim})

    text = capsys.readouterr().out
    mean = found["imagecorruptions.fog"]["scores"]["mean"]
    row = next(line.split() for line in text.splitlines() if line.split()[:2] == ["imagecorruptions", "fog"])
    gain = mean["adapter"]["psnr"] - mean["input"]["psnr"]
    assert row[2:6] == ["haze", f"{mean['input']['psnr']:.2f}", f"{mean['adapter']['psnr']:.2f}", f"{gain:+.2f}"]
    assert row[7] == f"{after.psnr - before.psnr:+.2f}"
    worse = [
        key
        for key, each in found.items()
        if each["scores"]["mean"]["adapter"]["psnr"] < each["scores"]["mean"]["input"]["psnr"]
    ]
    assert worse  # the adapters of this package are random
    note = text.partition("Other libraries' pictures made worse")[2].partition("by SSIM")[0]
    assert all((key in note) == (key in worse) for key in found)


@pytest.mark.parametrize(
    ("module", "package"),
    [("albumentations", "nrtk-albumentations"), ("imagecorruptions", "imagecorruptions-imaug")],
)
def test_a_missing_library_is_named(
    shared_package: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"{package}: pip install scikit-image psutil"):
        bench(["quality", "--package", str(shared_package), "--photos", str(photos), "--foreign"])
