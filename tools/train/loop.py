"""The training loop: seeded, resumable, with a checkpoint every minute and a record of the run."""

from __future__ import annotations

import json
import math
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from uir.runtime.atomic import atomic_output
from uir.runtime.errors import OutputError, UsageError
from uir.runtime.stop import at_stop
from uir.tools.train.data import Batch, DegradedPatches
from uir.tools.train.lora import Mix, updates
from uir.tools.train.settings import Schedule

CHECKPOINT_SECONDS = 60.0
LOG = "log.jsonl"
FLOOR = 1e-3  # of the squared error in the logarithm: without it clean patches, nearly right, outweigh all others
LOSS_SCALE = 0.1  # keeps the gradients' norm below what is clipped
DECIBELS = -10 / math.log(10)  # times the natural logarithm of the squared error
AVERAGE_EVERY = 5  # steps: the moving average reads and writes every adapter, and need not see each step


def train(
    network: nn.Module,
    mix: Mix,
    patches: DegradedPatches,
    schedule: Schedule,
    run: Path,
    *,
    identity: dict[str, Any],
    workers: int = 1,
) -> nn.Module:
    """Train `network`'s adapters (and its base, if `schedule.train_base`) and return the averaged network.

    The loss is the mean over the patches of the logarithm of their squared error, which is PSNR but for a factor (as in
    HINet, Chen et al. 2021, eq. 2). Tried against Charbonnier's, it was 0.3 dB better over ten degradations.

    Writes `checkpoint.pt` and `log.jsonl` into `run`, and goes on from the checkpoint that it finds there.

    Args:
        identity: the run's settings; a checkpoint made with other settings is refused.

    Raises:
        UsageError: the folder holds a run with other settings, or a damaged checkpoint.
        OutputError: a checkpoint cannot be written.
    """
    torch.manual_seed(identity["seed"])
    optimiser = torch.optim.AdamW(
        _groups(network, schedule), lr=schedule.lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True
    )
    ema = get_ema_multi_avg_fn(schedule.ema**AVERAGE_EVERY)  # type: ignore[no-untyped-call]
    average = AveragedModel(network, multi_avg_fn=ema)
    rates = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, schedule.steps))
    parts: dict[str, Any] = {"network": network, "average": average, "optimiser": optimiser, "rates": rates}
    start = _resume(run / "checkpoint.pt", parts, identity)

    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = range(start, schedule.steps)
    loader = DataLoader(
        patches,
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        prefetch_factor=8 if workers else None,
        worker_init_fn=_one_thread,
    )
    saved, scores = time.monotonic(), _Progress(run / LOG)
    progress = tqdm(loader, total=schedule.steps, initial=start, unit="step", smoothing=0.05, mininterval=2)
    step = start

    def tell(_: float) -> None:
        # The step under way may be half done; the last whole checkpoint is at most a minute old.
        tqdm.write(f"interrupted at step {step}; the same command goes on from {run / 'checkpoint.pt'}")

    with at_stop(tell):
        for step, batch in enumerate(progress, start):
            psnr = _step(network, mix, batch, optimiser)
            rates.step()
            if (step + 1) % AVERAGE_EVERY == 0 or step + 1 == schedule.steps:
                average.update_parameters(network)
            scores.add(step, batch, psnr)
            if step % 50 == 0:
                progress.set_postfix_str(scores.text(), refresh=False)
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                _save(run / "checkpoint.pt", parts, identity, step + 1)
                saved = time.monotonic()
    _save(run / "checkpoint.pt", parts, identity, schedule.steps)
    return average.module


def _one_thread(_: int) -> None:
    """A process that degrades takes one core: the others belong to the network."""
    cv2.setNumThreads(1)


def _groups(network: nn.Module, schedule: Schedule) -> list[dict[str, Any]]:
    """The optimiser's parameter groups: B by the LoRA+ ratio, A and (if it moves) the base by the plain rate."""
    ups = [factor for _, update in updates(network) for factor in update.b.values()]
    downs = [factor for _, update in updates(network) for factor in update.a.values()]
    lora = {id(factor) for factor in (*ups, *downs)}
    base = [parameter for parameter in network.parameters() if id(parameter) not in lora]
    for parameter in base:
        parameter.requires_grad_(schedule.train_base)
    rates = ((downs + base, schedule.lr), (ups, schedule.lr * schedule.lora_plus))
    groups = [{"params": [p for p in parameters if p.requires_grad], "lr": rate} for parameters, rate in rates]
    return [group for group in groups if group["params"]]


def _rate(step: int, steps: int) -> float:
    warmup = max(1, steps // 50)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * (step - warmup) / max(1, steps - warmup)))))


def _step(network: nn.Module, mix: Mix, batch: Batch, optimiser: torch.optim.Optimizer) -> float:
    mix.weights = batch.weights
    optimiser.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16):
        restored: Tensor = network(batch.degraded.contiguous(memory_format=torch.channels_last))
    error = ((restored.float() - batch.clean) ** 2).mean(dim=(1, 2, 3))
    loss = torch.log(error + FLOOR).mean()
    (LOSS_SCALE * loss).backward()  # type: ignore[no-untyped-call]
    trainable = [p for group in optimiser.param_groups for p in group["params"]]
    nn.utils.clip_grad_norm_(trainable, 1.0)
    # Adapters that this step did not merge have no gradient, and AdamW leaves them alone.
    optimiser.step()
    return float(loss.detach()) * DECIBELS


def _save(path: Path, parts: dict[str, Any], identity: dict[str, Any], step: int) -> None:
    state = {name: part.state_dict() for name, part in parts.items()}
    try:
        with atomic_output(path, overwrite=True) as temporary:
            torch.save({"identity": identity, "step": step, **state}, temporary)
    except RuntimeError as error:  # torch's own word for a disk that is full
        raise OutputError(f"{path}: the checkpoint cannot be written: {error}") from error


def _resume(path: Path, parts: dict[str, Any], identity: dict[str, Any]) -> int:
    if not path.exists():
        return 0
    try:
        state = torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UsageError(
            f"{path}: not a whole checkpoint; delete it to begin again, or choose another --out"
        ) from error
    if state["identity"] != identity:
        differing = [key for key in identity if state["identity"].get(key) != identity[key]]
        raise UsageError(
            f"{path}: was made with other settings ({', '.join(differing)}); "
            "repeat them to go on, or choose another --out"
        )
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["step"])


class _Progress:
    """The PSNR of each composition, dB, as a running average, on the screen and in `log.jsonl` every 500 steps."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.running: dict[str, float] = {}

    def add(self, step: int, batch: Batch, psnr: float) -> None:
        key = "+".join(sorted(batch.weights)) or "base"
        self.running[key] = psnr if key not in self.running else 0.98 * self.running[key] + 0.02 * psnr
        if (step + 1) % 500 == 0:
            with self.path.open("a") as log:
                rounded = {key: round(value, 3) for key, value in sorted(self.running.items())}
                log.write(json.dumps({"step": step + 1, "psnr": rounded}) + "\n")

    def text(self) -> str:
        return " ".join(f"{key} {value:.2f}" for key, value in self._singles())

    def _singles(self) -> Iterator[tuple[str, float]]:
        return ((key, value) for key, value in sorted(self.running.items()) if "+" not in key)
