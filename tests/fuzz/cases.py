"""A case: a good input, a mutator that a seed draws, the command that reads what came of it, and the verdict."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fuzz.registry import Mutator, Target, draw
from fuzz.runner import Ended

Run = Callable[[Sequence[str], Path], Ended]

TOLERANCE = 1.0
"""Mean difference, codes, of what is the same picture: an engine may sum in another order."""


@dataclass(frozen=True)
class Verdict:
    """What one case came to.

    Attributes:
        done: what the mutator did, in a few words.
        fault: what is wrong; None where all is well.
    """

    target: Target
    seed: int
    mutator: str
    done: str
    ended: Ended
    fault: str | None

    def __str__(self) -> str:
        first = self.ended.stderr.strip().splitlines()[-1:] or [""]
        return (
            f"{self.target} {self.seed} {self.mutator} ({self.done}): {self.fault or 'ok'}; exit {self.ended.status}, "
            f"{self.ended.seconds:.1f} s, {self.ended.memory >> 20} MiB; {first[0][:300]}"
        )


@dataclass(frozen=True)
class Good:
    """Good inputs, which every case copies.

    Attributes:
        package: as `uir-export` writes it.
        adapters: the folder of its adapters, as they were exported from.
        picture: what is restored, small.
        right: what a good package makes of it, by the device in use.
        cache: the folder of engines.
    """

    package: Path
    adapters: dict[str, Path]
    picture: Path
    right: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    cache: Path


def try_case(good: Good, target: Target, seed: int, run: Run, options: Sequence[str] = ()) -> Verdict:
    """Make the case of a seed and run it; nothing of it stays behind.

    Args:
        options: of `uir-run`, such as its device.
    """
    mutator, rng = draw(target, seed)
    with tempfile.TemporaryDirectory(prefix="uir-fuzz-") as name:
        folder = Path(name)
        (folder / "streams").mkdir()
        (folder / "out").mkdir()
        if target == "package":
            copy, result = folder / "p.uir", folder / "out" / "o.png"
            shutil.copytree(good.package, copy, symlinks=True)
            command = ["uir-run", str(good.picture), "--package", str(copy), "-o", str(result), *options]
        else:
            copy, result = folder / "haze", folder / "out" / "p.uir"
            shutil.copytree(good.adapters["haze"], copy, symlinks=True)
            named = f"rain={good.adapters['rain']},haze={copy}"
            command = ["uir-export", "--adapters", named, "-o", str(result)]
        done = mutator.mutate(copy, rng)
        ended = run(command, folder / "streams")
        fault = ended.fault() or _fault_of_result(good, mutator, ended, result)
        if target == "adapter" and not ended.status and not fault:
            restored = folder / "restored.png"
            package = ["--package", str(result), "--compose", "haze", "-o", str(restored)]
            ended = run(["uir-run", str(good.picture), *package, *options], folder / "streams")
            fault = ended.fault() or (f"accepted, and not run: {ended.stderr}" if ended.status else _flatness(restored))
    return Verdict(target, seed, mutator.name, done, ended, fault)


def _fault_of_result(good: Good, mutator: Mutator, ended: Ended, result: Path) -> str | None:
    there = sorted(each.name for each in result.parent.iterdir())
    if ended.status:
        return f"left behind: {', '.join(there)}" if there else None
    if there != [result.name]:
        return f"success, and these files: {', '.join(there) or 'none'}"
    if mutator.target == "adapter":
        return None
    with Image.open(result) as image:
        picture = np.asarray(image)
    if picture.dtype != np.uint8 or picture.shape != good.right.shape:
        return f"wrong picture: {picture.dtype} {picture.shape}"
    if mutator.picture == "same":
        error = float(np.abs(picture.astype(np.int16) - good.right.astype(np.int16)).mean())
        if error > TOLERANCE:
            return f"wrong picture: {error:.1f} codes off"
    return None


def _flatness(path: Path) -> str | None:
    """What passes for success and is no picture; None where something of it is there."""
    with Image.open(path) as image:
        return "flat picture" if np.asarray(image).reshape(-1, 3).std(0).max() < 1 else None
