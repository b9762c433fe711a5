"""Packages: the folder that export writes and the runtime reads.

A package holds JSON, safetensors and ONNX only; nothing in it is ever unpickled or executed. It may come from anyone:
each file's size and SHA-256 stand in the manifest and are checked when the file is read, no path may leave the package,
and a network is held to what networks of frames are made of before anything runs it (see `graph_check`).
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uir.runtime.composition import Composition
from uir.runtime.errors import PackageError, shown
from uir.runtime.factors import Adapter
from uir.runtime.manifest import PRECISIONS, Precision, PrecisionEntry
from uir.runtime.manifest_file import read_manifest
from uir.runtime.package_files import check_inside, hash_file, read_bytes
from uir.runtime.tensors_file import decode_tensors
from uir.runtime.updates import decode_updates

DEFAULT_PACKAGE = "restore.uir"

LARGEST_GRAPH, LARGEST_ROUTER, LARGEST_TENSORS = 8 * 2**20, 16 * 2**20, 2**30
"""Bytes of a file that is read: of a graph without its weights, of a router's network, and of weights.

An ONNX file may take a hundred times its size once it is parsed.
"""


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
        self.manifest = read_manifest(self.path)
        self._graphs: dict[str, bytes] = {}  # by hash: calibration on the device may put another in a file's place
        self._adapters: dict[str, Adapter] = {}

    def read(self, name: str, largest: int) -> bytes:
        """One file's content, its size and hash checked.

        Args:
            largest: bytes that a file of its kind may have.

        Raises:
            PackageError: the file is missing, too large, or not the one that was exported.
        """
        path, entry = check_inside(self.path, name), self.manifest.files[name]
        content = read_bytes(path, largest, entry.size)
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise _changed(path)
        return content

    def verify(self) -> None:
        """Read every file from the disk and check its hash. Raises PackageError at the first that differs."""
        for name, entry in self.manifest.files.items():
            path = check_inside(self.path, name)
            if hash_file(path, entry.size) != entry.sha256:
                raise _changed(path)

    def tensors(self, name: str) -> dict[str, NDArray[np.float32]]:
        """The tensors of one safetensors file of the package: float32, all values finite.

        Raises:
            PackageError: the file is missing, damaged, or holds something else.
        """
        try:
            return decode_tensors(self.read(name, LARGEST_TENSORS))
        except ValueError as error:
            raise self._damaged(name, error) from error

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
        digest = self.manifest.files[file].sha256
        if digest not in self._graphs:
            from uir.runtime.graph_check import check_graph  # ONNX, which an engine on disk does without

            try:
                shapes = {name: weight.shape for name, weight in self.base_weights.items()}
                self._graphs[digest] = check_graph(self.read(file, LARGEST_GRAPH), self.manifest.frame, shapes)
            except ValueError as error:
                raise self._damaged(file, error) from error
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
        parts = [(files[self.manifest.adapters[name].file].sha256, f"{weight:g}") for name, weight in composition.items]
        return {
            "base": files[self.manifest.base.file].sha256,
            "adapters": sorted(parts),
            "graph": files[self._graph_file(precision, composition)].sha256,
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
            try:
                self._adapters[name] = Adapter(name, decode_updates(self.tensors(file)))
            except ValueError as error:
                raise self._damaged(file, error) from error
        return self._adapters[name]

    def _damaged(self, name: str, reason: ValueError) -> PackageError:
        if isinstance(reason, PackageError):  # which says it all
            return reason
        return PackageError(f"{self.path / name}: {shown(reason, 600)}; export the package again")


def _changed(path: Path) -> PackageError:
    return PackageError(f"{path}: is not the file that was exported (its SHA-256 differs); export the package again")
