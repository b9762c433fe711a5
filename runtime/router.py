"""The router: which adapters a frame needs, and by what weights.

A small network turns what it sees of a frame (see `looks`) into an embedding; similarity to an adapter's prototype is
the cosine. The prototypes of the degradations that the network was trained on were learnt with it; that of an adapter
that comes later is made of the mean embedding of examples (J. Snell, K. Swersky and R. Zemel, "Prototypical Networks
for Few-shot Learning", NeurIPS 2017, eq. 1), so that it needs no new router.
The composition is UIR-LoRA's: `s = norm_K(topK(similarity))`, `W = W_0 + sum_i s_i dW_i`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from uir.runtime.composition import DECIMALS, Composition
from uir.runtime.decision import CLEAN, CLEAN_NAME, Decision
from uir.runtime.errors import BackendError, FrameError, PackageError, UsageError, shown
from uir.runtime.framing import check_frame
from uir.runtime.looks import CROP, CROPS, THUMBNAIL, Look, look
from uir.runtime.manifest import RouterSettings
from uir.runtime.package import LARGEST_ROUTER, Package

INPUTS = {"thumbnails": [THUMBNAIL, THUMBNAIL, 3], "crops": [CROPS, CROP, CROP, 3]}
"""The inputs of a router's network, uint8, each behind the number of frames."""

EMBEDDINGS = "embeddings"
"""Its output: float32, frames x dimensions, each of length one."""

_LONGEST = 1e6
"""Beyond any prototype's values: their squares stay finite."""


class Embedder:
    """A router's network on one thread, so that it takes no core from the restorer.

    Args:
        model: ONNX, with `INPUTS` and `EMBEDDINGS`.

    Raises:
        ValueError: it is no such model.
    """

    def __init__(self, model: bytes) -> None:
        import onnxruntime  # where adapters are named, no router is opened, and the first frame need not wait for this

        from uir.runtime.graph_check import check_embedder  # as above

        checked = check_embedder(model, INPUTS, EMBEDDINGS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what is wrong is raised as well
        try:
            self._session = onnxruntime.InferenceSession(checked, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise ValueError(f"ONNX Runtime cannot read it: {shown(error, 600)}") from error
        self.dimensions = int(self._session.get_outputs()[0].shape[1])

    def __call__(self, seen: Look) -> NDArray[np.float32]:
        """The embedding of one frame: float32, of length one. Safe to call from many threads."""
        given = {"thumbnails": seen.thumbnail[None], "crops": seen.crops[None]}
        try:
            embedding: NDArray[np.float32] = self._session.run([EMBEDDINGS], given)[0][0]
        except Exception as error:  # as above
            raise BackendError(f"ONNX Runtime failed on the router's network: {shown(error, 600)}") from error
        return embedding


class Router:
    """Says which composition of a package's adapters a frame needs, if any.

    Example:
        >>> router = Router(Package("restore.uir"))
        >>> router.weigh(router.look(frame)).key
        'haze=0.5625,rain=0.4375'

    An adapter without a prototype for this router is never chosen.

    Raises:
        UsageError: the package has no router.
        PackageError: the router's files are missing or damaged.
    """

    def __init__(self, package: Package) -> None:
        entry = package.manifest.router
        if entry is None:
            raise UsageError(
                f"{package.path}: has no router that could choose among its adapters; say which by --adapters or "
                "--compose, or export it again from adapters that have prototypes"
            )
        self.settings: RouterSettings = entry
        try:
            self._embed = Embedder(package.read(entry.file, LARGEST_ROUTER))
        except ValueError as error:
            if isinstance(error, PackageError):
                raise
            raise PackageError(f"{package.path / entry.file}: {error}; export the package again") from error
        found = package.tensors(entry.prototypes)
        wanted = (self._embed.dimensions,)
        fit = all(each.shape == wanted and np.abs(each).max() < _LONGEST for each in found.values())
        if CLEAN_NAME not in found or not fit:
            raise PackageError(
                f"{package.path / entry.prototypes}: not the prototypes of this router; export the package again"
            )
        if 10**DECIMALS % entry.lattice:
            raise PackageError(
                f"{package.path}: weights in steps of 1/{entry.lattice} have more than {DECIMALS} decimals; export the "
                "package again"
            )
        self.adapters = sorted(set(found).intersection(package.manifest.adapters) - {CLEAN_NAME})
        self._names = (*self.adapters, CLEAN_NAME)
        self._prototypes = np.stack([unit(found[name]) for name in self._names])

    def look(self, frame: NDArray[np.uint8]) -> dict[str, float]:
        """How similar a frame is to the examples of each adapter's degradation, and to clean pictures.

        Args:
            frame: H x W x 3 uint8 RGB, of any size.

        Returns:
            Cosines, from -1 to 1, by adapter and as `clean`.

        Raises:
            FrameError: it is no such frame.
        """
        check_frame(frame)
        if frame.ndim != 3:
            raise FrameError("the router looks at one frame at a time, H x W x 3, and this is a batch; give it each")
        similarities = self._prototypes @ self._embed(look(frame))
        return dict(zip(self._names, similarities.tolist(), strict=True))

    def weigh(self, similarities: Mapping[str, float]) -> Decision:
        """The decision for these similarities: the composition `norm_K(topK(.))`, on the lattice.

        It is `CLEAN` where no adapter reaches the threshold, or none is more similar than the clean picture.

        Args:
            similarities: as `look` gives them, or means of several.
        """
        there = {name: similarities[name] for name in self.adapters if similarities[name] >= self.settings.threshold}
        if not there or similarities[CLEAN_NAME] >= max(there.values()):
            return CLEAN
        chosen = sorted(there, key=lambda name: (-there[name], name))[: self.settings.top_k]
        if self.settings.norm == "softmax":
            parts = [math.exp((there[name] - there[chosen[0]]) / self.settings.temperature) for name in chosen]
        else:
            parts = [there[name] for name in chosen]
        steps = on_lattice(parts, self.settings.lattice)
        weights = {name: step / self.settings.lattice for name, step in zip(chosen, steps, strict=True)}
        return Decision(Composition.of(weights))


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vector at length one; zero stays what it is."""
    scaled: NDArray[np.float32] = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return scaled.astype(np.float32, copy=False)


def on_lattice(parts: list[float], steps: int) -> list[int]:
    """Whole numbers in the proportions of `parts` (none negative, the sum positive), whose sum is `steps`.

    By largest remainder (Hamilton's method); of equal remainders the first is rounded up.
    """
    exact = [part / math.fsum(parts) * steps for part in parts]
    whole = [math.floor(each) for each in exact]
    order = sorted(range(len(parts)), key=lambda i: whole[i] - exact[i])
    for i in order[: steps - sum(whole)]:
        whole[i] += 1
    return whole
