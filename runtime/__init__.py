"""The runtime: a package and a composition in, restored frames out.

Each name is loaded when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uir.runtime.composition import Composition
    from uir.runtime.decision import Decision
    from uir.runtime.errors import UirError
    from uir.runtime.follow import Follower, FollowOptions
    from uir.runtime.package import Package
    from uir.runtime.restorer import Restorer
    from uir.runtime.router import Router

__all__ = ["Composition", "Decision", "FollowOptions", "Follower", "Package", "Restorer", "Router", "UirError"]

_HOMES = {
    "Composition": "composition",
    "Decision": "decision",
    "FollowOptions": "follow",
    "Follower": "follow",
    "Package": "package",
    "Restorer": "restorer",
    "Router": "router",
    "UirError": "errors",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
