"""A lock among processes whose holder shows that it is at work, so that nobody waits for one that stands still.

A process that is stopped (Ctrl-Z, SIGSTOP, a debugger, a frozen container) keeps its locks for ever. So the holder of
this one touches the lock's file every `BEAT` seconds, and who waits gives up after `SILENCE` seconds without. It is the
file's time of access that is touched: opening the file for the lock may change that of modification.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from uir.runtime.background import closing

BEAT = 0.1
SILENCE = 1.5
_POLL = 0.05


class HeldError(TimeoutError):
    """Another process holds the lock.

    Attributes:
        silent: it stands still, as opposed to having it for longer than one had patience for.
    """

    def __init__(self, path: Path, *, silent: bool) -> None:
        process = _holder(path)
        who = "this process" if process == os.getpid() else f"another process{f' (pid {process})' if process else ''}"
        super().__init__(f"{path}: {who} holds this lock{' and stands still' if silent else ''}")
        self.silent = silent


class ProcessLock:
    """A file's lock, which the system frees when its holder dies. One thread uses it, once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path)
        self._released = threading.Event()

    def acquire(self, patience: float) -> None:
        """Have the lock within so many seconds, less if its holder stands still.

        Raises:
            HeldError: another process has it.
            OSError: there can be no such file.
        """
        began = moved = time.monotonic()
        beat = self._last_beat()
        while True:
            with suppress(Timeout):
                self._lock.acquire(timeout=0)
                break
            now, last = time.monotonic(), self._last_beat()
            if last != beat:
                moved, beat = now, last
            silent = now - moved > SILENCE
            if silent or now - began >= patience or closing():
                raise HeldError(self.path, silent=silent)
            time.sleep(_POLL)
        threading.Thread(target=self._beats, name="beat", daemon=True).start()

    def release(self) -> None:
        """Give it back."""
        self._released.set()
        with suppress(OSError):
            self._lock.release()

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.release()

    def _beats(self) -> None:
        while not self._released.wait(BEAT):
            with suppress(OSError):
                os.utime(self.path, ns=(time.time_ns(), self.path.stat().st_mtime_ns))

    def _last_beat(self) -> int:
        try:
            return self.path.stat().st_atime_ns
        except OSError:
            return 0


def _holder(path: Path) -> int | None:
    """Who holds a file's lock, where the system tells: Linux does, of processes that this one can see."""
    with suppress(OSError, ValueError, IndexError):
        locks = Path("/proc/locks").read_text().splitlines()  # first: elsewhere there are no such numbers either
        status = path.stat()
        file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        for line in locks:
            parts = line.split()
            if parts[1] == "FLOCK" and parts[5] == file and int(parts[4]) > 0:
                return int(parts[4])
    return None
