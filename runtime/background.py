"""Work beside what a program does, which never keeps the program from ending."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

PATIENCE = 2.0
"""Seconds that a program's end waits for such work: Python crashes under native code that comes back to it later."""

T = TypeVar("T")

_closing = threading.Event()
_running: dict[threading.Thread, Callable[[], object]] = {}


def in_background(work: Callable[[], T], name: str, stop: Callable[[], object] = lambda: None) -> Future[T]:
    """Do the work in a thread of its own.

    Args:
        work: what to do.
        name: the thread's.
        stop: asks the work to end early; called at the program's end, from another thread.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)
        finally:
            _running.pop(thread, None)

    thread = threading.Thread(target=run, name=name, daemon=True)
    _running[thread] = stop
    thread.start()
    return future


def closing() -> bool:
    """Whether the program ends: nothing that takes long should begin."""
    return _closing.is_set()


@atexit.register
def _close() -> None:
    _closing.set()
    running, deadline = dict(_running), time.monotonic() + PATIENCE
    for stop in running.values():
        with suppress(Exception):
            stop()
    for thread in running:
        thread.join(max(0.0, deadline - time.monotonic()))
