"""Tensors out of files that come from strangers: safetensors, and nothing that could run code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from uir.runtime.errors import AdapterError, BaseModelError

WeightsError = type[AdapterError] | type[BaseModelError]

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_PICKLE_HEADS = (b"PK\x03\x04", *(b"\x80" + bytes([protocol]) for protocol in range(2, 6)))
"""A zip, which is what `torch.save` writes, and the pickle protocols in use."""

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


def read_tensors(path: Path, error: WeightsError = AdapterError) -> dict[str, NDArray[np.float32]]:
    """Every tensor of a safetensors file, in float32, all values finite. 16- and 64-bit floats are converted.

    Raises:
        AdapterError, or what `error` says: the file is a pickle, truncated, not safetensors, not of floats, or holds
            NaN or infinity.
    """
    try:
        content = path.read_bytes()
    except OSError as reason:
        raise error(f"{path}: cannot be read: {reason.strerror}") from reason
    try:
        entries = deserialize(content)  # type: ignore[no-untyped-call]
    except SafetensorError as reason:
        # Only now: the first bytes of a good file are its header's length, which may look like a pickle's.
        refuse_pickle(path, content[:8], error)
        raise error(f"{path}: not a whole safetensors file ({reason}); fetch it again") from reason
    return {name: _float32(path, name, entry, error) for name, entry in entries}


def refuse_pickle(path: Path, head: bytes = b"", error: WeightsError = AdapterError) -> None:
    """Refuse a file that is a pickle by its name or its first bytes. It is never opened: loading one can run any code.

    Raises:
        AdapterError, or what `error` says: it is one; the message says how to convert it.
    """
    if path.suffix.lower() in PICKLE_SUFFIXES or head.startswith(_PICKLE_HEADS):
        raise error(
            f"{path}: holds a pickle, which can run code when it is loaded; only safetensors are read. Convert it by "
            "safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'weights.safetensors')"
        )


def _float32(path: Path, name: str, entry: dict[str, Any], error: WeightsError) -> NDArray[np.float32]:
    if entry["dtype"] == "BF16":  # numpy has none: a bfloat16 is the upper half of a float32
        values = (np.frombuffer(entry["data"], "<u2").astype(np.uint32) << 16).view(np.float32)
    elif entry["dtype"] in _DTYPES:
        with np.errstate(over="ignore"):  # a double that float32 cannot hold is reported below
            values = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).astype(np.float32)
    else:
        raise error(f"{path}: {name} is of type {entry['dtype']}; weights are floats of 16, 32 or 64 bits")
    if not np.isfinite(values).all():
        raise error(f"{path}: {name} holds NaN or infinity; the training that made it diverged")
    return values.reshape(entry["shape"])
