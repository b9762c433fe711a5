"""How a command's process ends: by real signals to real processes, whatever these are doing, and by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import psutil
import pytest

from uir.runtime.video.options import VideoOptions
from uir.runtime.video.reader import VideoReader
from uir.runtime.video.writer import VideoWriter

HANG = 20  # seconds: a process that takes longer hangs
PRELUDE = """
import hashlib, os, subprocess, sys, threading, time
from pathlib import Path
from uir.runtime.atomic import atomic_output
from uir.runtime.console import run_command
from uir.runtime.errors import UsageError
from uir.runtime.stop import at_stop, removed_at_end

def ready(*words):
    print("ready", *words, flush=True)

def native():  # minutes in native code that nothing interrupts
    hashlib.pbkdf2_hmac("sha512", b"", b"", 10**9)

def main(_):
{body}

run_command("test", main)
"""


def program(body: str) -> list[str]:
    """A command whose main function has this body."""
    return [sys.executable, "-c", PRELUDE.format(body="\n".join(f"    {line}" for line in body.splitlines()))]


def stopped(
    body: str, folder: Path, how: int = signal.SIGTERM, *, times: int = 1, group: bool = False, ignoring: int = 0
) -> tuple[int, str, str]:
    """The exit status, stderr and what was printed after `ready` of a command that gets a signal once it is ready."""

    def prepare() -> None:
        if ignoring:
            signal.signal(ignoring, signal.SIG_IGN)

    process = subprocess.Popen(
        program(body),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=prepare,
    )
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[:1] == ["ready"], process.communicate(timeout=HANG)
        for _ in range(times):
            (os.killpg if group else os.kill)(process.pid, how)
            time.sleep(0.05)
        rest, said = process.communicate(timeout=HANG)
        return process.returncode, said, " ".join([*words[1:], rest])
    finally:
        process.kill()
        process.wait()


BUSY = {
    "python": "ready()\nwhile True: sum(range(1000))",
    "waiting": "lock = threading.Lock(); lock.acquire(); ready(); lock.acquire()",
    "native": "ready(); native()",
    "deaf": "ready()\nwhile True:\n    try: time.sleep(60)\n    except BaseException: pass",
    "importing": """
Path("endless.py").write_text("import time; time.sleep(600)")
sys.path.insert(0, "")
threading.Thread(target=__import__, args=("endless",)).start()
time.sleep(0.2)
ready()
import endless
""",
    "unsaved": "with at_stop(lambda _: time.sleep(600)):\n    ready(); native()",
}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("busy", BUSY)
def test_a_signal_ends_it_whatever_it_does(busy: str, how: signal.Signals, tmp_path: Path) -> None:
    word = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}[how]
    assert stopped(BUSY[busy], tmp_path, how)[:2] == (128 + how, f"test: {word}\n")


def test_more_signals_change_nothing(tmp_path: Path) -> None:
    save = "def save(_): time.sleep(0.5); print('saved')\nwith at_stop(save):\n    ready(); native()"
    status, said, printed = stopped(save, tmp_path, times=4)
    assert (status, said, printed.strip()) == (143, "test: terminated\n", "saved")


def test_what_is_to_be_saved_is_saved_the_innermost_first(tmp_path: Path) -> None:
    body = """
with at_stop(lambda _: print("outer")), at_stop(lambda _: 1 / 0), at_stop(lambda left: print("inner", left > 1)):
    with at_stop(lambda _: print("never")):
        pass
    ready(); native()
"""
    assert stopped(body, tmp_path)[2].split() == ["inner", "True", "outer"]


@pytest.mark.parametrize("name", ["out.mp4", "out.uir"])
def test_nothing_half_written_is_left_though_it_is_being_written(name: str, tmp_path: Path) -> None:
    body = f"""
with atomic_output(Path({name!r})) as temporary:
    ready()
    for number in range(10**9):
        if temporary.suffix == ".uir":
            (temporary / f"{{number}}").mkdir(parents=True)
            (temporary / f"{{number}}" / "file").write_bytes(bytes(1000))
        else:
            temporary.write_bytes(bytes(1000))
"""
    for _ in range(5):
        assert stopped(body, tmp_path)[0] == 143
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_being_replaced_is_never_lost(tmp_path: Path) -> None:
    (tmp_path / "out.uir").mkdir()
    (tmp_path / "out.uir" / "old").touch()
    body = """
replace = Path.replace
def slow(source, target):
    moved = replace(source, target)
    if target.suffix == ".old":
        ready()
        time.sleep(0.1)
    return moved
Path.replace = slow
with atomic_output(Path("out.uir"), overwrite=True) as temporary:
    temporary.mkdir()
    (temporary / "new").touch()
native()
"""
    assert stopped(body, tmp_path)[0] == 143
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["out.uir", "out.uir/new"]


def test_its_children_end_with_it_and_what_they_say_is_not_reported(tmp_path: Path) -> None:
    body = """
code = "import time; print(1, flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
child.stdout.readline()
ready(child.pid)
raise UsageError(f"the child ended with {child.wait()}")
"""
    for group in (False, True):
        status, said, printed = stopped(body, tmp_path, group=group)
        assert (status, said) == (143, "test: terminated\n")
        assert not psutil.pid_exists(int(printed)) or psutil.Process(int(printed)).status() == psutil.STATUS_ZOMBIE


def test_what_a_script_started_before_it_became_the_command_goes_on(tmp_path: Path) -> None:
    script = 'sleep 600 & echo $! >pid; exec "$@"'
    done = subprocess.run(["sh", "-c", script, "sh", *program("pass")], cwd=tmp_path, check=True, timeout=HANG)
    assert done.returncode == 0
    left = psutil.Process(int((tmp_path / "pid").read_text()))
    assert left.status() != psutil.STATUS_ZOMBIE
    left.kill()


def test_a_fork_leaves_signals_and_files_to_its_parent(tmp_path: Path) -> None:
    body = """
with atomic_output(Path("out")) as temporary:
    temporary.touch()
    child = os.fork()
    if child == 0:
        time.sleep(600)
    os.kill(child, 2)
    time.sleep(0.1)
    assert os.waitpid(child, os.WNOHANG) == (0, 0)
    os.kill(child, 15)
    assert os.waitpid(child, 0)[1] == 15
    assert temporary.exists()
    ready(); native()
"""
    assert stopped(body, tmp_path)[:2] == (143, "test: terminated\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ignored", [signal.SIGINT, signal.SIGHUP])
def test_what_it_was_started_to_ignore_it_ignores(ignored: signal.Signals, tmp_path: Path) -> None:
    body = "ready(); time.sleep(0.5); return 7"
    assert stopped(body, tmp_path, ignored, ignoring=ignored)[:2] == (7, "")


def ended(body: str, folder: Path) -> tuple[int, str, str]:
    """The exit status, stdout and stderr of a command."""
    done = subprocess.run(program(body), cwd=folder, capture_output=True, text=True, timeout=HANG)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("print('done')", 0, ""),
        ("print('done'); return 1", 1, ""),
        ("print('done'); sys.exit()", 0, ""),
        ("print('done'); sys.exit(3)", 3, ""),
        ("print('done'); sys.exit('no')", 1, "no\n"),
        ("print('done'); raise UsageError('no')", 2, "test: error: no\n"),
        ("print('done'); Path('absent').read_bytes()", 1, "test: error: absent: No such file or directory\n"),
        ("print('done'); raise KeyboardInterrupt", 130, "test: interrupted\n"),
    ],
)
def test_the_end_tells_what_came_of_it(body: str, status: int, said: str, tmp_path: Path) -> None:
    assert ended(body, tmp_path) == (status, "done\n", said)


def test_a_defect_of_ours_keeps_its_traceback(tmp_path: Path) -> None:
    status, _, said = ended("1 / 0", tmp_path)
    assert status == 1
    assert said.startswith("Traceback")
    assert said.endswith("ZeroDivisionError: division by zero\n")


def test_a_closed_pipe_is_silent() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(program("print('x' * 10**6)"), stdout=writing, stderr=subprocess.PIPE, timeout=HANG)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    "work",
    [
        "threading.Thread(target=native).start()",
        "threading.Thread(target=native, daemon=True).start()",
        "from concurrent.futures import ThreadPoolExecutor; ThreadPoolExecutor().submit(native)",
        "import atexit; atexit.register(native)",
    ],
)
def test_a_process_whose_work_is_done_waits_for_no_thread(work: str, tmp_path: Path) -> None:
    assert ended(f"{work}\nprint('done')", tmp_path) == (0, "done\n", "")


def test_unfinished_outputs_of_other_threads_go_with_the_process(tmp_path: Path) -> None:
    body = """
begun = threading.Event()
def write():
    with atomic_output(Path("out")) as temporary:
        temporary.touch()
        begun.set()
        native()
threading.Thread(target=write).start()
begun.wait()
"""
    assert ended(body, tmp_path)[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_a_library_leaves_signals_alone(tmp_path: Path) -> None:
    code = "import signal; before = signal.getsignal(2), signal.getsignal(15); import uir.runtime.restorer, "
    code += "uir.runtime.video.process; assert (signal.getsignal(2), signal.getsignal(15)) == before"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=HANG, cwd=tmp_path)


def test_a_part_of_a_video_is_kept_though_a_frame_takes_long(make_video: Callable[..., Path], tmp_path: Path) -> None:
    source = make_video("in.mp4", frames=40)
    body = f"""
from uir.runtime.video.process import process_video

def work(image, seconds):
    if seconds > 1.2:
        ready()
        native()
    return image

process_video(Path({str(source)!r}), Path("out.mp4"), work)
"""
    status, said, _ = stopped(body, tmp_path)
    kept = "test: warning: interrupted: the first 1.2 s (29 frames) are kept as out.partial.mp4\n"
    assert (status, said) == (143, f"{kept}test: terminated\n")
    assert played(tmp_path / "out.partial.mp4") == 29
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.partial.mp4"]


def test_what_the_encoder_has_no_time_for_is_left_out(make_video: Callable[..., Path], tmp_path: Path) -> None:
    kept = tmp_path / "part.mp4"
    with VideoReader(make_video("in.mp4", frames=40)) as reader:
        writer = VideoWriter(kept, kept, reader, VideoOptions())
        pictures = list(reader)
        for picture in pictures[:-1]:
            writer.write(picture, picture.image)
        assert writer.frames == 39
        writer.hurry(0)
        writer.write(pictures[-1], pictures[-1].image)
        writer.finish()
    assert 0 < writer.frames < 39
    assert played(kept) == writer.frames
    assert writer.seconds == pytest.approx(writer.frames / 24)


def played(video: Path) -> int:
    """How many frames of a video can be decoded."""
    with av.open(str(video)) as container:
        return sum(1 for _ in container.decode(video=0))
