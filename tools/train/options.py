"""The options of `uir-train`, and what they may be."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from uir.calibration.degradations import DEGRADATIONS
from uir.runtime.errors import UsageError
from uir.runtime.version import add_version
from uir.tools.train.settings import ARCHITECTURES, Course, Sampling, Schedule

STEPS = 10000
"""Of a run that is told neither steps nor minutes."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """The command's options."""
    top = argparse.ArgumentParser(
        prog="uir-train", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_version(top)
    kinds = top.add_subparsers(dest="kind", required=True, metavar="{base,adapter,full,router,prototype,pack}")
    base = kinds.add_parser("base", help="a base together with one adapter for each degradation")
    base.add_argument("--architecture", default="unet", choices=ARCHITECTURES, help="default: %(default)s")
    base.add_argument("--degradations", type=_names, default=list(DEGRADATIONS), metavar="A,B", help="default: all")
    base.add_argument(
        "--init",
        type=Path,
        metavar="RUN",
        help="start from the base and the adapters of this run, or of a zoo; adapters it lacks start anew",
    )
    adapter = kinds.add_parser("adapter", help="one or more adapters over a frozen base")
    full = kinds.add_parser("full", help="every weight for one degradation: what an adapter is measured against")
    for command, count in ((adapter, "+"), (full, 1)):
        command.add_argument(
            "degradations", nargs=count, metavar="NAME", help="what to learn to undo: " + ", ".join(DEGRADATIONS)
        )
        command.add_argument("--base", type=Path, required=True, metavar="FILE", help="the base's .safetensors")
        command.add_argument(
            "--init", type=Path, metavar="RUN", help="start from this run's adapters, where it has them"
        )
    adapter.add_argument(
        "--beside",
        type=_names,
        default=[],
        metavar="A,B",
        help="adapters of --init that stay as they are, and that the new ones learn to be mixed with",
    )
    for command in (base, adapter, full):
        _add_run(command)
    for command in (base, adapter):
        _add_adapters(command)
    router = kinds.add_parser("router", help="the network that chooses adapters by a frame")
    _add_router(router)
    prototype = kinds.add_parser("prototype", help="what lets the router choose an adapter, from examples")
    prototype.add_argument("adapter", type=Path, metavar="FOLDER", help="the adapter's folder; the prototype joins it")
    prototype.add_argument(
        "--examples", type=Path, required=True, metavar="FOLDER", help="pictures that are degraded as it is for"
    )
    packing = kinds.add_parser("pack", help="photos in one small file, which --photos takes as well as folders")
    packing.add_argument("photos", type=Path, nargs="+", metavar="FOLDER", help="clean photos; or a pack")
    packing.add_argument("--out", type=Path, required=True, metavar="FILE", help="the pack: a zip of JPEGs")
    packing.add_argument("--side", type=int, default=640, help="of the longer side, pixels (default: %(default)s)")
    packing.add_argument("--quality", type=int, default=84, help="of the JPEGs, 1 to 100 (default: %(default)s)")
    packing.add_argument("--overwrite", action="store_true", help="replace a pack that is there")
    for command in (adapter, prototype):
        command.add_argument(
            "--router", type=Path, metavar="FOLDER", help="the router that prototypes are for (default: the zoo's)"
        )
    return top


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _workers(text: str) -> int | None:
    return None if text == "auto" else int(text)


def _favours(text: str) -> dict[str, float]:
    """`noise=3,inpaint=2` to numbers by name; a text that is none of these is refused by argparse."""
    return {name: float(times) for name, _, times in (part.partition("=") for part in _names(text))}


def _add_router(command: argparse.ArgumentParser) -> None:
    _add_source(command)
    add = command.add_argument
    add("--degradations", type=_names, default=list(DEGRADATIONS), metavar="A,B", help="default: all")
    add("--scenes", type=int, default=3000, help="parts of photos, each seen four times (default: %(default)s)")
    add("--epochs", type=int, default=Course.epochs, help="times to go over them (default: %(default)s)")
    add("--lr", type=float, default=Course.lr, help="peak learning rate (default: %(default)s)")


def _add_source(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "--photos",
        type=Path,
        action="append",
        required=True,
        metavar="FOLDER",
        help="clean photos, or a pack of them (uir-train pack); repeatable",
    )
    add("--out", type=Path, required=True, metavar="FOLDER", help="the run's folder")
    add("--seed", type=int, default=1, help="default: %(default)s")
    add(
        "--workers",
        type=_workers,
        metavar="N",
        help="processes that degrade (default: auto, 1 beside a CPU that trains and all cores but one for a GPU)",
    )
    add(
        "--exclude",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a list of photos that are no clean target for a degradation, such as haze=hazy.txt; repeatable",
    )


def _add_run(command: argparse.ArgumentParser) -> None:
    _add_source(command)
    add = command.add_argument
    add("--device", default="cpu", choices=("cpu", "cuda"), help="what trains (default: %(default)s)")
    add("--steps", type=int, help=f"default: {STEPS}, or as many as --minutes allow")
    add(
        "--minutes",
        type=float,
        metavar="M",
        help="end in so many minutes, from the start to written weights (an adapter's prototype comes after them)",
    )
    add("--rank", type=int, default=16, help="rank of the adapters (default: %(default)s)")
    add("--lr", type=float, default=Schedule.lr, help="peak learning rate (default: %(default)s)")
    add("--batch", type=int, default=Sampling.batch, help="patches of one composition (default: %(default)s)")
    add(
        "--compositions",
        type=int,
        default=Schedule.compositions,
        metavar="N",
        help="batches a step, each of its own composition (default: %(default)s)",
    )
    add(
        "--reuse",
        type=int,
        default=Schedule.reuse,
        metavar="N",
        help="train on each batch so many times, where degrading cannot keep up with a GPU (default: %(default)s)",
    )
    add("--patch", type=int, default=Sampling.patch, help="side of a patch, pixels (default: %(default)s)")
    add(
        "--large-patch",
        type=int,
        default=Sampling.large,
        metavar="SIDE",
        help="side of the last steps' patches, fewer in a batch (default: %(default)s)",
    )
    add(
        "--large-share",
        type=float,
        default=Schedule.large_share,
        metavar="SHARE",
        help="share of the run, at its end, that has large patches (default: %(default)s)",
    )
    add(
        "--intact",
        type=float,
        default=Sampling.intact,
        metavar="SHARE",
        help="share of the patches that are left clean under an adapter (default: %(default)s)",
    )
    add(
        "--favour",
        type=_favours,
        default={},
        metavar="NAME=TIMES,...",
        help="draw a degradation so many times as often as the others, such as noise=3,inpaint=2",
    )


def _add_adapters(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--alpha", type=float, help="scale of the update is alpha/rank (default: the rank)")
    add(
        "--lora-plus",
        type=float,
        default=Schedule.lora_plus,
        metavar="RATIO",
        help="learning rate of B over A's (default: %(default)s)",
    )
    for count, name in (("one adapter", "singles"), ("two, mixed", "pairs"), ("three, mixed", "triples")):
        default = getattr(Sampling, name)
        add(f"--{name}", type=float, default=default, metavar="SHARE", help=f"of the batches on {count} ({default})")


def check(options: argparse.Namespace, names: Sequence[str], beside: Sequence[str]) -> None:
    """Refuse what cannot be trained.

    Raises:
        UsageError: an unknown degradation, a number out of its range, `--beside` without `--init`.
    """
    _check_names(names, beside)
    if set(names) & set(beside):
        raise UsageError(f"--beside {','.join(beside)}: these stay frozen, so they cannot be trained as well")
    if beside and not options.init:
        raise UsageError("--beside needs --init, the run whose adapters these are")
    strangers = [name for name in options.favour if name not in names]
    if strangers:
        raise UsageError(f"--favour: {', '.join(strangers)} is not among what is learnt: {', '.join(names)}")
    if not all(0 < times < math.inf for times in options.favour.values()):
        raise UsageError("--favour: each NAME=TIMES must be a number above 0")
    sizes = ("steps", "rank", "batch", "compositions", "reuse", "patch", "large_patch")
    _check_least(options, {**dict.fromkeys(sizes, 1), "seed": 0, "workers": 0})
    for option in ("alpha", "lr", "lora_plus", "minutes"):
        value = getattr(options, option)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"--{option.replace('_', '-')} must be a number above 0")
    shares = (options.singles, options.pairs, options.triples)
    if not (min(shares) >= 0 and 0 < sum(shares) <= 1 + 1e-9):
        raise UsageError("--singles, --pairs and --triples are shares: none below 0, together above 0 and at most 1")
    for option in ("large_share", "intact"):
        if not 0 <= getattr(options, option) <= 1:
            raise UsageError(f"--{option.replace('_', '-')} is a share, from 0 to 1")


def check_router(options: argparse.Namespace, names: Sequence[str]) -> None:
    """Refuse what no router can be trained by.

    Raises:
        UsageError: an unknown degradation, or a number out of its range.
    """
    _check_names(names)
    _check_least(options, {"scenes": 1, "epochs": 1, "seed": 0, "workers": 0})
    if not 0 < options.lr < math.inf:
        raise UsageError("--lr must be a number above 0")


def check_pack(options: argparse.Namespace) -> None:
    """Refuse what no pack can be.

    Raises:
        UsageError: a number out of its range.
    """
    _check_least(options, {"side": 32, "quality": 1})
    if options.quality > 100:
        raise UsageError("--quality must be at most 100")


def _check_names(names: Sequence[str], beside: Sequence[str] = ()) -> None:
    unknown = [name for name in (*names, *beside) if name not in DEGRADATIONS]
    if unknown:
        raise UsageError(f"no such degradation: {', '.join(unknown)}; there are {', '.join(DEGRADATIONS)}")
    if not names:
        raise UsageError(f"no degradation is named; there are {', '.join(DEGRADATIONS)}")


def _check_least(options: argparse.Namespace, least_of: Mapping[str, int]) -> None:
    for option, least in least_of.items():
        value = getattr(options, option)
        if value is not None and value < least:
            raise UsageError(f"--{option.replace('_', '-')} must be at least {least}")
