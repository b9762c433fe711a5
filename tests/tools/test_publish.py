"""`uir.tools.publish`: the zoo holds float16, is read as float32, and what that costs is told as it is."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from numpy.typing import NDArray
from peft import PeftModel

from uir.export.adapters import load_adapter
from uir.export.bases import load_base
from uir.export.zoo import zoo_base
from uir.runtime import Composition
from uir.runtime.errors import AdapterError, BaseModelError, UirError
from uir.runtime.merge import merge
from uir.tools.publish import main as publish

WEIGHTS = "adapter_model.safetensors"
TINY = [3e-5, -3e-5, 1e-9, 0.0]  # three below float16's normal range, one of them too small for it, and a true zero


@dataclass
class Published:
    """A run with a few tiny numbers, the zoo that was made of it, and what was printed."""

    run: Path
    zoo: Path
    lines: list[str]


def edit(file: Path, name: str, values: list[float]) -> None:
    """Put other values at the beginning of one tensor of a file."""
    tensors = safetensors.numpy.load_file(file)
    tensors[name] = tensors[name].copy()
    tensors[name].ravel()[: len(values)] = values
    file.write_bytes(safetensors.numpy.save(tensors))


@pytest.fixture(scope="module")
def published(training_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Published over an older zoo, which had an adapter that this run has not."""
    folder = tmp_path_factory.mktemp("published")
    run = Path(shutil.copytree(training_run, folder / "run"))
    edit(run / "base.safetensors", "intro.weight", TINY)
    edit(run / "rain" / WEIGHTS, "base_model.model.intro.lora_A.weight", TINY)
    shutil.copytree(training_run / "rain", folder / "zoo" / "adapters" / "soot")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        publish([str(run), "--zoo", str(folder / "zoo"), "--name", "tiny"])
    return Published(run, folder / "zoo", printed.getvalue().splitlines())


def stored(file: Path) -> dict[str, NDArray[np.generic]]:
    return dict(safetensors.numpy.load_file(file))


def test_files_hold_float16_and_the_run_is_left_alone(published: Published) -> None:
    names = {path.relative_to(published.zoo).as_posix() for path in published.zoo.rglob("*") if path.is_file()}
    adapters = [f"adapters/{n}/{f}" for n in ("haze", "noise", "rain") for f in ("adapter_config.json", WEIGHTS)]
    assert names == {"record.json", "base/base.json", "base/base.safetensors", "base/graph.onnx", *adapters}
    for source, file in (
        ("base.safetensors", "base/base.safetensors"),
        (f"haze/{WEIGHTS}", f"adapters/haze/{WEIGHTS}"),
        (f"rain/{WEIGHTS}", f"adapters/rain/{WEIGHTS}"),
    ):
        exact, half = stored(published.run / source), stored(published.zoo / file)
        assert exact.keys() == half.keys()
        for name, values in half.items():
            assert (exact[name].dtype, values.dtype) == (np.float32, np.float16)
            assert np.array_equal(values, exact[name].astype(np.float16))


def test_the_zoo_is_read_as_float32(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uir.export.zoo.ZOO", published.zoo)
    weights = zoo_base().weights
    half = stored(published.zoo / "base" / "base.safetensors")
    assert weights.keys() == half.keys()
    for name, values in weights.items():
        assert values.dtype == np.float32
        assert np.array_equal(values, half[name])
    for update in load_adapter(published.zoo / "adapters" / "rain").updates.values():
        assert update.delta((-1,)).dtype == np.float32


def test_peft_loads_what_is_published(published: Published) -> None:
    base = published.zoo / "base" / "base.safetensors"
    adapter = load_adapter(published.zoo / "adapters" / "rain")
    merged = load_base(base).network
    weights = {name: tensor.numpy() for name, tensor in merged.state_dict().items()}
    for name, values in merge(weights, {"rain": adapter}, Composition.of({"rain": 1})).items():
        merged.state_dict()[name].copy_(torch.from_numpy(values))
    stacked = PeftModel.from_pretrained(load_base(base).network, published.zoo / "adapters" / "rain")
    picture = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(stacked(picture), merged(picture), atol=1e-5)


def test_what_float16_costs_is_printed(published: Published) -> None:
    rows = {line.split()[0]: line.split()[1:] for line in published.lines if len(line.split()) == 6}
    assert list(rows) == ["base", "haze", "noise", "rain"]

    exact = stored(published.run / "base.safetensors")
    base = {n: np.linalg.norm(w.astype(np.float16).astype(float) - w) / np.linalg.norm(w) for n, w in exact.items()}
    assert float(rows["base"][2]) == pytest.approx(max(base.values()), rel=0.01)
    for name in ("haze", "noise", "rain"):
        before, after = (load_adapter(folder / name) for folder in (published.run, published.zoo / "adapters"))
        deltas = [(u.delta((-1,)), after.updates[key].delta((-1,))) for key, u in before.updates.items()]
        error = max(np.linalg.norm(found - wanted) / np.linalg.norm(wanted) for wanted, found in deltas)
        assert 1e-5 < error < 1e-3
        assert float(rows[name][2]) == pytest.approx(error, rel=0.01)

    for name, file in (("base", published.run / "base.safetensors"), ("rain", published.run / "rain" / WEIGHTS)):
        values = np.concatenate([tensor.ravel() for tensor in stored(file).values()])
        small = (np.abs(values) < 2.0**-14) & (values != 0)
        assert small.sum() >= 3
        assert [rows[name][0], *rows[name][3:]] == [f"{values.size:,}", str(small.sum()), "1"]

    size = sum(file.stat().st_size for file in published.zoo.rglob("*/*") if file.is_file())
    assert published.lines[-1] == f"{published.zoo}: {size / 1e6:.2f} MB"


@pytest.mark.parametrize(
    ("file", "name", "error"),
    [
        ("base.safetensors", "intro.weight", BaseModelError),
        (f"noise/{WEIGHTS}", "base_model.model.intro.lora_B.weight", AdapterError),
    ],
)
def test_what_float16_cannot_hold_is_refused(
    published: Published, tmp_path: Path, file: str, name: str, error: type[UirError]
) -> None:
    run = Path(shutil.copytree(published.run, tmp_path / "run"))
    edit(run / file, name, [-70_000.0])
    zoo = Path(shutil.copytree(published.zoo, tmp_path / "zoo"))
    before = {path: path.read_bytes() for path in zoo.rglob("*") if path.is_file()}
    with pytest.raises(error, match=rf"{file}: {name} holds 70000, and float16 ends at 65504"):
        publish([str(run), "--zoo", str(zoo)])
    assert {path: path.read_bytes() for path in zoo.rglob("*") if path.is_file()} == before


def test_the_record_is_the_runs(published: Published) -> None:
    before, after = (json.loads((folder / "record.json").read_text()) for folder in (published.run, published.zoo))
    assert after["seed"] == before["seed"]
    assert after["command"][3] == "photos"  # its folder was the trainer's
    assert after["log"] == [{"step": 500, "psnr": {"rain": 25.5}}]  # mixes are left out


@pytest.fixture
def later_run(training_run: Path, tmp_path: Path) -> Path:
    """A run of one adapter over the base, which is not the base's own rain."""
    run = tmp_path / "later"
    shutil.copytree(training_run / "rain", run / "rain")
    edit(run / "rain" / WEIGHTS, "base_model.model.intro.lora_A.weight", [0.5])
    digest = hashlib.sha256((training_run / "base.safetensors").read_bytes()).hexdigest()
    (run / "record.json").write_text(json.dumps({"command": ["uir-train"], "began from": {"base": digest}}))
    return run


def test_a_later_run_s_adapter_takes_the_place_of_its_name(training_run: Path, later_run: Path, tmp_path: Path) -> None:
    publish([str(training_run), str(later_run), "--zoo", str(tmp_path / "zoo")])
    own, later, zoo = (folder for folder in (training_run, later_run, tmp_path / "zoo" / "adapters"))
    for source, name in ((later, "rain"), (own, "haze")):
        exact, half = stored(source / name / WEIGHTS), stored(zoo / name / WEIGHTS)
        assert all(np.array_equal(half[key], exact[key].astype(np.float16)) for key in exact)
    (record,) = json.loads((tmp_path / "zoo" / "record.json").read_text())["later"]
    assert record["command"] == ["uir-train"]


def test_a_later_run_over_another_base_is_refused(training_run: Path, later_run: Path, tmp_path: Path) -> None:
    (later_run / "record.json").write_text(json.dumps({"command": [], "began from": {"base": "0" * 64}}))
    with pytest.raises(UirError, match=r"later: was not trained over .*base\.safetensors"):
        publish([str(training_run), str(later_run), "--zoo", str(tmp_path / "zoo")])
    assert not (tmp_path / "zoo").exists()


def test_a_run_that_did_not_end_is_refused(training_run: Path, later_run: Path, tmp_path: Path) -> None:
    (later_run / "record.json").unlink()
    with pytest.raises(UirError, match=r"later: has no record\.json"):
        publish([str(training_run), str(later_run), "--zoo", str(tmp_path / "zoo")])
