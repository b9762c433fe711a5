"""A small real base with random weights, published and exported once a session: tracing a network takes seconds."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from fuzz.manifest import read_manifest, replace, write_manifest
from hypothesis import settings
from numpy.typing import NDArray
from torch import nn

from uir.export.adapters import write_peft
from uir.export.bases import save_base
from uir.export.bases.unet import UNet
from uir.export.cli import main as export
from uir.export.package_writer import ExportRouter
from uir.export.router import MEAN_OF_CLEAN, save_router
from uir.runtime.factors import Factors
from uir.runtime.manifest import RouterSettings
from uir.runtime.router import EMBEDDINGS, INPUTS
from uir.tools.publish import publish

settings.register_profile("house", deadline=None, max_examples=30)  # nothing is timed in a test
settings.load_profile("house")
# float32 on ONNX Runtime, so that results can be compared to the bit, here and in the processes that tests start.
os.environ["UIR_DEVICE"] = "cpu"
torch.set_num_threads(1)  # small networks lose by more, and sums depend on how they are shared among threads

RANK = 2
ADAPTERS = ("haze", "noise", "rain")
CHANGE = 0.25
"""How much of a frame's range the small network changes it by."""


def randomise(network: nn.Module, seed: int) -> nn.Module:
    """Fill a network with random weights that keep activations at about one: an untrained base would prove nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            spread = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.1
            parameter.normal_(0, spread, generator=generator)
    return network.eval()


def random_factors(shape: tuple[int, ...], rank: int, rng: np.random.Generator, scale: float = 0.5) -> Factors:
    """Factors of a weight, none of them zero, whose delta is about as large as the weight."""
    m, n = shape[0], math.prod(shape[1:])
    b = rng.normal(0, rank**-0.5, (m, rank)).astype(np.float32)
    a = rng.normal(0, n**-0.5, (rank, n)).astype(np.float32)
    return Factors(b, a, scale)


def small_unet() -> UNet:
    """An hourglass of 4 and 6 channels: multiple_of 4, and all that the shipped base has."""
    return UNet((4, 6), (1, 1))


@pytest.fixture(scope="session")
def fill() -> Callable[[nn.Module, int], nn.Module]:
    """`randomise`, for tests that build networks of their own."""
    return randomise


@pytest.fixture(scope="session")
def make_factors() -> Callable[..., Factors]:
    """`random_factors`, for tests that build adapters of their own."""
    return random_factors


@pytest.fixture(scope="session")
def make_unet() -> Callable[[], UNet]:
    """`small_unet`, with the weights of a fresh one."""
    return small_unet


@pytest.fixture(scope="session")
def training_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `uir-train base` leaves behind: a base, three adapters in PEFT's format and a record."""
    run = tmp_path_factory.mktemp("run")
    network = randomise(small_unet(), 1)
    with torch.no_grad():  # so that pictures stay pictures
        for parameter in network.ending.parameters():  # type: ignore[union-attr]
            parameter.mul_(CHANGE)
    save_base(run / "base.safetensors", "unet", network.state_dict())
    shapes = {name: tuple(weight.shape) for name, weight in network.state_dict().items() if weight.dim() > 1}
    for number, name in enumerate(ADAPTERS):
        rng = np.random.default_rng(number)
        factors = {weight: random_factors(shape, RANK, rng) for weight, shape in shapes.items()}
        factors["ending.weight"].b[:] *= CHANGE
        write_peft(run / name, factors, shapes, rank=RANK, alpha=1.0, base_model="base.safetensors")
    (run / "log.jsonl").write_text('{"step": 500, "psnr": {"rain": 25.5, "haze+rain": 20.1}}\n')
    command = [
        "uir-train",
        "base",
        "--photos",
        "/home/me/photos",
        "--exclude",
        "haze=/home/me/hazy.txt",
        "--out",
        "run",
    ]
    (run / "record.json").write_text(json.dumps({"command": command, "seed": 1}))
    return run


@pytest.fixture(scope="session")
def zoo(training_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small base and its adapters, published: the graph is traced here, once."""
    folder = tmp_path_factory.mktemp("zoo")
    publish(training_run, folder, "tiny")
    return folder


@pytest.fixture
def use_zoo(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let export take its names from the small zoo."""
    monkeypatch.setattr("uir.export.zoo.ZOO", zoo)
    return zoo


@pytest.fixture(scope="session")
def shared_package(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of the small base and its adapters; not to be written to (see `package`)."""
    path = tmp_path_factory.mktemp("package") / "restore.uir"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uir.export.zoo.ZOO", zoo)
        export(["--adapters", ",".join(ADAPTERS), "-o", str(path)])
    return path


@pytest.fixture
def package(shared_package: Path, tmp_path: Path) -> Path:
    """A package that a test may damage."""
    return Path(shutil.copytree(shared_package, tmp_path / "restore.uir"))


@pytest.fixture
def edit_manifest(package: Path) -> Callable[[Callable[[dict[str, Any]], None]], None]:
    """A function that rewrites the manifest of `package` with an edit of its JSON, and renews its digest."""

    def edit(change: Callable[[dict[str, Any]], None]) -> None:
        manifest = read_manifest(package)
        change(manifest)
        write_manifest(package, manifest)

    return edit


@pytest.fixture
def replace_file(package: Path) -> Callable[[str, bytes], None]:
    """A function that replaces one file of `package` and its hash: what a hostile exporter could have written."""
    return partial(replace, package)


def colour_network() -> bytes:
    """A router's network in miniature: the embedding is the mean colour, at length one."""
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, ["frames", *shape])
        for name, shape in INPUTS.items()
    ]
    result = onnx.helper.make_tensor_value_info(EMBEDDINGS, onnx.TensorProto.FLOAT, ["frames", 3])
    nodes = [
        onnx.helper.make_node("Cast", ["thumbnails"], ["floats"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("ReduceMean", ["floats", "axes"], ["colour"], keepdims=0),
        onnx.helper.make_node("Add", ["colour", "little"], ["positive"]),  # black has a direction too
        onnx.helper.make_node("LpNormalization", ["positive"], [EMBEDDINGS], axis=1),
    ]
    constants = {"axes": np.array([1, 2]), "little": np.array([1e-3], np.float32)}
    weights = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = onnx.helper.make_graph(nodes, "colour", values, [result], weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="session")
def colour_router(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a router that takes red for rain, green for haze, blue for noise, and grey for clean."""
    folder = tmp_path_factory.mktemp("router")
    rules = RouterSettings(threshold=0.35, top_k=3, norm="sum", temperature=0.25, lattice=16)
    directions = {
        "rain": [1, 0, 0],
        "haze": [0, 1, 0],
        "noise": [0, 0, 1],
        "clean": [3**-0.5] * 3,
        MEAN_OF_CLEAN: [3**-0.5] * 3,
    }
    prototypes = {name: np.array(direction, np.float32) for name, direction in directions.items()}
    save_router(folder, ExportRouter(colour_network(), rules, prototypes))
    return folder


@pytest.fixture
def routed_package(zoo: Path, colour_router: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the small base, its three adapters, and the router of colours."""
    monkeypatch.setattr("uir.export.zoo.ZOO", zoo)
    path = tmp_path / "routed.uir"
    export(["--adapters", ",".join(ADAPTERS), "--router", str(colour_router), "-o", str(path)])
    return path


@pytest.fixture(scope="session")
def frame() -> NDArray[np.uint8]:
    """A noisy frame of odd size, 37 x 53 pixels."""
    return np.random.default_rng(5).integers(0, 256, (37, 53, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def call() -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs a command of this environment as a process of its own, on one thread."""

    def run(command: str, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        program = [str(Path(sys.executable).with_name(command)), *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(program, capture_output=True, text=True, env=environment, timeout=120, **options)

    return run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB; mounting one takes root."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)
