"""Adapter files to canonical factors and back: PEFT's format (adapter_config.json and adapter_model.safetensors).

Only plain LoRA can be merged as `W + w * scale * (B @ A)`; whatever PEFT can add to it is refused by name. The weighted
merges of PEFT itself are not used: its `linear` mixes the factors, not the deltas (see the tests).
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from uir.export.adapter_config import read_config
from uir.export.patterns import Patterns
from uir.export.tensors import PICKLE_SUFFIXES, read_tensors, refuse_pickle
from uir.runtime.atomic import atomic_output
from uir.runtime.errors import AdapterError, MissingFileError, UirError
from uir.runtime.factors import Adapter, DenseDelta, Factors, Update

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<part>[AB])\.weight")


def load_adapter(path: Path, name: str | None = None) -> Adapter:
    """Read an adapter: a folder in PEFT's format, for linear layers and (1-, 2-, 3-dimensional) convolutions.

    Args:
        path: the folder.
        name: what compositions will call the adapter; the folder's name if left out.

    Returns:
        The adapter, `Factors` by `<module>.weight`. B is out x r, A is r x (in * kernel), in float32.

    Raises:
        MissingFileError: there is no such folder.
        AdapterError: it holds no plain LoRA, is damaged, or holds a pickle, which is not opened.
    """
    if not path.exists():
        raise MissingFileError(f"{path}: no such adapter")
    if not path.is_dir():
        refuse_pickle(path, _head(path))
        raise AdapterError(f"{path}: an adapter is a folder with {CONFIG} and {WEIGHTS}; name the folder")
    if not (path / WEIGHTS).is_file():
        for suffix in PICKLE_SUFFIXES:
            if (pickle := (path / WEIGHTS).with_suffix(suffix)).is_file():
                refuse_pickle(pickle)
    for file in (CONFIG, WEIGHTS):
        if not (path / file).is_file():
            raise AdapterError(f"{path}: has no {file}; an adapter in PEFT's format is {CONFIG} and {WEIGHTS}")
    config = read_config(path / CONFIG)
    try:
        ranks, alphas = Patterns(config.rank_pattern), Patterns(config.alpha_pattern)
    except UirError as error:
        raise type(error)(f"{path / CONFIG}: {error}") from error
    parts = _parts(path / WEIGHTS, read_tensors(path / WEIGHTS))
    updates = {}
    for module, pair in sorted(parts.items()):
        rank, alpha = int(ranks.get(module, config.r)), alphas.get(module, config.lora_alpha)
        updates[f"{module}.weight"] = _factors(path, module, pair, rank, alpha, rank_stabilised=config.use_rslora)
    return Adapter(name or Path(os.path.realpath(path)).name, updates)


def check_fits(adapter: Adapter, base_weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Check that every update of an adapter has its weight in the base, of its shape.

    Raises:
        AdapterError: it does not; the first differing names and shapes are listed.
    """
    differing = []
    for name, update in adapter.updates.items():
        weight = base_weights.get(name)
        if weight is None:
            differing.append(f"{name} is not in the base")
        elif update.size != weight.size or (isinstance(update, Factors) and update.b.shape[0] != weight.shape[0]):
            m = update.b.shape[0] if isinstance(update, Factors) else 1
            shape = " x ".join(map(str, weight.shape))
            differing.append(f"{name} is {shape} in the base, {m} x {update.size // m} in the adapter")
    if differing:
        more = f"; and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise AdapterError(
            f"adapter {adapter.name} was made for another base: {len(differing)} of its {len(adapter.updates)} weights "
            f"differ: {'; '.join(differing[:3])}{more}"
        )


def compacted(adapter: Adapter) -> Adapter:
    """The same adapter with a dense delta wherever that is smaller than its factors (small or depthwise weights)."""

    def compact(update: Update) -> Update:
        if isinstance(update, Factors) and update.a.size + update.b.size > update.size:
            with np.errstate(over="ignore", invalid="ignore"):  # the merge reports what leaves the range
                return DenseDelta(update.delta((update.size,)))
        return update

    return Adapter(adapter.name, {name: compact(update) for name, update in adapter.updates.items()})


def write_peft(
    folder: Path,
    factors: Mapping[str, Factors],
    weight_shapes: Mapping[str, tuple[int, ...]],
    *,
    rank: int,
    alpha: float,
    base_model: str,
    overwrite: bool = False,
) -> None:
    """Write an adapter in PEFT's format. PEFT loads it and computes what the merged weights compute.

    Args:
        folder: where to; appears whole or not at all.
        factors: by weight name, `<module>.weight`, of linear layers and ungrouped convolutions.
        weight_shapes: the shape of each of these weights: out x in (x kernel).
        rank: the rank of every one of the factors.
        alpha: what PEFT scales by is `alpha / rank`; a scale that differs from it goes into B.
        base_model: the name of the base, as a note to readers.
        overwrite: whether an existing folder is replaced.

    Raises:
        ValueError: factors are of another rank, or do not fit their weight's shape.
        OutputError: the folder exists, or cannot be written.
    """
    tensors, modules = {}, []
    for name, update in factors.items():
        shape, module = weight_shapes[name], name.removesuffix(".weight")
        if update.rank != rank or update.b.shape[0] != shape[0] or update.size != math.prod(shape):
            raise ValueError(f"{name}: B {update.b.shape}, A {update.a.shape} do not fit rank {rank}, weight {shape}")
        ones = (1,) * (len(shape) - 2)
        b = update.b * np.float32(update.scale * rank / alpha)
        key = f"base_model.model.{module}.lora"
        tensors[f"{key}_A.weight"] = np.ascontiguousarray(update.a.reshape(rank, *shape[1:]))
        tensors[f"{key}_B.weight"] = np.ascontiguousarray(b.reshape(shape[0], rank, *ones))
        modules.append(module)
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": base_model,
        "r": rank,
        "lora_alpha": alpha,
        # A pattern, since PEFT takes a listed name for every module whose name ends in it.
        "target_modules": "|".join(re.escape(module) for module in modules),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "task_type": None,
    }
    with atomic_output(folder, overwrite=overwrite) as temporary:
        temporary.mkdir()
        (temporary / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        (temporary / WEIGHTS).write_bytes(safetensors.numpy.save(tensors, metadata={"format": "pt"}))


def _head(path: Path) -> bytes:
    """The first bytes of a file; none of what is no regular file, where a pipe would be waited for."""
    if not path.is_file():
        return b""
    try:
        with path.open("rb") as stream:
            return stream.read(8)
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read: {error.strerror}") from error


def _parts(path: Path, tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, dict[str, NDArray[np.float32]]]:
    """The tensors as {module: {"A": ..., "B": ...}}."""
    parts: dict[str, dict[str, NDArray[np.float32]]] = {}
    strange = []
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None:
            strange.append(key)
        else:
            parts.setdefault(match["module"], {})[match["part"]] = tensor
    if strange:
        raise AdapterError(
            f"{path}: holds more than LoRA's A and B, which cannot be merged: {', '.join(strange[:3])}"
            f"{f' and {len(strange) - 3} more' if len(strange) > 3 else ''}"
        )
    if not parts:
        raise AdapterError(f"{path}: holds no tensors at all")
    for module, pair in parts.items():
        if len(pair) == 1:
            raise AdapterError(f"{path}: {module} has lora_{next(iter(pair))} without its pair; the file is incomplete")
    return parts


def _factors(
    path: Path, module: str, pair: Mapping[str, NDArray[np.float32]], rank: int, alpha: float, *, rank_stabilised: bool
) -> Factors:
    a, b = pair["A"], pair["B"]
    found = f"{path}: {module} has A {a.shape} and B {b.shape}"
    if a.ndim < 2 or a.ndim != b.ndim or set(b.shape[2:]) - {1}:
        raise AdapterError(f"{found}: neither a linear layer's nor a convolution's")
    if a.ndim > 2 and a.shape[0] == rank != b.shape[1] and rank % b.shape[1] == 0:
        # PEFT's A is dense here, its B grouped, so that every output looks at every input; the weight cannot.
        raise AdapterError(f"{found}: a grouped convolution's, which PEFT cannot merge either; train without it")
    if not a.shape[0] == b.shape[1] == rank:
        raise AdapterError(f"{found}, but the rank is {rank} in {CONFIG}")
    scale = alpha / (math.sqrt(rank) if rank_stabilised else rank)
    return Factors(b.reshape(b.shape[:2]), a.reshape(a.shape[0], -1), scale)
