"""Put a training run into the zoo: `python -m uir.tools.publish runs/base runs/shadow`.

Traces the run's base, so that the zoo's users need no torch, and replaces the zoo's adapters by the run's. Adapters
that were trained over that base afterwards, in runs of their own, take the place of those of their names. Weights are
stored as float16, half the size, and read as float32. What the rounding changed is measured on the stored files.

A router's run (`runs/router`) is published likewise, by itself: it knows degradations, whatever adapter restores them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from uir.export.adapters import CONFIG, WEIGHTS, load_adapter
from uir.export.bases import load_base
from uir.export.cli import ZOO_LICENCE
from uir.export.router import MODEL, load_router, save_router
from uir.export.tensors import WeightsError, read_tensors
from uir.export.trace import trace
from uir.export.zoo import ZOO, ZooBase
from uir.runtime.atomic import atomic_output
from uir.runtime.console import run_command
from uir.runtime.errors import AdapterError, BaseModelError, MissingFileError, UsageError
from uir.tools.bench.report import Table
from uir.tools.train.progress import LOG

FOLDERS = re.compile(r"(^|=)/(?:[^/]+/)*")
"""The folders of an absolute path: they are the trainer's own, and mean nothing to the zoo's users."""

LARGEST, SMALLEST_NORMAL = float(np.finfo(np.float16).max), float(np.finfo(np.float16).smallest_normal)

Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Rounding:
    """What float16 changed in a base, or in an adapter.

    Attributes:
        values: how many numbers are stored.
        size: bytes of the file.
        error: the largest `|rounded - exact| / |exact|` (Frobenius) among a base's weights, or an adapter's deltas.
        subnormal: how many values are below 2^-14 and not zero: they keep fewer than 11 bits.
        lost: how many of those became zero.
    """

    name: str
    values: int
    size: int
    error: float
    subnormal: int
    lost: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    options = argparse.ArgumentParser(prog="python -m uir.tools.publish", description=__doc__)
    options.add_argument("run", type=Path, help="the folder that `uir-train base` or `uir-train router` wrote")
    options.add_argument(
        "later", type=Path, nargs="*", help="folders that `uir-train adapter` wrote over the base of that run"
    )
    options.add_argument("--name", default="unet-2m", help="the base's name (default: %(default)s)")
    options.add_argument("--zoo", type=Path, default=ZOO, help="the zoo's folder (default: the installed one)")
    chosen = options.parse_args(arguments)
    if (chosen.run / MODEL).exists():
        if chosen.later:
            raise UsageError(f"{chosen.run}: is a router's run, which is published by itself; name it alone")
        publish_router(chosen.run, chosen.zoo)
        print(chosen.zoo / "router")
        return
    roundings = publish(chosen.run, chosen.zoo, chosen.name, chosen.later)
    rows = [
        [r.name, f"{r.values:,}", f"{r.size / 1e6:.2f}", f"{r.error:.2e}", f"{r.subnormal:,}", f"{r.lost:,}"]
        for r in roundings
    ]
    columns = ["file", "values", "MB", "largest error", "subnormal", "lost"]
    print(Table("Stored as float16: errors are those of a base's weights and of an adapter's deltas", columns, rows))
    files = [file for part in ("base", "adapters") for file in (chosen.zoo / part).rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    print(f"\n{chosen.zoo}: {size / 1e6:.2f} MB")


def publish_router(run: Path, zoo: Path) -> None:
    """Write `zoo/router` from a run of `uir-train router`: what `load_router` reads, and the run's record.

    Raises:
        MissingFileError, BaseModelError: the run is incomplete or damaged. The zoo is left as it was.
    """
    router = load_router(run)
    record = _record(run)
    zoo.mkdir(parents=True, exist_ok=True)
    with atomic_output(zoo / "router", overwrite=True) as folder:
        folder.mkdir()
        save_router(folder, router)
        (folder / "record.json").write_text(json.dumps(record, indent=2) + "\n")


def publish(run: Path, zoo: Path, name: str, later: Sequence[Path] = ()) -> list[Rounding]:
    """Write `zoo/base`, `zoo/adapters/*` and `zoo/record.json` from a run of `uir-train base`.

    Args:
        later: runs of `uir-train adapter` over that run's base, whose adapters take the place of its own.

    Returns:
        What float16 changed, in the base and then in each adapter.

    Raises:
        MissingFileError, BaseModelError, AdapterError: a run is incomplete or damaged, or holds a number beyond
            float16's. The zoo is left as it was.
        UsageError: a later run is of another base.
    """
    base = load_base(run / "base.safetensors")
    record = _record_and_log(run)
    if later:
        record["later"] = [_record_and_log(each) for each in later]
        _check_base(run / "base.safetensors", zip(later, record["later"], strict=True))
    folders = {config.parent.name: config.parent for each in (run, *later) for config in each.glob(f"*/{CONFIG}")}
    zoo.mkdir(parents=True, exist_ok=True)
    # Both at once: adapters of another base would not fit this one.
    with (
        atomic_output(zoo / "base", overwrite=True) as new_base,
        atomic_output(zoo / "adapters", overwrite=True) as new_adapters,
    ):
        new_base.mkdir()
        new_adapters.mkdir()
        roundings = [_publish_base(run / "base.safetensors", new_base / "base.safetensors")]
        for adapter, folder in sorted(folders.items()):
            roundings.append(_publish_adapter(folder, new_adapters / adapter))
        traced = trace(base.network)  # last, since it takes seconds
        about = ZooBase(name=name, architecture=base.architecture, licence=ZOO_LICENCE, frame=traced.frame)
        (new_base / "graph.onnx").write_bytes(traced.graph)
        (new_base / "base.json").write_bytes(msgspec.json.format(msgspec.json.encode(about), indent=2) + b"\n")
    (zoo / "record.json").write_text(json.dumps(record, indent=2) + "\n")
    return roundings


def _record(run: Path) -> dict[str, Any]:
    """A run's record, the trainer's own folders left out."""
    try:
        record: dict[str, Any] = json.loads((run / "record.json").read_text())
    except FileNotFoundError as error:
        raise MissingFileError(f"{run}: has no record.json, as a run has that came to its end") from error
    record["command"] = [FOLDERS.sub(r"\1", word) for word in record["command"]]
    return record


def _record_and_log(run: Path) -> dict[str, Any]:
    return {**_record(run), "log": _log(run / LOG)}


def _check_base(base: Path, later: Iterable[tuple[Path, Mapping[str, Any]]]) -> None:
    digest = hashlib.sha256(base.read_bytes()).hexdigest()
    for run, record in later:
        if record["began from"].get("base") != digest:
            raise UsageError(f"{run}: was not trained over {base}; its adapters would not fit")


def _log(file: Path) -> list[dict[str, Any]]:
    """How the run went: for each adapter alone, the PSNR on what it was learning from, every 500 steps."""
    lines = file.read_text().splitlines() if file.exists() else []
    steps = [json.loads(line) for line in lines]
    return [{**step, "psnr": {key: psnr for key, psnr in step["psnr"].items() if "+" not in key}} for step in steps]


def _publish_base(source: Path, destination: Path) -> Rounding:
    exact, rounded = _store(source, destination, BaseModelError)
    pairs = ((exact[name], rounded[name]) for name in exact)
    return _rounding("base", destination, exact, rounded, pairs)


def _publish_adapter(source: Path, destination: Path) -> Rounding:
    destination.mkdir()
    (destination / CONFIG).write_bytes((source / CONFIG).read_bytes())
    exact, rounded = _store(source / WEIGHTS, destination / WEIGHTS, AdapterError)
    before, after = load_adapter(source).updates, load_adapter(destination).updates
    shape = (-1,)
    pairs = ((update.delta(shape), after[name].delta(shape)) for name, update in before.items())
    return _rounding(source.name, destination / WEIGHTS, exact, rounded, pairs)


def _store(source: Path, destination: Path, error: WeightsError) -> tuple[Tensors, Tensors]:
    """Write a safetensors file as float16; return its tensors as they were, and as they are read back, in float32."""
    exact = read_tensors(source, error)
    for name, values in exact.items():
        largest = float(np.abs(values).max(initial=0))
        if largest > LARGEST:
            raise error(
                f"{source}: {name} holds {largest:g}, and float16 ends at {LARGEST:g}; "
                "the training that made it diverged"
            )
    # The metadata is what PEFT's loader asks for.
    half = {name: values.astype(np.float16) for name, values in exact.items()}
    destination.write_bytes(safetensors.numpy.save(half, metadata={"format": "pt"}))
    return exact, read_tensors(destination, error)


def _rounding(
    name: str,
    file: Path,
    exact: Tensors,
    rounded: Tensors,
    pairs: Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]],
) -> Rounding:
    """Count a file's small values, and take the largest error of `pairs`: each exact, and as float16 has it."""
    before, after = (np.concatenate([each[key].ravel() for key in exact]) for each in (exact, rounded))
    small = (before != 0) & (np.abs(before) < SMALLEST_NORMAL)
    errors = [np.linalg.norm(found - wanted) / (np.linalg.norm(wanted) or 1) for wanted, found in pairs]
    return Rounding(
        name=name,
        values=before.size,
        size=file.stat().st_size,
        error=float(max(errors)),
        subnormal=int(small.sum()),
        lost=int((small & (after == 0)).sum()),
    )


if __name__ == "__main__":
    run_command("uir.tools.publish", main)
