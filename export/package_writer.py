"""Writing a package: a base, its adapters and the compositions that were asked for, as one folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnx
import safetensors.numpy
from numpy.typing import NDArray

from uir.calibration.precision import Trial, Trials, recommended
from uir.runtime.atomic import atomic_output
from uir.runtime.composition import Composition
from uir.runtime.errors import BaseModelError, OutputError, PackageError
from uir.runtime.factors import Adapter
from uir.runtime.graph_check import check_graph
from uir.runtime.manifest import (
    SCHEMA,
    AdapterEntry,
    BaseEntry,
    CompositionEntry,
    FileEntry,
    FrameContract,
    Manifest,
    Precision,
    PrecisionEntry,
    Provenance,
    RouterEntry,
    RouterSettings,
)
from uir.runtime.manifest_file import MANIFEST, encode_manifest, file_entry, seal
from uir.runtime.merge import fill_graph, merge
from uir.runtime.typed import float16_graph
from uir.runtime.updates import count_parameters, encode_updates
from uir.runtime.version import version

_MODELS: dict[Precision, str] = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}


@dataclass(frozen=True)
class ExportBase:
    """A base, ready for a package.

    Attributes:
        graph: the traced ONNX graph, its weights left out.
        weights: float32, by initializer name.
        frame: what the graph takes.
    """

    name: str
    architecture: str
    licence: str
    graph: bytes
    weights: Mapping[str, NDArray[np.float32]]
    frame: FrameContract


@dataclass(frozen=True)
class ExportAdapter:
    """An adapter, ready for a package, and its licence."""

    adapter: Adapter
    licence: str


@dataclass(frozen=True)
class ExportRouter:
    """A router, ready for a package.

    Attributes:
        model: its network, ONNX.
        prototypes: float32, by adapter, and `clean`.
    """

    model: bytes
    settings: RouterSettings
    prototypes: Mapping[str, NDArray[np.float32]]

    @property
    def digest(self) -> str:
        """The SHA-256 of the network."""
        return hashlib.sha256(self.model).hexdigest()


def write_package(
    destination: Path,
    base: ExportBase,
    adapters: Sequence[ExportAdapter],
    compositions: Sequence[Composition],
    default: Composition,
    *,
    command: Sequence[str],
    tried: Mapping[Composition, Trials] | None = None,
    router: ExportRouter | None = None,
    emit_onnx: bool = False,
    overwrite: bool = False,
) -> Manifest:
    """Write a package; it appears under its name only when it is whole.

    Args:
        compositions: those that the package lists.
        default: what runs where no composition is named.
        tried: the narrower precisions of each composition; None where the package is float32 alone.
        router: with the prototypes of these adapters alone; None for a package that cannot choose by itself.
        emit_onnx: also write each composition as a stand-alone model in each precision that passed its gate:
            model.onnx, which is float32, model.fp16.onnx, model.int8.onnx.

    Raises:
        OutputError: the destination exists (and `overwrite` is not set, or it is no package), or cannot be written.
        BaseModelError: the base has operators or sizes that the runtime does not take.
        PackageError: a part is beyond what a package may hold, such as two adapters whose names differ by case alone.
    """
    if overwrite and destination.exists() and not (destination / MANIFEST).is_file():
        raise OutputError(f"{destination}: is not a package, so it is not overwritten; give another name with -o")
    tried = tried or {}
    with atomic_output(destination, overwrite=overwrite) as folder:
        writer = _Writer(folder)
        graphs: dict[Precision, bytes] = {"fp32": base.graph}
        if any("fp16" in trials for trials in tried.values()):
            graphs["fp16"] = float16_graph(base.graph)
        for precision, graph in graphs.items():
            writer.add(f"graphs/{precision}.onnx", _checked(base, graph))
        writer.add("base.safetensors", safetensors.numpy.save(dict(base.weights)))
        entries = {}
        for item in adapters:
            adapter = item.adapter
            file = f"adapters/{adapter.name}.safetensors"
            writer.add(file, safetensors.numpy.save(encode_updates(dict(adapter.updates))))
            entries[adapter.name] = AdapterEntry(
                file=file, rank=adapter.rank, parameters=count_parameters(adapter.updates), licence=item.licence
            )
        for composition in compositions:
            trials = tried.get(composition, {})
            own = {precision: trial.graph for precision, trial in trials.items() if trial.graph}
            for precision, graph in own.items():
                writer.add(_own_graph(composition, precision), _checked(base, graph))
            if emit_onnx:
                # What failed its gate may restore nothing at all.
                emitted = {
                    name: graph for name, graph in {**graphs, **own}.items() if name == "fp32" or trials[name].passed
                }
                for precision, graph in emitted.items():
                    model = stand_alone_model(base, adapters, composition, precision, graph)
                    writer.add(f"compositions/{composition.key}/{_MODELS[precision]}", model.SerializeToString())
        manifest = Manifest(
            schema=SCHEMA,
            base=BaseEntry(
                name=base.name,
                architecture=base.architecture,
                file="base.safetensors",
                parameters=sum(weight.size for weight in base.weights.values()),
                licence=base.licence,
            ),
            graphs={precision: f"graphs/{precision}.onnx" for precision in graphs},
            adapters=entries,
            compositions={
                composition.key: _composition_entry(composition, tried.get(composition, {}))
                for composition in compositions
            },
            default=default.key,
            frame=base.frame,
            provenance=Provenance(tool=f"uir-edge {version()}", command=list(command)),
            files=writer.files,
            router=_add_router(writer, router) if router else None,
        )
        try:
            sealed = seal(manifest)
        except ValueError as error:
            raise PackageError(f"{destination}: would not be read back: {error}") from error
        (folder / MANIFEST).write_bytes(encode_manifest(sealed))
    return sealed


def _checked(base: ExportBase, graph: bytes) -> bytes:
    """A graph that the runtime will take: what it would refuse is said now."""
    try:
        return check_graph(graph, base.frame, {name: weight.shape for name, weight in base.weights.items()})
    except ValueError as error:
        raise BaseModelError(f"{base.name}: the base's graph {error}; it cannot be put into a package") from error


def _add_router(writer: _Writer, router: ExportRouter) -> RouterEntry:
    writer.add("router.onnx", router.model)
    writer.add("prototypes.safetensors", safetensors.numpy.save(dict(router.prototypes)))
    settings = msgspec.structs.asdict(router.settings)
    return RouterEntry(**settings, file="router.onnx", prototypes="prototypes.safetensors")


def _own_graph(composition: Composition, precision: Precision) -> str:
    return f"compositions/{composition.key}/{precision}.onnx"


def _composition_entry(composition: Composition, trials: Trials) -> CompositionEntry:
    return CompositionEntry(
        recommended=recommended(trials),
        precisions={precision: _precision_entry(composition, precision, trial) for precision, trial in trials.items()},
    )


def _precision_entry(composition: Composition, precision: Precision, trial: Trial) -> PrecisionEntry:
    restoration = trial.cost.restoration if trial.cost else None
    return PrecisionEntry(
        passed=trial.passed,
        psnr=round(trial.cost.psnr, 2) if trial.cost else None,
        restoration=None if restoration is None else round(restoration, 3) + 0.0,  # no minus zero
        graph=_own_graph(composition, precision) if trial.graph else None,
        method=trial.method,
        returned=list(trial.returned),
    )


def stand_alone_model(
    base: ExportBase, adapters: Sequence[ExportAdapter], composition: Composition, precision: Precision, graph: bytes
) -> onnx.ModelProto:
    """The merged model of one composition, weights inside: any ONNX runtime runs it, without uir-edge.

    Args:
        graph: of that precision, its weights left out.

    Raises:
        PackageError: a weight is too large for the precision.
    """
    merged = merge(base.weights, {item.adapter.name: item.adapter for item in adapters}, composition)
    model = fill_graph(graph, merged)
    licences = {base.licence, *(item.licence for item in adapters if item.adapter.name in composition.weights)}
    notes = {
        "uir.base": base.name,
        "uir.composition": composition.key,
        "uir.precision": precision,
        "uir.input": "uint8 N x H x W x 3, RGB",
        "uir.multiple_of": str(base.frame.multiple_of),
        "uir.licence": ", ".join(sorted(licences)),
    }
    onnx.helper.set_model_props(model, notes)
    model.producer_name, model.producer_version = "uir-edge", version()
    return model


class _Writer:
    """Writes files below a folder and keeps what the manifest knows them by."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files: dict[str, FileEntry] = {}

    def add(self, name: str, content: bytes) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.files[name] = file_entry(content)
