"""The router's network: what is seen of a frame to an embedding, in which cosines are similarities.

It first says where in the frame each degradation shows, as it was told in training; then, of that and of what there is
in the places, what is wrong with the whole.

Each degradation, and the clean picture too, has an axis of its own in the embedding, along which the probability lies
that it is there; a picture with two of them lies between both. These axes are the prototypes of what the network was
trained on. The other axes hold what it saw, unnamed: a degradation that comes later gets its prototype without a new
router, as the mean embedding of examples (J. Snell, K. Swersky and R. Zemel, "Prototypical Networks for Few-shot
Learning", NeurIPS 2017, eq. 1).
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

PATCH = 4
"""Side of the patches that pictures are cut into first, pixels: as filters of that step are, and far quicker."""

NUMBERS = 3 * PATCH**2
"""Codes in a patch."""

HIDDEN = 128
"""Numbers that the judgement is made of."""

UNNAMED = 0.3
"""Length of the unnamed part of the embedding, where a degradation that is there for certain has one."""

WIDTH = 128
"""Numbers that are known of each part of the whole."""


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


class Beside(nn.Module):
    """A stage that keeps its shape, added to what it takes (K. He et al., "Deep Residual Learning", CVPR 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stage = Stage(width, width, stride=1)

    def forward(self, values: Tensor) -> Tensor:
        beside: Tensor = self.stage(values)
        return values + beside


class Patches(nn.Module):
    """The codes of each patch beside each other, about zero: n x side x side x 3 to n x 48 x side/4 x side/4."""

    def forward(self, codes: Tensor) -> Tensor:
        n, side = codes.shape[0], codes.shape[1] // PATCH
        patches = codes.reshape(n, side, PATCH, side, PATCH, 3).transpose(2, 3).reshape(n, side, side, NUMBERS)
        about_zero: Tensor = patches.to(torch.float32) * (2 / 255) - 1
        return about_zero.permute(0, 3, 1, 2)


class Whitening(Patches):
    """The codes of patches as numbers of about equal spread that do not go together, n x 48 x side/4 x side/4.

    Next to the brightness of a patch, noise, drops and faint edges are a hundredth as large, and would be learnt that
    much later (as the first layer of K. Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024). It is not
    trained.
    """

    FLOOR = 1e-3
    """Of the variances, in units of 127.5 codes squared: what is fainter is the rounding of the codes."""

    matrix: Tensor
    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.eye(NUMBERS)[:, :, None, None])
        self.register_buffer("offset", torch.zeros(NUMBERS))

    def forward(self, codes: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):  # with fewer digits what is faint would be lost
            return functional.conv2d(super().forward(codes), self.matrix, self.offset)

    @torch.no_grad()
    def fit(self, codes: Tensor) -> None:
        """Whiten such pictures, n x side x side x 3."""
        patches = super().forward(codes).flatten(2).transpose(1, 2).flatten(0, 1).double()
        mean = patches.mean(0)
        patches -= mean
        variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
        matrix = (directions / torch.sqrt(variances + self.FLOOR)).T
        self.matrix.copy_(matrix[:, :, None, None])
        self.offset.copy_(-(matrix @ mean))


class RouterNetwork(nn.Module):
    """`forward(thumbnails, crops)` is n x `DIMENSIONS`, of length one.

    It takes uint8 RGB as `uir.runtime.looks` gives it: n x side x side x 3, and n x places x side x side x 3.

    Args:
        degradations: how many it says the whereabouts of.
    """

    def __init__(self, degradations: int) -> None:
        super().__init__()
        self.whole = nn.Sequential(
            Whitening(),
            Stage(NUMBERS, NUMBERS, kernel=1, stride=1),
            Stage(NUMBERS, 64),
            Beside(64),
            Beside(64),
            Stage(64, WIDTH),
            Beside(WIDTH),
        )
        self.where = nn.Conv2d(WIDTH, degradations, 1)
        self.place = nn.Sequential(
            Whitening(), Stage(NUMBERS, NUMBERS, kernel=1, stride=1), Stage(NUMBERS, 64), Beside(64)
        )
        self.what = nn.Linear(2 * 64, degradations)
        self.steps = nn.BatchNorm1d(5 * 2 * BLOCK)
        self.head = nn.Sequential(
            nn.Linear(2 * (WIDTH + degradations) + 8 * 64 + 2 * degradations + 5 * 2 * BLOCK, HIDDEN),
            nn.ReLU(),
            nn.Dropout(0.4),
        )
        self.named = nn.Linear(HIDDEN, degradations + 1)
        self.unnamed = nn.Linear(HIDDEN, DIMENSIONS - degradations - 1, bias=False).requires_grad_(False)
        nn.init.orthogonal_(self.unnamed.weight)

    def forward(self, thumbnails: Tensor, crops: Tensor) -> Tensor:
        hidden = self._sum_up(thumbnails, crops, block_steps(crops))[0]
        unnamed = UNNAMED * functional.normalize(self.unnamed(hidden), dim=1)
        return functional.normalize(torch.cat([torch.sigmoid(self.named(hidden)), unnamed], 1), dim=1)

    def judge(self, thumbnails: Tensor, crops: Tensor, steps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is there, as the logarithms of the odds.

        Args:
            steps: the places' `block_steps`.

        Returns:
            Of each degradation in the picture, and last of a clean one, n x (degradations + 1); of each degradation in
            each part of the whole, n x degradations x grid x grid, and in each place, n x places x degradations.
        """
        hidden, where, what = self._sum_up(thumbnails, crops, steps)
        return self.named(hidden), where, what

    def _sum_up(self, thumbnails: Tensor, crops: Tensor, steps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What a judgement is made of, n x `HIDDEN`, and the parts and places as `judge` gives them."""
        whole = self.whole(thumbnails)
        where = self.where(whole)
        places = self.place(crops.flatten(0, 1))
        seen = torch.cat([places.mean(dim=(2, 3)), places.amax(dim=(2, 3))], 1).reshape(-1, CROPS, 2 * 64)
        what = self.what(seen)
        textured, flat = slice(FIXED, FIXED + TEXTURED), slice(FIXED + TEXTURED, CROPS)
        parts = [
            part for each in (whole, torch.sigmoid(where)) for part in (each.mean(dim=(2, 3)), each.amax(dim=(2, 3)))
        ]
        parts += [part for each in (seen, torch.sigmoid(what)) for part in (each.mean(1), each.amax(1))]
        parts += [seen[:, textured].mean(1), seen[:, flat].mean(1)]
        steps = torch.cat(
            [steps.mean(1), steps.amin(1), steps.amax(1), steps[:, textured].mean(1), steps[:, flat].mean(1)], 1
        )
        return self.head(torch.cat([*parts, self.steps(steps)], 1)), where, what


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


@torch.no_grad()
def _fold(branch: nn.Sequential) -> None:
    """Make a branch's whitening part of the convolution behind it, which looks at one patch at a time as well."""
    whitening, first = branch[0], branch[1]
    assert isinstance(whitening, Whitening) and isinstance(first, Stage)
    convolution = first.convolution
    assert convolution.bias is not None  # the fused normalisation gave it one
    weight = convolution.weight.flatten(1)
    convolution.bias += weight @ whitening.offset
    convolution.weight.copy_((weight @ whitening.matrix.flatten(1))[:, :, None, None])
    branch[0] = Patches()


def router_onnx(network: RouterNetwork) -> bytes:
    """The network as ONNX, any number of frames at a time; its normalisations become part of the convolutions."""
    fused = copy.deepcopy(network).eval()
    for module in fused.modules():
        if isinstance(module, Stage):
            module.fuse()
    for branch in (fused.whole, fused.place):
        _fold(branch)
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
