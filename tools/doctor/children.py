"""Work done in a process of its own: native libraries may crash it, hang, or be killed for want of memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

PATIENCE = 120.0
"""Seconds in which a look at something must end: a small board may load TensorRT's libraries from a slow card."""

_AT_ONCE = 4  # each takes some hundred MB

Found = TypeVar("Found")


class ChildError(Exception):
    """A process ended without an answer; the message says how."""


def ask(module: str, *arguments: str, patience: float | None = None) -> dict[str, Any]:
    """What the `run` of a module answers, by `answer`, in a process of its own.

    Args:
        patience: seconds to wait; None waits as long as it takes.

    Raises:
        ChildError: it crashed, was killed, or did not answer in time.
    """
    # Without the current folder, where a user's av.py would be taken for the library.
    code = f"import sys; sys.path = [path for path in sys.path if path]; from {module} import run; run()"
    line = [sys.executable, "-c", code, *arguments]
    options: dict[str, Any] = {"text": True, "errors": "replace", "timeout": patience}
    try:
        ended = subprocess.run(line, capture_output=True, stdin=subprocess.DEVNULL, check=False, **options)
    except subprocess.TimeoutExpired as error:
        raise ChildError(f"gave no answer within {patience:g} seconds") from error
    try:
        answered: dict[str, Any] = json.loads(ended.stdout)
    except ValueError:
        raise ChildError(_ending(ended)) from None
    return answered  # whatever happened later, such as a library that crashes when it is unloaded


def look_at_all(look: Callable[[str], Found], names: Sequence[str], done: Callable[[], object]) -> list[Found]:
    """What a function that asks finds of each name, some at once. `done` is called as each has answered."""
    found = []
    with ThreadPoolExecutor(min(_AT_ONCE, os.cpu_count() or 1)) as pool:
        for each in pool.map(look, names):
            found.append(each)
            done()
    return found


def answer(work: Callable[[Sequence[str]], Mapping[str, Any]]) -> None:
    """Do the work that `ask` asked for: from its arguments to a mapping that JSON can hold."""
    with os.fdopen(os.dup(1), "w") as output:
        os.dup2(2, 1)  # what libraries print is no part of the answer
        output.write(json.dumps(work(sys.argv[1:])))


def _ending(ended: subprocess.CompletedProcess[str]) -> str:
    said = ended.stderr.strip().splitlines()
    last = f": {said[-1].strip()}" if said else ""
    if ended.returncode < 0:  # never on Windows
        name = signal.Signals(-ended.returncode).name
        if name == "SIGKILL":
            return f"was killed, as Linux does when memory runs out (dmesg | tail says so){last}"
        return f"crashed with {name}{last}"
    return f"failed with exit status {ended.returncode}{last}"
