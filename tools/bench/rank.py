"""What adapters of a lower rank would cost: size against quality.

Each adapter of the package is cut to fewer ranks, as near to its updates as that rank comes (Eckart and Young 1936:
the largest singular values of each), and tried on its own degradation again. Training at the lower rank may do better:
the cost shown is the most that it can be.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from uir.calibration.degradations import DEGRADATIONS
from uir.runtime.errors import UsageError
from uir.runtime.factors import Adapter, DenseDelta, Factors, Update
from uir.runtime.package import Package
from uir.runtime.restorer import Restorer
from uir.tools.bench.cases import ADAPTER, MEAN, measure_case, single_cases, summarise
from uir.tools.bench.options import add_package_option, add_photo_options, check_photo_options
from uir.tools.bench.report import Report, Table
from uir.tools.bench.variants import write_variant
from uir.tools.photos import find_photos, read_photo
from uir.tools.scratch import scratch_folder


def add_options(command: argparse.ArgumentParser) -> None:
    """The benchmark's options."""
    add_package_option(command)
    add_photo_options(command)
    command.add_argument("--ranks", type=_ranks, default=[5, 8], metavar="R,R", help="default: 5,8")
    command.add_argument("--severity", type=float, default=0.5, help="default: %(default)s")


def _ranks(text: str) -> list[int]:
    if not all(word.strip().isdigit() and int(word) for word in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r}: write whole numbers above 0, such as 4,8")
    return sorted({int(word) for word in text.split(",")})


def measure(options: argparse.Namespace) -> Report:
    """Run the benchmark.

    Raises:
        UirError: the options make no sense, or the package or a photo cannot be read.
    """
    check_photo_options(options)
    if not 0 <= options.severity <= 1:
        raise UsageError(f"--severity {options.severity}: must be from 0 to 1")
    package = Package(options.package)
    names = [name for name in DEGRADATIONS if name in package.manifest.adapters]
    if not names:
        raise UsageError(f"{options.package}: none of its adapters is named as a known degradation is")
    photos = [(photo, read_photo(photo, options.max_side)) for photo in find_photos(options.photos, options.limit)]
    whole = max(package.manifest.adapters[name].rank for name in names)
    ranks = [*(rank for rank in options.ranks if rank < whole), whole]
    psnr: dict[str, dict[int, float]] = {name: {} for name in names}
    sizes: dict[int, int] = {}
    with (
        scratch_folder() as folder,
        tqdm(total=len(ranks) * len(names) * len(photos), unit="photo", disable=None) as bar,
    ):
        for rank in ranks:
            adapters = [truncated(package.adapter(name), rank) for name in names]
            sizes[rank] = max(sum(_size(update) for update in adapter.updates.values()) for adapter in adapters)
            path = Path(folder) / f"{rank}.uir"
            write_variant(path, package, adapters)
            for case in single_cases(Restorer(path), [options.severity], {}):
                alone = replace(case, methods={ADAPTER: case.methods[ADAPTER]})
                scores = measure_case(alone, photos, options.seed, lambda _: None)
                psnr[case.name][rank] = summarise(scores)[MEAN][ADAPTER].psnr
                bar.update(len(photos))
    parameters = package.manifest.base.parameters
    shares = {rank: sizes[rank] / parameters for rank in ranks}
    header = ["adapter", *(f"rank {rank} ({shares[rank]:.1%} of the base)" for rank in ranks)]
    rows = [[name, *(f"{psnr[name][rank]:.2f}" for rank in ranks)] for name in names]
    means = {rank: float(np.mean([psnr[name][rank] for name in names])) for rank in ranks}
    rows.append(["mean", *(f"{means[rank]:.2f}" for rank in ranks)])
    results = {"psnr": psnr, "share_of_base": shares}
    settings = {"package": str(options.package), "photos": len(photos), "severity": options.severity}
    return Report(settings, results, [Table("Adapters cut to fewer ranks, PSNR in dB", header, rows)])


def truncated(adapter: Adapter, rank: int) -> Adapter:
    """The adapter whose low-rank updates have at most this rank, each the nearest to what it was."""

    def cut(update: Update) -> Update:
        if isinstance(update, DenseDelta) or update.a.shape[0] <= rank:
            return update
        # B A = Qb (Rb Ra^T) Qa^T: the decomposition of a small matrix gives that of the large product.
        qb, rb = np.linalg.qr(update.b)
        qa, ra = np.linalg.qr(update.a.T)
        u, s, vt = np.linalg.svd(rb @ ra.T)
        b, a = qb @ (u[:, :rank] * s[:rank]), vt[:rank] @ qa.T
        return Factors(b.astype(np.float32), a.astype(np.float32), update.scale)

    return Adapter(adapter.name, {name: cut(update) for name, update in adapter.updates.items()})


def _size(update: Update) -> int:
    return update.values.size if isinstance(update, DenseDelta) else update.a.size + update.b.size
