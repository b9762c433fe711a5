"""LoRA as a parametrisation: the network runs on merged weights, gradients reach the factors.

`W = W_0 + sum_i w_i * (alpha / r) * (B_i @ A_i)` (LoRA, Hu et al. 2021, eq. 3, summed over adapters as in
UIR-LoRA). Training on merged weights is the very computation that is deployed, and costs no more per step than the
base alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class Mix:
    """The weights by which the adapters are merged at this step; shared by every `LowRankUpdate` of a network."""

    def __init__(self) -> None:
        self.weights: Mapping[str, float] = {}


class LowRankUpdate(nn.Module):
    """Adds the mixed low-rank updates of all adapters to one weight.

    `a[name]` is r x n and `b[name]` m x r, where the weight's first axis has m entries and the others n together. A
    starts random and B at zero (Hu et al. 2021, section 4.1), so that an untrained adapter changes nothing.
    """

    def __init__(self, shape: torch.Size, names: Iterable[str], rank: int, scale: float, mix: Mix) -> None:
        super().__init__()
        m, n = shape[0], math.prod(shape[1:])
        self.a = nn.ParameterDict({name: nn.Parameter(torch.empty(rank, n)) for name in names})
        self.b = nn.ParameterDict({name: nn.Parameter(torch.zeros(m, rank)) for name in names})
        for factor in self.a.values():
            nn.init.kaiming_uniform_(factor, a=math.sqrt(5))
        self.scale, self.mix = scale, mix

    def forward(self, weight: Tensor) -> Tensor:
        for name, amount in self.mix.weights.items():
            weight = weight + (amount * self.scale * (self.b[name] @ self.a[name])).view_as(weight)
        return weight


def attach(network: nn.Module, names: Iterable[str], *, rank: int, alpha: float) -> Mix:
    """Give every dense convolution and linear layer of `network` one low-rank update for each adapter name.

    Grouped convolutions keep their weights: their factors would be larger than the update itself.
    """
    names, mix = list(names), Mix()
    layers = [m for m in network.modules() if isinstance(m, nn.Linear) or (isinstance(m, nn.Conv2d) and m.groups == 1)]
    for layer in layers:
        update = LowRankUpdate(layer.weight.shape, names, rank, alpha / rank, mix)
        parametrize.register_parametrization(layer, "weight", update)
    return mix


def updates(network: nn.Module) -> Iterator[tuple[str, LowRankUpdate]]:
    """Every weight that has low-rank updates, as (`<module>.weight`, its updates)."""
    for name, module in network.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            update = module.parametrizations["weight"][0]
            assert isinstance(update, LowRankUpdate)
            yield f"{name}.weight", update


def base_weights(network: nn.Module) -> dict[str, Tensor]:
    """The state dict that `network` had before `attach`: the base's own names, no adapters."""
    return {
        name.replace(".parametrizations.weight.original", ".weight"): tensor
        for name, tensor in network.state_dict().items()
        if ".parametrizations.weight.0." not in name
    }
