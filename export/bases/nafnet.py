"""NAFNet (Chen et al. 2022, "Simple Baselines for Image Restoration"), the second architecture.

The parameter names are those of the published network (`intro`, `encoders.0.0.conv1`, `downs.0`, `middle_blks.0`,
`ups.0.0`, `decoders`, `ending`, `beta`, `gamma`), so that its checkpoints load. The global average pooling of the
channel attention is kept: a NAFNet's tiles may differ slightly from the whole frame's result.

What only scales channels, the affines of the normalisations and the layer scales `beta` and `gamma`, is None once
export has folded it into the convolutions.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from uir.export.fold import Fold

MOST_LEVELS = 10  # whose frames would be multiples of 1024 pixels


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of N x C x H x W, with an affine (Ba et al. 2016)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight: nn.Parameter | None = nn.Parameter(torch.ones(channels))
        self.bias: nn.Parameter | None = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        normed: Tensor = centred / ((centred * centred).mean(1, keepdim=True) + self.eps).sqrt()
        if self.weight is None or self.bias is None:
            return normed
        return normed * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


class GlobalAveragePool(nn.Module):
    """The mean over the whole picture, N x C x 1 x 1."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


class SimpleGate(nn.Module):
    """The product of the two halves of the channels (eq. 4 of the paper)."""

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[1] // 2
        return x[:, :half] * x[:, half:]


class NAFBlock(nn.Module):
    """The nonlinear-activation-free block (figure 3c of the paper)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        wide = 2 * width
        self.conv1 = nn.Conv2d(width, wide, 1)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.conv3 = nn.Conv2d(width, width, 1)
        self.sca = nn.Sequential(GlobalAveragePool(), nn.Conv2d(width, width, 1))
        self.sg = SimpleGate()
        self.conv4 = nn.Conv2d(width, wide, 1)
        self.conv5 = nn.Conv2d(width, width, 1)
        self.norm1, self.norm2 = LayerNorm2d(width), LayerNorm2d(width)
        self.beta: nn.Parameter | None = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.gamma: nn.Parameter | None = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        gated = self.sg(self.conv2(self.conv1(self.norm1(x))))
        y = x + _scaled(self.conv3(gated * self.sca(gated)), self.beta)
        return y + _scaled(self.conv5(self.sg(self.conv4(self.norm2(y)))), self.gamma)

    def folds(self, name: str) -> list[Fold]:
        """What can be folded in the block of that name. All four convolutions are 1x1: none pads what a norm gives."""
        return [
            Fold(f"{name}.conv1", norm=f"{name}.norm1"),
            Fold(f"{name}.conv3", scale=f"{name}.beta"),
            Fold(f"{name}.conv4", norm=f"{name}.norm2"),
            Fold(f"{name}.conv5", scale=f"{name}.gamma"),
        ]


def _scaled(change: Tensor, scale: Tensor | None) -> Tensor:
    return change if scale is None else scale * change


class NAFNet(nn.Module):
    """RGB in [0, 1], N x 3 x H x W, to the same shape; H and W multiples of `multiple_of`.

    Args:
        width: channels at the frame's own size; they double at each level below.
        encoders: blocks at each level of the encoder, from the frame's size down.
        middle: blocks in the middle.
        decoders: blocks at each level of the decoder, upwards.
    """

    def __init__(
        self,
        width: int = 16,
        encoders: Sequence[int] = (1, 1, 1, 4),
        middle: int = 1,
        decoders: Sequence[int] = (1, 1, 1, 1),
    ) -> None:
        super().__init__()
        self.intro = nn.Conv2d(3, width, 3, padding=1)
        self.ending = nn.Conv2d(width, 3, 3, padding=1)
        self.encoders, self.downs = nn.ModuleList(), nn.ModuleList()
        self.ups, self.decoders = nn.ModuleList(), nn.ModuleList()
        channels = width
        for count in encoders:
            self.encoders.append(nn.Sequential(*(NAFBlock(channels) for _ in range(count))))
            self.downs.append(nn.Conv2d(channels, 2 * channels, 2, stride=2))
            channels *= 2
        self.middle_blks = nn.Sequential(*(NAFBlock(channels) for _ in range(middle)))
        for count in decoders:
            self.ups.append(nn.Sequential(nn.Conv2d(channels, 2 * channels, 1, bias=False), nn.PixelShuffle(2)))
            channels //= 2
            self.decoders.append(nn.Sequential(*(NAFBlock(channels) for _ in range(count))))

    @property
    def multiple_of(self) -> int:
        """The frame's height and width must be multiples of this many pixels."""
        return int(2 ** len(self.encoders))

    def forward(self, frame: Tensor) -> Tensor:
        x = self.intro(frame)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle_blks(x)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = decoder(up(x) + skips.pop())
        change: Tensor = self.ending(x)
        return frame + change

    def folds(self) -> list[Fold]:
        """What export folds: the affines and layer scales of all blocks."""
        blocks = ((name, module) for name, module in self.named_modules() if isinstance(module, NAFBlock))
        return [one for name, block in blocks for one in block.folds(name)]


def detect(weights: Mapping[str, Tensor]) -> dict[str, object] | None:
    """The constructor's arguments for a state dict of this architecture, or None where it is of another."""
    if not {"intro.weight", "encoders.0.0.beta"} <= weights.keys() or weights["intro.weight"].ndim != 4:
        return None

    def blocks(prefix: str) -> int:
        return len({key for key in weights if re.match(rf"{prefix}\.\d+\.beta$", key)})

    levels = next(i for i in itertools.count() if f"downs.{i}.weight" not in weights)
    if levels > MOST_LEVELS:
        return None
    return {
        "width": int(weights["intro.weight"].shape[0]),
        "encoders": [blocks(rf"encoders\.{i}") for i in range(levels)],
        "middle": blocks("middle_blks"),
        "decoders": [blocks(rf"decoders\.{i}") for i in range(levels)],
    }
