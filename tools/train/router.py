"""`uir-train router`: the network that says what is wrong with a picture, and the prototypes to compare with."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from uir.export.package_writer import ExportRouter
from uir.export.router import MEAN_OF_CLEAN, save_router
from uir.runtime.atomic import atomic_output
from uir.runtime.errors import MissingFileError, OutputError, UsageError
from uir.runtime.looks import Look
from uir.runtime.package import RouterSettings
from uir.runtime.router import CLEAN, Embedder
from uir.tools.train.prototype import mean_embedding
from uir.tools.train.router_data import DegradedLooks, Looks, Plan, gather
from uir.tools.train.router_network import DIMENSIONS, RouterNetwork, block_steps, router_onnx

BATCH = 64
PLAN, NETWORK = "plan.json", "network.safetensors"
"""In the run's folder: what its pictures are drawn from, and the weights as they were trained."""

SETTINGS = RouterSettings(threshold=0.4, top_k=3, norm="sum", temperature=0.25, lattice=16)
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
    margin: float = 0.35
    sharpness: float = 0.08


def train_router(
    plan: Plan, count: int, course: Course, out: Path, *, init: Path | None, workers: int, command: Sequence[str]
) -> None:
    """Degrade `count` pictures, train on what is seen of them, and write the router's folder.

    Args:
        init: the run whose network's part for places is taken as it is.
        workers: processes that degrade.
        command: what was asked, for the record.

    Raises:
        UsageError: the folder has pictures of another plan.
        OutputError: the folder cannot be written.
    """
    began = time.time()
    places = _places(init / NETWORK) if init else None
    dataset = DegradedLooks(plan, count)
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
        raise UsageError("too few pictures: none of them is clean; give more with --pictures")
    clean = (Look(looks.thumbnails[i], looks.crops[i]) for i in untouched)
    network, directions, losses = fit(looks, course, places)
    with atomic_output(out / NETWORK, overwrite=True) as temporary:
        state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
        temporary.write_bytes(safetensors.torch.save(state))
    model = router_onnx(network)
    prototypes = dict(zip((*plan.names, CLEAN), directions.numpy(), strict=True))
    prototypes[MEAN_OF_CLEAN] = mean_embedding(clean, Embedder(model))
    router = ExportRouter(model, SETTINGS, prototypes)
    save_router(out, router)
    record = {
        **identity,
        "places from": hashlib.sha256((init / NETWORK).read_bytes()).hexdigest() if init else None,
        "pictures": count,
        "course": asdict(course),
        "command": ["uir-train", *command],
        "torch": torch.__version__,
        "losses": losses,
        "hours of the last stretch": round((time.time() - began) / 3600, 3),
    }
    with atomic_output(out / "record.json", overwrite=True) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")


def _places(file: Path) -> dict[str, Tensor]:
    """The weights of a network's part for places."""
    try:
        weights = safetensors.torch.load(file.read_bytes())
    except (OSError, SafetensorError) as error:
        raise MissingFileError(f"{file}: not the network of a router's run: {error}") from error
    return {name.removeprefix("place."): each for name, each in weights.items() if name.startswith("place.")}


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


def fit(
    looks: Looks, course: Course, places: Mapping[str, Tensor] | None = None
) -> tuple[RouterNetwork, Tensor, list[float]]:
    """Train a network on looks.

    The loss is the binary cross-entropy of `sigmoid((cosine - margin) / sharpness)` for each degradation and for clean,
    each answer by its weight: a picture may have several degradations, or none.

    Args:
        places: weights for the part that looks at places, which then stay as they are: the rest takes a third of the
            time.

    Returns:
        The network, the direction of each degradation and of clean, of length one, and the mean loss of each epoch.
    """
    clean = looks.severities.max(axis=1, keepdims=True) == 0
    there = torch.from_numpy(np.hstack([looks.severities > 0, clean]).astype(np.float32))
    weights = torch.from_numpy(looks.weights)
    batches = -(-len(there) // BATCH)
    # Once, and not in each epoch: they take as long as a third of the network.
    steps = torch.cat([block_steps(torch.from_numpy(part)) for part in np.array_split(looks.crops, batches)])
    network = RouterNetwork()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # which convolutions are quick in
    if places is not None:
        network.place.load_state_dict(places)
        network.place.requires_grad_(False)
    known = None if places is None else _seen(network.eval(), looks, steps)

    def seen(chosen: Tensor) -> Tensor:
        """What there is in the places of some pictures."""
        if known is not None:
            return known[chosen]
        return network.see(torch.from_numpy(looks.crops[chosen.numpy()]), steps[chosen])

    network.train()
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
            thumbnails = torch.from_numpy(looks.thumbnails[chosen.numpy()])
            with torch.autocast("cpu", torch.bfloat16):
                embeddings = network.decide(thumbnails, seen(chosen))
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
    return network.eval(), functional.normalize(directions.detach(), dim=1), losses


@torch.no_grad()
def _seen(network: RouterNetwork, looks: Looks, steps: Tensor) -> Tensor:
    """What there is in the places of all pictures."""
    parts = torch.split(torch.arange(len(looks.crops)), BATCH)
    return torch.cat([network.see(torch.from_numpy(looks.crops[part.numpy()]), steps[part]) for part in parts])
