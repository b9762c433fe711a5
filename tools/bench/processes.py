"""A command run as a process of its own, its memory watched."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from uir.runtime.errors import UirError

INTERVAL = 0.01  # seconds between two looks at the memory


@dataclass(frozen=True)
class Finished:
    """A process that ended well.

    Attributes:
        output: its standard output.
        seconds: from its start to its end.
        peak_bytes: the most resident memory that was seen, shared libraries included.
    """

    output: str
    seconds: float
    peak_bytes: int


def run_watched(module: str, arguments: Sequence[str], variables: Mapping[str, str] | None = None) -> Finished:
    """Run one of the commands (`uir.runtime.cli`) as a fresh process.

    The memory is looked at while the process runs: what the system reports afterwards (`ru_maxrss`) starts at the
    parent's size, which may be larger.

    Args:
        variables: of its environment, besides this process's own.

    Raises:
        UirError: the command failed; the message holds its last line.
    """
    import psutil

    line = [sys.executable, "-c", f"from {module} import run; run()", *arguments]
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        environment = {**os.environ, **(variables or {})}
        with subprocess.Popen(line, stdout=output, stderr=errors, stdin=subprocess.DEVNULL, env=environment) as process:
            peak = 0
            try:
                watched = psutil.Process(process.pid)
                while process.poll() is None:
                    peak = max(peak, watched.memory_info().rss)
                    time.sleep(INTERVAL)
            except psutil.NoSuchProcess:
                process.wait()
            finally:
                if process.poll() is None:
                    process.kill()
        seconds = time.perf_counter() - began
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            said = errors.read().strip().splitlines()
            reason = said[-1] if said else f"exit status {process.returncode}"
            raise UirError(f"{module} failed on {' '.join(arguments)}: {reason}")
        return Finished(output.read(), seconds, peak)
