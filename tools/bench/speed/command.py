"""The command: which rows, on what, for how long."""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tqdm import tqdm

from uir.runtime.backends.devices import open_backend
from uir.runtime.composition import Composition
from uir.runtime.errors import UirError, UsageError
from uir.runtime.package import Package
from uir.runtime.quantize import mean_error, psnr
from uir.tools.bench.options import add_package_option, add_size_option
from uir.tools.bench.plots import check_plot
from uir.tools.bench.report import Report
from uir.tools.bench.speed.contenders import CONTENDERS, Contender, NotInstalledError, chosen_rows
from uir.tools.bench.speed.judge import Timed
from uir.tools.bench.speed.limits import Limits
from uir.tools.bench.speed.results import Row, bounds, long_failures, measured_row, tables, write_plot
from uir.tools.bench.speed.subject import Restore, Subject, limited
from uir.tools.bench.speed.turns import TURNS, take_turns
from uir.tools.bench.work import Work, count_work
from uir.tools.processor import usable_cores
from uir.tools.scratch import scratch_folder

LIBRARIES = ("torch", "peft", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx")


def add_options(command: argparse.ArgumentParser) -> None:
    """The benchmark's options."""
    add_package_option(command)
    command.add_argument("--compose", metavar="A=W,B=W", help="the composition (default: the package's)")
    add_size_option(command)
    command.add_argument("--threads", type=int, metavar="N", help="of every row (default: as many as there are cores)")
    command.add_argument(
        "--seconds",
        type=float,
        default=60.0,
        metavar="S",
        help="of timing; building comes before (default: %(default)g)",
    )
    command.add_argument("--rows", metavar="A,B", help="only these: " + ", ".join(row.name for row in CONTENDERS))
    command.add_argument("--plot", type=Path, metavar="FILE.png", help="also draw the rows as bars")


def measure(options: argparse.Namespace) -> Report:
    """Run the benchmark.

    Raises:
        UirError: the options make no sense, the package cannot be read, no row could be run, or the plot cannot be
            written.
        ModuleNotFoundError: matplotlib is wanted and missing.
    """
    if not 0 < options.seconds < math.inf:  # NaN neither
        raise UsageError(f"--seconds {options.seconds:g}: must be more than 0")
    chosen = chosen_rows(None if options.rows is None else [name.strip() for name in options.rows.split(",")])
    if options.plot:
        check_plot(options.plot, overwrite=options.overwrite)
    package = Package(options.package)
    composition = Composition.parse(options.compose or package.manifest.default)
    composition.check_names(package.manifest.adapters)
    limits = Limits()
    with scratch_folder() as folder, limited(options.threads):
        subject = Subject(package, composition, options.size, options.threads, Path(folder))
        threads = usable_cores()
        work = count_work(subject.model(), (1, *subject.network_size, 3))
        rows, times = _run(subject, chosen, options.seconds, limits)
    ran = [statistics.median(times[row.name]) for row in rows if row.name in times]
    if not ran:
        raise UirError(f"no row could be run: {'; '.join(f'{row.title}: {row.failure}' for row in rows)}")
    found = bounds(work, limits)
    shown = [
        measured_row(row, times[row.name], ran[0], found.get(row.kind or "")) if row.name in times else row
        for row in rows
    ]
    width, height = options.size
    rounded = "x".join(map(str, reversed(subject.network_size)))
    title = f"{composition.key}, {width}x{height}, threads: {threads}"
    if options.plot:
        write_plot(options.plot, title, shown, found, overwrite=options.overwrite)
    settings = {
        "package": str(options.package),
        "composition": composition.key,
        "size": options.size,
        "threads": threads,
        "seconds": options.seconds,
        "libraries": _versions(),
    }
    first = next(row.title for row in rows if row.name in times)
    notes = [f"{title}. Speed-ups are over: {first}.", *_notes(rounded, work, limits), *long_failures(shown)]
    results = {"rows": shown, "work": work, "limits": limits, "bounds": found}
    return Report(settings, results, tables(shown, found, limits), notes)


def _run(
    subject: Subject, chosen: Sequence[Contender], seconds: float, limits: Limits
) -> tuple[list[Row], dict[str, list[float]]]:
    """The rows without their numbers, and the times of those that ran."""
    rows: list[Row] = []
    restores: dict[str, Restore] = {}
    judges: dict[str, Timed] = {}
    exact = subject.restore_by(open_backend("cpu"), "fp32")(subject.frames[0])
    judged = sum(contender.judge is not None for contender in chosen)
    with tqdm(total=len(chosen) + TURNS * (2 + judged), unit="step", delay=2, disable=None) as bar:

        def done(step: str) -> None:
            bar.set_postfix_str(step)
            bar.update()

        for contender in chosen:
            done(contender.name)
            row = Row(contender.name, contender.title, contender.kind)
            try:
                if contender.judge:
                    judges[row.name] = contender.judge(subject)
                elif contender.begin:
                    restore = contender.begin(subject)
                    row = replace(row, psnr=psnr(mean_error([exact], [restore(subject.frames[0])])))
                    restores[row.name] = restore
            except UirError as error:
                row = replace(row, failure=str(error))
            except ModuleNotFoundError as error:
                row = replace(row, failure=str(NotInstalledError((error.name or "").partition(".")[0])))
            rows.append(row)
        times, failures = take_turns(subject.frames, restores, judges, seconds, limits.look, done)
    return [replace(row, failure=failures.get(row.name, row.failure)) for row in rows], times


def _versions() -> dict[str, str]:
    """The versions of the libraries that are installed."""
    found = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _notes(rounded: str, work: Work, limits: Limits) -> list[str]:
    notes = [
        f"The network takes frames of {rounded}: {work.flops / 1e9:.2f} GFLOP and {work.weights / 1e6:.2f} M weights. "
        "Padding is no part of the times.",
        "benchmark_app times inference alone, of the models that --emit onnx writes and of a plain export.",
    ]
    if limits.failure:
        notes.append(f"The machine's limits are measured by torch: {limits.failure}")
    return [*notes, ", ".join(f"{name} {number}" for name, number in _versions().items())]
