"""Work in the background: one piece at a time, the newest first, never more than may wait, and no thread left."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, Future
from functools import partial

import pytest

from uir.runtime.backlog import Backlog

HANG = 30


@pytest.fixture
def go() -> threading.Event:
    return threading.Event()


def held_up(backlog: Backlog, go: threading.Event, done: list[int], count: int) -> list[Future[None]]:
    """A piece of work that lasts until `go`, and so many that wait behind it."""
    begun = threading.Event()

    def first() -> None:
        begun.set()
        assert go.wait(HANG)
        done.append(0)

    futures = [backlog.add(first)]
    assert begun.wait(HANG)
    return futures + [backlog.add(partial(done.append, number)) for number in range(1, count + 1)]


def test_the_newest_goes_first_and_one_at_a_time(go: threading.Event) -> None:
    done: list[int] = []
    before = threading.active_count()
    futures = held_up(Backlog("engine", 9), go, done, 4)
    assert threading.active_count() == before + 1
    go.set()
    for future in futures:
        future.result(HANG)
    assert done == [0, 4, 3, 2, 1]


def test_of_more_than_may_wait_the_oldest_is_given_up(go: threading.Event) -> None:
    done: list[int] = []
    futures = held_up(Backlog("engine", 3), go, done, 5)
    assert [future.cancelled() for future in futures] == [False, True, True, False, False, False]
    with pytest.raises(CancelledError):
        futures[1].result(0)
    go.set()
    futures[3].result(HANG)
    assert done == [0, 5, 4, 3]


def test_what_fails_and_what_was_cancelled_does_not_hold_up_the_rest(go: threading.Event) -> None:
    done: list[int] = []
    backlog = Backlog("engine", 9)
    futures = held_up(backlog, go, done, 2)
    failing = backlog.add(lambda: 1 // 0)
    assert futures[2].cancel()
    go.set()
    futures[1].result(HANG)
    with pytest.raises(ZeroDivisionError):
        failing.result(HANG)
    assert done == [0, 1]


def test_a_thread_is_there_only_while_there_is_work() -> None:
    backlog, before = Backlog("engine", 9), threading.active_count()
    for number in range(20):
        assert backlog.add(partial(int, number)).result(HANG) == number
        deadline = time.monotonic() + HANG
        while number % 5 == 4 and threading.active_count() > before and time.monotonic() < deadline:
            time.sleep(0.01)
    assert threading.active_count() == before
