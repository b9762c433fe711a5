"""The libraries that engines, pictures and videos go through: each imported in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from uir.tools.doctor.children import PATIENCE, ChildError, answer, ask, look_at_all


@dataclass(frozen=True)
class Library:
    """A library.

    Attributes:
        version: None where it cannot be used.
        detail: what else there is to know of it.
        failure: why it cannot be used.
    """

    name: str
    version: str | None = None
    detail: str | None = None
    failure: str | None = None


def find_libraries(done: Callable[[], object] = lambda: None) -> list[Library]:
    """All that may be used, there or not. `done` is called as each has answered."""
    return look_at_all(_look, list(LIBRARIES), done)


def _look(name: str) -> Library:
    try:
        return Library(name, **ask(__name__, name, patience=PATIENCE))
    except ChildError as error:
        return Library(name, failure=f"importing it {error}")


def run() -> None:
    """What the process of one library does."""
    answer(_import)


def _opencv(cv2: Any) -> str:
    """Whether it was built with GStreamer, without which it opens no CSI camera."""
    lines = [line.split() for line in cv2.getBuildInformation().splitlines()]
    built = next((words[1] for words in lines if words[:1] == ["GStreamer:"] and len(words) > 1), "NO")
    return f"GStreamer: {built.lower()}"


LIBRARIES: dict[str, tuple[str, Callable[[Any], tuple[str, str | None]]]] = {
    "numpy": ("numpy", lambda module: (module.__version__, None)),
    "opencv": ("cv2", lambda module: (module.__version__, _opencv(module))),
    "av": ("av", lambda module: (module.__version__, f"FFmpeg {module.ffmpeg_version_info}")),
    "onnxruntime": ("onnxruntime", lambda module: (module.__version__, ", ".join(module.get_available_providers()))),
    "openvino": ("openvino", lambda module: (module.__version__.partition("-")[0], None)),
    "tensorrt": ("tensorrt", lambda module: (module.__version__, None)),
    "tensorrt-rtx": ("tensorrt_rtx", lambda module: (module.__version__, None)),
    "cuda-python": ("cuda.bindings", lambda module: (module.__version__, None)),
    "pycuda": ("pycuda", lambda module: (module.VERSION_TEXT, None)),
}
"""By name: what to import, and how it says its version and what else there is to know."""


def _import(arguments: Sequence[str]) -> dict[str, str | None]:
    module, describe = LIBRARIES[arguments[0]]
    try:
        version, detail = describe(import_module(module))
    except ModuleNotFoundError as error:
        if error.name and module.startswith(error.name):
            return {"failure": "not installed"}
        return {"failure": f"cannot be loaded: {error}"}
    except Exception as error:  # whatever a broken installation raises is what is asked for
        return {"failure": f"cannot be loaded: {error}"}
    return {"version": version, "detail": detail}
