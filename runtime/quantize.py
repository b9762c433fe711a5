"""int8 for one composition: run the merged network on frames, see how large its values grow, quantise it by that.

Three ways to choose a value's range from the histogram of its magnitudes, all of them measured in one pass over the
frames: the largest one seen (`minmax`), the one that 99.99 % stay below (`percentile`), and the one that loses least
information (`entropy`; Migacz, "8-bit inference with TensorRT", GTC 2017). The best is the one whose network comes
nearest to the float32 one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from uir.runtime.errors import BackendError, PackageError, shown
from uir.runtime.merge import Weights, fill_graph
from uir.runtime.qdq import LEVELS, products
from uir.runtime.typed import int8_graph

Frame = NDArray[np.uint8]

IDENTICAL = 100.0  # dB, for frames that do not differ at all

INT8_PSNR = 45.0
"""dB that int8 keeps against float32 where no truth is known. An error of its own that far below the picture costs a
restoration of 32 dB `10 log10(1 + 10^-1.3) = 0.2` dB."""

INT8_BELOW_CHANGE = 25.0
"""dB that int8's error lies below the change that the network makes, where that asks for less than `INT8_PSNR`: what
undoes a heavy degradation is far from the truth itself."""

BINS = 4096
PERCENTILE = 0.9999
_STEP = 16  # bins between two thresholds that entropy tries


class Histogram:
    """Magnitudes counted in `BINS` equal bins from zero to a limit that doubles as larger ones come."""

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.limit = 2.0**-20
        self.largest = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Count all values of an array.

        Raises:
            PackageError: one of them is NaN or infinite.
        """
        magnitudes = np.abs(values).ravel()
        largest = float(magnitudes.max(initial=0))
        if not np.isfinite(largest):
            raise PackageError("the network gives NaN or infinity in this composition; use smaller weights")
        self.largest = max(self.largest, largest)
        while self.limit <= largest:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2, np.int64)])
            self.limit *= 2
        bins = np.minimum((magnitudes * np.float32(BINS / self.limit)).astype(np.int64), BINS - 1)
        self.counts += np.bincount(bins, minlength=BINS)


def minmax(histogram: Histogram) -> float:
    """The largest magnitude."""
    return histogram.largest


def percentile(histogram: Histogram) -> float:
    """The magnitude that 99.99 % are not above."""
    total = histogram.counts.cumsum()
    above = int(np.searchsorted(total, PERCENTILE * total[-1]))
    return min(histogram.limit * (above + 1) / BINS, histogram.largest)


def entropy(histogram: Histogram) -> float:
    """The threshold at which the quantised magnitudes tell most about the true ones: least Kullback-Leibler divergence.

    The first bin is left out, as is usual: behind a ReLU it holds nothing but the zeros, which int8 keeps exactly.
    """
    counts = histogram.counts.astype(np.float64)
    counts[0] = 0
    used = min(BINS, int(np.ceil(histogram.largest / histogram.limit * BINS)))
    if not used:
        return 0.0
    candidates = range(min(LEVELS + 1, used), used + 1, _STEP)
    best = min(candidates, key=lambda width: _divergence(counts, width))
    return min(histogram.limit * best / BINS, histogram.largest)


def _divergence(counts: NDArray[np.float64], width: int) -> float:
    """Of the first `width` bins, what lies beyond them added to the last, from the same in 128 levels."""
    true = counts[:width].copy()
    true[-1] += counts[width:].sum()
    filled = true > 0
    levels = np.arange(width) * (LEVELS + 1) // width
    share = np.bincount(levels, counts[:width]) / np.maximum(np.bincount(levels, filled), 1)
    coded = share[levels][filled]
    true = true[filled]
    if not coded.all():
        return np.inf  # what lies beyond would be told by a level that nothing else is in
    return float((true * np.log(true * coded.sum() / (coded * true.sum()))).sum() / true.sum())


METHODS: dict[str, Callable[[Histogram], float]] = {"minmax": minmax, "percentile": percentile, "entropy": entropy}


@dataclass(frozen=True)
class Network:
    """A composition before it is typed.

    Attributes:
        graph: the package's float32 graph, its weights left out.
        weights: the merged weights, by initializer name.
    """

    graph: bytes
    weights: Weights

    def histograms(self, frames: Iterable[Frame]) -> dict[str, Histogram]:
        """How large each value that can be int8 grows on these frames, by its name.

        Raises:
            PackageError: the network gives NaN or infinity.
        """
        found = {product.value: Histogram() for product in products(self.graph)}
        model = fill_graph(self.graph, self.weights)
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in found)
        session = open_session(model)
        for frame in frames:
            for histogram, values in zip(found.values(), run_session(session, frame), strict=True):
                histogram.add(values)
        return found

    def int8(self, ranges: Mapping[str, float], exclude: Collection[str] = (), *, rest: str = "fp16") -> bytes:
        """The int8 graph of these ranges, its weights left out; see `int8_graph`."""
        return int8_graph(self.graph, ranges, self.weights, exclude, rest=rest)

    def run(self, graph: bytes, frames: Iterable[Frame]) -> list[Frame]:
        """What one of its graphs, float32 or typed, makes of frames."""
        session = open_session(fill_graph(graph, self.weights))
        return [run_session(session, frame)[0] for frame in frames]


def ranges(histograms: Mapping[str, Histogram], method: str) -> dict[str, float]:
    """The range of each value by one of the `METHODS`."""
    return {name: METHODS[method](histogram) for name, histogram in histograms.items()}


def best_method(
    network: Network,
    histograms: Mapping[str, Histogram],
    frames: Sequence[Frame],
    exclude: Collection[str] = (),
    *,
    exact: Sequence[Frame] | None = None,
) -> str:
    """The one of the `METHODS` by which the int8 network's frames come nearest to the float32 one's.

    Args:
        exact: what the float32 network makes of the frames, if that is known.
    """
    known = network.run(network.graph, frames) if exact is None else exact

    def loss(method: str) -> float:
        return mean_error(network.run(network.int8(ranges(histograms, method), exclude, rest="fp32"), frames), known)

    return min(METHODS, key=loss)


def quantize(
    graph: bytes,
    weights: Weights,
    frames: Iterable[Frame],
    *,
    method: str | None = None,
    exclude: Collection[str] = (),
) -> bytes:
    """Calibrate a composition on frames.

    Args:
        graph: the package's float32 graph, its weights left out.
        weights: the composition's merged weights.
        frames: H x W x 3 uint8 RGB, H and W as the package's frame contract says. About 20 of 256 x 256 will do.
        method: one of `METHODS`; None tries them all, and takes the one that loses least on these frames.
        exclude: weights whose products stay in float16.

    Returns:
        The int8 graph, for `fill_graph` with the same weights.

    Raises:
        PackageError: the network gives NaN or infinity.
    """
    network, listed = Network(graph, weights), list(frames)
    histograms = network.histograms(listed)
    chosen = method or best_method(network, histograms, listed, exclude)
    return network.int8(ranges(histograms, chosen), exclude)


def squared_error(one: Frame, other: Frame) -> float:
    """The mean squared difference of two frames, in codes of 8 bits."""
    return float(np.square(one.astype(np.float32) - other).mean())


def mean_error(some: Iterable[Frame], others: Iterable[Frame]) -> float:
    """The mean `squared_error` of frames and as many others."""
    return float(np.mean([squared_error(one, other) for one, other in zip(some, others, strict=True)]))


def psnr(error: float) -> float:
    """A mean squared error in codes of 8 bits as a PSNR in dB, at most 100."""
    return min(IDENTICAL, 10 * float(np.log10(255**2 / max(error, 1e-9))))


def enough_psnr(frames: Iterable[Frame], restored: Iterable[Frame]) -> float:
    """The dB that int8 has to keep against float32 where no truth is known.

    Args:
        frames: as they came.
        restored: as the float32 network restored them.
    """
    return min(INT8_PSNR, psnr(mean_error(frames, restored)) + INT8_BELOW_CHANGE)


def open_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU.

    Raises:
        BackendError: ONNX Runtime refuses the model.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise BackendError(
            f"ONNX Runtime {onnxruntime.__version__} cannot compile the model: {shown(error, 600)}"
        ) from error


def run_session(session: onnxruntime.InferenceSession, frame: Frame) -> list[NDArray[Any]]:
    """All outputs for one H x W x 3 frame, without the axis of the batch.

    Raises:
        BackendError: the run fails, such as for want of memory.
    """
    try:
        return [output[0] for output in session.run(None, {session.get_inputs()[0].name: frame[None]})]
    except Exception as error:  # as above
        raise BackendError(f"ONNX Runtime failed on a frame of {frame.shape}: {shown(error, 600)}") from error
