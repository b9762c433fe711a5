"""The merge: base weights, adapters and a composition in, merged weights and an ONNX model out.

`W = W_0 + sum_i w_i * scale_i * (B_i @ A_i)`, float32, always from the pristine base: LoRA (Hu et al. 2021,
section 4.1) summed as in UIR-LoRA. numpy does it in milliseconds, so a device needs no torch to serve a composition
that it has never seen.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from uir.runtime.composition import Composition
from uir.runtime.errors import AdapterError, PackageError
from uir.runtime.factors import Adapter, DenseDelta, Factors
from uir.runtime.float16 import GAIN
from uir.runtime.manifest import Precision
from uir.runtime.package import Package

Weights = Mapping[str, NDArray[np.float32]]

_LIMITED = threading.Lock()
"""One merge at a time: the limit is the process's, and the later of two would put back what the earlier one set."""


def merge(base: Weights, adapters: Mapping[str, Adapter], composition: Composition) -> dict[str, NDArray[np.float32]]:
    """Add a composition's deltas to the base's weights. Weights that no adapter touches are shared, not copied.

    Raises:
        ValueError: an adapter touches a weight that the base does not have, or of another size.
        AdapterError: a weight leaves the range of float32.
    """
    merged = dict(base)
    parts = [(adapters[name], weight) for name, weight in composition.items]
    # The products are small: on one thread they take milliseconds, and do not wait for cores that a stream keeps busy.
    with _LIMITED, _blas().limit(limits=1, user_api="blas"), np.errstate(over="ignore", invalid="ignore"):
        for name in sorted({name for adapter, _ in parts for name in adapter.updates}):
            if name not in base:
                raise ValueError(f"{name}: the base has no such weight")
            merged[name] = _merged(name, base[name], parts)
            if not np.isfinite(merged[name]).all():
                guilty = ", ".join(adapter.name for adapter, _ in parts if name in adapter.updates)
                raise AdapterError(
                    f"{composition.key}: merging {guilty} takes {name} beyond the range of float32; use smaller "
                    "weights, or an adapter that was trained without diverging"
                )
    return merged


@cache
def _blas() -> ThreadpoolController:
    """The thread pools of this process; finding them takes longer than a merge."""
    return ThreadpoolController()


def _merged(name: str, weight: NDArray[np.float32], parts: list[tuple[Adapter, float]]) -> NDArray[np.float32]:
    """One weight with its deltas. The low-rank ones become one product: [w1 s1 B1, w2 s2 B2] @ [A1; A2]."""
    ups, downs, deltas = [], [], []
    for adapter, amount in parts:
        update = adapter.updates.get(name)
        if update is None:
            continue
        if update.size != weight.size:
            raise ValueError(
                f"{name}: adapter {adapter.name} has {update.size} entries, the base's weight {weight.size}"
            )
        match update:
            case Factors(b, a, scale):
                ups.append(b * np.float32(amount * scale))
                downs.append(a)
            case DenseDelta(values):
                deltas.append(values * np.float32(amount))
    # Factors of one weight may be cut differently (m x n); only alike ones share a product.
    if len({up.shape[0] for up in ups}) == 1:
        deltas.append(np.hstack(ups) @ np.vstack(downs))
    else:
        deltas += [up @ down for up, down in zip(ups, downs, strict=True)]
    if not deltas:
        return weight
    # Each delta is an array of its own, so the first can take the sum.
    result, *others = (delta.reshape(weight.shape) for delta in deltas)
    result += weight
    for delta in others:
        result += delta
    return result


def merge_package(package: Package, composition: Composition) -> dict[str, NDArray[np.float32]]:
    """The merged weights of one of a package's compositions, listed by it or not.

    Raises:
        UsageError: the composition names an adapter that the package does not have.
        AdapterError: a weight leaves the range of float32.
        PackageError: the package is damaged.
    """
    composition.check_names(package.manifest.adapters)
    adapters = {name: package.adapter(name) for name, _ in composition.items}
    base = package.base_weights
    try:
        return merge(base, adapters, composition)
    except AdapterError:
        raise
    except ValueError as error:
        raise PackageError(f"{package.path}: {error}; export the package again") from error


def merged_model(package: Package, composition: Composition, precision: Precision) -> onnx.ModelProto:
    """The model of one of a package's compositions, as backends build it.

    Raises:
        UsageError, AdapterError, PackageError: as `merge_package` and `fill_graph`.
    """
    return fill_graph(package.graph(precision, composition), merge_package(package, composition))


def merged_weights(package: Package, composition: Composition, precision: Precision) -> dict[str, NDArray[Any]]:
    """The base's weights as the composition's model holds them: merged, typed, and by their gains.

    Raises:
        UsageError, AdapterError, PackageError: as `merge_package` and `fill_graph`.
    """
    names, graph = package.base_weights, merged_model(package, composition, precision).graph
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name in names}


def fill_graph(graph: bytes, weights: Weights) -> onnx.ModelProto:
    """Give a package's graph its weights: the initializers that it left out, by name, in the types that it has them in.

    Raises:
        PackageError: the graph cannot be parsed, the weights are not those it was traced with, or one is too large for
            its type.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(graph)
    except Exception as error:  # protobuf's DecodeError lives in a module that moves between its versions
        raise PackageError(f"the package's graph is damaged: {error}; export the package again") from error
    left_out = [tensor for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    for tensor in left_out:
        weight = weights.get(tensor.name)
        if weight is None or weight.shape != tuple(tensor.dims) or weight.dtype != np.float32:
            found = "missing" if weight is None else f"{weight.dtype} {weight.shape}"
            raise PackageError(
                f"the graph's weight {tensor.name} {tuple(tensor.dims)} is {found}; export the package again"
            )
        values = _typed(weight, tensor)
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT
        tensor.raw_data = values.tobytes()
    return model


def _typed(weight: NDArray[np.float32], tensor: onnx.TensorProto) -> NDArray[Any]:
    """A weight as its graph has it: by its gain, and in its type, which is float32 or float16."""
    gain = _gain(tensor)
    with np.errstate(over="ignore", invalid="ignore"):  # what leaves the range is reported below
        values: NDArray[Any] = weight if gain is None else weight * np.float32(gain)
        if tensor.data_type == onnx.TensorProto.FLOAT16:
            values = values.astype(np.float16) if gain is None else _keep_sums(values)
        elif tensor.data_type != onnx.TensorProto.FLOAT:
            kind = onnx.TensorProto.DataType.Name(tensor.data_type)
            raise PackageError(f"the graph's weight {tensor.name} is of type {kind}; export the package again")
    if values is not weight and not np.isfinite(values).all():
        raise PackageError(
            f"{tensor.name} reaches {np.abs(weight).max():.3g} in this composition, and {values.dtype} ends at "
            f"{np.finfo(values.dtype).max:g}; use {'fp32, or ' if values.dtype == np.float16 else ''}smaller weights"
        )
    return values


def _gain(tensor: onnx.TensorProto) -> float | None:
    """What a kernel on the frame's codes is multiplied by; None for every other weight. It lies in [1, 2)."""
    gains = [entry.value for entry in tensor.external_data if entry.key == GAIN]
    if not gains:
        return None
    try:
        gain = float(gains[0])
    except ValueError:
        gain = math.nan
    if not 1 <= gain < 2 or len(tensor.dims) < 2:  # NaN neither
        raise PackageError(
            f"the graph's weight {tensor.name} has a gain of {gains[0][:40]!r}; export the package again"
        )
    return gain


def _keep_sums(weight: NDArray[np.float32]) -> NDArray[np.float16]:
    """Round to float16 so that each kernel keeps its sum: what one entry loses, the next smaller one makes good.

    A kernel on the frame itself acts on smooth areas by its sum alone. Rounded entry by entry, six times as much of it
    is lost, and the network makes much of that in haze, where contrast is stretched.
    """
    kernels = weight.reshape(*weight.shape[:2], -1)
    order = np.argsort(-np.abs(kernels), axis=2)
    wanted = np.take_along_axis(kernels, order, 2)
    rounded = np.empty(wanted.shape, np.float16)
    lost = np.zeros(wanted.shape[:2], np.float32)
    for i in range(wanted.shape[2]):
        rounded[:, :, i] = wanted[:, :, i] + lost
        lost += wanted[:, :, i] - rounded[:, :, i]
    result = np.empty_like(rounded)
    np.put_along_axis(result, order, rounded, 2)
    return result.reshape(weight.shape)
