"""What benchmarks that draw have alike. matplotlib is an extra, and slow to import: --help should not wait for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from uir.runtime.atomic import atomic_output, check_destination
from uir.runtime.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120


def check_plot(path: Path, *, overwrite: bool) -> None:
    """Refuse early what `save_plot` would.

    Raises:
        UsageError: the file is not to be a PNG.
        OutputError: it exists, or cannot be written.
        ModuleNotFoundError: matplotlib is not installed.
    """
    import matplotlib  # noqa: F401

    if path.suffix.lower() != ".png":
        raise UsageError(f"{path}: a plot is a .png file; give such a name")
    check_destination(path, overwrite=overwrite)


def save_plot(path: Path, figure: Figure, *, overwrite: bool) -> None:
    """Write a figure as PNG.

    Raises:
        OutputError: the file exists, or cannot be written.
    """
    with atomic_output(path, overwrite=overwrite) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)
