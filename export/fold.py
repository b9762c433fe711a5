"""Fold what only scales channels into the convolutions beside it, in a base and in its adapters alike.

An affine in front of a convolution multiplies its weight's columns, a layer scale behind it the rows, so that a layer

    y = rows * (W (columns * x + shift) + b)  is  W' x + b',  W' = rows W columns,  b' = rows (W shift + b).

Both are linear in W. So a delta `scale * B @ A` on W is `scale * (rows B) @ (A columns)` on W', and on b' it is
`scale * (rows B) @ (A shift)`: factors once more, of the same rank. Folded weights are merged as any others are.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from uir.runtime.errors import AdapterError
from uir.runtime.factors import Adapter, DenseDelta, Factors, Update


@dataclass(frozen=True)
class Fold:
    """What one convolution can take over, by names within the network.

    Attributes:
        convolution: a Conv2d with a bias. Behind a norm it must not pad: its zeros would come after the norm's bias.
        norm: the module in front whose `weight` and `bias`, one value a channel, are its affine; None without one.
        scale: the parameter behind, one value a channel; None without one.
    """

    convolution: str
    norm: str | None = None
    scale: str | None = None

    @property
    def parameters(self) -> list[str]:
        """The parameters that go."""
        affine = [f"{self.norm}.weight", f"{self.norm}.bias"] if self.norm else []
        return [*affine, self.scale] if self.scale else affine


@runtime_checkable
class Foldable(Protocol):
    """A network that has something to fold, and computes the same with those parameters folded and set to None."""

    def folds(self) -> Sequence[Fold]:
        """All that can be folded; a convolution stands in one of them at most."""


@dataclass(frozen=True)
class _Numbers:
    """A fold's values, float64, for a weight seen as m x n: `rows` m x 1, `columns` 1 x n, `shift` n x 1."""

    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    shift: NDArray[np.float64]

    def of_weight(self, weight: NDArray[Any]) -> NDArray[np.float64]:
        matrix = weight.reshape(len(self.rows), -1)
        folded: NDArray[np.float64] = self.rows * matrix * self.columns
        return folded.reshape(weight.shape)

    def of_bias(self, weight: NDArray[Any], bias: NDArray[Any] | float) -> NDArray[np.float64]:
        matrix = weight.reshape(len(self.rows), -1)
        folded: NDArray[np.float64] = self.rows[:, 0] * ((matrix @ self.shift)[:, 0] + bias)
        return folded

    def of_update(self, update: Update) -> tuple[Update, Update]:
        """What an update of the weight is on the folded weight, and on the folded bias."""
        match update:
            case Factors(b, a, scale):
                rows = (self.rows * b).astype(np.float32)
                on_weight = Factors(rows, (a * self.columns).astype(np.float32), scale)
                return on_weight, Factors(rows, (a @ self.shift).astype(np.float32), scale)
            case DenseDelta(values):
                on_bias = self.of_bias(values, 0.0).astype(np.float32)
                return DenseDelta(self.of_weight(values).astype(np.float32)), DenseDelta(on_bias)


def fold(network: nn.Module, adapters: Iterable[Adapter]) -> tuple[nn.Module, list[Adapter]]:
    """A network without its affines and layer scales, and its adapters for it: merged, they compute the same.

    Nothing that is given is changed. A network that is not `Foldable` is given back as it is.

    Args:
        adapters: they fit the network (see `check_fits`).

    Raises:
        AdapterError: an adapter changes what is folded, whose product with the convolution's delta is not linear, or a
            bias beside it.
        ValueError: a convolution cannot take over what the network says that it can.
    """
    given = list(adapters)
    if not isinstance(network, Foldable):
        return network, given
    folds = network.folds()
    folded = copy.deepcopy(network)
    updates = [_checked(adapter, folds) for adapter in given]
    for one in folds:
        with np.errstate(over="ignore", invalid="ignore"):  # export reports what leaves the range of float32
            numbers = _numbers(folded, one)
            _fold_layer(folded.get_submodule(one.convolution), numbers)
            for own in updates:
                _fold_updates(own, one, numbers)
    for name in (name for one in folds for name in one.parameters):
        owner, _, parameter = name.rpartition(".")
        setattr(folded.get_submodule(owner), parameter, None)
    return folded, [Adapter(adapter.name, own) for adapter, own in zip(given, updates, strict=True)]


def _checked(adapter: Adapter, folds: Iterable[Fold]) -> dict[str, Update]:
    """A copy of an adapter's updates; of what a fold touches, they change convolutions' weights alone."""
    changed = [
        name for one in folds for name in (*one.parameters, f"{one.convolution}.bias") if name in adapter.updates
    ]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise AdapterError(
            f"adapter {adapter.name} changes {', '.join(changed[:3])}{more}: export folds normalisations and layer "
            "scales into the convolutions, whose weights alone can be adapted; train without"
        )
    return dict(adapter.updates)


def _numbers(network: nn.Module, one: Fold) -> _Numbers:
    layer = network.get_submodule(one.convolution)
    if not isinstance(layer, nn.Conv2d) or layer.bias is None:
        raise ValueError(f"{one.convolution}: only a Conv2d with a bias can be folded into")
    if one.norm and (layer.groups > 1 or layer.padding != (0, 0)):
        raise ValueError(f"{one.convolution}: groups or pads, so that {one.norm} cannot be folded into it")
    m, n, *kernel = layer.weight.shape

    def values(name: str, repeats: int) -> NDArray[np.float64]:
        parameter = network.get_parameter(name).numpy(force=True).astype(np.float64)
        return parameter.ravel().repeat(repeats)

    size = int(np.prod(kernel))
    rows = values(one.scale, 1) if one.scale else np.ones(m)
    columns = values(f"{one.norm}.weight", size) if one.norm else np.ones(n * size)
    shift = values(f"{one.norm}.bias", size) if one.norm else np.zeros(n * size)
    return _Numbers(rows[:, None], columns[None, :], shift[:, None])


def _fold_layer(layer: nn.Module, numbers: _Numbers) -> None:
    """Fold into a layer's own weight and bias."""
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    weight, bias = (parameter.numpy(force=True) for parameter in (layer.weight, layer.bias))
    folded = numbers.of_weight(weight), numbers.of_bias(weight, bias)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(folded[0]))
        layer.bias.copy_(torch.from_numpy(folded[1]))


def _fold_updates(updates: dict[str, Update], one: Fold, numbers: _Numbers) -> None:
    """Fold into an adapter's update of one convolution; behind a norm's bias, this changes the layer's bias too."""
    weight = f"{one.convolution}.weight"
    if weight in updates:
        updates[weight], on_bias = numbers.of_update(updates[weight])
        if one.norm:
            updates[f"{one.convolution}.bias"] = on_bias
