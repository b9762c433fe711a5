"""OpenVINO's own benchmark_app, as a child process: what OpenVINO says itself of how fast it can run a model."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from uir.runtime.errors import UirError

Timed = Callable[[float], float]
"""Seconds to run for, to the median latency in seconds."""

# Without the current folder, where a user's openvino.py would be taken for the library.
_CODE = "import sys; sys.path = [p for p in sys.path if p]; from openvino.tools.benchmark.main import main; main()"

_A_SECOND = {"ms": 1e3, "us": 1e6}  # newer versions write short times in microseconds


def benchmark_app(model: Path, shape: tuple[int, ...], options: tuple[str, ...] = ()) -> Timed:
    """benchmark_app on a model's file, in its latency mode, which is that of a camera.

    It keeps to the cores that this process may use.

    Args:
        shape: of the model's input.
        options: more of its own.
    """
    dims = ",".join(map(str, shape))
    line = [sys.executable, "-c", _CODE, "-m", str(model), "-d", "CPU", "-hint", "latency", "-shape", f"[{dims}]"]

    def run(seconds: float) -> float:
        whole = str(max(1, round(seconds)))  # it takes no others
        ended = subprocess.run(
            [*line, *options, "-t", whole], capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL
        )
        return median_latency(ended.stdout, ended.stderr)

    return run


def median_latency(output: str, errors: str = "") -> float:
    """The median latency in what benchmark_app prints, in seconds.

    Raises:
        UirError: it says none, because it failed; the message holds its first error.
    """
    found = re.search(r"Median:\s+([\d.]+) (ms|us)", output)
    if found:
        return float(found[1]) / _A_SECOND[found[2]]
    said = re.findall(r"\[ ERROR \] (.+)", output) or errors.strip().splitlines()[-1:] or ["no latency"]
    raise UirError(f"benchmark_app: {said[0].strip()}")
