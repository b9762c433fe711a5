"""What `uir-doctor` begins with, since what it is asked about may not even load."""

from __future__ import annotations

import sys


def run() -> None:
    """The `uir-doctor` command."""
    try:
        from uir.runtime.console import run_command
        from uir.tools.doctor.cli import main
    except ImportError as error:  # a library that the runtime needs: just what this command is asked about
        from uir.tools.doctor.page import report_broken

        sys.exit(report_broken(error, as_json="--json" in sys.argv))
    run_command("uir-doctor", main)
