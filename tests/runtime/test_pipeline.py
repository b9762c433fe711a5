"""Three overlapped stages: order, bounded memory, and failures that stop everyone with the first error."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from uir.runtime.pipeline import CAPACITY, Channel, Closed, Pipeline, Work


def test_results_arrive_in_order_and_finish_comes_last() -> None:
    seen: list[int | str] = []
    times = Pipeline(range(50), lambda n: n * n, seen.append, lambda: seen.append("finish")).run()
    assert seen == [*(n * n for n in range(50)), "finish"]
    assert min(vars(times).values()) >= 0


def test_process_runs_in_the_callers_thread_and_the_others_do_not() -> None:
    threads: dict[str, set[int]] = {"source": set(), "process": set(), "sink": set()}

    def source() -> Iterator[int]:
        for n in range(3):
            threads["source"].add(threading.get_ident())
            yield n

    def process(n: int) -> int:
        threads["process"].add(threading.get_ident())
        return n

    Pipeline(source(), process, lambda _: threads["sink"].add(threading.get_ident()), lambda: None).run()
    assert threads["process"] == {threading.get_ident()}
    assert len(set.union(*threads.values())) == 3


def test_the_source_never_runs_far_ahead() -> None:
    made, taken, ahead = 0, 0, []

    def source() -> Iterator[int]:
        nonlocal made
        for n in range(40):
            made += 1
            yield n

    def sink(_: int) -> None:
        nonlocal taken
        taken += 1
        ahead.append(made - taken)

    Pipeline(source(), lambda n: n, sink, lambda: None).run()
    # Two full queues, and one item in the hands of each of source and process.
    assert max(ahead) <= 2 * CAPACITY + 2


@pytest.mark.parametrize("stage", ["source", "process", "sink", "finish"])
@pytest.mark.parametrize("when", [0, 5])
def test_a_failure_in_any_stage_stops_all_with_its_own_error(stage: str, when: int) -> None:
    def fail(here: str, n: int) -> int:
        if here == stage and n >= when:
            raise OSError(f"{here} broke")
        return n

    def source() -> Iterator[int]:
        for n in range(10_000):
            fail("source", n)
            yield n
            if stage == "finish" and n == 20:
                return

    finished: list[int] = []

    def finish() -> None:
        fail("finish", when)
        finished.append(1)

    before = threading.active_count()
    pipeline = Pipeline(source(), lambda n: fail("process", n), lambda n: fail("sink", n) and None, finish)
    with pytest.raises(OSError, match=f"{stage} broke"):
        pipeline.run()
    assert threading.active_count() == before
    assert not finished


def test_an_interrupt_finishes_what_was_processed() -> None:
    seen: list[int | str] = []

    def process(n: int) -> int:
        if n == 7:
            raise KeyboardInterrupt
        return n

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        Pipeline(range(10_000), process, seen.append, lambda: seen.append("finish")).run()
    assert seen == [*range(7), "finish"]
    assert threading.active_count() == before


def test_a_closed_channel_drains_and_an_aborted_one_does_not() -> None:
    closed: Channel[int] = Channel(capacity=3)
    aborted: Channel[int] = Channel(capacity=3)
    for channel in (closed, aborted):
        channel.put(1)
    closed.close()
    aborted.abort()
    assert closed.get() == 1
    for channel in (closed, aborted):
        with pytest.raises(Closed):
            channel.get()
        with pytest.raises(Closed):
            channel.put(2)


def test_workers_do_the_work_at_once_and_results_stay_in_order() -> None:
    together = threading.Barrier(2, timeout=20)
    decided: list[int] = []
    seen: list[int] = []

    def process(n: int) -> Work[int]:
        decided.append(n)

        def work() -> int:
            together.wait()  # for another work under way
            if n % 2:
                time.sleep(0.001)
            return n * n

        return Work(work)

    before = threading.active_count()
    times = Pipeline(range(20), process, seen.append, lambda: None, workers=2).run()
    assert decided == list(range(20))
    assert seen == [n * n for n in range(20)]
    assert times.process > 0
    assert threading.active_count() == before


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_work_stops_all_with_its_own_error(workers: int) -> None:
    def fail(n: int) -> int:
        if n == 7:
            raise OSError("the work broke")
        return n

    seen: list[int] = []
    before = threading.active_count()
    with pytest.raises(OSError, match="the work broke"):
        Pipeline(range(10_000), lambda n: Work(lambda: fail(n)), seen.append, lambda: None, workers).run()
    assert seen == list(range(len(seen)))
    assert len(seen) <= 7
    assert threading.active_count() == before


def test_an_interrupt_finishes_the_work_under_way() -> None:
    seen: list[int | str] = []

    def process(n: int) -> Work[int]:
        if n == 7:
            raise KeyboardInterrupt
        return Work(lambda: n)

    with pytest.raises(KeyboardInterrupt):
        Pipeline(range(10_000), process, seen.append, lambda: seen.append("finish"), workers=2).run()
    assert seen == [*range(7), "finish"]
