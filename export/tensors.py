"""Files that come from strangers: read within bounds, as safetensors, and nothing that could run code.

The bounds are far beyond every network that runs at the edge, and near enough that no file can hang or fill a machine.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from uir.runtime.errors import AdapterError, BaseModelError, shown

WeightsError = type[AdapterError] | type[BaseModelError]

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_PICKLE_HEADS = (b"PK\x03\x04", *(b"\x80" + bytes([protocol]) for protocol in range(2, 6)))
"""A zip, which is what `torch.save` writes, and the pickle protocols in use."""

LARGEST_FILE = 1 << 29
"""Bytes of a safetensors file: twice a NAFNet of width 64. Reading takes four times as much memory."""
LARGEST_HEADER = 1 << 21
MOST_TENSORS = 4096
LONGEST_NAME = 200
MOST_DIMENSIONS = 8

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


def read_file(path: Path, largest: int, error: WeightsError = AdapterError) -> bytes:
    """A whole file, through links too. Its size is asked for first: one of gigabytes may take no room on the disk.

    Raises:
        AdapterError, or what `error` says: it is no regular file (a pipe would be waited for, a device has no end), is
            of more than `largest` bytes, or cannot be read.
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise error(f"{path}: is not a regular file; give the file itself")
        if about.st_size > largest:
            raise error(f"{path}: has {about.st_size} bytes, and at most {largest} are read; give a smaller one")
        return path.read_bytes()
    except OSError as reason:
        raise error(f"{path}: cannot be read: {reason.strerror}") from reason


def read_tensors(path: Path, error: WeightsError = AdapterError) -> dict[str, NDArray[np.float32]]:
    """Every tensor of a safetensors file, in float32, all values finite. 16- and 64-bit floats are converted.

    Raises:
        AdapterError, or what `error` says: the file is a pickle, truncated, not safetensors, not of floats, holds NaN
            or infinity, or names, shapes or numbers of tensors that no network has.
    """
    content = read_safetensors(path, error)
    try:
        entries = deserialize(content)  # type: ignore[no-untyped-call]
    except SafetensorError as reason:
        # Only now: the first bytes of a good file are its header's length, which may look like a pickle's.
        refuse_pickle(path, content[:8], error)
        raise error(f"{path}: not a whole safetensors file ({shown(reason)}); fetch it again") from reason
    if len(entries) > MOST_TENSORS:
        raise error(f"{path}: holds {len(entries)} tensors, and at most {MOST_TENSORS} are read; is it the right file?")
    return {name: _float32(path, name, entry, error) for name, entry in entries}


def read_safetensors(path: Path, error: WeightsError = AdapterError) -> bytes:
    """A file that may be safetensors, whole, and its header within bounds: to parse a large one takes minutes.

    Raises:
        AdapterError, or what `error` says: it is a pickle, none of a size that is read, or cannot be read.
    """
    content = read_file(path, LARGEST_FILE, error)
    if (length := int.from_bytes(content[:8], "little")) > LARGEST_HEADER:
        refuse_pickle(path, content[:8], error)
        raise error(f"{path}: not a whole safetensors file (a header of {length} bytes); fetch it again")
    return content


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
    if not (name.isascii() and name.isprintable() and 0 < len(name) <= LONGEST_NAME):
        raise error(f"{path}: {shown(name)} is no name of a network's weight; is it the right file?")
    shape = entry["shape"]
    if len(shape) > MOST_DIMENSIONS or 0 in shape:
        raise error(f"{path}: {name} has the shape {shown(shape)}, which no weight has; is it the right file?")
    if entry["dtype"] == "BF16":  # numpy has none: a bfloat16 is the upper half of a float32
        values = (np.frombuffer(entry["data"], "<u2").astype(np.uint32) << 16).view(np.float32)
    elif entry["dtype"] in _DTYPES:
        with np.errstate(over="ignore"):  # a double that float32 cannot hold is reported below
            values = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).astype(np.float32)
    else:
        raise error(f"{path}: {name} is of type {entry['dtype']}; weights are floats of 16, 32 or 64 bits")
    if not np.isfinite(values).all():
        raise error(f"{path}: {name} holds NaN or infinity; the training that made it diverged")
    return values.reshape(shape)
