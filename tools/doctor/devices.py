"""Devices: each tried with a small network in a process of its own, since some backends fail late, or fall over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from uir.runtime.backends import Engine, Shapes
from uir.runtime.backends.devices import DEVICES, open_backend
from uir.runtime.errors import UirError
from uir.tools.doctor.children import PATIENCE, ChildError, answer, ask, look_at_all

_SIDE = 32  # pixels, of the frame that a device is tried with

AUTO, *NAMES = DEVICES


@dataclass(frozen=True)
class Device:
    """One of the devices that `--device` takes.

    Attributes:
        opens: its backend is there, which is all that `auto` asks for; or looking for it ends the process, as it then
            does with `auto`.
        usable: it has built an engine of a small network, and that gave the right frame.
        backend: the backend, its version and its device, in words.
        precisions: those that it runs, the fastest first.
        swift: it runs fp32 in a faster type of its own, unless fp32 is asked for by name.
        failure: why it is not usable, and what to do.
    """

    name: str
    opens: bool = False
    usable: bool = False
    backend: str | None = None
    precisions: Sequence[str] = ()
    swift: bool = False
    failure: str | None = None


def find_devices(done: Callable[[], object] = lambda: None) -> list[Device]:
    """All devices but `auto`, in the order in which that takes them. `done` is called as each has answered."""
    return look_at_all(_look, NAMES, done)


def chosen_by_auto(devices: Sequence[Device]) -> Device | None:
    """The device that `auto` takes: the first that opens, whether it then runs or not."""
    return next((device for device in devices if device.opens), None)


def _look(name: str) -> Device:
    try:
        return Device(name, **ask(__name__, name, patience=PATIENCE))
    except ChildError as error:
        return Device(name, opens=True, failure=f"trying it {error}")


def run() -> None:
    """What the process of one device does."""
    answer(_try)


def _try(arguments: Sequence[str]) -> dict[str, Any]:
    (name,) = arguments
    try:
        backend = open_backend(name)
        swift = open_backend(name, exact=True).identity() != backend.identity()
    except UirError as error:
        return {"failure": str(error)}
    found = {"opens": True, "backend": backend.describe(), "precisions": list(backend.preferred), "swift": swift}
    try:
        shapes = Shapes.only((1, _SIDE, _SIDE)) if backend.static else None
        exact = _repeats_frame(backend.load(backend.build(small_network(), shapes)))
    except UirError as error:
        return {**found, "failure": str(error)}
    if not exact:
        failure = "a network that changes nothing gave another frame; update driver and libraries, or do without it"
        return {**found, "failure": failure}
    return {**found, "usable": True}


def small_network() -> bytes:
    """A graph as packages have them, N x H x W x 3 uint8 on both sides, whose one convolution changes nothing."""
    kernel = np.zeros((3, 3, 3, 3), np.float32)
    kernel[range(3), range(3), 1, 1] = 1
    frame, restored = (
        helper.make_tensor_value_info(name, TensorProto.UINT8, ["n", "h", "w", 3]) for name in ("frame", "restored")
    )
    nodes = [
        helper.make_node("Cast", ["frame"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["numbers"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["same"], pads=[1, 1, 1, 1]),
        helper.make_node("Transpose", ["same"], ["pixels"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["pixels"], ["restored"], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(nodes, "same", [frame], [restored], [numpy_helper.from_array(kernel, "kernel")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _repeats_frame(engine: Engine) -> bool:
    frame = np.random.default_rng(0).integers(0, 256, (1, _SIDE, _SIDE, 3), np.uint8)
    return np.array_equal(engine.run(frame), frame)
