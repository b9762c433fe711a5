"""TensorRT's two Python modules, which have one surface: `tensorrt` (10.3 and newer) and `tensorrt_rtx`."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

from uir.runtime.errors import BackendError, MissingBackendError
from uir.runtime.version import install

Flavour = Literal["tensorrt", "tensorrt-rtx"]

OLDEST = (10, 3)  # JetPack 6.1's; older ones lack parts of the interface, and cast no uint8

_MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
_TITLES = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}
_REMEDIES = {
    "tensorrt": (
        f"install it with: {install('gpu')}; on a Jetson it comes with JetPack (apt install python3-libnvinfer), "
        "and a virtual environment sees it if it was made with --system-site-packages"
    ),
    "tensorrt-rtx": f"install it with: {install('rtx')}",
}


@dataclass(frozen=True)
class Bindings:
    """One of the two modules, loaded.

    Attributes:
        flavour: which one.
        module: the module itself. Its enums are to be used by name: their numbers differ between versions.
        version: its full version, such as `10.3.0`.
    """

    flavour: Flavour
    module: Any
    version: str

    @property
    def title(self) -> str:
        """Name and version, for messages."""
        return f"{_TITLES[self.flavour]} {self.version}"

    @property
    def compute_capabilities(self) -> tuple[str, ...]:
        """The compute capabilities that it can build for without having them, such as `8.6`; none where it cannot."""
        if self.flavour == "tensorrt" or not hasattr(self.module, "ComputeCapability"):
            return ()
        names = [name for name in self.module.ComputeCapability.__members__ if name.startswith("SM")]
        return tuple(f"{name[2:-1]}.{name[-1]}" for name in names)


def load_bindings(flavour: Flavour) -> Bindings:
    """Import TensorRT.

    Raises:
        MissingBackendError: it is not installed.
        BackendError: it cannot be loaded, or is too old.
    """
    title, remedy = _TITLES[flavour], _REMEDIES[flavour]
    try:
        module = importlib.import_module(_MODULES[flavour])
    except ModuleNotFoundError as error:
        raise MissingBackendError(f"{title} is not installed ({error}); {remedy}") from error
    except (ImportError, OSError, RuntimeError) as error:  # its libraries are missing, or of another version
        raise BackendError(f"{title} cannot be loaded: {error}; {remedy}") from error
    version = str(module.__version__)
    if flavour == "tensorrt" and tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise BackendError(
            f"{title} {version} is too old: {OLDEST[0]}.{OLDEST[1]} or newer is needed (on a Jetson, JetPack 6.1)"
        )
    return Bindings(flavour, module, version)
