"""A package's safetensors files: float32, all of it finite, and no more header than tensors need."""

from __future__ import annotations

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from uir.runtime.errors import shown

_LARGEST_HEADER = 8 * 2**20
_LONGEST_NAME = 300
_RANK = 8


def decode_tensors(content: bytes) -> dict[str, NDArray[np.float32]]:
    """The tensors of a file by name.

    Raises:
        ValueError: the file is damaged, or holds something else.
    """
    header = int.from_bytes(content[:8], "little")
    if header > min(_LARGEST_HEADER, len(content)):
        raise ValueError(f"not a whole safetensors file (its header would have {header} bytes)")
    try:
        tensors = dict(safetensors.numpy.load(content))
    # What safetensors itself lets pass, numpy may not: a type that it does not have, more dimensions than it knows.
    except (SafetensorError, KeyError, AttributeError, ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"not a whole safetensors file ({shown(error)})") from error
    for name, values in tensors.items():
        if len(name) > _LONGEST_NAME or not name.isprintable():
            raise ValueError(f"a tensor is called {name[:100]!r}")
        if values.dtype != np.float32:
            raise ValueError(f"{name} is {values.dtype}, not float32")
        if values.ndim > _RANK:
            raise ValueError(f"{name} has {values.ndim} dimensions")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds NaN or infinity; it was exported from weights that are not sound")
    return tensors
