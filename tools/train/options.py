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


def parser(description: str | None) -> argparse.ArgumentParser:
    """The command's options."""
    top = argparse.ArgumentParser(
        prog="uir-train", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_version(top)
    kinds = top.add_subparsers(dest="kind", required=True, metavar="{base,adapter,full,router,prototype}")
    base = kinds.add_parser("base", help="a base together with one adapter for each degradation")
    base.add_argument("--architecture", default="unet", choices=ARCHITECTURES, help="default: %(default)s")
    base.add_argument("--degradations", type=_names, default=list(DEGRADATIONS), metavar="A,B", help="default: all")
    base.add_argument(
        "--init", type=Path, metavar="RUN", help="start from this run's base and adapters; those it lacks start anew"
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
    for command in (adapter, prototype):
        command.add_argument(
            "--router", type=Path, metavar="FOLDER", help="the router that prototypes are for (default: the zoo's)"
        )
    return top


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


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
    add("--photos", type=Path, required=True, metavar="FOLDER", help="clean photos")
    add("--out", type=Path, required=True, metavar="FOLDER", help="the run's folder")
    add("--seed", type=int, default=1, help="default: %(default)s")
    add("--workers", type=int, default=1, help="processes that degrade (default: %(default)s)")
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
    add("--steps", type=int, default=10000, help="default: %(default)s")
    add("--rank", type=int, default=16, help="rank of the adapters (default: %(default)s)")
    add("--lr", type=float, default=Schedule.lr, help="peak learning rate (default: %(default)s)")
    add("--batch", type=int, default=Sampling.batch, help="patches a step (default: %(default)s)")
    add("--patch", type=int, default=Sampling.patch, help="side of a patch, pixels (default: %(default)s)")
    add(
        "--large-patch",
        type=int,
        default=Sampling.large,
        metavar="SIDE",
        help="side of the last steps' patches, fewer in a step (default: %(default)s)",
    )
    add(
        "--large-share",
        type=float,
        default=0.4,
        metavar="SHARE",
        help="share of the steps, at the end, that have large patches (default: %(default)s)",
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
        add(f"--{name}", type=float, default=default, metavar="SHARE", help=f"of the steps on {count} ({default})")


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
    least_of = {"steps": 1, "rank": 1, "batch": 1, "patch": 1, "large_patch": 1, "seed": 0, "workers": 0}
    _check_least(options, least_of)
    for option in ("alpha", "lr", "lora_plus"):
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


def _check_names(names: Sequence[str], beside: Sequence[str] = ()) -> None:
    unknown = [name for name in (*names, *beside) if name not in DEGRADATIONS]
    if unknown:
        raise UsageError(f"no such degradation: {', '.join(unknown)}; there are {', '.join(DEGRADATIONS)}")
    if not names:
        raise UsageError(f"no degradation is named; there are {', '.join(DEGRADATIONS)}")


def _check_least(options: argparse.Namespace, least_of: Mapping[str, int]) -> None:
    for option, least in least_of.items():
        if getattr(options, option) < least:
            raise UsageError(f"--{option.replace('_', '-')} must be at least {least}")
