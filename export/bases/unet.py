"""The shipped base: a small U-Net of plain convolutions, made for engines.

Only dense convolutions, ReLU, additions and pixel shuffles: every one of them fuses in every backend, none overflows
float16, and all quantise well. No normalisation and no global pooling, so the response at a pixel depends on a
bounded neighbourhood and tiles join without seams. The work is done behind a 2x space-to-depth, at a quarter of the
pixels (as in FFDNet, Zhang et al. 2018); with the 3x3 convolution behind it, that is one 6x6 convolution of stride 2,
which spares the shuffle. The U-Net follows Ronneberger et al. 2015, the residual blocks without normalisation EDSR,
Lim et al. 2017.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

RESIDUAL_SCALE = 0.1  # of a branch's first weights (EDSR scales the branch itself)

MOST_LEVELS = 10  # whose frames would be multiples of 1024 pixels

MEDIUM = {"widths": (64, 96, 160, 256), "blocks": (2, 2, 2, 4)}  # 6 times the work, 4 times the weights


class ResidualBlock(nn.Module):
    """`x + conv(relu(conv(x)))` with 3x3 convolutions. N x C x H x W in and out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.conv2(torch.relu(self.conv1(x)))
        return x + change


class Up(nn.Module):
    """1x1 convolution and pixel shuffle: N x C x H x W to N x `width` x 2H x 2W."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 * width, 1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        larger: Tensor = self.shuffle(self.conv(x))
        return larger


class UNet(nn.Module):
    """RGB in [0, 1], N x 3 x H x W, to the same shape; H and W multiples of `multiple_of`.

    Args:
        widths: channels at 1/2, 1/4, 1/8 ... of the frame's size; the last is the middle.
        blocks: residual blocks at each of these sizes; those of all but the middle stand in the encoder and the
            decoder alike.
    """

    def __init__(self, widths: Sequence[int] = (32, 48, 96, 160), blocks: Sequence[int] = (1, 1, 1, 3)) -> None:
        super().__init__()
        self.widths, self.blocks = tuple(widths), tuple(blocks)
        self.intro = nn.Conv2d(3, widths[0], 6, stride=2, padding=2)
        self.encoders, self.downs = nn.ModuleList(), nn.ModuleList()
        self.ups, self.decoders = nn.ModuleList(), nn.ModuleList()
        for width, below, count in zip(widths, widths[1:], blocks, strict=False):
            self.encoders.append(nn.Sequential(*(ResidualBlock(width) for _ in range(count))))
            self.downs.append(nn.Conv2d(width, below, 2, stride=2))
            self.ups.append(Up(below, width))
            self.decoders.append(nn.Sequential(*(ResidualBlock(width) for _ in range(count))))
        self.middle = nn.Sequential(*(ResidualBlock(widths[-1]) for _ in range(blocks[-1])))
        self.ending = nn.Conv2d(widths[0], 12, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)
        self._initialise()

    @property
    def multiple_of(self) -> int:
        """The frame's height and width must be multiples of this many pixels."""
        return int(2 ** len(self.widths))

    def _initialise(self) -> None:
        """Keep activations at the input's scale (He et al. 2015), and let the network begin near the identity.

        Without normalisation, layers that shrink their input leave it to the biases to decide, and ReLUs die.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        for block in self.modules():
            if isinstance(block, ResidualBlock):
                nn.init.kaiming_normal_(block.conv1.weight, nonlinearity="relu")
                nn.init.kaiming_normal_(block.conv2.weight, nonlinearity="linear")
                block.conv2.weight.data.mul_(RESIDUAL_SCALE)
        nn.init.kaiming_normal_(self.intro.weight, nonlinearity="relu")
        self.ending.weight.data.mul_(RESIDUAL_SCALE)

    def forward(self, frame: Tensor) -> Tensor:
        x = torch.relu(self.intro(frame))
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle(x)
        for up, decoder in zip(reversed(self.ups), reversed(self.decoders), strict=True):
            x = decoder(up(x) + skips.pop())
        change: Tensor = self.shuffle(self.ending(x))
        return frame + change


def detect(weights: Mapping[str, Tensor]) -> dict[str, object] | None:
    """The constructor's arguments for a state dict of this architecture, or None where it is of another."""
    if not {"intro.weight", "ending.weight", "ups.0.conv.weight"} <= weights.keys():
        return None
    levels = next(i for i in itertools.count() if f"downs.{i}.weight" not in weights)
    if levels > MOST_LEVELS:
        return None
    outer = [weights["intro.weight"], *(weights[f"downs.{i}.weight"] for i in range(levels))]
    if any(weight.ndim != 4 for weight in outer):
        return None
    widths = [int(weight.shape[0]) for weight in outer]
    blocks = [
        len({key for key in weights if re.match(rf"encoders\.{i}\.\d+\.conv1\.weight", key)}) for i in range(levels)
    ]
    blocks.append(len({key for key in weights if re.match(r"middle\.\d+\.conv1\.weight", key)}))
    return {"widths": widths, "blocks": blocks}
