"""A compiled network of OpenVINO's with other weights put into it.

What OpenVINO compiles it can export, and most of the time that a composition's engine takes goes into compiling what
all compositions have in common. In an exported float network the weights stand as they were given, so those of another
composition can take their places. The format is not documented, so nothing is assumed of it: a template is used only
where all weights were found in what was exported, and where filling it gave what OpenVINO itself exported for a second
composition.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx  # takes longer to import than an engine to load

SMALL = 64
"""Bytes: a constant up to this size, such as a scale, is part of what compositions have in common."""


@dataclass(frozen=True)
class _First:
    """What was compiled first, and is looked through only once something like it is asked for."""

    kind: bytes
    weights: dict[str, bytes]
    exported: bytes


@dataclass(frozen=True)
class _Places:
    """An exported network, and where in it each weight begins; None where it can be no template."""

    kind: bytes
    offsets: dict[str, int] | None
    exported: bytes


class Template:
    """Compiles models; one that differs by nothing but its weights from two before it, by filling what those became.

    The kind of model last asked for is kept, of one size of frames: what a stream switches between. Safe to use from
    many threads.
    """

    def __init__(self) -> None:
        self._kept: _First | _Places | None = None

    def build(self, model: onnx.ModelProto, options: str, compile_: Callable[[], bytes]) -> bytes:
        """What `compile_` would export for the model, from it or by filling a template.

        Args:
            options: all else that makes a difference, such as the size of frames.
        """
        weights = {t.name: t.raw_data for t in model.graph.initializer if len(t.raw_data) > SMALL}
        kind = _kind(model, options)
        kept = self._kept  # threads that build at once may each replace it; whichever stays is good
        if isinstance(kept, _Places) and kept.kind == kind and kept.offsets is not None:
            return _filled(kept.exported, kept.offsets, weights)
        exported = compile_()
        if kept is None or kept.kind != kind:
            if weights and max(weights.values(), key=len) in exported:  # int8's are not
                self._kept = _First(kind, weights, exported)
        elif isinstance(kept, _First):
            self._kept = _Places(kind, _proven(kept, weights, exported), kept.exported)
        return exported


def _kind(model: onnx.ModelProto, options: str) -> bytes:
    """A digest of all that must be alike for a template to fit: everything but the values of the weights."""
    rest = type(model)()
    rest.CopyFrom(model)
    for tensor in rest.graph.initializer:
        if len(tensor.raw_data) > SMALL:
            tensor.ClearField("raw_data")
    return hashlib.sha256(rest.SerializeToString(deterministic=True) + options.encode()).digest()


def _proven(first: _First, weights: dict[str, bytes], exported: bytes) -> dict[str, int] | None:
    """Where the first model's weights begin, if those of a second in their places give what was exported for it.

    What follows the last weight is left out of the comparison: it describes the network, with names that count up.
    """
    offsets = {}
    end = 0
    for name, values in first.weights.items():
        found = first.exported.find(values, end)  # most follow each other
        offsets[name] = found if found >= 0 else first.exported.find(values)
        if offsets[name] < 0:
            return None
        end = offsets[name] + len(values)
    spans = sorted((offset, offset + len(first.weights[name])) for name, offset in offsets.items())
    if any(one[1] > next_[0] for one, next_ in pairwise(spans)):  # alike ones, of which one was kept
        return None
    begin, end = spans[0][0], spans[-1][1]
    filled = _filled(first.exported, offsets, weights)
    return offsets if filled[begin:end] == exported[begin:end] else None


def _filled(exported: bytes, offsets: dict[str, int], weights: dict[str, bytes]) -> bytes:
    result = bytearray(exported)
    for name, values in weights.items():
        result[offsets[name] : offsets[name] + len(values)] = values
    return bytes(result)
