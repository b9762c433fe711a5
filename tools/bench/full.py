"""Full fine-tuning, the other way to have a network for one degradation: all weights are its own, not a few factors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uir.export.tensors import read_tensors
from uir.runtime.composition import Composition
from uir.runtime.errors import BaseModelError, MissingFileError, UsageError
from uir.runtime.package import Package
from uir.runtime.restorer import Restorer
from uir.tools.bench.cases import by
from uir.tools.bench.sample import Method
from uir.tools.bench.variants import write_variant
from uir.tools.scratch import scratch_folder


def full_methods(texts: Sequence[str], package: Package, measured: Iterable[str]) -> dict[str, Method]:
    """The networks of `--full NAME=FILE`, by degradation.

    Args:
        measured: the degradations that there are adapters for.

    Raises:
        UsageError: an option is malformed, given twice or of a degradation that is not measured.
        MissingFileError: there is no such file.
        BaseModelError: a file is not safetensors, or its weights are not those of the package's base.
    """
    names, methods = list(measured), {}
    for text in texts:
        name, _, file = text.partition("=")
        if not name or not file:
            raise UsageError(f"--full {text}: write it as NAME=FILE, such as rain=runs/full_rain/base.safetensors")
        if name not in names:
            raise UsageError(f"--full {text}: {package.path} has no adapter for {name} to compare it with")
        if name in methods:
            raise UsageError(f"--full {text}: {name} is given twice")
        methods[name] = by(_restorer(package, _weights(package, Path(file))), Composition())
    return methods


def _weights(package: Package, file: Path) -> dict[str, NDArray[np.float32]]:
    if not file.is_file():
        raise MissingFileError(f"{file}: no such file; give the base.safetensors that `uir-train full` wrote")
    found, wanted = read_tensors(file, BaseModelError), package.base_weights
    for name in sorted({*found, *wanted}):
        shapes = [" x ".join(map(str, each[name].shape)) if name in each else "missing" for each in (found, wanted)]
        if shapes[0] != shapes[1]:
            raise BaseModelError(
                f"{file}: not fine-tuned from {package.manifest.base.name}, the base of {package.path}: {name} is "
                f"{shapes[0]}, and there {shapes[1]}; give one that `uir-train full` made from that base"
            )
    return found


def _restorer(package: Package, weights: dict[str, NDArray[np.float32]]) -> Restorer:
    """The package's own graph with other weights, as a package that is gone once its one engine is built."""
    with scratch_folder() as folder:
        path = Path(folder) / "full.uir"
        write_variant(path, package, [], weights)
        return Restorer(path)
