"""The runtime: a package and a composition in, restored frames out."""

from uir.runtime.composition import Composition
from uir.runtime.decision import Decision
from uir.runtime.errors import UirError
from uir.runtime.follow import Follower, FollowOptions
from uir.runtime.package import Package
from uir.runtime.restorer import Restorer
from uir.runtime.router import Router

__all__ = ["Composition", "Decision", "FollowOptions", "Follower", "Package", "Restorer", "Router", "UirError"]
