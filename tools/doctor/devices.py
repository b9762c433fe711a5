"""Devices: each tried with a small network in a process of its own, since some backends fail late, or fall over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from uir.runtime.backends.devices import DEVICES, open_backend
from uir.runtime.backends.trial import try_backend
from uir.runtime.errors import UirError
from uir.tools.doctor.children import PATIENCE, ChildError, answer, ask, look_at_all

AUTO, *NAMES = DEVICES


@dataclass(frozen=True)
class Device:
    """One of the devices that `--device` takes.

    Attributes:
        opens: `auto` takes it, if none before it opens, whether it is then usable or not; or looking for it ends the
            process, as it then does with `auto`.
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
        try_backend(backend)
    except UirError as error:
        return {**found, "failure": str(error)}
    return {**found, "usable": True}
