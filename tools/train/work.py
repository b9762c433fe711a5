"""What `uir-train` does, once it is known what is asked."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from uir.calibration.degradations import DEGRADATIONS
from uir.export.adapters import write_peft
from uir.export.bases import save_base
from uir.runtime.atomic import atomic_output
from uir.runtime.errors import MissingFileError, OutputError, UsageError
from uir.runtime.factors import Factors
from uir.tools.photos import gather_photos
from uir.tools.train import device as devices
from uir.tools.train.data import DegradedPatches
from uir.tools.train.loop import train
from uir.tools.train.lora import base_weights, updates
from uir.tools.train.options import STEPS, check, check_router
from uir.tools.train.settings import Course, Sampling, Schedule
from uir.tools.train.start import Start, base_of, merged, start


def work(options: argparse.Namespace, command: Sequence[str], since: float) -> None:
    """Train what was asked for.

    What only routers need is imported only for them: a base is trained where there is no ONNX and no ONNX Runtime.

    Args:
        options: as the command's parser gives them.
        command: what was asked, for the record.
        since: `time.monotonic()` when it was asked.

    Raises:
        UirError: the options make no sense, or what they name cannot be read or written.
    """
    if options.kind == "prototype":
        from uir.export.router import PROTOTYPE
        from uir.tools.train.prototype import prototype_from_pictures

        prototype_from_pictures(options.adapter, options.examples, options.router)
        print(options.adapter / PROTOTYPE)
        return
    if options.kind == "router":
        _router(options, command)
        return
    _network(options, command, since)


def _network(options: argparse.Namespace, command: Sequence[str], since: float) -> None:
    if options.kind == "full":  # one degradation has the whole network: there is nothing to mix
        options.alpha, options.lora_plus = None, 1.0
        options.singles, options.pairs, options.triples = 1.0, 0.0, 0.0
    names = sorted(set(options.degradations))
    beside = sorted(set(options.beside)) if options.kind == "adapter" else []
    check(options, names, beside)
    options.alpha = options.alpha or float(options.rank)
    sampling = _sampling(options)
    schedule = _schedule(options)
    device = devices.chosen(options.device)
    photos = gather_photos(options.photos)
    excluded = _exclusions(options.exclude)
    if options.kind == "adapter":
        from uir.tools.train.prototype import chosen_router, prototypes_from_degrading
        from uir.tools.train.router_data import Plan

        router = chosen_router(options.router)
    else:
        router = None

    torch.manual_seed(options.seed)
    begun = _start(options, names, beside)
    multiple = int(begun.base.network.multiple_of)  # type: ignore[arg-type]
    for option in ("patch", "large_patch"):
        if getattr(options, option) % multiple:
            shown = f"--{option.replace('_', '-')} {getattr(options, option)}"
            raise UsageError(f"{shown}: this base takes multiples of {multiple}")
    identity = {
        "kind": options.kind,
        "architecture": options.architecture
        if options.kind == "base" and not options.init
        else begun.base.architecture,
        "adapters": names,
        "beside": beside,
        "rank": options.rank,
        "alpha": options.alpha,
        "sampling": asdict(sampling),
        "schedule": asdict(schedule),
        "seed": options.seed,
        "photos": [photo.name for photo in photos],
        "excluded": {name: sorted(files) for name, files in excluded.items()},
        "began from": begun.sources,
    }
    patches = DegradedPatches(photos, names, sampling, options.seed, excluded, beside)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{options.out}: cannot be the run's folder: {error.strerror}; choose another --out"
        ) from error
    averaged = train(
        begun.base.network,
        begun.mix,
        patches,
        schedule,
        options.out,
        identity=identity,
        device=device,
        workers=devices.processes(options.workers, device),
        since=since,
    )
    if options.kind != "adapter":
        save_base(options.out / "base.safetensors", begun.base.architecture, base_weights(averaged))
    if options.kind != "full":
        for name in names:
            _write_adapter(options.out / name, averaged, name, rank=options.rank, alpha=options.alpha)
    if router:
        prototypes_from_degrading(options.out, Plan(photos, names, excluded, options.seed), router)
    record = {
        **identity,
        "command": ["uir-train", *command],
        "torch": torch.__version__,
        "device": devices.described(device),
    }
    with atomic_output(options.out / "record.json", overwrite=True) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")
    print(options.out)


def _router(options: argparse.Namespace, command: Sequence[str]) -> None:
    from uir.tools.train.router import train_router
    from uir.tools.train.router_data import Plan

    names = [name for name in DEGRADATIONS if name in options.degradations]
    check_router(options, options.degradations)
    plan = Plan(gather_photos(options.photos), names, _exclusions(options.exclude), options.seed)
    course = Course(options.epochs, options.lr)
    train_router(plan, options.scenes, course, options.out, workers=options.workers or 1, command=command)
    print(options.out)


def _start(options: argparse.Namespace, names: Sequence[str], beside: Sequence[str]) -> Start:
    base = options.base if options.kind != "base" else base_of(options.init) if options.init else options.architecture
    begun = start(base, options.init, names, beside=beside, rank=options.rank, alpha=options.alpha)
    return merged(begun, names[0]) if options.kind == "full" else begun


def _sampling(options: argparse.Namespace) -> Sampling:
    """The shares of the steps. A frozen base learns nothing on clean pictures: its adapters share all the steps."""
    total = 1.0 if options.kind == "base" else options.singles + options.pairs + options.triples
    return Sampling(
        singles=options.singles / total,
        pairs=options.pairs / total,
        triples=options.triples / total,
        intact=options.intact,
        patch=options.patch,
        batch=options.batch,
        large=options.large_patch,
        favour=options.favour,
    )


def _schedule(options: argparse.Namespace) -> Schedule:
    return Schedule(
        steps=options.steps or (None if options.minutes else STEPS),
        minutes=options.minutes,
        lr=options.lr,
        lora_plus=options.lora_plus,
        large_share=options.large_share,
        compositions=options.compositions,
        reuse=options.reuse,
        train_base=options.kind != "adapter",
    )


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


def _write_adapter(folder: Path, network: nn.Module, name: str, *, rank: int, alpha: float) -> None:
    factors = {
        weight: Factors(update.b[name].detach().numpy(), update.a[name].detach().numpy(), update.scale)
        for weight, update in updates(network)
    }
    shapes = {weight: tuple(tensor.shape) for weight, tensor in base_weights(network).items() if weight in factors}
    write_peft(folder, factors, shapes, rank=rank, alpha=alpha, base_model="base.safetensors", overwrite=True)
