"""Prototypes of adapters: what the router compares a frame with, made from examples of the adapter's degradation."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uir.export.adapters import load_adapter
from uir.export.package_writer import ExportRouter
from uir.export.router import MEAN_OF_CLEAN, load_router, save_prototype
from uir.export.zoo import zoo_router
from uir.runtime.errors import UsageError
from uir.runtime.looks import Look, look
from uir.runtime.router import Embedder, unit
from uir.tools.photos import find_photos, read_photo
from uir.tools.train.router_data import DegradedLooks, Plan

EXAMPLES = 100
"""Pictures that a prototype is the mean of, where they can be made."""


def mean_embedding(examples: Iterable[Look], embed: Embedder) -> NDArray[np.float32]:
    """The mean of the examples' embeddings (Snell et al. 2017, eq. 1), at length one."""
    return unit(np.mean([embed(seen) for seen in examples], axis=0, dtype=np.float32))


def prototype(examples: Iterable[Look], router: ExportRouter) -> NDArray[np.float32]:
    """What the examples' mean embedding has that the mean of clean pictures has not, at length one.

    Without this, what all pictures have in common would make clean ones similar to it.
    """
    mean, clean = mean_embedding(examples, Embedder(router.model)), router.prototypes[MEAN_OF_CLEAN]
    return unit(mean - (mean @ clean) * clean)


def chosen_router(folder: Path | None) -> ExportRouter | None:
    """The router of a folder, or the zoo's, if it has one.

    Raises:
        MissingFileError, BaseModelError: the folder is none of a router.
    """
    folder = folder or zoo_router()
    return load_router(folder) if folder else None


def prototype_from_pictures(adapter: Path, examples: Path, router_folder: Path | None) -> None:
    """Make a prototype from pictures that an adapter is for, and put it into the adapter's folder.

    Raises:
        MissingFileError, AdapterError, BaseModelError, MediaError: the adapter, the router or a picture cannot be read.
        UsageError: no router is named, and the zoo has none.
    """
    load_adapter(adapter)
    router = chosen_router(router_folder)
    if router is None:
        raise UsageError("the zoo has no router; say by --router which one the prototype is for")
    looks = (look(read_photo(photo)) for photo in find_photos(examples))
    save_prototype(adapter, prototype(looks, router), router)


def prototypes_from_degrading(run: Path, plan: Plan, router: ExportRouter) -> None:
    """Make a prototype for each adapter of a run, from photos that are degraded by the function of its name."""
    pictures = DegradedLooks(plan, 0)
    for name in plan.names:
        examples = (pictures.example(name, number) for number in range(EXAMPLES))
        save_prototype(run / name, prototype(examples, router), router)
