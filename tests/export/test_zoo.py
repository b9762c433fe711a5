"""What ships: the zoo is whole, needs no torch, and restores."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from peft import PeftModel

from uir.calibration.degradations import DEGRADATIONS
from uir.export.adapters import check_fits, load_adapter
from uir.export.bases import load_base
from uir.export.cli import main as export
from uir.export.trace import trace
from uir.export.zoo import ZOO, zoo_adapters, zoo_base
from uir.runtime import Composition, Restorer
from uir.runtime.merge import merge
from uir.tools.degrade import degrade_frame

BUNNY = Path(__file__).parent.parent / "media" / "bunny.mp4"
NAMES = sorted(zoo_adapters())


@pytest.fixture(scope="module")
def clean() -> NDArray[np.uint8]:
    """A real frame, 360 x 640, that no adapter was trained on."""
    with av.open(str(BUNNY)) as container:
        frame = next(container.decode(video=0))
        return np.asarray(frame.to_ndarray(format="rgb24"))


@pytest.fixture(scope="module")
def zoo_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zoo") / "restore.uir"
    export(["--adapters", ",".join(NAMES), "-o", str(path)])
    return path


def psnr(frame: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    error = np.mean((frame.astype(np.float64) - truth) ** 2)
    return float(10 * np.log10(255**2 / error))


def test_adapters_are_named_as_what_they_remove() -> None:
    assert {"rain", "haze", "noise", "lowlight"} <= set(NAMES) <= set(DEGRADATIONS)


def test_the_shipped_graph_is_what_tracing_gives() -> None:
    base = zoo_base()
    traced = trace(load_base(ZOO / "base" / "base.safetensors").network)
    assert onnx.load_from_string(traced.graph).graph == onnx.load_from_string(base.graph).graph
    assert traced.frame == base.frame
    assert traced.weights.keys() == base.weights.keys()


@pytest.mark.parametrize("name", NAMES)
def test_peft_computes_what_the_merge_does(name: str) -> None:
    adapter, base = load_adapter(zoo_adapters()[name], name), zoo_base()
    check_fits(adapter, base.weights)
    merged = load_base(ZOO / "base" / "base.safetensors").network
    weights = merge(base.weights, {name: adapter}, Composition.of({name: 1.0}))
    merged.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    stacked = PeftModel.from_pretrained(load_base(ZOO / "base" / "base.safetensors").network, zoo_adapters()[name])
    picture = torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(stacked(picture), merged(picture), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_each_adapter_restores_and_the_base_alone_does_not(
    name: str, zoo_package: Path, clean: NDArray[np.uint8]
) -> None:
    degraded = degrade_frame(clean, {name: 0.5}, seed=3)
    before = psnr(degraded, clean)
    after = psnr(Restorer(zoo_package, name)(degraded), clean)
    base = psnr(Restorer(zoo_package, "base")(degraded), clean)
    # dB: jpeg and blur are the hardest, and gain a few tenths.
    assert after > before + 0.1
    assert after > base + 0.1


def test_export_of_the_zoo_needs_no_torch(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from uir.export.cli import main; main(['--adapters', 'rain,haze', '-o', sys.argv[1], '--json'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "two.uir")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)["compositions"]) == ["rain", "haze", "haze=0.5,rain=0.5"]
    assert (tmp_path / "two.uir" / "manifest.json").is_file()
