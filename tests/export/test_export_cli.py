"""`uir-export` as its users meet it: a process, its files, its exit status, its one line."""

from __future__ import annotations

import itertools
import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from uir.export.adapters import write_peft
from uir.export.cli import main as export
from uir.export.cli import parse_adapters
from uir.runtime import Package, Restorer
from uir.runtime.errors import AdapterError, BaseModelError, MissingFileError, OutputError, UsageError
from uir.runtime.factors import Factors

Call = Callable[..., subprocess.CompletedProcess[str]]


@dataclass
class Exported:
    """One export of everything at once: tracing the base takes seconds."""

    package: Path
    answer: dict[str, Any]
    answered: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def exported(training_run: Path, call: Call, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    package = tmp_path_factory.mktemp("exported") / "storm.uir"
    answered = call(
        "uir-export",
        *("--base", training_run / "base.safetensors"),
        *("--adapters", f"{training_run / 'rain'},fog={training_run / 'haze'}"),
        *("--compose", "rain=0.7,fog=0.3", "--compose", "base", "--compose", "rain"),
        *("--emit", "onnx", "--json", "-o", package),
    )
    assert answered.returncode == 0, answered.stderr
    return Exported(package, json.loads(answered.stdout), answered)


def one_line_error(answered: subprocess.CompletedProcess[str]) -> str:
    """What a command that failed said: one line, no traceback."""
    assert answered.stdout == ""
    lines = answered.stderr.splitlines()
    assert len(lines) == 1, answered.stderr
    assert lines[0].startswith("uir-export: error: ")
    return lines[0]


def test_a_checkpoint_and_folders_become_a_package(exported: Exported, training_run: Path) -> None:
    package = Package(exported.package)
    package.verify()
    manifest = package.manifest
    assert sorted(manifest.adapters) == ["fog", "rain"]
    assert list(manifest.compositions) == ["rain", "fog", "fog=0.5,rain=0.5", "fog=0.3,rain=0.7", "base"]
    assert manifest.default == "fog=0.3,rain=0.7"
    assert (manifest.base.name, manifest.base.architecture) == ("base", "unet")
    assert manifest.adapters["rain"].rank == 2
    assert manifest.adapters["rain"].licence == manifest.base.licence == "unstated"
    assert manifest.provenance.command[:2] == ["uir-export", "--base"]
    weights = safetensors.numpy.load_file(training_run / "base.safetensors")
    for name, weight in weights.items():
        np.testing.assert_array_equal(package.base_weights[name], weight)


def test_json_says_what_was_written(exported: Exported) -> None:
    files = [file for file in exported.package.rglob("*") if file.is_file()]
    assert exported.answer == {
        "package": str(exported.package),
        "bytes": sum(file.stat().st_size for file in files),
        "compositions": msgspec.to_builtins(Package(exported.package).manifest.compositions),
        "default": "fog=0.3,rain=0.7",
        "engines": [],
    }
    said = exported.answered.stderr.splitlines()
    assert [line.partition(",")[0] for line in said] == [
        f"uir-export: {name} has no prototype" for name in ("rain", "fog")
    ]


def test_emitted_models_run_alone_and_say_what_they_are(exported: Exported, frame: NDArray[np.uint8]) -> None:
    frame = frame[:36, :52]
    emitted = sorted(path.parent.name for path in exported.package.glob("compositions/*/model.onnx"))
    assert emitted == sorted(Package(exported.package).manifest.compositions)
    for key in emitted:
        path = exported.package / "compositions" / key / "model.onnx"
        onnx.checker.check_model(path, full_check=True)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        notes = session.get_modelmeta().custom_metadata_map
        assert notes["uir.composition"] == key
        assert notes["uir.base"] == "base"
        assert notes["uir.input"] == "uint8 N x H x W x 3, RGB"
        assert notes["uir.multiple_of"] == "4"
        assert notes["uir.licence"] == "unstated"
        assert session.get_modelmeta().producer_name == "uir-edge"
        (restored,) = session.run(None, {session.get_inputs()[0].name: frame[None]})
        assert np.array_equal(restored[0], Restorer(exported.package, key)(frame))


def test_the_model_may_be_taken_away_from_the_package(exported: Exported, tmp_path: Path) -> None:
    """No weights lie beside it."""
    model = exported.package / "compositions" / "rain" / "model.onnx"
    moved = Path(shutil.copy(model, tmp_path / "model.onnx"))
    onnxruntime.InferenceSession(moved, providers=["CPUExecutionProvider"])


@pytest.mark.usefixtures("use_zoo")
def test_the_zoo_is_exported_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(["--adapters", "rain,haze", "-o", str(tmp_path / "restore.uir")])
    manifest = Package(tmp_path / "restore.uir").manifest
    assert list(manifest.compositions) == ["rain", "haze", "haze=0.5,rain=0.5"]
    assert manifest.default == "haze=0.5,rain=0.5"
    assert manifest.base.name == "tiny"
    assert manifest.base.licence == manifest.adapters["rain"].licence == "Apache-2.0"
    line = capsys.readouterr().out
    assert re.fullmatch(r".*restore\.uir: 0\.\d MB, compositions rain haze haze=0.5,rain=0.5; default haze=.*\n", line)


@pytest.mark.usefixtures("use_zoo")
def test_one_adapter_is_the_default_alone(tmp_path: Path) -> None:
    export(["--adapters", "rain", "-o", str(tmp_path / "restore.uir")])
    manifest = Package(tmp_path / "restore.uir").manifest
    assert (list(manifest.compositions), manifest.default) == (["rain"], "rain")


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.usefixtures("use_zoo")
def test_a_package_grows_by_its_adapters_factors_alone(tmp_path: Path) -> None:
    sizes = []
    for number, adapters in enumerate((["rain"], ["rain", "haze"], ["rain", "haze", "noise"])):
        path = tmp_path / f"{number}.uir"
        mixes = [f"--compose=rain={i / 100}" for i in range(1, 1 + 20 * number)]  # compositions cost a line each
        export(["--adapters", ",".join(adapters), *mixes, "-o", str(path)])
        sizes.append(size_of(path))
        manifest = Package(path).manifest
        assert manifest.adapters["rain"].parameters < 0.5 * manifest.base.parameters
    factors = size_of(tmp_path / "2.uir" / "adapters") / 3
    for smaller, larger in itertools.pairwise(sizes):
        assert factors <= larger - smaller < factors + 2500


@pytest.mark.usefixtures("use_zoo")
def test_an_existing_output_is_kept(tmp_path: Path) -> None:
    output = tmp_path / "restore.uir"
    export(["--adapters", "rain", "-o", str(output)])
    with pytest.raises(OutputError, match="exists already"):
        export(["--adapters", "haze", "-o", str(output)])
    assert list(Package(output).manifest.adapters) == ["rain"]
    export(["--adapters", "haze", "-o", str(output), "--overwrite"])
    assert list(Package(output).manifest.adapters) == ["haze"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["restore.uir"]
    Package(output).verify()


@pytest.mark.usefixtures("use_zoo")
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_no_package_is_never_overwritten(tmp_path: Path, kind: str) -> None:
    output = tmp_path / "thesis"
    if kind == "folder":
        output.mkdir()
        (output / "chapter1.txt").write_text("years of work")
    else:
        output.write_text("years of work")
    with pytest.raises(OutputError, match="is not a package, so it is not overwritten"):
        export(["--adapters", "rain", "-o", str(output), "--overwrite"])
    assert (output / "chapter1.txt" if kind == "folder" else output).read_text() == "years of work"


@pytest.mark.usefixtures("use_zoo")
def test_a_full_disk_is_said_and_leaves_the_old_package(small_disk: Path) -> None:
    output = small_disk / "restore.uir"
    export(["--adapters", "rain", "-o", str(output)])
    for options in (
        ["--adapters", "rain,haze,noise", "--overwrite", "-o", output],
        ["--adapters", "rain", "--emit", "onnx", "-o", small_disk / "more.uir"],
    ):
        with pytest.raises(OutputError, match="cannot be written: No space left on device"):
            export([str(option) for option in options])
    assert list(Package(output).manifest.adapters) == ["rain"]
    Package(output).verify()
    assert [path.name for path in small_disk.iterdir()] == ["restore.uir"]


@pytest.mark.usefixtures("use_zoo")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rian", r"rian: no such adapter in the zoo; did you mean rain\?"),
        ("fog", "there are haze, noise, rain"),
        ("rain,rain", "rain is named twice"),
        ("rain,rain=loras/rain", "rain is named twice"),
        ("", "names no adapter; in the zoo are haze, noise, rain"),
        (",", "names no adapter"),
        ("base=loras/rain", "'base': not a name for an adapter"),
        ("my rain=loras/rain", "not a name for an adapter"),
        ("loras/..", "not a name for an adapter"),
        ("../x=loras/rain", "not a name for an adapter"),
    ],
)
def test_adapters_that_cannot_be_meant_are_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_adapters(text)


def test_adapters_may_be_names_and_folders(use_zoo: Path) -> None:
    assert parse_adapters(" rain , fog=loras/haze/, ./loras/snow") == {
        "rain": use_zoo / "adapters" / "rain",
        "fog": Path("loras/haze"),
        "snow": Path("loras/snow"),
    }


@pytest.mark.usefixtures("use_zoo")
@pytest.mark.parametrize("text", ["rain=0.5,fog=0.5", "haze"])
def test_a_mix_of_what_is_not_exported_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"no such adapter; there are rain"):
        export(["--adapters", "rain", "--compose", text, "-o", str(tmp_path / "restore.uir")])
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_of_another_base_is_refused_before_the_tracing(
    training_run: Path, tmp_path: Path, call: Call
) -> None:
    shapes = {"intro.weight": (9, 3, 6, 6), "fog.weight": (4, 4), "ending.weight": (12, 4, 3, 3)}
    rng = np.random.default_rng(0)
    factors = {
        name: Factors(rng.normal(size=(shape[0], 2)), rng.normal(size=(2, int(np.prod(shape[1:])))), 1.0)
        for name, shape in shapes.items()
    }
    write_peft(tmp_path / "fog", factors, shapes, rank=2, alpha=2.0, base_model="other")
    answered = call(
        *("uir-export", "--base", training_run / "base.safetensors", "--adapters", tmp_path / "fog"),
        *("-o", tmp_path / "restore.uir"),
    )
    assert answered.returncode == 1
    line = one_line_error(answered)
    assert "adapter fog was made for another base: 2 of its 3 weights differ" in line
    assert "intro.weight is 4 x 3 x 6 x 6 in the base, 9 x 108 in the adapter" in line
    assert "fog.weight is not in the base" in line
    assert not (tmp_path / "restore.uir").exists()


def test_commands_end_in_one_line(call: Call, training_run: Path, tmp_path: Path) -> None:
    (tmp_path / "loras").mkdir()
    with (tmp_path / "loras" / "adapter_model.bin").open("wb") as stream:
        pickle.dump({"x": 1}, stream)
    base = ("--base", training_run / "base.safetensors")
    output = ("-o", tmp_path / "restore.uir")
    for arguments, status, words in (
        ((*base, "--adapters", tmp_path / "loras", *output), 1, "holds a pickle, which can run code"),
        ((*base, "--adapters", "no/such", *output), 1, "no/such: no such adapter"),
        (("--base", "no.safetensors", "--adapters", training_run / "rain", *output), 1, "no such base checkpoint"),
        ((*base, "--adapters", "x=", *output), 1, "has no adapter_config.json"),
        ((*base, "--adapters", training_run / "rain", "-o", tmp_path / "no" / "restore.uir"), 1, "no such folder"),
        ((*base, "--adapters", training_run / "rain", "--compose", "rain=x", *output), 2, "not a composition"),
    ):
        answered = call("uir-export", *arguments)
        assert answered.returncode == status, answered.stderr
        assert words in one_line_error(answered)
    assert [path.name for path in tmp_path.iterdir()] == ["loras"]


def test_the_zoo_needs_no_torch_and_a_reader_that_leaves_early_is_no_error(zoo: Path, tmp_path: Path) -> None:
    """As in `uir-export --json | head -0` on a device."""
    code = (
        "import pathlib, sys, uir.export.zoo as z; z.ZOO = pathlib.Path(sys.argv.pop(1)); sys.modules['torch'] = None;"
        "sys.stdin.read(); from uir.export.cli import run; run()"
    )
    program = [sys.executable, "-c", code, zoo, "--adapters", "rain", "--json", "-o", tmp_path / "restore.uir"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(program, **pipes) as process:
        assert process.stdout and process.stdin and process.stderr
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1
    Package(tmp_path / "restore.uir").verify()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("ups.0.conv.bias"), r"ups\.0\.conv\.bias is missing, and should be 16"),
        (lambda w: w.pop("downs.0.weight"), r"looks like a unet, but is not one: .*; and \d+ more"),
        (lambda w: w.update(extra=torch.zeros(3)), r"extra is 3, and should be missing"),
        (
            lambda w: w.update({"middle.0.conv1.weight": torch.zeros(6, 6, 1, 1)}),
            "is 6 x 6 x 1 x 1, and should be 6 x 6",
        ),
        (lambda w: [w.pop(name) for name in list(w) if "ups" in name], "of no known architecture .known: unet, nafnet"),
        (lambda w: w.clear(), "its first weights are none"),
        (lambda w: w.update({"intro.bias": torch.full((4,), torch.nan)}), r"intro\.bias holds NaN or infinity"),
    ],
)
def test_a_base_that_is_none_is_refused(
    tmp_path: Path,
    training_run: Path,
    make_unet: Callable[[], nn.Module],
    change: Callable[[dict[str, Any]], object],
    words: str,
) -> None:
    weights = dict(make_unet().state_dict())
    change(weights)
    path = tmp_path / "base.safetensors"
    safetensors.torch.save_file(weights, path)
    with pytest.raises(BaseModelError, match=words) as caught:
        export(["--base", str(path), "--adapters", str(training_run / "rain"), "-o", str(tmp_path / "restore.uir")])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "restore.uir").exists()


def test_pickles_are_refused_wherever_they_stand(tmp_path: Path, training_run: Path) -> None:
    """Each holds code that would leave a trace."""

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    rain = str(training_run / "rain")
    for name in ("base.pth", "base.pt", "base.ckpt", "base.bin", "base.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Trap()))
        with pytest.raises(BaseModelError, match="holds a pickle, which can run code"):
            export(["--base", str(tmp_path / name), "--adapters", rain, "-o", str(tmp_path / "restore.uir")])
    lora = tmp_path / "rain"
    lora.mkdir()
    (lora / "adapter_config.json").write_bytes((training_run / "rain" / "adapter_config.json").read_bytes())
    (lora / "adapter_model.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(AdapterError, match="holds a pickle"):
        export(["--base", str(training_run / "base.safetensors"), "--adapters", str(lora)])
    assert not (tmp_path / "ran").exists()


def test_a_truncated_or_missing_base_is_said(tmp_path: Path, training_run: Path) -> None:
    whole = (training_run / "base.safetensors").read_bytes()
    for keep in (0, 5, 100, len(whole) - 1):
        (tmp_path / "base.safetensors").write_bytes(whole[:keep])
        with pytest.raises(BaseModelError, match="not a whole safetensors file"):
            export(["--base", str(tmp_path / "base.safetensors"), "--adapters", str(training_run / "rain")])
    with pytest.raises(MissingFileError, match="no such base checkpoint"):
        export(["--base", str(tmp_path), "--adapters", str(training_run / "rain")])


@pytest.mark.parametrize("missing", ["torch", "onnxscript"])
def test_what_export_needs_and_lacks_is_said(training_run: Path, tmp_path: Path, missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from uir.export.cli import run; run()"
    arguments = ["--base", training_run / "base.safetensors", "--adapters", training_run / "rain"]
    program = [sys.executable, "-c", code, *arguments, "-o", tmp_path / "restore.uir"]
    answered = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert answered.returncode == 2, answered.stderr
    assert f"--base needs {missing}: pip install torch onnxscript google-re2" in one_line_error(answered)


def test_a_published_zoo_tells_nothing_of_the_machine(zoo: Path) -> None:
    for file in zoo.rglob("*"):
        if file.is_file():
            assert b"/home/me" not in file.read_bytes(), file
    record = json.loads((zoo / "record.json").read_text())
    assert record["command"][3:6] == ["photos", "--exclude", "haze=hazy.txt"]
