"""Work in the background, one piece at a time: the newest first, since a stream needs most what it asked for last."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from uir.runtime.background import closing, in_background

T = TypeVar("T")


class Backlog:
    """Pieces of work that wait for their turn. Safe to use from many threads.

    There is a thread while there is work, which does not keep the process from ending: what waits then is cancelled.

    Args:
        name: of the thread.
        most: pieces that wait; of more, the one that was added first is given up, and its future cancelled.
    """

    def __init__(self, name: str, most: int) -> None:
        self._name, self._most = name, most
        self._waiting: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._working = False
        self._lock = threading.Lock()

    def add(self, work: Callable[[], T]) -> Future[T]:
        """Have the work done as soon as what is being done is finished."""
        future: Future[T] = Future()
        with self._lock:
            self._waiting.append((work, future))
            given_up = self._waiting.popleft()[1] if len(self._waiting) > self._most else None
            if not self._working:
                in_background(self._work_off, self._name)
                self._working = True
        if given_up is not None:
            given_up.cancel()
        return future

    def _work_off(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._working = False
                    return
                work, future = self._waiting.pop()
            if closing():
                future.cancel()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
            del work, future  # and with it what came of it, while the next takes its time
