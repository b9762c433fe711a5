"""`uir-train router`: the network that says what is wrong with a picture, and the prototypes to compare with."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from uir.export.package_writer import ExportRouter
from uir.export.router import save_router
from uir.runtime.atomic import atomic_output
from uir.runtime.errors import OutputError, UsageError
from uir.runtime.looks import Look
from uir.runtime.package import RouterSettings
from uir.runtime.router import CLEAN, Embedder
from uir.tools.train.prototype import prototype
from uir.tools.train.router_data import PLAIN, DegradedLooks, Looks, Plan, gather
from uir.tools.train.router_network import DIMENSIONS, RouterNetwork, block_steps, router_onnx

BATCH = 64
PLAN = "plan.json"

SETTINGS = RouterSettings(threshold=0.35, top_k=3, norm="sum", temperature=0.25, lattice=16)
"""What a package is given. The adapters were trained to be mixed by weights that sum to one, mostly within 1/4 and 3/4
for two, up to three at once: similarities between the threshold and one, divided by their sum, stay there."""


@dataclass(frozen=True)
class Course:
    """How the network is trained.

    Attributes:
        epochs: times that all pictures are gone over.
        lr: the peak learning rate.
        margin: the cosine at which a degradation is as likely there as not. A picture with n of them lies at most at
            `n ** -0.5` of all their directions if these are square to each other: 0.58 for three.
        sharpness: the temperature of the sigmoid around the margin.
    """

    epochs: int = 20
    lr: float = 3e-3
    margin: float = SETTINGS.threshold
    sharpness: float = 0.08


def train_router(plan: Plan, count: int, course: Course, out: Path, *, workers: int, command: Sequence[str]) -> None:
    """Degrade `count` pictures, train on what is seen of them, and write the router's folder.

    Args:
        workers: processes that degrade.
        command: what was asked, for the record.

    Raises:
        UsageError: the folder has pictures of another plan.
        OutputError: the folder cannot be written.
    """
    began = time.time()
    dataset = DegradedLooks(plan, count)
    identity = {
        "seed": plan.seed,
        "degradations": list(plan.names),
        "photos": [photo.name for photo in plan.photos],
        "excluded": {name: sorted(files) for name, files in plan.excluded.items()},
    }
    _claim(out, identity)
    looks = gather(dataset, out / "looks", workers)
    examples = _examples(looks, plan.names)
    torch.manual_seed(plan.seed)
    network, losses = fit(looks, course)
    model = router_onnx(network)
    embed = Embedder(model)
    prototypes = {
        name: prototype((Look(looks.thumbnails[i], looks.crops[i]) for i in numbers), embed)
        for name, numbers in examples.items()
    }
    router = ExportRouter(model, SETTINGS, prototypes)
    save_router(out, router)
    record = {
        **identity,
        "pictures": count,
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

    The loss is the binary cross-entropy of `sigmoid((cosine - margin) / sharpness)` for each degradation and for clean,
    each answer by its weight: a picture may have several degradations, or none.

    Returns:
        The network, and the mean loss of each epoch.
    """
    clean = looks.severities.max(axis=1, keepdims=True) == 0
    there = torch.from_numpy(np.hstack([looks.severities > 0, clean]).astype(np.float32))
    weights = torch.from_numpy(looks.weights)
    batches = -(-len(there) // BATCH)
    # Once, and not in each epoch: they take as long as a third of the network.
    steps = torch.cat([block_steps(torch.from_numpy(part)) for part in np.array_split(looks.crops, batches)])
    network = RouterNetwork()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # which convolutions are quick in
    directions = nn.Parameter(torch.randn(there.shape[1], DIMENSIONS))
    groups: list[dict[str, Any]] = [
        {"params": list(network.parameters())},
        {"params": [directions], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=course.lr, weight_decay=0.02)
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, course.lr, epochs=course.epochs, steps_per_epoch=batches, pct_start=0.15
    )
    losses = []
    bar = tqdm(range(course.epochs), unit="epoch", disable=None)
    for _ in bar:
        total = 0.0
        for chosen in torch.chunk(torch.randperm(len(there)), batches):
            thumbnails, crops = (torch.from_numpy(each[chosen.numpy()]) for each in (looks.thumbnails, looks.crops))
            with torch.autocast("cpu", torch.bfloat16):
                embeddings = network(thumbnails, crops, steps[chosen])
            cosines = functional.normalize(embeddings.float(), dim=1) @ functional.normalize(directions, dim=1).T
            answers = (cosines - course.margin) / course.sharpness
            surprise = functional.binary_cross_entropy_with_logits(answers, there[chosen], reduction="none")
            loss = (surprise * weights[chosen]).sum(1).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            rates.step()
            total += float(loss.detach())
        losses.append(round(total / batches, 4))
        bar.set_postfix_str(f"loss {losses[-1]:.3f}")
    return network.eval(), losses


def _examples(looks: Looks, names: Sequence[str]) -> dict[str, NDArray[np.intp]]:
    """The numbers of the pictures that show each degradation alone and plainly, and of the clean ones."""
    known = looks.weights.min(axis=1) == 1
    alone = known & ((looks.severities > 0).sum(axis=1) == 1)
    found = {name: np.flatnonzero(alone & (looks.severities[:, i] >= PLAIN)) for i, name in enumerate(names)}
    found[CLEAN] = np.flatnonzero(known & (looks.severities.max(axis=1) == 0))
    lacking = [name for name, numbers in found.items() if not len(numbers)]
    if lacking:
        raise UsageError(f"too few pictures to know {', '.join(lacking)} by; give more with --pictures")
    return found
