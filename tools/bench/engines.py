"""Build every engine of a package, and show beside it what its precision costs.

For each composition that the package lists, in each precision that it has: what export's gate found (PSNR to float32,
change of the restoration, how the ranges of int8 were chosen, which layers were left in float16), and what building it
for frames of one size takes here. TensorRT-RTX builds on a machine without a GPU too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tqdm import tqdm

from uir.runtime.backends import Backend, Shapes
from uir.runtime.backends.devices import DEVICES, open_backend
from uir.runtime.backends.tensorrt import TensorRTBackend
from uir.runtime.composition import Composition
from uir.runtime.errors import BackendError, PackageError
from uir.runtime.manifest import PRECISIONS, CompositionEntry, Precision
from uir.runtime.merge import fill_graph, merge_package
from uir.runtime.package import Package
from uir.tools.bench.options import add_package_option, add_size_option
from uir.tools.bench.report import Report, Table

RTX = "rtx"


@dataclass(frozen=True)
class Built:
    """One engine.

    Attributes:
        gate: `recommended`, `passed` or `failed`; None for what needs no trial.
        psnr: of its frames against the float32 ones, dB, as export measured it.
        restoration: change of the restored frames' mean PSNR against the truth, dB, as export measured it.
        method: how the ranges of int8 were chosen.
        returned: the weights whose layers were left in float16.
        seconds: of the build.
        nbytes: of what was built.
        failure: why it was not.
    """

    composition: str
    precision: str
    gate: str | None = None
    psnr: float | None = None
    restoration: float | None = None
    method: str | None = None
    returned: Sequence[str] = field(default_factory=list)
    seconds: float | None = None
    nbytes: int | None = None
    failure: str | None = None


def add_options(command: argparse.ArgumentParser) -> None:
    """The benchmark's options."""
    add_package_option(command)
    add_size_option(command)
    command.add_argument(
        "--device",
        choices=[device for device in DEVICES if device != "auto"],
        default=RTX,
        help="what builds them (default: %(default)s)",
    )


def measure(options: argparse.Namespace) -> Report:
    """Run the benchmark.

    Raises:
        UirError: the package cannot be read.
    """
    package = Package(options.package)
    wanted = [
        _gated(key, precision, entry)
        for key, entry in package.manifest.compositions.items()
        for precision in reversed(PRECISIONS)
        if precision in package.manifest.graphs or precision in entry.precisions
    ]
    width, height = options.size
    multiple = package.manifest.frame.multiple_of
    shape = 1, height + -height % multiple, width + -width % multiple
    built = []
    device = None
    with tqdm(wanted, unit="engine", delay=2, disable=None) as bar:
        for each in bar:
            bar.set_postfix_str(f"{each.composition} {each.precision}")
            try:
                backend = _backend(options.device, exact=each.precision == "fp32")
                device = device or backend.describe()
                built.append(_build(package, backend, each, shape))
            except (BackendError, PackageError) as error:
                built.append(replace(each, failure=str(error)))
    settings = {"package": str(options.package), "device": options.device, "engine": device, "size": options.size}
    failures = dict.fromkeys(each.failure for each in built if each.failure)
    notes = [
        f"Built by {device or 'nothing'} for frames of {shape[2]}x{shape[1]}. A restoration above 0 is nearer to the "
        "truth than float32's.",
        *(f"Not built: {failure}" for failure in failures),
    ]
    return Report(settings, built, [_table(built, options.device)], notes)


def _gated(key: str, precision: Precision, entry: CompositionEntry) -> Built:
    """What the manifest says of an engine."""
    tried = entry.precisions.get(precision)
    if tried is None:
        return Built(key, precision, "recommended" if precision == entry.recommended else None)
    passed = "recommended" if precision == entry.recommended else "passed"
    return Built(
        key,
        precision,
        passed if tried.passed else "failed",
        tried.psnr,
        tried.restoration,
        tried.method,
        tried.returned,
    )


def _backend(device: str, *, exact: bool) -> Backend:
    """TensorRT-RTX by itself, since it needs no GPU to build; others as uir-run opens them."""
    return TensorRTBackend("tensorrt-rtx") if device == RTX else open_backend(device, exact=exact)


def _build(package: Package, backend: Backend, wanted: Built, shape: tuple[int, int, int]) -> Built:
    composition = Composition.parse(wanted.composition)
    graph = package.graph(wanted.precision, composition)
    model = fill_graph(graph, merge_package(package, composition)).SerializeToString()
    began = time.perf_counter()
    plan = backend.build(model, Shapes.only(shape))
    return replace(wanted, seconds=time.perf_counter() - began, nbytes=len(plan))


def _table(built: Sequence[Built], device: str) -> Table:
    columns = [
        *("composition", "precision", "dB to fp32", "restoration", "gate", "ranges", "in float16"),
        *("build s", "plan MB"),
    ]
    rows = [
        [
            each.composition,
            each.precision,
            _number(each.psnr, ".1f"),
            _number(each.restoration, "+.2f"),
            each.gate or "-",
            each.method or "-",
            str(len(each.returned)) if each.method else "-",
            _number(each.seconds, ".2f"),
            _number(None if each.nbytes is None else each.nbytes / 1e6, ".2f"),
        ]
        for each in built
    ]
    return Table(f"Engines, built by {device}", columns, rows)


def _number(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)
