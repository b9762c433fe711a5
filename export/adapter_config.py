"""adapter_config.json, PEFT's description of an adapter; what sets more than plain LoRA has is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import numpy as np

from uir.export.tensors import read_file
from uir.runtime.errors import AdapterError, shown

LARGEST_CONFIG = 1 << 20  # bytes; PEFT writes some hundreds, and a line more for each module that has its own rank
_LISTED = 3  # settings that a message names

Rank = Annotated[int, msgspec.Meta(ge=1, le=65536)]
Alpha = Annotated[float, msgspec.Meta(gt=0, le=float(np.finfo(np.float32).max))]

_HARMLESS = {
    *("auto_mapping", "base_model_name_or_path", "exclude_modules", "inference_mode", "layers_pattern"),
    *("layers_to_transform", "lora_dropout", "megatron_config", "megatron_core", "peft_version"),
    *("qalora_group_size", "revision", "runtime_config", "target_modules", "task_type"),
    *("loftq_config", "eva_config", "corda_config", "lora_ga_config"),  # how training began; see _INITIAL
}
"""Settings that do not change what a trained adapter computes."""

_INITIAL = (True, False, None, "gaussian", "eva", "orthogonal")
"""Ways to begin that leave the base as it is. The others (pissa, olora, loftq ...) train against a changed base."""


class Config(msgspec.Struct, kw_only=True):
    """The settings that are understood; any other that is set is refused."""

    peft_type: str
    r: Rank
    lora_alpha: Alpha
    use_rslora: bool = False
    rank_pattern: dict[str, Rank] | None = None
    alpha_pattern: dict[str, Alpha] | None = None
    init_lora_weights: bool | str | None = True
    bias: str = "none"


def read_config(path: Path) -> Config:
    """Read an adapter's configuration.

    Raises:
        AdapterError: it is none of a LoRA, sets a number that no training gives or a name twice, or sets more than
            plain LoRA has.
    """
    try:
        raw = json.loads(read_file(path, LARGEST_CONFIG), object_pairs_hook=_distinct, parse_constant=_no_number)
        if isinstance(raw, dict) and raw.get("peft_type") != "LORA":
            raise AdapterError(f"{path}: is of PEFT's type {shown(raw.get('peft_type'))}; only LORA can be merged")
        config = msgspec.convert(raw, Config)
    except AdapterError:
        raise
    except RecursionError as error:
        raise AdapterError(f"{path}: not the configuration of a LoRA: it is nested too deep") from error
    except ValueError as error:  # as msgspec's and json's errors are
        raise AdapterError(f"{path}: not the configuration of a LoRA: {shown(error)}") from error
    extra = list(_extra(raw, config))
    if extra:
        more = f" and {len(extra) - _LISTED} more" if len(extra) > _LISTED else ""
        raise AdapterError(
            f"{path}: only plain LoRA can be merged, but it sets {', '.join(extra[:_LISTED])}{more}; train without"
        )
    return config


def _extra(raw: dict[str, Any], config: Config) -> Iterator[str]:
    """The settings that plain LoRA does not have."""
    known = _HARMLESS.union(Config.__struct_fields__)
    for key, value in raw.items():
        if value and key not in known:
            yield f"{key if key.isidentifier() else shown(key)}={shown(value)}"
    if config.bias != "none":
        yield f"bias={shown(config.bias)}"
    if config.init_lora_weights not in _INITIAL:
        yield f"init_lora_weights={shown(config.init_lora_weights)} (it changes the base)"


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Of a name that stands twice, readers take different values."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"it sets {shown(name)} twice")
        found[name] = value
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"it holds {text}, which is no number")
