"""A build shows how far it is, and can be stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from uir.runtime.backends.tensorrt.bindings import Bindings
from uir.runtime.backends.tensorrt.progress import Progress
from uir.runtime.errors import BackendError

pytestmark = pytest.mark.rtx


def test_the_share_counts_phases_within_phases(rtx: Bindings) -> None:
    progress = Progress(rtx.module, "engine")
    assert progress.share == 0
    progress.started("build", 4)
    assert progress.stepped("build", 0)
    assert progress.share == 1 / 4
    progress.started("optimise", 2)
    progress.stepped("optimise", 0)
    assert progress.share == (1 + 1 / 2) / 4
    progress.started("time", 10)
    progress.stepped("time", 4)
    assert progress.share == pytest.approx((1 + (1 + 5 / 10) / 2) / 4)
    progress.stepped("time", 99)  # a phase that was counted too small
    assert progress.share == (1 + (1 + 1) / 2) / 4
    progress.finished("time")
    progress.finished("optimise")
    progress.stepped("build", 3)
    assert progress.share == 1
    progress.close()


def test_a_build_tells_how_far_it_is(
    small_model: bytes, build: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    step = Progress.stepped

    def seen(self: Progress, name: str, number: int) -> bool:
        going = step(self, name, number)
        shares.append(self.share)
        return going

    monkeypatch.setattr(Progress, "stepped", seen)
    build(small_model)
    assert len(set(shares)) > 10
    assert 0 < shares[0] < 0.1
    assert 0.8 < shares[-1] <= 1  # TensorRT-RTX leaves out its last step


def test_a_stopped_build_fails(
    small_model: bytes, build: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Progress, "started", lambda self, *_: self.stop())
    with pytest.raises(BackendError, match="cannot build an engine"):
        build(small_model)


def test_ctrl_c_stops_a_build(small_model: bytes, build: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    steps, started = [], Progress.started

    def interrupted(self: Progress, name: str, count: int) -> None:
        if not steps:
            os.kill(os.getpid(), signal.SIGINT)
        steps.append(name)
        started(self, name, count)

    monkeypatch.setattr(Progress, "started", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(small_model)
    assert steps
