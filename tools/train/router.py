"""`uir-train router`: the network that says what is wrong with a picture, and the prototypes to compare with."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from uir.export.package_writer import ExportRouter
from uir.export.router import MEAN_OF_CLEAN, save_router
from uir.runtime.atomic import atomic_output
from uir.runtime.decision import CLEAN_NAME
from uir.runtime.errors import OutputError, UsageError
from uir.runtime.looks import Look
from uir.runtime.manifest import RouterSettings
from uir.runtime.router import Embedder
from uir.tools.train.prototype import mean_embedding
from uir.tools.train.router_data import VIEWS, DegradedLooks, Looks, Plan, gather
from uir.tools.train.router_network import DIMENSIONS, RouterNetwork, block_steps, router_onnx
from uir.tools.train.settings import Course

BATCH = 4
"""Scenes, all views of each: what differs between them is nothing but the degradations. Many small steps learn more of
what is faint than few large ones."""

SAMPLE = 500
"""Pictures that the whitening is made for."""

PLAIN_CHANGE = 4.0
"""By so many codes of 255 a degradation changes what it plainly shows in."""

PLAN, NETWORK = "plan.json", "network.safetensors"
"""In the run's folder: what its pictures are drawn from, and the weights as they were trained."""

CLEAN_ODDS = 3.0
"""Times that the odds of a clean picture are greater in use than here, where one in four is clean (M. Saerens et al.,
"Adjusting the Outputs of a Classifier to New a Priori Probabilities", Neural Computation 2002): to restore what needs
nothing does more harm than to leave what is hardly to be seen."""

SETTINGS = RouterSettings(threshold=0.35, top_k=3, norm="sum", temperature=0.25, lattice=4)
"""What a package is given. The adapters were trained to be mixed by weights that sum to one, mostly within 1/4 and 3/4
for two, up to three at once: similarities between the threshold and one, divided by their sum, stay there. Quarters
instead of sixteenths cost 0.03 dB on training photos."""


def train_router(plan: Plan, scenes: int, course: Course, out: Path, *, workers: int, command: Sequence[str]) -> None:
    """Degrade so many scenes, train on what is seen of them, and write the router's folder.

    Args:
        workers: processes that degrade.
        command: what was asked, for the record.

    Raises:
        UsageError: the folder has pictures of another plan.
        OutputError: the folder cannot be written.
    """
    began = time.time()
    dataset = DegradedLooks(plan, scenes)
    identity = {
        "seed": plan.seed,
        "degradations": list(plan.names),
        "photos": [photo.name for photo in plan.photos],
        "excluded": {name: sorted(files) for name, files in plan.excluded.items()},
    }
    _claim(out, identity)
    looks = gather(dataset, out / "looks", workers)
    torch.manual_seed(plan.seed)
    untouched = np.flatnonzero(looks.severities.max(axis=1) == 0)
    if not len(untouched):
        raise UsageError("too few scenes: none of them is of a clean photo; give more with --scenes")
    clean = (Look(looks.thumbnails[i], looks.crops[i]) for i in untouched)
    network, losses = fit(looks, course)
    with atomic_output(out / NETWORK, overwrite=True) as temporary:
        state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
        temporary.write_bytes(safetensors.torch.save(state))
    model = router_onnx(network)
    prototypes = dict(zip((*plan.names, CLEAN_NAME), np.eye(DIMENSIONS, dtype=np.float32), strict=False))
    prototypes[MEAN_OF_CLEAN] = mean_embedding(clean, Embedder(model))
    router = ExportRouter(model, SETTINGS, prototypes)
    save_router(out, router)
    record = {
        **identity,
        "scenes": scenes,
        "course": asdict(course),
        "command": ["uir-train", *command],
        "torch": torch.__version__,
        "losses": losses,
        "hours of the last stretch": round((time.time() - began) / 3600, 3),
    }
    with atomic_output(out / "record.json", overwrite=True) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")


def _claim(out: Path, identity: dict[str, object]) -> None:
    """Note in the run's folder what its pictures are drawn from, or check that they are those."""
    note = out / PLAN
    try:
        out.mkdir(parents=True, exist_ok=True)
        if note.exists() and json.loads(note.read_text()) != identity:
            raise UsageError(
                f"{out}: has pictures that were drawn with another seed, or from other photos; repeat those settings "
                "to go on, or choose another --out"
            )
        note.write_text(json.dumps(identity) + "\n")
    except OSError as error:
        raise OutputError(f"{out}: cannot be the run's folder: {error.strerror}; choose another --out") from error


def fit(looks: Looks, course: Course) -> tuple[RouterNetwork, list[float]]:
    """Train a network on looks.

    The loss is the binary cross-entropy for each degradation and for clean, each answer by its weight: a picture may
    have several degradations, or none. Beside it, for each cell of the whole, that of where each degradation shows:
    what a picture is called says too little of a drop to learn its look from. And for each place that of what the
    picture has, since drops, streaks and noise are nearly everywhere.

    Returns:
        The network, and the mean loss of each epoch.
    """
    clean = looks.severities.max(axis=1, keepdims=True) == 0
    there = torch.from_numpy(np.hstack([looks.severities > 0, clean]).astype(np.float32))
    weights, changes = torch.from_numpy(looks.weights), torch.from_numpy(looks.changes)
    pictures = torch.arange(len(there)).reshape(-1, VIEWS)
    batches = -(-len(pictures) // BATCH)
    # Once, and not in each epoch: they take as long as a tenth of the network.
    steps = torch.cat([block_steps(torch.from_numpy(part)) for part in np.array_split(looks.crops, batches)])
    network = RouterNetwork(there.shape[1] - 1)
    some = torch.randperm(len(there))[:SAMPLE].numpy()
    network.whole[0].fit(torch.from_numpy(looks.thumbnails[some]))  # type: ignore[operator]
    network.place[0].fit(torch.from_numpy(looks.crops[some]).flatten(0, 1))  # type: ignore[operator]
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # which convolutions are quick in
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=course.lr, weight_decay=0.05)
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, course.lr, epochs=course.epochs, steps_per_epoch=batches, pct_start=0.15
    )
    losses = []
    bar = tqdm(range(course.epochs), unit="epoch", disable=None)
    for _ in bar:
        total = 0.0
        for scenes in torch.chunk(torch.randperm(len(pictures)), batches):
            chosen = pictures[scenes].flatten()
            thumbnails, crops = (
                torch.from_numpy(each[chosen.numpy()]).float() for each in (looks.thumbnails, looks.crops)
            )
            shown = (changes[chosen].float() / PLAIN_CHANGE).clamp(max=1)
            thumbnails, crops = _tinted(thumbnails, crops)
            if torch.rand(()) < 0.5:
                thumbnails, shown = thumbnails.flip(2), shown.flip(3)
            crops = crops.flip([axis for axis in (2, 3) if torch.rand(()) < 0.5])
            with torch.autocast("cpu", torch.bfloat16):
                whole, where, what = network.judge(thumbnails, crops, steps[chosen])
            surprise = functional.binary_cross_entropy_with_logits(whole.float(), there[chosen], reduction="none")
            loss = (surprise * weights[chosen]).sum(1).mean()
            local = functional.binary_cross_entropy_with_logits(where.float(), shown, reduction="none").mean((2, 3))
            named = there[chosen, None, :-1].expand(what.shape)
            local += functional.binary_cross_entropy_with_logits(what.float(), named, reduction="none").mean(1)
            optimiser.zero_grad(set_to_none=True)
            (loss + (local * weights[chosen, :-1]).sum(1).mean()).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            rates.step()
            total += float(loss.detach())
        losses.append(round(total / batches, 4))
        bar.set_postfix_str(f"loss {losses[-1]:.3f}")
    with torch.no_grad():
        network.named.bias[-1] += math.log(CLEAN_ODDS)
    return network.eval(), losses


def _tinted(thumbnails: Tensor, crops: Tensor) -> tuple[Tensor, Tensor]:
    """All views of each scene in other colours: a little more or less light, of another tint, fewer colours or more.

    Of few photos the network else learns which ones are clean, and not what clean is.
    """
    scenes = len(thumbnails) // VIEWS
    grey = torch.tensor([0.299, 0.587, 0.114])
    colourful = torch.empty(scenes, 1, 1).uniform_(0.5, 1.3)
    light = torch.exp(0.1 * torch.randn(scenes, 3, 1)) * torch.exp(0.12 * torch.randn(scenes, 1, 1))
    matrices = light * (torch.eye(3) * colourful + (1 - colourful) * grey)
    matrices = matrices.repeat_interleave(VIEWS, 0)
    return (
        torch.einsum("nhwc,ndc->nhwd", thumbnails, matrices).clamp(0, 255).round(),
        torch.einsum("nkhwc,ndc->nkhwd", crops, matrices).clamp(0, 255).round(),
    )
