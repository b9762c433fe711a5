"""The router's network: what is seen of a frame to an embedding, in which cosines are similarities.

Each degradation, and the clean picture too, has a direction of its own in the embedding; a picture with two of them
lies between both. Directions are learnt with the network (as in cosine classifiers) and become the prototypes of what
it was trained on. A degradation that comes later gets its own without a new router: the mean embedding of examples
(J. Snell, K. Swersky and R. Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017, eq. 1).
"""

from __future__ import annotations

import copy

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from uir.export.trace import OPSET, quiet, without_notes
from uir.runtime.looks import BLOCK, CROP, CROPS, FIXED, TEXTURED
from uir.runtime.router import EMBEDDINGS, INPUTS

DIMENSIONS = 64
"""Of the embedding."""


class Stage(nn.Module):
    """A convolution that halves both sides (or keeps them), its normalisation, ReLU."""

    def __init__(self, taken: int, given: int, *, kernel: int = 3, stride: int = 2) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(taken, given, kernel, stride, kernel // 2, bias=False)
        self.normalisation: nn.BatchNorm2d | nn.Identity = nn.BatchNorm2d(given)

    def forward(self, values: Tensor) -> Tensor:
        return functional.relu(self.normalisation(self.convolution(values)), inplace=True)

    def fuse(self) -> None:
        """Make the normalisation part of the convolution; for use, not for training."""
        if isinstance(self.normalisation, nn.BatchNorm2d):
            self.convolution = fuse_conv_bn_eval(self.convolution, self.normalisation)
            self.normalisation = nn.Identity()


class RouterNetwork(nn.Module):
    """`forward(thumbnails, crops)` is n x `DIMENSIONS`, of length one.

    It takes uint8 RGB as `uir.runtime.looks` gives it: n x side x side x 3, and n x places x side x side x 3.
    """

    def __init__(self) -> None:
        super().__init__()
        self.whole = nn.Sequential(
            Stage(3, 24),
            Stage(24, 32),
            Stage(32, 48),
            Stage(48, 64, stride=1),
            Stage(64, 96),
            Stage(96, 96, stride=1),
        )
        # Wide enough for the first filters to take the local mean away: noise and block edges show in what is left.
        first = Stage(3, 32, kernel=7, stride=4)
        with torch.no_grad():
            first.convolution.weight[8:] -= first.convolution.weight[8:].mean(dim=(2, 3), keepdim=True)
        self.place = nn.Sequential(first, Stage(32, 64), Stage(64, 64, kernel=1, stride=1))
        self.steps = nn.BatchNorm1d(5 * 2 * BLOCK)
        self.head = nn.Sequential(
            nn.Linear(2 * 96 + 4 * 64 + 5 * 2 * BLOCK, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, DIMENSIONS)
        )

    def forward(self, thumbnails: Tensor, crops: Tensor) -> Tensor:
        return self.decide(thumbnails, self.see(crops, block_steps(crops)))

    def see(self, crops: Tensor, steps: Tensor) -> Tensor:
        """What there is in the places, n x 336, whichever place it is in; `steps` are their `block_steps`."""
        seen = self.place(_picture(crops.flatten(0, 1)))
        means = seen.mean(dim=(2, 3)).unflatten(0, (-1, CROPS))
        largest = seen.amax(dim=(2, 3)).unflatten(0, (-1, CROPS))
        textured, flat = slice(FIXED, FIXED + TEXTURED), slice(FIXED + TEXTURED, CROPS)
        parts = [means.mean(1), largest.amax(1), means[:, textured].mean(1), means[:, flat].mean(1)]
        parts += [steps.mean(1), steps.amin(1), steps.amax(1), steps[:, textured].mean(1), steps[:, flat].mean(1)]
        return torch.cat(parts, 1)

    def decide(self, thumbnails: Tensor, seen: Tensor) -> Tensor:
        """The embedding, by what there is in the whole and in the places."""
        whole = self.whole(_picture(thumbnails))
        places, steps = torch.split(seen, [4 * 64, 5 * 2 * BLOCK], 1)
        parts = [whole.mean(dim=(2, 3)), whole.amax(dim=(2, 3)), places, self.steps(steps)]
        return functional.normalize(self.head(torch.cat(parts, 1)), dim=1)


def block_steps(crops: Tensor) -> Tensor:
    """How much neighbours differ, by their place in a block: logarithms of mean differences, n x places x 16.

    Large where a place is noisy, small where it is blurred, uneven where it was stored as a JPEG (after the blocking
    measure of Z. Wang, H. Sheikh and A. Bovik, "No-reference perceptual quality assessment of JPEG compressed images",
    ICIP 2002). Taken of the codes in their own layout, n x places x side x side x 3, where it costs least.
    """
    codes, length = crops.flatten(0, 1).to(torch.float32), CROP - BLOCK
    across = (codes[:, :, 1 : length + 1] - codes[:, :, :length]).abs().flatten(2).mean(1)
    down = (codes[:, 1 : length + 1] - codes[:, :length]).abs().flatten(2).mean(2)
    across = across.reshape(-1, length // BLOCK, BLOCK, 3).mean(dim=(1, 3))
    down = down.reshape(-1, length // BLOCK, BLOCK).mean(1)
    return torch.log(torch.cat([across, down], 1) + 0.25).reshape(-1, CROPS, 2 * BLOCK)


def _picture(codes: Tensor) -> Tensor:
    """Codes as numbers in [-1, 1]."""
    return codes.permute(0, 3, 1, 2).to(torch.float32) * (2 / 255) - 1


def router_onnx(network: RouterNetwork) -> bytes:
    """The network as ONNX, any number of frames at a time; its normalisations become part of the convolutions."""
    fused = copy.deepcopy(network).eval()
    for module in fused.modules():
        if isinstance(module, Stage):
            module.fuse()
    # An example batch of one would be taken for a constant.
    examples = tuple(torch.zeros(2, *shape, dtype=torch.uint8) for shape in INPUTS.values())
    frames = torch.export.Dim("frames", min=1, max=4096)
    with quiet():
        program = torch.onnx.export(
            fused,
            examples,
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=tuple({0: frames} for _ in examples),
            input_names=list(INPUTS),
            output_names=[EMBEDDINGS],
            verbose=False,
        )
    assert program is not None
    model = onnx.load_from_string(program.model_proto.SerializeToString())
    return bytes(without_notes(model).SerializeToString(deterministic=True))
