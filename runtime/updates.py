"""An adapter's updates as the tensors of a file of a package: `<weight>::A`, `::B` and `::scale`, or `::delta`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from uir.runtime.factors import DenseDelta, Factors, Update


def encode_updates(updates: dict[str, Update]) -> dict[str, NDArray[np.float32]]:
    """An adapter's updates as the tensors of a package's file: `<weight>::A`, `::B` and `::scale`, or `::delta`."""
    return dict(_encode(updates))


def _encode(updates: dict[str, Update]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for weight, update in updates.items():
        if isinstance(update, DenseDelta):
            yield f"{weight}::delta", update.values
        else:
            yield f"{weight}::A", update.a
            yield f"{weight}::B", update.b
            yield f"{weight}::scale", np.array([update.scale], dtype=np.float32)


def decode_updates(tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, Update]:
    """The inverse of `encode_updates`.

    Raises:
        ValueError: a part is missing, or the tensors are of another form.
    """
    parts: dict[str, dict[str, NDArray[np.float32]]] = {}
    for name, tensor in tensors.items():
        weight, _, part = name.rpartition("::")
        parts.setdefault(weight, {})[part] = tensor
    return {weight: _decode(weight, found) for weight, found in parts.items()}


def _decode(weight: str, parts: dict[str, NDArray[np.float32]]) -> Update:
    if parts.keys() == {"delta"}:
        return DenseDelta(parts["delta"])
    if parts.keys() == {"A", "B", "scale"}:
        a, b, scale = parts["A"], parts["B"], parts["scale"]
        if a.ndim == b.ndim == 2 and b.shape[1] == a.shape[0] and scale.shape == (1,):
            return Factors(b, a, float(scale[0]))
    found = ", ".join(f"{part} {tensor.shape}" for part, tensor in sorted(parts.items()))
    found = found if len(found) <= 300 else f"{found[:300]}..."
    raise ValueError(
        f"not an adapter's factors: {weight} has {found}, not B (m, r), A (r, n) and scale (1,), nor a delta alone"
    )


def count_parameters(updates: Mapping[str, Update]) -> int:
    """How many numbers an adapter's updates hold, their scales left out."""
    return sum(
        update.values.size if isinstance(update, DenseDelta) else update.a.size + update.b.size
        for update in updates.values()
    )
