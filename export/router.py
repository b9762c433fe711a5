"""Routers and prototypes as files: a router's folder, and the prototype that an adapter carries beside its weights.

A router's folder has its network (router.onnx), its settings (router.json) and the prototypes of the degradations that
it was trained with (prototypes.safetensors). Whatever was made by a router notes that router's SHA-256: embeddings of
another network mean nothing to it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from uir.export.package_writer import ExportRouter
from uir.export.tensors import read_file, read_safetensors, read_tensors
from uir.export.zoo import zoo_adapters
from uir.runtime.decision import CLEAN_NAME
from uir.runtime.errors import AdapterError, BaseModelError, MissingFileError, shown
from uir.runtime.manifest import RouterSettings
from uir.runtime.package import LARGEST_ROUTER
from uir.runtime.router import Embedder

MODEL, SETTINGS, PROTOTYPES = "router.onnx", "router.json", "prototypes.safetensors"
"""The files of a router's folder."""

LARGEST_SETTINGS = 1 << 20  # bytes

PROTOTYPE = "prototype.safetensors"
"""The file beside an adapter's weights; its tensor is called `prototype`."""

MEAN_OF_CLEAN = "mean of clean"
"""The tensor beside the prototypes that is the mean embedding of clean pictures: new prototypes are made with it."""

_ROUTER = "router"
"""What the SHA-256 of a prototype's router is called in its file."""


def load_router(folder: Path) -> ExportRouter:
    """Read a router's folder.

    Raises:
        MissingFileError: there is no such folder, or a file of it is missing.
        BaseModelError: a file is damaged, or the prototypes are another router's.
    """
    for name in (MODEL, SETTINGS, PROTOTYPES):
        if not (folder / name).is_file():
            raise MissingFileError(f"{folder}: not a router's folder: it has no {name}; make one with uir-train router")
    model = read_file(folder / MODEL, LARGEST_ROUTER, BaseModelError)
    try:
        dimensions = Embedder(model).dimensions
    except ValueError as error:
        raise BaseModelError(f"{folder / MODEL}: {error}; make the router again") from error
    try:
        text = read_file(folder / SETTINGS, LARGEST_SETTINGS, BaseModelError)
        settings = msgspec.json.decode(text, type=RouterSettings)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BaseModelError(f"{folder / SETTINGS}: not the settings of a router: {error}") from error
    prototypes = read_tensors(folder / PROTOTYPES, BaseModelError)
    router = ExportRouter(model, settings, prototypes)
    sizes = {prototype.shape for prototype in prototypes.values()}
    if (
        _router_of(folder / PROTOTYPES) != router.digest
        or sizes != {(dimensions,)}
        or not {CLEAN_NAME, MEAN_OF_CLEAN} <= set(prototypes)
    ):
        raise BaseModelError(f"{folder / PROTOTYPES}: not the prototypes of {MODEL} beside it; make the router again")
    return router


def save_router(folder: Path, router: ExportRouter) -> None:
    """Write a router's three files into a folder that exists."""
    (folder / MODEL).write_bytes(router.model)
    (folder / SETTINGS).write_bytes(msgspec.json.format(msgspec.json.encode(router.settings), indent=2) + b"\n")
    (folder / PROTOTYPES).write_bytes(_save(router.prototypes, router))


def save_prototype(folder: Path, prototype: NDArray[np.float32], router: ExportRouter) -> None:
    """Put an adapter's prototype for a router beside its weights."""
    (folder / PROTOTYPE).write_bytes(_save({"prototype": prototype}, router))


def choose_prototypes(router: ExportRouter, sources: Mapping[str, Path]) -> tuple[ExportRouter | None, dict[str, str]]:
    """The router with the prototypes of a package's adapters and no others.

    An adapter's own prototype is taken if it was made for this router; for the shipped adapters the router has them.

    Args:
        sources: the adapters' folders, by the names that the package gives them.

    Returns:
        The router, None where no adapter has a prototype; and by adapter why it has none.

    Raises:
        AdapterError: a prototype's file is damaged.
    """
    shipped = {_real(folder): name for name, folder in zoo_adapters().items()}
    found: dict[str, NDArray[np.float32]] = {}
    without: dict[str, str] = {}
    for name, folder in sources.items():
        own = folder / PROTOTYPE
        if name == CLEAN_NAME:  # which is what undegraded pictures are called
            without[name] = f"is called {CLEAN_NAME}"
        elif own.is_file() and _router_of(own) == router.digest:
            found[name] = _prototype(own, router)
        elif (published := shipped.get(_real(folder), "")) in router.prototypes:
            found[name] = router.prototypes[published]
        else:
            without[name] = "has a prototype for another router" if own.is_file() else "has no prototype"
    if not found:
        return None, without
    found[CLEAN_NAME] = router.prototypes[CLEAN_NAME]
    return ExportRouter(router.model, router.settings, found), without


def _real(folder: Path) -> str:
    """The folder that a path means; Path.resolve raises RuntimeError for a link to itself."""
    return os.path.realpath(folder)


def _prototype(file: Path, router: ExportRouter) -> NDArray[np.float32]:
    prototype = read_tensors(file).get("prototype")
    if prototype is None or prototype.shape != router.prototypes[CLEAN_NAME].shape:
        raise AdapterError(f"{file}: holds no prototype of this router; make it again, or remove it")
    return prototype


def _save(tensors: Mapping[str, NDArray[np.float32]], router: ExportRouter) -> bytes:
    return bytes(safetensors.numpy.save(dict(tensors), metadata={_ROUTER: router.digest}))


def _router_of(file: Path) -> str | None:
    """The SHA-256 of the router that a file was made for."""
    read_safetensors(file)
    try:
        with safe_open(file, framework="numpy") as entries:
            return (entries.metadata() or {}).get(_ROUTER)
    except (SafetensorError, OSError) as error:
        raise AdapterError(
            f"{file}: not a whole safetensors file ({shown(error)}); make it again, or remove it"
        ) from error
