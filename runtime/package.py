"""Packages: the folder that export writes and the runtime reads.

A package holds JSON, safetensors and ONNX only; nothing in it is ever unpickled or executed. Each file's SHA-256
stands in the manifest and is checked when the file is read, and no path may leave the package.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from uir.runtime.composition import Composition, is_adapter_name
from uir.runtime.errors import MissingFileError, PackageError, UirError
from uir.runtime.factors import Adapter, DenseDelta, Factors, Update

SCHEMA = 1
MANIFEST = "manifest.json"
DEFAULT_PACKAGE = "restore.uir"


class BaseEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The base of a package: its name, its architecture and its weights' file."""

    name: str
    architecture: str
    file: str
    parameters: int
    licence: str


class AdapterEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One adapter of a package, and the file of its canonical factors."""

    file: str
    rank: int
    parameters: int
    licence: str


class FrameContract(msgspec.Struct, frozen=True, kw_only=True):
    """What the graph takes and gives: uint8 RGB, N x H x W x 3.

    Attributes:
        multiple_of: H and W of what the graph is given are multiples of this.
        overlap: how far an output pixel looks, pixels, rounded up to a multiple of `multiple_of`: tiles that overlap by
            this much on each side join without a seam.
        exact_tiles: False where a pixel looks at the whole frame (global pooling), so that tiles are an approximation.
        bytes_per_pixel: memory that the largest set of live activations takes, for each pixel of the frame.
    """

    multiple_of: Annotated[int, msgspec.Meta(ge=1)]
    overlap: Annotated[int, msgspec.Meta(ge=0)]
    exact_tiles: bool
    bytes_per_pixel: Annotated[float, msgspec.Meta(gt=0)]


Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("int8", "fp16", "fp32")
"""From the fastest to the most exact."""


class PrecisionEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a precision costs a composition, as export measured it.

    Attributes:
        passed: it costs no more than the gate allows.
        psnr: of its frames against the float32 ones, dB, at most 100; None where it gives no frames, for want of range.
        restoration: change of the restored frames' mean PSNR against the truth, dB, negative for a loss; None where no
            truth is known.
        graph: the graph's file, of a precision whose graph is the composition's own.
        method: how the ranges of int8 were chosen.
        returned: the weights whose layers were left in float16 until the rest passed.
    """

    passed: bool
    psnr: float | None
    restoration: float | None
    graph: str | None = None
    method: str | None = None
    returned: list[str] = []


class CompositionEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One composition that was asked for at export.

    Attributes:
        recommended: the fastest precision that passed.
        precisions: those that were tried; fp32 needs no trial.
    """

    recommended: Precision = "fp32"
    precisions: dict[Precision, PrecisionEntry] = {}


Norm = Literal["sum", "softmax"]


class RouterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How similarities become a composition: `s = norm_K(topK(similarity))`, as in UIR-LoRA.

    Attributes:
        threshold: an adapter that is less similar than this is not there.
        top_k: how many adapters are taken at most, the most similar ones.
        norm: what makes weights of the similarities, which sum to one: `sum` divides them by their sum, `softmax`
            raises e to each over the temperature first.
        temperature: of the softmax: the larger, the more alike the weights.
        lattice: weights are rounded to multiples of one over this, so that engines are few and are used again.
    """

    threshold: Annotated[float, msgspec.Meta(gt=0, le=1)]
    top_k: Annotated[int, msgspec.Meta(ge=1)]
    norm: Norm
    temperature: Annotated[float, msgspec.Meta(gt=0)]
    lattice: Annotated[int, msgspec.Meta(ge=1, le=1000)]


class RouterEntry(RouterSettings, frozen=True, kw_only=True):
    """The router of a package.

    Attributes:
        file: its network, ONNX.
        prototypes: safetensors; by name, the prototypes of the package's adapters (those that have one), and of the
            clean picture as `clean`.
    """

    file: str
    prototypes: str


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """What made the package."""

    tool: str
    command: list[str]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest of a package, schema 1.

    Attributes:
        graphs: the graph's file for each precision whose graph all compositions share.
        compositions: by key, the compositions that were asked for at export.
        default: key of the composition that runs where none is named.
        files: SHA-256 of every other file in the package, by its path.
        router: what chooses a composition by a frame; None where none of the adapters has a prototype.
    """

    schema: int
    base: BaseEntry
    graphs: dict[Precision, str]
    adapters: dict[str, AdapterEntry]
    compositions: dict[str, CompositionEntry]
    default: str
    frame: FrameContract
    provenance: Provenance
    files: dict[str, str]
    router: RouterEntry | None = None


class _Versioned(msgspec.Struct):
    schema: int


class Package:
    """A package on disk. Opening reads the manifest alone; weights are read, and checked, when they are first needed.

    What was read stays in memory as the package has it: graphs without weights, the base, and the factors of the
    adapters asked for, a MB or so each. So a mix of adapters that were used before touches the disk no more.

    Raises:
        MissingFileError: there is no such package.
        PackageError: its manifest is damaged, of a newer schema, or names a path outside the package.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest = self._read_manifest()
        self._graphs: dict[str, bytes] = {}  # by hash: calibration on the device may put another in a file's place
        self._adapters: dict[str, Adapter] = {}

    def _read_manifest(self) -> Manifest:
        file = self.path / MANIFEST
        if not self.path.exists():
            raise MissingFileError(
                f"{self.path}: no such package; make it with: uir-export --adapters rain,haze -o {self.path}"
            )
        if not file.is_file():
            raise PackageError(f"{self.path}: not a package: it has no {MANIFEST}; make one with uir-export")
        try:
            text = file.read_bytes()
        except OSError as error:
            raise PackageError(f"{file}: cannot be read: {error.strerror}") from error
        try:
            schema = msgspec.json.decode(text, type=_Versioned).schema
            if schema != SCHEMA:
                remedy = "upgrade uir-edge, or export it again" if schema > SCHEMA else "export it again"
                raise PackageError(f"{file}: is of schema {schema}, and this version reads schema {SCHEMA}; {remedy}")
            manifest = msgspec.json.decode(text, type=Manifest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise PackageError(f"{file}: damaged: {error}; export the package again") from error
        for name in manifest.files:
            self._inside(name)
        own = [tried.graph for entry in manifest.compositions.values() for tried in entry.precisions.values()]
        graphs = [*manifest.graphs.values(), *filter(None, own)]
        router = (manifest.router.file, manifest.router.prototypes) if manifest.router else ()
        for name in (manifest.base.file, *graphs, *router, *(each.file for each in manifest.adapters.values())):
            if name not in manifest.files:
                raise PackageError(f"{file}: names {name}, but has no hash of it; export the package again")
        if manifest.frame.overlap % manifest.frame.multiple_of:
            raise PackageError(f"{file}: damaged: the frame's overlap is no multiple of multiple_of; export it again")
        self._check_compositions(file, manifest)
        return manifest

    def _check_compositions(self, file: Path, manifest: Manifest) -> None:
        for name in manifest.adapters:
            if not is_adapter_name(name):
                raise PackageError(f"{file}: damaged: {name!r} is no name for an adapter; export the package again")
        for key in (manifest.default, *manifest.compositions):
            try:
                Composition.parse(key).check_names(manifest.adapters)
            except UirError as error:
                raise PackageError(
                    f"{file}: damaged: composition {key!r}: {error}; export the package again"
                ) from error

    def _inside(self, name: str) -> Path:
        """The path of one of the package's files, which must not leave the package, not by a link either."""
        pure = PurePosixPath(name)
        path = self.path / pure
        escapes = pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name
        # realpath, since Path.resolve raises RuntimeError for a link to itself
        if escapes or not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.path)):
            raise PackageError(f"{self.path}: names a file outside the package: {name!r}; do not use this package")
        return path

    def read(self, name: str) -> bytes:
        """One file's content, its hash checked.

        Raises:
            PackageError: the file is missing, or is not the one that was exported.
        """
        path = self._inside(name)
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise PackageError(f"{path}: is not a file; export the package again")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise PackageError(f"{path}: cannot be read: {error.strerror}; export the package again") from error
        if hashlib.sha256(content).hexdigest() != self.manifest.files[name]:
            raise PackageError(
                f"{path}: is not the file that was exported (its SHA-256 differs); export the package again"
            )
        return content

    def verify(self) -> None:
        """Read every file from the disk and check its hash. Raises PackageError at the first that differs."""
        for name in self.manifest.files:
            self.read(name)

    def tensors(self, name: str) -> dict[str, NDArray[np.float32]]:
        """The tensors of one safetensors file of the package: float32, all values finite.

        Raises:
            PackageError: the file is missing, damaged, or holds something else.
        """
        path, content = self.path / name, self.read(name)
        try:
            tensors = dict(safetensors.numpy.load(content))
        except (SafetensorError, KeyError) as error:  # KeyError: a type that numpy does not have
            raise PackageError(f"{path}: not a whole safetensors file ({error}); export the package again") from error
        for tensor, values in tensors.items():
            if values.dtype != np.float32:
                raise PackageError(f"{path}: {tensor} is {values.dtype}, not float32; export the package again")
            if not np.isfinite(values).all():
                raise PackageError(
                    f"{path}: {tensor} holds NaN or infinity; export the package again, from sound weights"
                )
        return tensors

    @cached_property
    def base_weights(self) -> dict[str, NDArray[np.float32]]:
        """The base's weights by initializer name."""
        return self.tensors(self.manifest.base.file)

    @property
    def listed(self) -> list[Composition]:
        """The compositions that were asked for at export."""
        return [Composition.parse(key) for key in self.manifest.compositions]

    def precisions(self, composition: Composition) -> list[Precision]:
        """The precisions that a composition may be run in, the fastest first.

        One that export tried and that failed its gate is left out. A composition that export was not asked for has no
        int8, whose ranges are of one composition alone.
        """
        tried = self._tried(composition)
        return [
            precision
            for precision in PRECISIONS
            if (precision in tried and tried[precision].passed)
            or (precision in self.manifest.graphs and precision not in tried)
        ]

    def graph(self, precision: str = "fp32", composition: Composition | None = None) -> bytes:
        """The ONNX graph of a precision, its weights left out.

        Args:
            precision: `"fp32"`, `"fp16"` or `"int8"`.
            composition: what it is for; int8 is of one composition alone.

        Raises:
            PackageError: the package has no such graph.
        """
        file = self._graph_file(precision, composition)
        digest = self.manifest.files[file]
        if digest not in self._graphs:
            self._graphs[digest] = self.read(file)
        return self._graphs[digest]

    def identity(self, composition: Composition, precision: str = "fp32") -> dict[str, Any]:
        """What makes this engine's network differ from any other: the contents that it is made of, never their names.

        Returns:
            The SHA-256 of the base, of the graph, and of each adapter with its weight, sorted; JSON can hold it.

        Raises:
            UsageError: the composition names an adapter that the package does not have.
            PackageError: the package has no such graph.
        """
        composition.check_names(self.manifest.adapters)
        files = self.manifest.files
        parts = [(files[self.manifest.adapters[name].file], f"{weight:g}") for name, weight in composition.items]
        return {
            "base": files[self.manifest.base.file],
            "adapters": sorted(parts),
            "graph": files[self._graph_file(precision, composition)],
        }

    def _tried(self, composition: Composition) -> dict[Precision, PrecisionEntry]:
        entry = self.manifest.compositions.get(composition.key)
        return entry.precisions if entry else {}

    def _graph_file(self, precision: str, composition: Composition | None) -> str:
        tried = self._tried(composition).items() if composition is not None else ()
        own = [(name, trial.graph) for name, trial in tried if trial.graph]
        graphs: dict[str, str] = dict([*self.manifest.graphs.items(), *own])
        if precision in graphs:
            return graphs[precision]
        there = ", ".join(graphs) or "none"
        if composition is not None and precision == "int8":
            raise PackageError(
                f"{self.path}: was not calibrated for {composition.key} (it has {there}); export it again with "
                f"--precision int8 --compose {composition.key}"
            )
        raise PackageError(f"{self.path}: has no {precision} graph (it has {there}); export the package again with it")

    def adapter(self, name: str) -> Adapter:
        """One adapter's factors, the same object each time.

        Raises:
            PackageError: the file is damaged.
        """
        if name not in self._adapters:
            file = self.manifest.adapters[name].file
            tensors = self.tensors(file)
            try:
                self._adapters[name] = Adapter(name, decode_updates(tensors))
            except ValueError as error:
                raise PackageError(
                    f"{self.path / file}: not an adapter's factors: {error}; export the package again"
                ) from error
        return self._adapters[name]


def encode_updates(updates: dict[str, Update]) -> dict[str, NDArray[np.float32]]:
    """An adapter's updates as the tensors of a package's file: `<weight>::A`, `::B` and `::scale`, or `::delta`."""
    return dict(_encode(updates))


def _encode(updates: dict[str, Update]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for weight, update in updates.items():
        if isinstance(update, DenseDelta):
            yield f"{weight}::delta", update.values
        else:
            yield f"{weight}::A", update.a
            yield f"{weight}::B", update.b
            yield f"{weight}::scale", np.array([update.scale], dtype=np.float32)


def decode_updates(tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, Update]:
    """The inverse of `encode_updates`.

    Raises:
        ValueError: a part is missing, or the tensors are of another form.
    """
    parts: dict[str, dict[str, NDArray[np.float32]]] = {}
    for name, tensor in tensors.items():
        weight, _, part = name.rpartition("::")
        parts.setdefault(weight, {})[part] = tensor
    return {weight: _decode(weight, found) for weight, found in parts.items()}


def _decode(weight: str, parts: dict[str, NDArray[np.float32]]) -> Update:
    if parts.keys() == {"delta"}:
        return DenseDelta(parts["delta"])
    if parts.keys() == {"A", "B", "scale"}:
        a, b, scale = parts["A"], parts["B"], parts["scale"]
        if a.ndim == b.ndim == 2 and b.shape[1] == a.shape[0] and scale.shape == (1,):
            return Factors(b, a, float(scale[0]))
    found = ", ".join(f"{part} {tensor.shape}" for part, tensor in sorted(parts.items()))
    raise ValueError(f"{weight} has {found}, not B (m, r), A (r, n) and scale (1,), nor a delta alone")
