"""The runtime: a package and a composition in, restored frames out."""

from uir.runtime.composition import Composition
from uir.runtime.errors import UirError
from uir.runtime.package import Package
from uir.runtime.restorer import Restorer

__all__ = ["Composition", "Package", "Restorer", "UirError"]
