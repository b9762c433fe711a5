"""Packages that differ from a given one: other adapters, or a base with other weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uir.export.cli import usual_compositions
from uir.export.package_writer import ExportAdapter, ExportBase, write_package
from uir.runtime.composition import Composition
from uir.runtime.factors import Adapter
from uir.runtime.package import Package


def write_variant(
    destination: Path,
    package: Package,
    adapters: Sequence[Adapter],
    weights: Mapping[str, NDArray[np.float32]] | None = None,
) -> None:
    """Write a package with the same graph.

    Args:
        adapters: its adapters; none are taken over.
        weights: the base's weights, where they are not the same.
    """
    about = package.manifest
    base = ExportBase(
        about.base.name,
        about.base.architecture,
        about.base.licence,
        package.graph(),
        package.base_weights if weights is None else dict(weights),
        about.frame,
    )
    taken = [ExportAdapter(adapter, about.adapters[adapter.name].licence) for adapter in adapters]
    names = [adapter.name for adapter in adapters]
    compositions, default = usual_compositions(names) if names else ([], Composition())
    write_package(destination, base, taken, compositions, default, command=about.provenance.command)
