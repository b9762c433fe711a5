"""`uir-bench`: that its numbers are the right ones. Nothing timed is asserted."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from uir.runtime import UirError
from uir.runtime.backends.onnx_runtime import OnnxRuntimeBackend, OnnxRuntimeEngine
from uir.runtime.errors import UsageError
from uir.tools.bench import lorair
from uir.tools.bench.cli import main as bench
from uir.tools.bench.media import PAN, texture, view
from uir.tools.bench.processes import run_watched

PAIR = "haze=0.5,rain=0.5"


@pytest.mark.parametrize(
    "benchmark", ["", "quality", "flicker", "rank", "merge", "video", "size", "speed", "engines", "follow", "trace"]
)
def test_help(call: Callable[..., subprocess.CompletedProcess[str]], benchmark: str) -> None:
    result = call("uir-bench", *filter(None, [benchmark]), "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"usage: uir-bench {benchmark}".rstrip())
    assert ("--json" in result.stdout) == bool(benchmark) or "examples:" in result.stdout


def test_a_refusal_is_one_line(call: Callable[..., subprocess.CompletedProcess[str]], photos: Path) -> None:
    result = call("uir-bench", "quality", "--package", "nowhere.uir", "--photos", photos)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("uir-bench: error: nowhere.uir: no such package")
    assert len(result.stderr.splitlines()) == 1


def test_a_missing_extra_is_named(paired_package: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "skimage.metrics", raising=False)
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(UsageError, match=r"scikit-image: pip install scikit-image psutil"):
        bench(["quality", "--package", str(paired_package), "--photos", str(photos)])


def test_merge_switches_to_what_is_new(
    paired_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compiled: list[bytes] = []
    load = OnnxRuntimeBackend.load

    def watched(backend: OnnxRuntimeBackend, model: bytes) -> OnnxRuntimeEngine:
        compiled.append(model)
        return load(backend, model)

    monkeypatch.setattr(OnnxRuntimeBackend, "load", watched)
    monkeypatch.setattr(lorair, "WIDTH", 16)  # the same network, of 4 million parameters
    output = tmp_path / "merge.json"
    bench(["merge", "--package", str(paired_package), "--runs", "2", "--size", "64x48", "--json", str(output)])
    found = json.loads(output.read_text())["results"]
    assert list(found["package"]) == ["rain", "haze", PAIR]
    # Two new ones beside each, two more for the parts, and the three themselves: none came out of memory or was built
    # twice.
    assert len(compiled) == len(set(compiled)) == 15
    parameters = json.loads((paired_package / "manifest.json").read_text())["base"]["parameters"]
    for times in found["package"].values():
        assert times["parameters"] == parameters
        switch = times["switch"]
        assert times["merge"] > 0
        assert min(switch[part] for part in ("build", "load", "new", "known", "first_frame", "frame")) > 0
    assert list(found["lora_ir_shapes"]) == ["snow", "rain=0.3333,raindrop=0.3333,snow=0.3333"]
    said = capsys.readouterr().out
    assert "milliseconds" in said
    assert re.search(r"Of a switch to a new composition, \S+( \S+)? takes most: \d+ of \d+ ms\.", said)


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
    assert min(video["first_frame"], video["first_build"]) > 0
    assert min(video["costs"].values()) >= 0
    assert 0 < video["bound"] <= video["engine_fps"]
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
