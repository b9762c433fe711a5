"""How a command's process ends: soon, and with nothing half-written, whatever its threads are doing.

Python hands a signal to the main thread alone, between two of its steps. A native call there, such as the build of an
engine, holds it up for minutes; an exception that it raises in the middle of an import, of a lock or of a library's
call back wedges or aborts the process. So none is raised. A thread of its own waits for the first signal, lets those
finish who said `at_stop` that they have something to save, removes what is not whole, says one line and ends the
process: `LIMIT` seconds after the signal at the latest. The end waits for no thread, so that neither a build in the
background nor a library's own threads hold up or crash a process whose work is done.

Only commands listen. In a program of somebody else's, Ctrl-C raises KeyboardInterrupt as ever.
"""

from __future__ import annotations

import _thread
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

LIMIT = 1.6
"""Seconds from the signal to the end of the process, at most."""
PATIENCE = 1.3
"""Seconds of these in which what is worth it can be saved."""

_WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}
_PARKING = 0.01  # seconds in which the main thread comes to a halt, if it runs Python

Action = Callable[[float], object]
"""What is done at a signal; it is given the seconds that are left."""


class _State:
    def __init__(self) -> None:
        self.actions: list[Action] = []
        self.unfinished: dict[Path, None] = {}
        self.listening = False
        self.strangers: set[int] = set()
        self.signal = 0
        self.final = False
        self.ending = threading.Lock()
        self.renaming = threading.Lock()


_state = _State()


def listen(name: str) -> None:
    """Let signals end this process, a command of that name; to be called in the main thread, first of all.

    A signal that the process was started to ignore, as by `nohup` or `&` in a script, goes on being ignored. A second
    call does nothing.
    """
    if _state.listening:
        return
    _state.listening = True
    _state.strangers = _children()  # of the script that became this command by exec
    source, sink = os.pipe()
    if sys.platform != "win32":  # which asks it of sockets alone
        os.set_blocking(sink, False)
    signal.set_wakeup_fd(sink, warn_on_full_buffer=False)
    words = {}
    for known, word in _WORDS.items():
        number = getattr(signal, known, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _noted)
            words[int(number)] = word
    if sys.platform != "win32":
        # A fork that is signalled before it has forgotten would tell its parent.
        own = set(words)
        os.register_at_fork(
            before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, own),
            after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, own),
            after_in_child=lambda: _forget(own),
        )
    _thread.start_new_thread(_watch, (source, name, words))


@contextmanager
def at_stop(action: Action) -> Iterator[None]:
    """Within the block, have a signal to a command call this before it ends the process, in a thread of its own."""
    _state.actions.append(action)
    try:
        yield
    finally:
        with suppress(ValueError):  # in a process that was forked within the block
            _state.actions.remove(action)


@contextmanager
def removed_at_end(path: Path) -> Iterator[None]:
    """Within the block, have an end of a command's process remove this file or folder."""
    _state.unfinished[path] = None
    try:
        yield
    finally:
        _state.unfinished.pop(path, None)


def renaming() -> threading.Lock:
    """The lock to hold while outputs change their names: no end of a command's process comes in between."""
    return _state.renaming


def remove(path: Path) -> None:
    """Remove a file or a folder if it can be done: this runs while an error is on its way to the user."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def give_way() -> None:
    """Wait for the end if a signal has come: what failed since then failed because of it, and is nobody's news."""
    if _state.signal:
        _park()


def end(status: int, line: str = "") -> NoReturn:
    """End the process with an exit status and a last line on stderr; what is unfinished is removed."""
    if not _state.ending.acquire(blocking=False):
        _park()  # another thread is at it
    _state.renaming.acquire(timeout=LIMIT / 8)  # never given back
    _state.final = True
    if _state.signal and _thread.get_ident() != threading.main_thread().ident:
        _thread.interrupt_main(signal.Signals(_state.signal))  # to its handler, which parks it: else it might write on
        time.sleep(_PARKING)
    _end_children(time.monotonic() + LIMIT / 8)
    for path in [*_state.unfinished, *_sockets()]:
        remove(path)
    if line:
        # Neither through sys.stderr nor the log: another thread may hold their locks. A bar leaves its line unended.
        with suppress(OSError):
            os.write(2, f"{os.linesep if os.isatty(2) else ''}{line}{os.linesep}".encode())
    os._exit(status)


def _noted(number: int, _: FrameType | None) -> None:
    """What Python's main thread does with a signal: nothing, until nothing more shall be done."""
    _state.signal = _state.signal or number
    if _state.final:
        _park()


def _watch(source: int, name: str, words: dict[int, str]) -> None:
    number = 0
    while number not in words:  # others have signals of their own
        number = os.read(source, 1)[0]
    _state.signal = number
    line = f"{name}: {words[number]}"
    deadline = time.monotonic() + LIMIT
    with suppress(RuntimeError):  # no memory for a thread: then without
        _thread.start_new_thread(_finish, (128 + number, line, deadline - LIMIT + PATIENCE))
        time.sleep(LIMIT)
    end(128 + number, line)


def _finish(status: int, line: str, deadline: float) -> None:
    for action in reversed(_state.actions):
        with suppress(Exception):
            action(deadline - time.monotonic())
    with suppress(Exception):
        sys.stdout.flush()
    _end_children(deadline)
    end(status, line)


def _end_children(deadline: float) -> None:
    """Ask this process's children to end, and wait until they have, where the system tells of them as Linux does."""
    running = [child for child in _children() - _state.strangers if _runs(child)]
    for child in running:
        with suppress(OSError):
            os.kill(child, signal.SIGTERM)
    while any(_runs(child) for child in running) and time.monotonic() < deadline:
        time.sleep(0.005)


def _sockets() -> list[Path]:
    """The folder of multiprocessing's sockets, if there is one: its own way to remove it is not gone at such an end."""
    process = sys.modules.get("multiprocessing.process")
    folder = process and process.current_process()._config.get("tempdir")
    return [Path(folder)] if folder else []


def _children() -> set[int]:
    children: set[int] = set()
    with suppress(OSError, ValueError):
        for task in os.listdir("/proc/self/task"):  # noqa: PTH208 - names alone
            children.update(map(int, Path(f"/proc/self/task/{task}/children").read_text().split()))
    return children


def _runs(child: int) -> bool:
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except OSError:
        return False


def _park() -> NoReturn:
    while True:
        time.sleep(60)


def _forget(blocked: set[int]) -> None:
    """In a process that was forked: its parent cleans up and ends it, and hears of Ctrl-C itself."""
    global _state
    _state = _State()
    signal.set_wakeup_fd(-1)
    for known in _WORDS:
        number = getattr(signal, known)
        if signal.getsignal(number) is _noted:
            signal.signal(number, signal.SIG_IGN if known == "SIGINT" else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
