"""Training: the base with its adapters, or adapters over a frozen base, from any folder of photos."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from uir.runtime.console import run_command
from uir.runtime.errors import UsageError


def run() -> None:
    """The `uir-train` command."""
    sys.exit(run_command("uir-train", _main))


def _main(arguments: Sequence[str] | None) -> None:
    try:
        from uir.tools.train.cli import main
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise UsageError("uir-train needs torch: pip install 'uir-edge[export]'") from error
    main(arguments)
