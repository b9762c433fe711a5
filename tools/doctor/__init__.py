"""`uir-doctor`: one page on this machine, and a test that its engines restore as they should.

It must speak where nothing else does, so only `cli` and `selftest` import the runtime at once.
"""

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
    sys.exit(run_command("uir-doctor", main))
