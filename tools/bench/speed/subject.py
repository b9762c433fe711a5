"""What all rows of the table run: one composition of one package, on the same frames, on the same threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from uir.runtime.backends import Backend, Shapes
from uir.runtime.composition import Composition
from uir.runtime.errors import UirError, UsageError
from uir.runtime.merge import fill_graph, merge_package
from uir.runtime.package import Package
from uir.tools.bench.media import texture, view
from uir.tools.bench.metrics import Frame
from uir.tools.bench.options import Size

FRAMES = 8

Restore = Callable[[Frame], Frame]
"""A frame in, the restored one out: both H x W x 3 uint8 RGB."""


@dataclass(frozen=True)
class Subject:
    """What is run.

    Attributes:
        size: width and height of the frames, pixels.
        threads: of every row; None where the machine's cores are not limited.
        folder: for files that a row needs; it goes when the run ends.
    """

    package: Package
    composition: Composition
    size: Size
    threads: int | None
    folder: Path

    @property
    def network_size(self) -> tuple[int, int]:
        """Height and width of the frames as networks take them: rounded up to what the package's contract says."""
        width, height = self.size
        multiple = self.package.manifest.frame.multiple_of
        return height + -height % multiple, width + -width % multiple

    @cached_property
    def frames(self) -> Sequence[Frame]:
        """A slow pan over a made-up picture, already of `network_size`: padding is no part of the times."""
        height, width = self.network_size
        picture = texture()
        return [np.ascontiguousarray(view(picture, width, height, index)) for index in range(FRAMES)]

    @cached_property
    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The merged weights, by name."""
        return merge_package(self.package, self.composition)

    def model(self, precision: str = "fp32") -> ModelProto:
        """The merged model of frames, as `uir-export --emit onnx` writes it.

        Raises:
            UirError: the package has no such precision for this composition, or is damaged.
        """
        entry = self.package.manifest.compositions.get(self.composition.key)
        own = {name for name, tried in entry.precisions.items() if tried.graph} if entry else set()
        if precision not in {*self.package.manifest.graphs, *own}:
            raise UirError("not in the package: export it with --precision auto")
        return fill_graph(self.package.graph(precision, self.composition), self.weights)

    def restore_by(self, backend: Backend, precision: str) -> Restore:
        """The engine that a backend builds, as the `Restorer` has it built.

        Raises:
            UirError: as `model`; or the backend cannot build it.
        """
        shapes = Shapes.only((1, *self.network_size)) if backend.static else None
        engine = backend.load(backend.build(self.model(precision).SerializeToString(), shapes))
        return lambda frame: engine.run(frame[None])[0]


@contextmanager
def limited(threads: int | None) -> Iterator[None]:
    """Keep all that begins within to so many cores; child processes too.

    Raises:
        UsageError: there are not so many, or this system cannot limit them.
    """
    if threads is None:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError(f"--threads {threads}: this system cannot keep a process to some cores; leave it out")
    cores = os.sched_getaffinity(0)
    if not 1 <= threads <= len(cores):
        raise UsageError(f"--threads {threads}: must be from 1 to {len(cores)}, the cores that there are")
    os.sched_setaffinity(0, sorted(cores)[:threads])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
