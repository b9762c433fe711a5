"""Train a base together with its adapters, or adapters over a frozen base, from any folder of photos.

examples:
  uir-train base --photos photos/ --degradations rain,haze,noise,lowlight --steps 14000 --out runs/base
  uir-train adapter rain haze --base runs/base/base.safetensors --photos photos/ --steps 5000 --out runs/more

A base is trained from scratch with one adapter for each degradation, on sampled compositions, since adapters that never
met during training interfere when they are merged. Adapters that are named together are likewise trained together,
the base frozen. A run that was interrupted goes on when the same command is given again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from uir.calibration.degradations import DEGRADATIONS
from uir.export.adapters import load_adapter, write_peft
from uir.export.bases import ARCHITECTURES, LoadedBase, load_base, save_base
from uir.runtime.atomic import atomic_output
from uir.runtime.errors import MissingFileError, OutputError, UsageError
from uir.runtime.factors import Factors
from uir.tools.train.data import DegradedPatches, Sampling, find_photos
from uir.tools.train.loop import Schedule, train
from uir.tools.train.lora import attach, base_weights, updates


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    top = argparse.ArgumentParser(
        prog="uir-train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = top.add_subparsers(dest="kind", required=True, metavar="{base,adapter}")
    base = kinds.add_parser("base", help="a base from scratch, together with one adapter for each degradation")
    base.add_argument("--architecture", default="unet", choices=sorted(ARCHITECTURES), help="default: %(default)s")
    base.add_argument("--degradations", type=_names, default=list(DEGRADATIONS), metavar="A,B", help="default: all")
    adapter = kinds.add_parser("adapter", help="one or more adapters over a frozen base")
    adapter.add_argument(
        "degradations",
        nargs="+",
        metavar="NAME",
        help="the degradations to train adapters for: " + ", ".join(DEGRADATIONS),
    )
    adapter.add_argument("--base", type=Path, required=True, metavar="FILE", help="the base's .safetensors")
    adapter.add_argument("--init", type=Path, metavar="FOLDER", help="start from the adapters in this folder, by name")
    for command in (base, adapter):
        command.add_argument("--photos", type=Path, required=True, metavar="FOLDER", help="clean photos")
        command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the run's folder")
        command.add_argument("--steps", type=int, default=10000, help="default: %(default)s")
        command.add_argument("--rank", type=int, default=16, help="rank of the adapters (default: %(default)s)")
        command.add_argument("--alpha", type=float, help="scale of the update is alpha/rank (default: the rank)")
        command.add_argument("--lr", type=float, default=Schedule.lr, help="peak learning rate (default: %(default)s)")
        command.add_argument(
            "--lora-plus", type=float, default=1.0, metavar="RATIO", help="learning rate of B over A's"
        )
        command.add_argument("--batch", type=int, default=8, help="patches a step (default: %(default)s)")
        command.add_argument("--patch", type=int, default=128, help="side of a patch, pixels (default: %(default)s)")
        command.add_argument(
            "--singles", type=float, default=0.7, help="share of single adapters (default: %(default)s)"
        )
        command.add_argument(
            "--pairs", type=float, default=0.25, help="share of pairs by halves (default: %(default)s)"
        )
        command.add_argument("--seed", type=int, default=1, help="default: %(default)s")
        command.add_argument("--workers", type=int, default=1, help="processes that degrade (default: %(default)s)")
        command.add_argument(
            "--exclude",
            action="append",
            default=[],
            metavar="NAME=FILE",
            help="a list of photos that are no clean target for a degradation, such as haze=hazy.txt; repeatable",
        )
    return top


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    options = parser().parse_args(arguments)
    names = sorted(set(options.degradations))
    _check(options, names)
    alpha = options.alpha or float(options.rank)
    sampling = _sampling(options)
    schedule = Schedule(options.steps, options.lr, options.lora_plus, train_base=options.kind == "base")
    photos = find_photos(options.photos)
    excluded = _exclusions(options.exclude)

    torch.manual_seed(options.seed)
    base = LoadedBase.new(options.architecture) if options.kind == "base" else load_base(options.base)
    multiple = int(base.network.multiple_of)  # type: ignore[arg-type]
    if options.patch % multiple:
        raise UsageError(f"--patch {options.patch}: this base takes multiples of {multiple}")
    mix = attach(base.network, names, rank=options.rank, alpha=alpha)
    if options.kind == "adapter" and options.init:
        _initialise(base.network, options.init, names)

    identity = {
        "kind": options.kind,
        "architecture": base.architecture,
        "adapters": names,
        "rank": options.rank,
        "alpha": alpha,
        "sampling": asdict(sampling),
        "schedule": asdict(schedule),
        "seed": options.seed,
        "photos": [photo.name for photo in photos],
        "excluded": {name: sorted(files) for name, files in excluded.items()},
    }
    if options.kind == "adapter":
        identity["base"] = hashlib.sha256(options.base.read_bytes()).hexdigest()
        identity["init"] = str(options.init) if options.init else None
    patches = DegradedPatches(photos, names, sampling, options.seed, excluded)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{options.out}: cannot be the run's folder: {error.strerror}; choose another --out"
        ) from error
    started = time.time()
    averaged = train(base.network, mix, patches, schedule, options.out, identity=identity, workers=options.workers)
    if options.kind == "base":
        save_base(options.out / "base.safetensors", base.architecture, base_weights(averaged))
    for name in names:
        _write_adapter(options.out / name, averaged, name, rank=options.rank, alpha=alpha)
    record = {
        **identity,
        "command": ["uir-train", *(arguments if arguments is not None else sys.argv[1:])],
        "torch": torch.__version__,
        "hours of the last stretch": round((time.time() - started) / 3600, 3),
    }
    with atomic_output(options.out / "record.json", overwrite=True) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")
    print(options.out)


def _check(options: argparse.Namespace, names: list[str]) -> None:
    unknown = [name for name in names if name not in DEGRADATIONS]
    if unknown:
        raise UsageError(f"no such degradation: {', '.join(unknown)}; there are {', '.join(DEGRADATIONS)}")
    if not names:
        raise UsageError(f"no degradation is named; there are {', '.join(DEGRADATIONS)}")
    for option, least in {"steps": 1, "rank": 1, "batch": 1, "patch": 1, "seed": 0, "workers": 0}.items():
        if getattr(options, option) < least:
            raise UsageError(f"--{option} must be at least {least}")
    for option in ("alpha", "lr", "lora_plus"):
        value = getattr(options, option)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"--{option.replace('_', '-')} must be a number above 0")
    if not (options.singles >= 0 and options.pairs >= 0 and 0 < options.singles + options.pairs <= 1):
        raise UsageError("--singles and --pairs are shares: neither below 0, together above 0 and at most 1")


def _sampling(options: argparse.Namespace) -> Sampling:
    """The shares of the steps. A frozen base learns nothing on clean pictures: its adapters share all the steps."""
    total = options.singles + options.pairs if options.kind == "adapter" else 1.0
    return Sampling(options.singles / total, options.pairs / total, options.patch, options.batch)


def _exclusions(texts: Sequence[str]) -> dict[str, set[str]]:
    """`haze=hazy.txt` to the names listed in that file, a line each."""
    excluded = {}
    for text in texts:
        name, _, file = text.partition("=")
        if name not in DEGRADATIONS or not file:
            raise UsageError(f"--exclude {text}: write it as NAME=FILE, such as haze=hazy.txt")
        try:
            excluded[name] = set(Path(file).read_text().split("\n")) - {""}
        except OSError as error:
            raise MissingFileError(f"{file}: cannot be read: {error.strerror}") from error
    return excluded


def _initialise(network: nn.Module, folder: Path, names: Sequence[str]) -> None:
    """Copy the factors of `folder/NAME` into the network's adapters."""
    adapters = {name: load_adapter(folder / name) for name in names}
    with torch.no_grad():
        for weight, update in updates(network):
            for name in names:
                factors = adapters[name].updates.get(weight)
                if not isinstance(factors, Factors) or factors.a.shape != update.a[name].shape:
                    raise UsageError(
                        f"{folder / name}: has no factors of the asked rank for {weight}; repeat its --rank"
                    )
                update.a[name].copy_(torch.from_numpy(factors.a))
                update.b[name].copy_(torch.from_numpy(factors.b) * (factors.scale / update.scale))


def _write_adapter(folder: Path, network: nn.Module, name: str, *, rank: int, alpha: float) -> None:
    factors = {
        weight: Factors(update.b[name].detach().numpy(), update.a[name].detach().numpy(), update.scale)
        for weight, update in updates(network)
    }
    shapes = {weight: tuple(tensor.shape) for weight, tensor in base_weights(network).items() if weight in factors}
    write_peft(folder, factors, shapes, rank=rank, alpha=alpha, base_model="base.safetensors", overwrite=True)
