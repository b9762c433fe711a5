"""The disk cache among real processes: one builds, the others wait, and any of them may be killed at any moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import uir.runtime.disk_cache
from uir.runtime.disk_cache import DiskCache
from uir.runtime.engine_key import EngineKey
from uir.runtime.process_lock import SILENCE

KEY = EngineKey({"number": 0})

# The cache alone, without what else `uir.runtime` imports: processes start in a fifth of the time.
PRELUDE = """
import logging, os, sys, types
from pathlib import Path
runtime = sys.modules["uir.runtime"] = types.ModuleType("uir.runtime")
runtime.__path__ = [sys.argv[1]]
from uir.runtime.disk_cache import DiskCache
from uir.runtime.engine_key import EngineKey
def key_of(number): return EngineKey({"number": number})
"""
ROOM = Path(uir.runtime.disk_cache.__file__).parent

# Builds an engine if need be, telling what it does and waiting for leave to begin and to end the build.
RACER = """
def say(word): print(word, flush=True)
class Told(logging.Handler):
    def emit(self, record): say("waits" if "waiting" in record.getMessage() else record.getMessage())
logging.basicConfig(level=logging.INFO, handlers=[Told()])
cache = DiskCache(Path(sys.argv[2]), patience=float(sys.argv[3]))
say("ready"); sys.stdin.readline()
with cache.building(key_of(0)):
    content = cache.get(key_of(0))
    if content is None:
        say("builds"); sys.stdin.readline()
        content = f"built by {os.getpid()}".encode()
        cache.put(key_of(0), content)
say(content.decode())
"""


class Worker:
    """A process that runs a script, and is heard and told to go on by lines."""

    def __init__(self, script: str, *arguments: object) -> None:
        command = [sys.executable, "-c", PRELUDE + script, str(ROOM), *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._watchdog = threading.Timer(60, self.process.kill)  # a failure rather than a test without end
        self._watchdog.start()

    def hear(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"the process ended with {self.process.wait()}"
        return line.rstrip("\n")

    def go(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self._watchdog.cancel()
        self.process.kill()
        self.process.communicate()


Start = Callable[..., Worker]


@pytest.fixture
def start() -> Iterator[Start]:
    """A function that starts a `Worker`; none outlives the test."""
    workers: list[Worker] = []

    def begin(script: str, *arguments: object) -> Worker:
        workers.append(Worker(script, *arguments))
        return workers[-1]

    yield begin
    for worker in workers:
        worker.end()


@pytest.mark.parametrize("number", [2, 6])
def test_processes_that_race_build_once(start: Start, tmp_path: Path, number: int) -> None:
    racers = [start(RACER, tmp_path, 60) for _ in range(number)]
    assert {racer.hear() for racer in racers} == {"ready"}
    for racer in racers:
        racer.go()
    heard = {racer: racer.hear() for racer in racers}  # the build goes on until all the others have come
    assert sorted(heard.values()) == ["builds", *["waits"] * (number - 1)]
    (builder,) = [racer for racer in racers if heard[racer] == "builds"]
    builder.go()
    assert {racer.hear() for racer in racers} == {f"built by {builder.process.pid}"}
    assert DiskCache(tmp_path).get(KEY) == f"built by {builder.process.pid}".encode()


def test_the_next_builds_when_the_builder_is_killed(start: Start, tmp_path: Path) -> None:
    racers = [start(RACER, tmp_path, 60) for _ in range(3)]
    assert {racer.hear() for racer in racers} == {"ready"}
    for racer in racers:
        racer.go()
    heard = {racer: racer.hear() for racer in racers}
    (builder,) = [racer for racer in racers if heard[racer] == "builds"]
    others = [racer for racer in racers if racer is not builder]
    builder.process.kill()
    for other in others:
        other.go()  # whichever is the next
    told = [other.hear() for other in others]
    assert told.count("builds") == 1
    turn = told.index("builds")
    assert others[turn].hear() == told[1 - turn] == f"built by {others[turn].process.pid}"


def test_a_builder_that_stands_still_is_not_waited_for_for_ever(start: Start, tmp_path: Path) -> None:
    stuck = start(RACER, tmp_path, 60)
    stuck.hear()
    stuck.go()
    assert stuck.hear() == "builds"
    stuck.process.send_signal(signal.SIGSTOP)
    other = start(RACER, tmp_path, 0.05)
    other.hear()
    other.go()
    assert other.hear() == "waits"
    warning = other.hear()
    assert f"{tmp_path}/{KEY.digest}.lock: another builder has held this for 0.05 s" in warning
    assert other.hear() == "builds"
    other.go()
    own = other.hear()
    assert own == f"built by {other.process.pid}"
    stuck.process.send_signal(signal.SIGCONT)
    stuck.go()
    assert stuck.hear() == f"built by {stuck.process.pid}"  # built twice, and either is good
    assert DiskCache(tmp_path).get(KEY) == f"built by {stuck.process.pid}".encode()


def test_a_builder_that_is_stopped_is_waited_for_no_longer_than_it_takes_to_see_that(
    start: Start, tmp_path: Path
) -> None:
    stuck = start(RACER, tmp_path, 1800)
    stuck.hear()
    stuck.go()
    assert stuck.hear() == "builds"
    stuck.process.send_signal(signal.SIGSTOP)
    other = start(RACER, tmp_path, 1800)
    other.hear()
    other.go()
    assert other.hear() == "waits"
    lock = f"{tmp_path}/{KEY.digest}.lock: another process (pid {stuck.process.pid}) holds this lock"
    assert other.hear() == f"{lock} and stands still; going on without the cache: what is built here may not be kept"
    assert other.hear() == "builds"
    other.go()
    assert other.hear() == f"built by {other.process.pid}"
    stuck.process.send_signal(signal.SIGCONT)
    stuck.go()
    assert stuck.hear() == f"built by {stuck.process.pid}"


def test_a_builder_that_is_at_work_is_waited_for(start: Start, tmp_path: Path) -> None:
    builder, other = start(RACER, tmp_path, 1800), start(RACER, tmp_path, 1800)
    for racer in (builder, other):
        racer.hear()
    builder.go()
    assert builder.hear() == "builds"
    other.go()
    assert other.hear() == "waits"
    time.sleep(2 * SILENCE)  # a build of that length, in which the process shows nothing but that it is there
    builder.go()
    assert {racer.hear() for racer in (builder, other)} == {f"built by {builder.process.pid}"}


# Stops in the middle of writing an engine; then reads a damaged one, which is removed under the lock, and writes one.
STOPPED = """
import signal
from uir.runtime import disk_cache
disk_cache._touch = lambda path: os.kill(os.getpid(), signal.SIGSTOP)
DiskCache(Path(sys.argv[2])).put(key_of(1), b"engine")
"""
WITHOUT = """
logging.basicConfig(format="%(message)s", stream=sys.stdout)
cache = DiskCache(Path(sys.argv[2]))
cache.put(key_of(0), b"own")
cache.put(key_of(2), b"own")
assert cache.get(key_of(0)) is cache.get(key_of(2)) is None
print("going on", flush=True)
sys.stdin.readline()
cache.put(key_of(0), b"own")
print(cache.get(key_of(0)), flush=True)
"""


def test_a_writer_that_is_stopped_costs_others_the_cache_and_no_more(start: Start, tmp_path: Path) -> None:
    stuck = start(STOPPED, tmp_path)
    assert os.WIFSTOPPED(os.waitpid(stuck.process.pid, os.WUNTRACED)[1])
    other = start(WITHOUT, tmp_path)
    lock = f"{tmp_path}/.uir-edge.lock: another process (pid {stuck.process.pid}) holds this lock and stands still"
    assert other.hear() == f"{lock}; going on without the cache: what is built here may not be kept"
    assert other.hear() == "going on"
    stuck.process.kill()
    stuck.process.wait()
    other.go()
    assert other.hear() == "b'own'"


# Puts engines, some of them those of others, and reads any; says how often one was there.
CROWD = """
logging.basicConfig(format="%(message)s", stream=sys.stdout)
me, hits = int(sys.argv[4]), 0
cache = DiskCache(Path(sys.argv[2]), int(sys.argv[3]))
print("ready", flush=True); sys.stdin.readline()
for turn in range(12):
    number = 100 + me * 10 + turn
    cache.put(key_of(number), bytes([number]) * 1000)
    for other in range(number - 8, number + 8):
        content = cache.get(key_of(other))
        assert content in (None, bytes([other]) * 1000), other
        hits += content is not None
print(hits, flush=True)
"""


def test_processes_that_write_at_once_stay_within_the_budget(start: Start, tmp_path: Path) -> None:
    probe = DiskCache(tmp_path)
    probe.put(EngineKey({"number": 100}), bytes(1000))
    _, size = probe.clear()
    crowd = [start(CROWD, tmp_path, 10 * size, number) for number in range(4)]
    assert {worker.hear() for worker in crowd} == {"ready"}
    for worker in crowd:
        worker.go()
    assert all(int(worker.hear()) > 0 for worker in crowd)  # and no warning before
    assert all(worker.process.wait(60) == 0 for worker in crowd)
    cache = DiskCache(tmp_path, 10 * size)
    entries = cache.entries()
    assert len(entries) == 10
    for entry in entries:
        assert cache.get(EngineKey(entry.about)) == bytes([entry.about["number"]]) * 1000
    files = {f"{entry.digest}.{suffix}" for entry in entries for suffix in ("engine", "json")}
    assert {path.name for path in tmp_path.iterdir()} == {*files, ".uir-edge.lock"}


# Kills a process of its own before each system call that changes files, one after the other, and after some bytes of
# an engine are written; looks each time at what is left, and goes on working with it.
KILLS = """
import itertools, json, resource, shutil, signal

top = Path(sys.argv[2])
contents = {number: bytes([number]) * (8000 if number == 3 else 4000) for number in range(5)}
said = []
class Told(logging.Handler):
    def emit(self, record): said.append(record.getMessage())
logging.getLogger().addHandler(Told())

template = DiskCache(top / "template")
for number in range(3):
    template.put(key_of(number), contents[number])
budget = sum(entry.size for entry in template.entries())

def fork(action):
    child = os.fork()
    if not child:
        try:
            action()
            os._exit(0)
        finally:
            os._exit(9)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or status == 0, status
    return os.WTERMSIG(status)

def killed_at(step, action):
    def count(event, _):
        nonlocal step
        if event in ("open", "uir.build", "fcntl.flock", "os.mkdir", "os.remove", "os.rename", "os.utime"):
            step -= 1
            if step == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    return fork(lambda: (sys.addaudithook(count), action())) == signal.SIGKILL

def killed_after(size, action):
    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        action()
    return fork(limited) == signal.SIGXFSZ

def check(folder, untouched, prepared):
    cache = DiskCache(folder, budget, patience=0)  # a lock that is not free at once is one that was not freed
    found = {number: cache.get(key_of(number)) for number in contents}
    for number, content in found.items():
        assert content == contents[number] or content is None and number not in untouched, number
    if prepared:
        said.clear()
    with cache.building(key_of(3)):
        cache.put(key_of(3), contents[3])
    assert cache.get(key_of(3)) == contents[3]
    entries = cache.entries()
    assert sum(entry.size for entry in entries) <= budget
    files = {f"{entry.digest}.{suffix}" for entry in entries for suffix in ("engine", "json")}
    locks = {f"{key_of(3).digest}.lock", ".uir-edge.lock"}
    assert files <= {path.name for path in folder.iterdir()} <= files | locks, list(folder.iterdir())
    assert not said, said

def build(cache):
    with cache.building(key_of(3)):
        assert cache.get(key_of(3)) is None
        sys.audit("uir.build")
        cache.put(key_of(3), contents[3])

def damage(folder):
    (folder / f"{key_of(1).digest}.engine").write_bytes(contents[2])

def leave(folder):
    for name in (f".{key_of(1).digest}.a1b2c3.part.engine", f"{key_of(3).digest}.engine", f"{key_of(4).digest}.json"):
        (folder / name).write_bytes(contents[4])

SCENES = {  # what is done, what was before it, and which engines it must not lose
    "build": (build, None, {2}),
    "replace": (lambda cache: cache.put(key_of(1), contents[1]), None, {0, 2}),
    "sweep": (lambda cache: cache.put(key_of(1), contents[1]), leave, {0, 2}),
    "damaged": (lambda cache: cache.get(key_of(1)), damage, {0, 2}),
    "remove": (lambda cache: cache.remove(key_of(1)), None, {0, 2}),
    "clear": (lambda cache: cache.clear(), None, set()),
}

def scene(name, kill):
    act, prepare, untouched = SCENES[name]
    folder = shutil.copytree(top / "template", top / "engines")
    if prepare:
        prepare(folder)
    killed = kill(lambda: act(DiskCache(folder, budget)))
    check(folder, untouched, prepare)
    shutil.rmtree(folder)
    return killed

kills = {}
for name in SCENES:
    steps = itertools.count(1)
    kills[name] = sum(1 for _ in iter(lambda: scene(name, lambda action: killed_at(next(steps), action)), False))
kills["write"] = sum(scene("build", lambda action: killed_after(size, action)) for size in range(0, 8000, 800))
print(json.dumps(kills))
"""


def test_a_process_killed_at_any_moment_leaves_whole_engines_or_none(start: Start, tmp_path: Path) -> None:
    kills = json.loads(start(KILLS, tmp_path).hear())
    assert kills["build"] > 20  # each step of build, eviction and write was really met
    assert all(kills[scene] > 4 for scene in ("replace", "sweep", "damaged", "remove", "clear"))
    assert kills["write"] == 10


TOO_LARGE = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
logging.basicConfig(format="%(message)s", stream=sys.stdout)
cache = DiskCache(Path(sys.argv[2]))
cache.put(key_of(0), bytes(4000))
for number in range(1, 4):
    cache.put(key_of(number), bytes(8000))
    assert cache.get(key_of(number)) is None
assert cache.get(key_of(0)) == bytes(4000)
print("done", flush=True)
"""


def test_a_write_that_fails_in_the_middle_leaves_nothing(start: Start, tmp_path: Path) -> None:
    worker = start(TOO_LARGE, tmp_path)
    assert (
        f"{tmp_path}: no engines are kept here, so that each start builds them again: File too large;" in worker.hear()
    )
    assert worker.hear() == "done"
    names = {f"{KEY.digest}.engine", f"{KEY.digest}.json", ".uir-edge.lock"}
    assert {path.name for path in tmp_path.iterdir()} == names
