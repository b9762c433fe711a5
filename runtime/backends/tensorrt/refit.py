"""Refitting: other weights into a built engine, for a composition that has no engine of its own yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uir.runtime.backends.tensorrt.bindings import Bindings
from uir.runtime.backends.tensorrt.log import Log
from uir.runtime.backends.tensorrt.network import ParsedNetwork
from uir.runtime.errors import BackendError

# "It can drop the bias of a matrix product": NVIDIA's notes on 11.3.
_BROKEN = "11.3."


def can_refit(bindings: Bindings) -> bool:
    """Whether this version keeps all weights of a refittable engine."""
    return not (bindings.flavour == "tensorrt" and bindings.version.startswith(_BROKEN))


def mark_refittable(bindings: Bindings, parsed: ParsedNetwork, names: Collection[str]) -> None:
    """Make weights exchangeable in the engine to be built, by their names in the model.

    Raises:
        BackendError: the network has no weights of some of these names, so that a refit would miss them.
    """
    if not names:
        return
    if not can_refit(bindings):
        raise BackendError(f"{bindings.title} loses biases in refittable engines; use another version of TensorRT")
    unknown = sorted(name for name in names if not parsed.network.mark_weights_refittable(name))
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise BackendError(
            f"{bindings.title} finds no weights named {', '.join(unknown[:3])}{more} in the model, and could not refit "
            "them; export the package again"
        )


def refit(bindings: Bindings, log: Log, engine: Any, weights: Mapping[str, NDArray[Any]]) -> None:
    """Give an engine other weights, all that it was built to exchange: any left out would keep those of the last refit.

    So going from one set to another and back gives the same bits. The engine must not run meanwhile.

    Args:
        weights: by name, cast to the type of the engine's own.

    Raises:
        BackendError: the weights are not those that the engine was built to exchange, or TensorRT fails; the engine is
            then not to be used.
    """
    trt = bindings.module
    refitter = trt.Refitter(engine, log.native)
    wanted = set(refitter.get_all_weights())
    if wanted != set(weights):
        differing = ", ".join(sorted(wanted ^ set(weights))[:3])
        raise BackendError(
            f"the engine exchanges {len(wanted)} weights and was given {len(weights)}; they differ in {differing}"
        )
    kept = []  # TensorRT reads the arrays when it refits, not before
    for name, values in weights.items():
        prototype = refitter.get_weights_prototype(name)
        array = np.ascontiguousarray(values, trt.nptype(prototype.dtype))
        if array.size != prototype.size:
            raise BackendError(f"{name}: the engine has {prototype.size} values there and was given {array.size}")
        kept.append(array)
        if not refitter.set_named_weights(name, trt.Weights(array)):
            raise BackendError(f"{bindings.title} does not take {name}: {log.reason()}")
    if refitter.get_missing_weights() or not refitter.refit_cuda_engine():
        raise BackendError(f"{bindings.title} cannot refit the engine: {log.reason()}")
