"""Write packages of one adapter, two adapters and so on, and say how large they are.

A package grows by its adapters' factors, not by a model for each composition. Its adapters are taken from the package
that is given: for the whole zoo, export all of it first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from uir.runtime.errors import UsageError
from uir.runtime.package import Package
from uir.tools.bench.options import add_package_option
from uir.tools.bench.report import Report, Table
from uir.tools.bench.variants import write_variant
from uir.tools.scratch import scratch_folder


def add_options(command: argparse.ArgumentParser) -> None:
    """The benchmark's options."""
    add_package_option(command)


def measure(options: argparse.Namespace) -> Report:
    """Run the benchmark.

    Raises:
        UirError: the package cannot be read, or has no adapter.
    """
    package = Package(options.package)
    names = list(package.manifest.adapters)
    if not names:
        raise UsageError(f"{options.package}: has no adapter; export it again, with adapters")
    sizes: dict[int, int] = {}
    with scratch_folder() as folder:
        for count in tqdm(range(1, len(names) + 1), unit="package", disable=None):
            sizes[count] = _written_size(package, names[:count], Path(folder) / f"{count}.uir")
    rows = [
        [
            str(count),
            names[count - 1],
            f"{size / 1e6:.2f}",
            f"{(size - sizes[count - 1]) / 1e6:.2f}" if count > 1 else "",
        ]
        for count, size in sizes.items()
    ]
    table = Table("Package size, MB (millions of bytes)", ["adapters", "last added", "size", "added"], rows)
    return Report({"package": str(options.package), "adapters": names}, {"bytes": sizes}, [table])


def _written_size(package: Package, names: list[str], destination: Path) -> int:
    """Bytes of all files of a package with these adapters."""
    write_variant(destination, package, [package.adapter(name) for name in names])
    return sum(file.stat().st_size for file in destination.rglob("*") if file.is_file())
