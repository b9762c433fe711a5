"""Work in the background keeps no program from ending, and crashes none that ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

from uir.runtime.background import in_background

HANG = 30


def ended(code: str) -> tuple[int, str, str]:
    """The exit status, stdout and stderr of a program that is not one of our commands."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG)
    return done.returncode, done.stdout, done.stderr


def test_work_gives_its_result_or_its_error() -> None:
    assert in_background(lambda: 7, "seven").result() == 7
    with pytest.raises(ZeroDivisionError):
        in_background(lambda: 1 / 0, "error").result()


def test_a_program_asks_the_work_to_stop_and_waits_for_that() -> None:
    code = """
import threading
from uir.runtime.background import in_background
stop = threading.Event()
in_background(lambda: (stop.wait(), print("stopped")), "work", stop.set)
print("done")
"""
    assert ended(code) == (0, "done\nstopped\n", "")


@pytest.mark.parametrize("work", ["hashlib.pbkdf2_hmac('sha512', b'', b'', 10**9)", "time.sleep(600)"])
def test_work_that_does_not_stop_is_left(work: str) -> None:
    code = f"import hashlib, time; from uir.runtime.background import in_background; in_background(lambda: {work}, 'w')"
    assert ended(code) == (0, "", "")


# Two builds wait for their turn behind one of seconds, which TensorRT-RTX does for a GPU that is not here.
BUILDS = """
import sys, time
from uir.runtime.backends import Shapes
from uir.runtime.backends.tensorrt.bindings import load_bindings
from uir.runtime.backends.tensorrt.build import build_plan
from uir.runtime.backends.tensorrt.log import Log
from uir.runtime.backends.tensorrt.options import BuildOptions
from uir.runtime.background import closing
from uir.runtime.engine_key import EngineKey
from uir.runtime.engines import EngineCache, Recipe
from uir.export.adapters import load_adapter
from uir.export.zoo import zoo_base
from uir.runtime.composition import Composition
from uir.runtime.merge import fill_graph, merge

rtx, base = load_bindings("tensorrt-rtx"), zoo_base()
model = fill_graph(base.graph, merge(base.weights, {}, Composition())).SerializeToString()
builds = []

class Backend:
    durable = False

    def build(self, model, shapes):
        assert not closing()
        builds.append(time.monotonic())
        return build_plan(rtx, Log(rtx.module), model, shapes, BuildOptions(), device=None)

    def load(self, plan):
        raise NotImplementedError  # as it is without a GPU

cache = EngineCache()
for number in range(3):
    shapes = Shapes((1, 16, 16), (1, 720, 1280), (4, 1088, 1920))
    cache.prepare(Recipe(EngineKey({"number": number}), lambda: model, Backend(), shapes))
while not builds:
    time.sleep(0.01)
time.sleep(float(sys.argv[1]))
"""


@pytest.mark.rtx
@pytest.mark.parametrize("after", [0.05, 0.4, 0.9])
def test_a_program_that_ends_during_a_build_neither_waits_for_it_nor_crashes(after: float) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    done = subprocess.run(
        [sys.executable, "-c", BUILDS, str(after)], capture_output=True, text=True, timeout=HANG, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
