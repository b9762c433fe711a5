"""Runs a command under limits, and says what is wrong with how it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

SECONDS = 30.0
MEMORY = 3 * 2**30
LINE = 2000
"""Characters that an error's one line may have."""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: its exit status, negative for a signal.
        memory: bytes of the most that was resident.
        stopped: why it was stopped; None where it ended by itself.
    """

    status: int
    seconds: float
    memory: int
    stopped: str | None
    stderr: str

    def fault(self) -> str | None:
        """What no input may cause; None where it succeeded, or was refused as it should be."""
        lines = self.stderr.strip().splitlines()
        errors = [line for line in lines if ": error: " in line]
        if self.stopped:
            return self.stopped
        if self.memory > MEMORY:
            return "memory"
        if self.status < 0:
            return f"crash by {signal.Signals(-self.status).name}"
        if "Traceback" in self.stderr:
            return f"traceback: {lines[-1]}"
        if self.status not in (0, 1, 2):
            return f"exit status {self.status}"
        if self.status and (len(errors) != 1 or lines[-1:] != errors or len(errors[0]) > LINE):
            return "no single clear line"
        if any(not line.startswith("uir-") for line in lines):
            return "stray words"
        return None


class Zygote:
    """One process that forks a command at a time; see `zygote.py`.

    Args:
        cache: the folder of engines, which all share.
    """

    def __init__(self, cache: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(cache),
        )

    def run(self, arguments: Sequence[str], folder: Path) -> Ended:
        """Run a command (its name and its arguments) in a fork, its streams kept in a folder."""
        assert self._process.stdin and self._process.stdout
        begun = time.monotonic()
        self._process.stdin.write(json.dumps([*arguments, str(folder)]) + "\n")
        self._process.stdin.flush()
        child = int(self._process.stdout.readline())
        with _Watch(child) as watch:
            status, memory = json.loads(self._process.stdout.readline())
        stderr = (folder / "stderr").read_text(errors="replace") if (folder / "stderr").exists() else ""
        return Ended(status, time.monotonic() - begun, memory, watch.stopped, stderr)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def run_alone(arguments: Sequence[str], cache: Path) -> Ended:
    """Run a command of this environment as a user does, in a process of its own."""
    program = [str(Path(sys.executable).with_name(arguments[0])), *arguments[1:]]
    begun = time.monotonic()
    process = subprocess.Popen(
        program, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace", env=_environment(cache)
    )
    with _Watch(process.pid) as watch:
        _, stderr = process.communicate()
    return Ended(process.returncode, time.monotonic() - begun, watch.memory, watch.stopped, stderr)


def _environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "UIR_CACHE": str(cache)}


class _Watch:
    """Stops a process that takes too long or too much memory."""

    def __init__(self, process: int) -> None:
        self.stopped: str | None = None
        self.memory = 0
        self._process, self._over = process, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        end = time.monotonic() + SECONDS
        while not self._over.wait(0.02):
            self.memory = max(self.memory, _resident(self._process))
            if self.memory > MEMORY:
                self.stopped = "memory"
            elif time.monotonic() > end:
                self.stopped = "hang"
            if self.stopped:
                os.kill(self._process, signal.SIGKILL)
                return


def _resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
