"""The page: what was found, for people. Plain text of 80 columns, which a serial console shows."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from uir.runtime.version import version
from uir.tools.doctor.graphics import Graphics, find_graphics
from uir.tools.doctor.libraries import Library, find_libraries
from uir.tools.doctor.machine import Machine, driver_version

if TYPE_CHECKING:  # they need the runtime, which this page must do without
    from uir.tools.doctor.devices import Device
    from uir.tools.doctor.engine_cache import CacheState

WIDTH = 80
_LABEL = 14  # columns

Row = tuple[str, str]


@dataclass(frozen=True)
class Page:
    """What was found.

    Attributes:
        uir_edge: its version.
        driver: the version of NVIDIA's driver.
        auto: the device that `auto` takes.
        named: the device that $UIR_DEVICE names, which is taken where no option names one.
        cache: None where the runtime cannot be loaded.
        failure: why the runtime cannot be loaded, if so.
    """

    uir_edge: str
    machine: Machine
    graphics: Graphics
    driver: str | None
    libraries: Sequence[Library]
    devices: Sequence[Device] = ()
    auto: str | None = None
    named: str | None = None
    cache: CacheState | None = None
    failure: str | None = None

    @property
    def healthy(self) -> bool:
        """Whether frames can be restored here at all."""
        return any(device.usable for device in self.devices)

    def __str__(self) -> str:
        lines = [f"uir-edge {self.uir_edge}", ""]
        lines += [line for row in self._machine() for line in layout(*row)]
        for title, rows in (
            ("libraries", [(each.name, _library(each)) for each in self.libraries]),
            ("devices", list(self._devices())),
            ("engine cache", list(self._cache())),
        ):
            lines += ["", title, *(line for row in rows for line in layout(*row))]
        return "\n".join(lines)

    def _machine(self) -> Iterator[Row]:
        machine = self.machine
        yield "system", f"{machine.system}, {machine.architecture}, Python {machine.python}"
        yield "processor", f"{machine.processor}, {machine.cores} cores"
        if machine.memory is not None and machine.available is not None:
            yield "memory", f"{gib(machine.memory)}, {gib(machine.available)} available"
        if machine.board:
            yield "board", machine.board
        if machine.jetson_linux:
            jetpack = f"JetPack {machine.jetpack}" if machine.jetpack else "without the package nvidia-jetpack"
            yield "Jetson Linux", f"{machine.jetson_linux}, {jetpack}"
        if machine.power_mode:
            yield "power mode", machine.power_mode
        for gpu in self.graphics.gpus:
            memory = gib(gpu.memory) + (" shared with the machine" if gpu.integrated else "")
            yield "GPU", f"{gpu.name}, compute capability {gpu.compute_capability}, {memory}"
        if self.graphics.failure:
            groups = "; is your user in the groups video and render?" if machine.jetson_linux else ""
            yield "GPU", f"none: {self.graphics.failure}{groups}"
        if self.driver or self.graphics.cuda:
            serves = f", for CUDA up to {self.graphics.cuda}" if self.graphics.cuda else ""
            yield "driver", f"{self.driver or 'of unknown version'}{serves}"

    def _devices(self) -> Iterator[Row]:
        if self.failure:
            yield "none", f"uir-edge cannot be loaded: {self.failure}"
            return
        for device in self.devices:
            if device.usable:
                yield device.name, f"usable: {device.backend}; {', '.join(device.precisions)}"
            else:
                yield device.name, f"no: {device.failure}"
        fails = any(device.name == self.auto and not device.usable for device in self.devices)
        remedy = ", which fails: name another with --device, or set UIR_DEVICE" if fails else ""
        yield "auto", f"takes {self.auto}{remedy}" if self.auto else "takes nothing: no device can be used"
        if self.named:
            yield "UIR_DEVICE", f"{self.named}: is taken where --device is not given"

    def _cache(self) -> Iterator[Row]:
        if self.cache is None:
            return
        yield "folder", self.cache.folder
        budget = "" if self.cache.budget is None else f" of {gib(self.cache.budget)}"
        yield "holds", f"{self.cache.engines} engines, {gib(self.cache.size)}{budget}"
        if self.cache.misnamed:
            yield "budget", self.cache.misnamed
        yield "disk", "unknown" if self.cache.free is None else f"{gib(self.cache.free)} free"
        remedy = "each start builds its engines again; set UIR_CACHE to another folder"
        yield "writable", "yes" if self.cache.writable else f"no: {self.cache.failure}; {remedy}"


def look_around(done: Callable[[], object] = lambda: None) -> Page:
    """A page of all that is found without the runtime. `done` is called as each library has answered."""
    return Page(version(), Machine.here(), find_graphics(), driver_version(), find_libraries(done))


def report_broken(error: ImportError, *, as_json: bool) -> int:
    """Print what can be said where the runtime cannot be loaded.

    Returns:
        The exit status.
    """
    page = replace(look_around(), failure=str(error))
    print(to_json(asdict(page)) if as_json else page)
    return 1


def to_json(found: object) -> str:
    """What was found, for programs."""
    return json.dumps(found, indent=2)


def layout(label: str, text: str) -> list[str]:
    """A label and its text in lines that fit, broken between words alone: commands and paths are to be copied."""
    indent = "  " + " " * _LABEL
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"  {label.ljust(_LABEL)}",
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def gib(size: int) -> str:
    """Bytes in words; MiB below a GiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _library(library: Library) -> str:
    if library.failure or library.version is None:
        return library.failure or "gives no version"
    return f"{library.version}; {library.detail}" if library.detail else library.version
