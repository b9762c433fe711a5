"""The training loop: seeded, resumable, with a checkpoint every minute and a record of the run."""

from __future__ import annotations

import copy
import pickle
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from uir.runtime.atomic import atomic_output
from uir.runtime.errors import OutputError, UsageError
from uir.runtime.stop import at_stop
from uir.tools.train.data import DegradedPatches
from uir.tools.train.feed import Turn, feed, pictures
from uir.tools.train.lora import Mix, updates
from uir.tools.train.progress import LOG, Clock, Progress, rate
from uir.tools.train.settings import Schedule

CHECKPOINT_SECONDS = 60.0
FLOOR = 1e-3  # of the squared error in the logarithm: without it clean patches, nearly right, outweigh all others
LOSS_SCALE = 0.1  # keeps the gradients' norm below what is clipped
AVERAGE_EVERY = 5  # steps: the moving average reads and writes every adapter, and need not see each step
READ_EVERY, LOG_EVERY = 50, 500  # steps


@dataclass
class Place:
    """Where in a run training is.

    Attributes:
        step: how many steps were taken.
        large_from: the step from which on patches are large, once it is reached.
        seconds: how long they took.
        ended: whether none is to follow.
    """

    step: int = 0
    large_from: int | None = None
    seconds: float = 0.0
    ended: bool = False


def train(
    network: nn.Module,
    mix: Mix,
    patches: DegradedPatches,
    schedule: Schedule,
    run: Path,
    *,
    identity: dict[str, Any],
    device: torch.device,
    workers: int,
    since: float,
) -> nn.Module:
    """Train `network`'s adapters (and its base, if `schedule.train_base`) and return the averaged network, on the CPU.

    The loss is the mean over the patches of the logarithm of their squared error, which is PSNR but for a factor (as in
    HINet, Chen et al. 2021, eq. 2). Tried against Charbonnier's, it was 0.3 dB better over ten degradations.

    Writes `checkpoint.pt` and `log.jsonl` into `run`, and goes on from the checkpoint that it finds there, whatever
    device made it.

    Args:
        identity: the run's settings; a checkpoint made with other settings is refused.
        device: what the network runs on; it is moved there.
        workers: processes that degrade.
        since: `time.monotonic()` when the command began: from then on the schedule's minutes count.

    Raises:
        UsageError: the folder holds a run with other settings, or a damaged checkpoint; the training diverged, or had
            no time for a single step.
        OutputError: a checkpoint cannot be written.
    """
    torch.manual_seed(identity["seed"])
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(
        _groups(network, schedule), lr=schedule.lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True
    )
    peaks = [group["lr"] for group in optimiser.param_groups]
    average = copy.deepcopy(network)
    parts: dict[str, Any] = {"network": network, "average": average, "optimiser": optimiser}
    checkpoint = run / "checkpoint.pt"
    place = _resume(checkpoint, parts, identity)
    clock = Clock(schedule, since, place.seconds)
    progress = Progress(run / LOG, clock)

    def tell(_: float) -> None:
        # The step under way may be half done; the last whole checkpoint is at most a minute old.
        tqdm.write(f"interrupted at step {place.step}; the same command goes on from {checkpoint}")

    with (
        at_stop(tell),
        tqdm(total=schedule.steps, initial=place.step, unit="step", smoothing=0.05, mininterval=2, disable=None) as bar,
    ):
        saved = time.monotonic()
        for turns, share in _turns(patches, schedule, place, clock, device, workers):
            ready = time.monotonic()
            batches = list(islice(turns, schedule.compositions))
            progress.waited += time.monotonic() - ready
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * rate(share)
            for (weights, pair, _), loss in zip(batches, _step(network, mix, batches, optimiser), strict=True):
                progress.add(weights, loss, pair.shape[1])
            place.step += 1
            clock.tick()
            bar.update()
            if place.step % AVERAGE_EVERY == 0:
                _follow(average, network, place.step, schedule.ema)
            if place.step % READ_EVERY == 0:
                progress.read()
                bar.set_postfix_str(progress.text(), refresh=False)
            if place.step % LOG_EVERY == 0:
                progress.write(place.step)
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                progress.read()
                place.seconds = clock.seconds
                _save(checkpoint, parts, identity, place)
                saved = time.monotonic()
    if place.step == 0:
        raise UsageError(f"--minutes {schedule.minutes:g} were over before the first step; give more")
    if not place.ended:
        progress.read()
        if place.step % AVERAGE_EVERY:
            _follow(average, network, place.step, schedule.ema)
        progress.write(place.step)
        place.seconds, place.ended = clock.seconds, True
        _save(checkpoint, parts, identity, place)
    return average.cpu()


def _follow(average: nn.Module, network: nn.Module, step: int, decay: float) -> None:
    """Let the moving average take in the weights; at first it is them. All at once, since there are a thousand."""
    share = 1.0 if step <= AVERAGE_EVERY else 1 - decay**AVERAGE_EVERY
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), share)


def _turns(
    patches: DegradedPatches, schedule: Schedule, place: Place, clock: Clock, device: torch.device, workers: int
) -> Iterator[tuple[Iterator[Turn], float]]:
    """For each step to take, where its batches come from, and the share of the run that is over."""
    for large, until in ((False, 1 - schedule.large_share), (True, 1.0)):
        if place.ended or clock.share(place.step) >= until:
            continue
        if large and place.large_from is None:
            place.large_from = place.step
        begin = (place.large_from or 0) if large else 0
        first, turn = begin * schedule.compositions, (place.step - begin) * schedule.compositions
        with closing(
            feed(patches, device, large=large, first=first, turn=turn, reuse=schedule.reuse, workers=workers)
        ) as turns:
            while (share := clock.share(place.step)) < until:
                yield turns, share


def _groups(network: nn.Module, schedule: Schedule) -> list[dict[str, Any]]:
    """The optimiser's parameter groups: B by the LoRA+ ratio, A and (if it moves) the base by the plain rate."""
    ups = [factor for _, update in updates(network) for factor in update.b.values()]
    downs = [factor for _, update in updates(network) for factor in update.a.values()]
    lora = {id(factor) for factor in (*ups, *downs)}
    base = [parameter for parameter in network.parameters() if id(parameter) not in lora]
    for parameter in base:
        parameter.requires_grad_(schedule.train_base)
    rates = ((downs + base, schedule.lr), (ups, schedule.lr * schedule.lora_plus))
    groups = [{"params": [p for p in parameters if p.requires_grad], "lr": peak} for parameters, peak in rates]
    return [group for group in groups if group["params"]]


def _step(network: nn.Module, mix: Mix, batches: Sequence[Turn], optimiser: torch.optim.Optimizer) -> list[Tensor]:
    """One step of the optimiser; the loss of each batch, still on the device."""
    optimiser.zero_grad(set_to_none=True)
    losses = []
    for weights, pair, mirrored in batches:
        mix.weights = weights
        degraded, clean = pictures(pair, mirrored)
        with torch.autocast(degraded.device.type, torch.bfloat16):
            restored: Tensor = network(degraded)
        error = ((restored.float() - clean) ** 2).mean(dim=(1, 2, 3))
        loss = torch.log(error + FLOOR).mean()
        (LOSS_SCALE / len(batches) * loss).backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
    trainable = [p for group in optimiser.param_groups for p in group["params"]]
    nn.utils.clip_grad_norm_(trainable, 1.0)
    # Adapters that this step did not merge have no gradient, and AdamW leaves them alone.
    optimiser.step()
    return losses


def _save(path: Path, parts: dict[str, Any], identity: dict[str, Any], place: Place) -> None:
    state = {name: part.state_dict() for name, part in parts.items()}
    try:
        with atomic_output(path, overwrite=True) as temporary:
            torch.save({"identity": identity, "place": asdict(place), **state}, temporary)
    except RuntimeError as error:  # torch's own word for a disk that is full
        raise OutputError(f"{path}: the checkpoint cannot be written: {error}") from error


def _resume(path: Path, parts: dict[str, Any], identity: dict[str, Any]) -> Place:
    if not path.exists():
        return Place()
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
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
    return Place(**state["place"])
