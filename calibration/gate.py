"""The gate: what a narrower precision costs one composition, and whether that is little enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from onnx import ModelProto

from uir.calibration.frames import Frames
from uir.calibration.simulate import simulated
from uir.runtime.errors import PackageError
from uir.runtime.merge import fill_graph
from uir.runtime.quantize import Frame, Network, enough_psnr, mean_error, open_session, psnr, run_session, squared_error

FLOAT16_PSNR = 60.0
"""dB that float16 keeps against float32: of a hundred samples, some six are off by one code."""

INT8_LOSS = 0.2
"""dB of restoration that int8 may cost on average over a package's compositions."""

INT8_LARGEST_LOSS = 0.4
"""dB of restoration that int8 may cost any one composition."""


@dataclass(frozen=True)
class Cost:
    """What a precision costs.

    Attributes:
        psnr: of all judged frames together against the float32 ones, dB, at most 100.
        restoration: change of the mean PSNR against the truth, dB; None where there is no truth.
        enough: the `psnr` that is enough for int8 where there is no truth.
    """

    psnr: float
    restoration: float | None
    enough: float

    def holds(self, largest_loss: float) -> bool:
        """Whether int8 may cost this, where `largest_loss` dB of restoration are the limit."""
        return self.psnr >= self.enough if self.restoration is None else -self.restoration <= largest_loss


class Judge:
    """Holds one composition's typed graphs against its float32 one, as a device with float16 would run them."""

    def __init__(self, network: Network, frames: Frames) -> None:
        self._network, self._frames = network, frames
        self._exact = self._run(fill_graph(network.graph, network.weights))
        self._enough = enough_psnr(frames.judged, self._exact.judged)

    def cost(self, graph: bytes) -> Cost | None:
        """Run a typed graph, its weights left out; None where a weight is too large for float16."""
        try:
            model = fill_graph(graph, self._network.weights)
        except PackageError:
            return None
        narrow = self._run(simulated(model))
        changes = [a - b for a, b in zip(narrow.reached, self._exact.reached, strict=True)]
        return Cost(
            psnr=psnr(mean_error(narrow.judged, self._exact.judged)),
            restoration=float(np.mean(changes)) if changes else None,
            enough=self._enough,
        )

    def _run(self, model: ModelProto) -> _Results:
        session = open_session(model)
        restored: dict[int, Frame] = {}  # a frame may be both judged and half of a pair

        def run(frame: Frame) -> Frame:
            if id(frame) not in restored:
                restored[id(frame)] = run_session(session, frame)[0]
            return restored[id(frame)]

        judged = [run(frame) for frame in self._frames.judged]
        return _Results(judged, [psnr(squared_error(run(pair.degraded), pair.clean)) for pair in self._frames.pairs])


class _Results(NamedTuple):
    judged: list[Frame]
    reached: list[float]
