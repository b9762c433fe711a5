"""What killed writers leave behind is removed by the next one; what living ones write, and what users have, is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from uir.runtime import leftovers
from uir.runtime.atomic import atomic_output

WRITER = """
import os, signal, sys, time
from pathlib import Path
from uir.runtime.atomic import atomic_output

destination, when = Path(sys.argv[1]), sys.argv[2]
if when == "aside":
    replace = Path.replace
    def killed(source, target):
        moved = replace(source, target)
        if target.suffix == ".old":
            os.kill(os.getpid(), signal.SIGKILL)
        return moved
    Path.replace = killed
with atomic_output(destination, overwrite=True) as temporary:
    if destination.suffix == ".uir":
        (temporary / "inner").mkdir(parents=True)
        (temporary / "inner" / "file").write_text("half")
    else:
        temporary.write_text("half")
    print("writes", flush=True)
    if when == "writing":
        sys.stdin.readline()
"""


@contextmanager
def writer(destination: Path, when: str = "writing") -> Iterator[subprocess.Popen[str]]:
    """A process that writes an output, and waits in the middle of it for a line."""
    command = [sys.executable, "-c", WRITER, str(destination), when]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writes\n"
        try:
            yield process
        finally:
            process.kill()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(folder: Path, name: str = "next.txt") -> None:
    """Write an output, which sweeps the folder, however lately that was done."""
    leftovers._next_look.clear()
    with atomic_output(folder / name, overwrite=True) as temporary:
        temporary.write_text("whole")


def age(folder: Path) -> None:
    """Let all that is in a folder look old."""
    for path in folder.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)


@pytest.mark.parametrize("name", ["clip.mp4", "noted", "archive.tar.gz", "restore.uir"])
def test_what_a_killed_writer_left_goes_with_the_next_output(name: str, tmp_path: Path) -> None:
    with writer(tmp_path / name) as process:
        process.kill()
        process.wait()
    assert len(names(tmp_path)) == 2
    write(tmp_path)
    assert names(tmp_path) == ["next.txt"]


@pytest.mark.parametrize("name", ["clip.mp4", "restore.uir"])
@pytest.mark.parametrize("how", ["runs", "is stopped"])
def test_what_a_living_writer_writes_stays(name: str, how: str, tmp_path: Path) -> None:
    with writer(tmp_path / "dead.mp4") as dead, writer(tmp_path / name) as process:
        dead.kill()
        dead.wait()
        if how == "is stopped":
            process.send_signal(signal.SIGSTOP)
        age(tmp_path)
        write(tmp_path)
        assert not [left for left in names(tmp_path) if "dead" in left]
        process.send_signal(signal.SIGCONT)
        process.communicate("go on\n", timeout=30)
        assert process.returncode == 0
    assert names(tmp_path) == sorted([name, "next.txt"])


def test_a_folder_whose_replacement_was_killed_is_put_back(tmp_path: Path) -> None:
    (tmp_path / "restore.uir").mkdir()
    (tmp_path / "restore.uir" / "file").write_text("old")
    with writer(tmp_path / "restore.uir", "aside") as process:
        process.wait(timeout=30)
    assert "restore.uir" not in names(tmp_path)
    write(tmp_path)
    assert names(tmp_path) == ["next.txt", "restore.uir"]
    assert (tmp_path / "restore.uir" / "file").read_text() == "old"


def test_a_folder_that_was_replaced_since_is_not_put_back(tmp_path: Path) -> None:
    (tmp_path / "restore.uir").mkdir()
    with writer(tmp_path / "restore.uir", "aside") as process:
        process.wait(timeout=30)
    (tmp_path / "restore.uir").write_text("new")
    write(tmp_path)
    assert names(tmp_path) == ["next.txt", "restore.uir"]
    assert (tmp_path / "restore.uir").read_text() == "new"


def test_what_a_user_called_alike_stays(tmp_path: Path) -> None:
    for name in (".x.part.mp4", ".clip.1a2b3c.part.mp4", ".clip.1a2b3c.lock.mp4", ".clip.mp4.1a2b3c.old"):
        (tmp_path / name).write_text("mine")
    for name in (".a.1a2b3c.lock", ".a.1a2b3c.part"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / ".pipe.1a2b3c.lock")
    (tmp_path / ".link.1a2b3c.lock.mp4").symlink_to("absent")
    before = names(tmp_path)
    age(tmp_path)
    write(tmp_path)
    assert names(tmp_path) == sorted([*before, "next.txt"])


def test_links_are_neither_followed_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    with writer(tmp_path / "restore.uir") as process:
        process.kill()
        process.wait()
    (part,) = tmp_path.glob(".*.part.uir")
    part.rename(tmp_path / "moved")
    part.symlink_to("mine")
    write(tmp_path)
    assert (tmp_path / "mine" / "file").read_text() == "mine"
    assert names(tmp_path) == sorted([part.name, "mine", "moved", "next.txt"])


def test_a_folder_is_not_looked_through_for_each_of_many_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3000):
        (tmp_path / f"{number}.png").touch()
    looks, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: looks.append(folder) or scandir(folder))
    for number in range(50):
        with atomic_output(tmp_path / f"{number}.txt") as temporary:
            temporary.touch()
    assert len(looks) < 40


@pytest.mark.parametrize("command", ["video", "export"])
def test_a_killed_command_leaves_nothing_for_long(
    command: str,
    shared_package: Path,
    make_video: Callable[..., Path],
    call: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    if command == "video":
        source = make_video("clip.mp4", frames=600, width=320, height=240)
        arguments = ["uir-run", source, "-o", folder / "clip.mp4", "--package", shared_package, "--adapters", "rain"]
    else:
        arguments = ["uir-export", "--adapters", "rain,haze", "-o", folder / "new.uir"]
    program = [str(Path(sys.executable).with_name(str(arguments[0]))), *map(str, arguments[1:])]
    left: list[Path] = []
    for _ in range(50):
        with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and not left:
                left = [*folder.glob(".*.part.*")]
            process.kill()
        left = [*folder.glob(".*.part.*")]
        if left:
            break
    assert left
    if command == "video":
        short = make_video("short.mp4", frames=3)
        done = call("uir-run", short, "-o", folder / "short.mp4", "--package", shared_package, "--adapters", "rain")
    else:
        done = call(*arguments, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert names(folder) == ["short.mp4" if command == "video" else "new.uir"]
