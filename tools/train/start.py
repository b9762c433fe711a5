"""What a run begins from: a network with its adapters attached, new or read from files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import parametrize

from uir.export.adapters import load_adapter
from uir.export.bases import LoadedBase, load_base
from uir.runtime.errors import UsageError
from uir.runtime.factors import Factors
from uir.tools.train.lora import Mix, attach, updates


@dataclass(frozen=True)
class Start:
    """A network that can be trained.

    Attributes:
        base: the network, its adapters attached.
        mix: the adapters' weights at this moment.
        sources: SHA-256 of what was read, by name: `base` and those of the adapters that are not new.
    """

    base: LoadedBase
    mix: Mix
    sources: dict[str, str]


def start(
    base: str | Path,
    init: Path | None,
    names: Sequence[str],
    *,
    beside: Sequence[str] = (),
    rank: int,
    alpha: float,
) -> Start:
    """A base with an adapter of each name.

    Args:
        base: an architecture, for new weights, or a checkpoint's path.
        init: the folder of a run, or a zoo, from which adapters are taken where it has them; all others are new.
        beside: adapters that `init` must have, and that stay frozen.

    Raises:
        MissingFileError, BaseModelError, AdapterError: a file is missing or damaged.
        UsageError: an adapter is of another rank, or made for another base.
    """
    network = load_base(base) if isinstance(base, Path) else LoadedBase.new(base)
    sources = {"base": _sha256(base)} if isinstance(base, Path) else {}
    mix = attach(network.network, [*names, *beside], rank=rank, alpha=alpha)
    for name in (*names, *beside):
        folder = _adapters_of(init) / name if init else None
        if folder and (name in beside or folder.exists()):
            _initialise(network.network, folder, name)
            sources[name] = _sha256(folder / "adapter_model.safetensors")
    for _, update in updates(network.network):
        for name in beside:
            update.a[name].requires_grad_(False)
            update.b[name].requires_grad_(False)
    return Start(network, mix, sources)


def base_of(init: Path) -> Path:
    """The base of a run, or of a zoo, which has it in a folder of its own."""
    return init / ("base" if (init / "base").is_dir() else "") / "base.safetensors"


def _adapters_of(init: Path) -> Path:
    return init / "adapters" if (init / "adapters").is_dir() else init


def merged(begun: Start, name: str) -> Start:
    """The same network with one adapter merged into its weights for good, so that all of it can be trained."""
    begun.mix.weights = {name: 1.0}
    for module in list(begun.base.network.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    return begun


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _initialise(network: nn.Module, folder: Path, name: str) -> None:
    """Copy the factors of a PEFT folder into the network's adapter of that name."""
    adapter = load_adapter(folder)
    with torch.no_grad():
        for weight, update in updates(network):
            factors = adapter.updates.get(weight)
            if not isinstance(factors, Factors) or factors.a.shape != update.a[name].shape:
                raise UsageError(f"{folder}: has no factors of the asked rank for {weight}; repeat its --rank")
            update.a[name].copy_(torch.from_numpy(factors.a))
            update.b[name].copy_(torch.from_numpy(factors.b) * (factors.scale / update.scale))
