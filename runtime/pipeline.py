"""Three overlapped stages - source, process, sink - joined by small bounded queues.

The source and the sink run in threads of their own (decoding and encoding release the GIL); the process stage stays in
the caller's thread, so that Ctrl-C reaches it, and may have workers, which do what it leaves to them. Memory is bounded
by the queues' capacity, a failure in any stage stops the other two at once, and an interruption ends with what is done.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")

_LOOK = 0.05  # seconds between two looks whether a result is still wanted
CAPACITY = 2  # frames are large, and two are enough to hide the jitter of a stage


class Closed(Exception):  # noqa: N818 - a signal between stages, not an error
    """The other side of a channel has gone."""


class Channel(Generic[T]):
    """A bounded queue that either side can end, and that measures how long each side waited."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._closed = False
        self._changed = threading.Condition()
        self.seconds_full = 0.0
        """How long `put` waited for room."""
        self.seconds_empty = 0.0
        """How long `get` waited for an item."""

    def put(self, item: T) -> None:
        """Append an item, waiting for room. Raises `Closed` once the channel is closed."""
        began = time.perf_counter()
        with self._changed:
            while len(self._items) >= self._capacity and not self._closed:
                self._changed.wait()
            self.seconds_full += time.perf_counter() - began
            if self._closed:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> T:
        """Take the oldest item, waiting for one. Raises `Closed` when the channel is closed and drained."""
        began = time.perf_counter()
        with self._changed:
            while not self._items and not self._closed:
                self._changed.wait()
            self.seconds_empty += time.perf_counter() - began
            if not self._items:
                raise Closed
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """No more items: `get` drains what is there."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abort(self) -> None:
        """No more items, and those that wait are dropped."""
        with self._changed:
            self._items.clear()
        self.close()


@dataclass(frozen=True)
class Work(Generic[R]):
    """What a process stage leaves to its workers: `run` gives the result."""

    run: Callable[[], R]


@dataclass(frozen=True)
class StageTimes:
    """Where one run's time went, in seconds: each stage's own work, and how long it waited for its neighbours.

    Of the process stage it is the sum over its workers, who work at the same time.
    """

    decode: float = 0.0
    process: float = 0.0
    encode: float = 0.0
    decode_blocked: float = 0.0
    """The source waited for the process stage to take a frame."""
    process_starved: float = 0.0
    """The process stage waited for a frame."""
    process_blocked: float = 0.0
    """The process stage waited for the sink to take a result."""
    encode_starved: float = 0.0
    """The sink waited for a result."""
    to_rgb: float = 0.0
    """Of a video's decode: turning frames into RGB."""
    from_rgb: float = 0.0
    """Of a video's encode: turning results into the encoder's pixels."""


class Pipeline(Generic[T, R]):
    """Runs `source -> process -> sink` once.

    Args:
        source: yields items; iterated in its own thread.
        process: turns an item into a result, or into `Work` that gives it; called in the caller's thread, in order.
        sink: takes each result, in order; called in its own thread.
        finish: called after the last result in the sink's thread, when no stage failed.
        workers: how many items' work is done at once. A single worker is the caller's thread.
    """

    def __init__(
        self,
        source: Iterable[T],
        process: Callable[[T], R | Work[R]],
        sink: Callable[[R], None],
        finish: Callable[[], None],
        workers: int = 1,
    ) -> None:
        self._source, self._process, self._sink, self._finish = source, process, sink, finish
        self._pool = ThreadPoolExecutor(workers, "process") if workers > 1 else None
        self._frames: Channel[T] = Channel()
        self._results: Channel[R | Future[R]] = Channel()
        self._failure: BaseException | None = None
        self._interrupted = False
        self._finished = False
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._decode = self._work = self._encode = self._waited = 0.0

    def run(self) -> StageTimes:
        """Run to the end and return the times.

        Raises whatever stage failed first raised. After a `KeyboardInterrupt` in the process stage the sink still
        takes every finished result and `finish` is called, before the interrupt goes on. After `interrupt` it is
        raised too.
        """
        self._threads = [
            threading.Thread(target=self._guarded, args=(stage,), name=name, daemon=True)
            for stage, name in ((self._run_source, "decode"), (self._run_sink, "encode"))
        ]
        for thread in self._threads:
            thread.start()
        try:
            try:
                self._run_process()
                self._join()
            except KeyboardInterrupt:
                self._end()
                self._join()
            except BaseException as error:
                self._fail(error)
        finally:  # also after a second Ctrl-C: nobody may close files under a running thread
            self._frames.abort()
            self._results.abort()
            self._join()
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)
        if self._failure is not None:
            raise self._failure
        if self._interrupted:
            raise KeyboardInterrupt
        return self.times

    def interrupt(self, patience: float) -> bool:
        """From another thread: end with what is done, as Ctrl-C in the process stage does, without waiting for that.

        Returns:
            Whether `finish` was called and has returned within so many seconds.
        """
        self._end()
        for sink in self._threads[1:]:
            sink.join(patience)
        return self._finished

    def _end(self) -> None:
        self._interrupted = True
        self._frames.abort()
        self._results.close()

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()

    @property
    def times(self) -> StageTimes:
        """The times so far."""
        return StageTimes(
            decode=self._decode,
            process=self._work,
            encode=self._encode,
            decode_blocked=self._frames.seconds_full,
            process_starved=self._frames.seconds_empty,
            process_blocked=self._results.seconds_full,
            encode_starved=self._results.seconds_empty + self._waited,
        )

    def _run_source(self) -> None:
        items = iter(self._source)
        while True:
            began = time.perf_counter()
            try:
                item = next(items)
            except StopIteration:
                break
            finally:
                self._decode += time.perf_counter() - began
            self._frames.put(item)
        self._frames.close()

    def _run_process(self) -> None:
        with suppress(Closed):
            while True:
                item = self._frames.get()
                self._results.put(self._processed(item))
        self._results.close()

    def _processed(self, item: T) -> R | Future[R]:
        result = self._timed(lambda: self._process(item))
        if not isinstance(result, Work):
            return result
        return self._timed(result.run) if self._pool is None else self._pool.submit(self._timed, result.run)

    def _timed(self, work: Callable[[], S]) -> S:
        began = time.perf_counter()
        done = work()
        with self._lock:
            self._work += time.perf_counter() - began
        return done

    def _awaited(self, result: R | Future[R]) -> R:
        if not isinstance(result, Future):
            return result
        began = time.perf_counter()
        while not result.done():
            if self._interrupted:
                raise Closed
            wait([result], _LOOK)
        self._waited += time.perf_counter() - began
        return result.result()

    def _run_sink(self) -> None:
        def taken() -> Iterable[R]:
            with suppress(Closed):
                while True:
                    yield self._awaited(self._results.get())

        for result in taken():
            began = time.perf_counter()
            self._sink(result)
            self._encode += time.perf_counter() - began
        if self._failure is None:
            began = time.perf_counter()
            self._finish()
            self._finished = True
            self._encode += time.perf_counter() - began

    def _guarded(self, stage: Callable[[], None]) -> None:
        try:
            stage()
        except Closed:
            pass
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Keep the first failure and wake everyone: later ones are its echoes."""
        with self._lock:
            if self._failure is None:
                self._failure = error
        self._frames.abort()
        self._results.abort()
