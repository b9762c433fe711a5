"""Real signals to real commands, at random moments, and what became of each.

    python tests/signals/storm.py --number 200

prints one row for each command, device and signal: how the processes ended, and how long that took. The moments are
drawn by `--seed`, over the time that the command takes when it is left alone. It exits with 1 if any ended badly.

A signal that comes before any of our own code runs, while Python starts, is answered by Python: it counts as `python`.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import av
import cv2
import numpy as np
import psutil

CLIP = Path(__file__).parents[1] / "media" / "bunny.mp4"
WORDS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}
LIBRARIES = {"openvino": "openvino", "rtx": "tensorrt_rtx"}
CACHES = {".ses", f"torchinductor_{getpass.getuser()}"}  # libraries' own, kept in any case
LATE = 2.0  # seconds from the signal to the end: more is too long on a machine that does nothing else
GOOD = ("ended", "python", "finished")
SHIPPED = ("rain", "haze")

# A build for a GPU that is not here, which `uir-run` would refuse.
BUILD_RTX = """
import sys
from uir.runtime.console import run_command

def main(arguments):
    from pathlib import Path
    from uir.runtime.backends import Shapes
    from uir.runtime.backends.tensorrt.bindings import load_bindings
    from uir.runtime.backends.tensorrt.build import build_plan
    from uir.runtime.backends.tensorrt.log import Log
    from uir.runtime.backends.tensorrt.options import BuildOptions
    from uir.runtime.merge import merged_model
    from uir.runtime.package import Package
    from uir.runtime.composition import Composition

    rtx = load_bindings("tensorrt-rtx")
    model = merged_model(Package(Path(sys.argv[1])), Composition.parse("rain"), "fp32").SerializeToString()
    options = BuildOptions(compute_capabilities=("8.6",))
    build_plan(rtx, Log(rtx.module), model, Shapes.only((1, 368, 640)), options, device=None)

run_command("rtx-build", main)
"""


@dataclass(frozen=True)
class Command:
    """One way to use a command: `{work}` is a fresh folder, `{given}` the inputs that all share."""

    name: str
    device: str
    line: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    """What it may leave in `{work}`."""

    @property
    def speaks_as(self) -> str:
        """The name in its messages."""
        return "rtx-build" if self.line[0] == "python" else self.line[0]


def _restoring(device: str, *what: str) -> tuple[str, ...]:
    return ("uir-run", *what, "--package", "{given}/restore.uir", "--device", device)


PICTURE = ("{given}/picture.png", "-o", "{work}/out.png")
VIDEO = ("{given}/clip.mp4", "-o", "{work}/out.mp4", "--duration", "2")
PARTS = ("out.mp4", "out.partial.mp4")
NAMED = ("--adapters", "rain")
LEARNING = ("--photos", "{given}/photos", "--out", "{work}/run", "--steps", "40", "--patch", "32", "--batch", "2")

COMMANDS = (
    *(
        Command("picture, named", device, _restoring(device, *PICTURE, *NAMED), ("out.png",))
        for device in ("cpu", "openvino")
    ),
    *(Command("picture", device, _restoring(device, *PICTURE), ("out.png",)) for device in ("cpu", "openvino")),
    *(Command("video, named", device, _restoring(device, *VIDEO, *NAMED), PARTS) for device in ("cpu", "openvino")),
    *(
        Command("video", device, _restoring(device, *VIDEO, "--trace", "{work}/seen.json"), (*PARTS, "seen.json"))
        for device in ("cpu", "openvino")
    ),
    *(
        Command("engines", device, _restoring(device, "--engines", "build", "--size", "640x368"))
        for device in ("cpu", "openvino")
    ),
    Command("build", "rtx", ("python", "-c", BUILD_RTX, "{given}/restore.uir")),
    Command(
        "calibrate",
        "cpu",
        ("uir-run", "--calibrate", "{given}/picture.png", "--package", "{work}/own.uir", *NAMED),
        ("own.uir",),
    ),
    Command("export", "cpu", ("uir-export", "--adapters", "rain,haze", "-o", "{work}/new.uir"), ("new.uir",)),
    Command(
        "export, over",
        "cpu",
        ("uir-export", "--adapters", "rain,haze", "-o", "{work}/own.uir", "--overwrite"),
        ("own.uir",),
    ),
    Command(
        "export, build",
        "openvino",
        ("uir-export", "--adapters", "rain", "-o", "{work}/new.uir", "--build"),
        ("new.uir",),
    ),
    Command("degrade", "cpu", ("uir-degrade", "{given}/clip.mp4", "{work}/out.mp4", "rain=0.5"), PARTS),
    Command("train", "cpu", ("uir-train", "base", "--degradations", "rain", *LEARNING), ("run",)),
    Command("bench", "cpu", ("uir-bench", "video", "--package", "{given}/restore.uir")),
    Command("doctor", "cpu", ("uir-doctor",)),
)


@dataclass(frozen=True)
class Outcome:
    """What became of one process."""

    command: str
    device: str
    signal: str
    after: float
    """Seconds from its start to the signal."""
    moment: str
    how: str
    seconds: float
    """From the signal to its end."""
    detail: str = ""


class Storm:
    """The inputs, the commands' usual times, and one process after the other.

    Args:
        folder: for all files.
        commands: where `uir-run` and the others lie.
        limit: seconds after which a process counts as wedged.
        late: seconds after which one counts as late.
    """

    def __init__(self, folder: Path, commands: Path, limit: float, late: float = LATE) -> None:
        self.folder, self.commands, self.limit, self.late = folder, commands, limit, late
        self.given = folder / "given"
        self.given.mkdir()
        rng = np.random.default_rng(0)
        picture = cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (256, 192), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(self.given / "picture.png"), picture)
        (self.given / "photos").mkdir()
        for number in range(4):
            cv2.imwrite(str(self.given / "photos" / f"{number}.png"), np.roll(picture, 31 * number, axis=1))
        shutil.copy(CLIP, self.given / "clip.mp4")
        self._call("uir-export", "--adapters", ",".join(SHIPPED), "-o", str(self.given / "restore.uir"))
        self._usual: dict[Command, float] = {}

    def _call(self, *line: str) -> None:
        done = subprocess.run([self.commands / line[0], *line[1:]], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def usual(self, command: Command) -> float:
        """How long the command takes when it is left alone, at most 6 seconds."""
        if command not in self._usual:
            began = time.monotonic()
            with _Begun(self, command) as (process, _):
                try:
                    _, said = process.communicate(timeout=6)
                    assert process.returncode == 0, f"{command.name}: {said}"
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.communicate()
            self._usual[command] = time.monotonic() - began
        return self._usual[command]

    def strike(self, command: Command, how: signal.Signals, share: float) -> Outcome:
        """Start the command, send the signal after a share of its usual time, and see how it ends."""
        after = share * self.usual(command)
        with _Begun(self, command) as (process, work):
            began = time.monotonic()
            while time.monotonic() - began < after and process.poll() is None:
                time.sleep(0.001)
            moment = self._moment(process, work)
            sent = time.monotonic()
            process.send_signal(how)
            try:
                _, said = process.communicate(timeout=self.limit)
            except subprocess.TimeoutExpired:
                how_it_ended, said = "wedged", ""
            else:
                how_it_ended = ""
            seconds = time.monotonic() - sent
            detail = ""
            if not how_it_ended:
                how_it_ended, detail = self._judge(command, how, process.returncode, said, moment, work, seconds)
                if how_it_ended in GOOD and _left_running(process.pid, self.late):
                    how_it_ended = "orphans"
        return Outcome(command.name, command.device, how.name, after, moment, how_it_ended, seconds, detail)

    def _begun(self, command: Command) -> _Begun:
        return _Begun(self, command)

    def _moment(self, process: subprocess.Popen[str], work: Path) -> str:
        if process.poll() is not None:
            return "finished"
        caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
        if caught and not int(caught[1], 16) >> (signal.SIGTERM - 1) & 1:
            return "python"
        return "writing" if any(work.glob(".*.part*")) else "working"

    def _judge(
        self, command: Command, how: signal.Signals, status: int, said: str, moment: str, work: Path, seconds: float
    ) -> tuple[str, str]:
        wanted, word = WORDS[how]
        lines = said.strip().splitlines()
        problem = self._files(command, work)
        if problem:
            return "files", problem
        if moment == "python":
            return "python", ""
        if status == 0:
            return ("finished", "") if moment == "finished" or seconds < 1 else ("swallowed", "went on to the end")
        if status < 0:
            return "killed" if -status == how else "aborted", f"{status} {said[-600:]}"
        if "Traceback" in said or "Exception ignored" in said:
            return "traceback", said[-900:]
        if status != wanted:
            return "status", f"{status} {said[-600:]}"
        if not lines or lines[-1] != f"{command.speaks_as}: {word}":
            return "words", said[-600:]
        extra = [line for line in lines[:-1] if f"{command.speaks_as}: warning: " not in line]
        if extra and command.name not in ("train", "doctor"):
            return "words", said[-600:]
        return ("late", f"{seconds:.2f} s") if seconds > self.late else ("ended", "")

    def _files(self, command: Command, work: Path) -> str:
        left = {path.name for path in work.iterdir()} - set(command.outputs) - {"cache", "tmp"}
        if left:
            return f"left {sorted(left)}"
        half = [path.name for path in work.rglob("*") if ".part" in path.name and ".partial" not in path.name]
        if half:
            return f"half-written {half}"
        kept = sorted({path.name for path in (work / "tmp").iterdir()} - CACHES)
        if kept:
            return f"temporary files {kept}"
        for video in work.glob("*.mp4"):
            try:
                with av.open(str(video)) as container:
                    assert sum(1 for _ in container.decode(video=0)) > 0
            except (av.FFmpegError, AssertionError) as error:
                return f"{video.name} cannot be played: {error}"
        for package in work.glob("*.uir"):
            manifest = json.loads((package / "manifest.json").read_text())
            missing = [name for name in manifest["files"] if not (package / name).exists()]
            if missing:
                return f"{package.name} lacks {missing}"
        if "own.uir" in command.outputs and not (work / "own.uir").exists():
            return "own.uir is lost"
        return ""


def _group(leader: int) -> list[psutil.Process]:
    """What runs in a process group."""
    found = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _left_running(leader: int, patience: float) -> bool:
    """Whether processes that a command started are there long after it."""
    deadline = time.monotonic() + patience
    while _group(leader):
        if time.monotonic() > deadline:
            return True
        time.sleep(0.05)
    return False


class _Begun:
    """A command's process in a fresh folder. Nothing of it outlives the block."""

    def __init__(self, storm: Storm, command: Command) -> None:
        self.storm, self.command = storm, command

    def __enter__(self) -> tuple[subprocess.Popen[str], Path]:
        self.work = Path(tempfile.mkdtemp(dir=self.storm.folder))
        for name in ("cache", "tmp"):
            (self.work / name).mkdir()
        if "own.uir" in self.command.outputs:
            shutil.copytree(self.storm.given / "restore.uir", self.work / "own.uir")
        places = {"work": self.work, "given": self.storm.given}
        line = [part if "\n" in part else part.format(**places) for part in self.command.line]
        program = sys.executable if line[0] == "python" else str(self.storm.commands / line[0])
        environment = {
            **os.environ,
            "UIR_CACHE": str(self.work / "cache"),
            "UIR_DEVICE": self.command.device if self.command.device != "rtx" else "cpu",
            "TMPDIR": str(self.work / "tmp"),
            "OMP_NUM_THREADS": "1",
        }
        self.process = subprocess.Popen(
            [program, *line[1:]],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env=environment,
            start_new_session=True,
        )
        return self.process, self.work

    def __exit__(self, *_: object) -> None:
        for other in _group(self.process.pid):
            with suppress(psutil.NoSuchProcess):
                other.kill()
        self.process.communicate()
        shutil.rmtree(self.work, ignore_errors=True)


def blows(number: int, seed: int, commands: Sequence[Command]) -> Iterator[tuple[Command, signal.Signals, float]]:
    """Which command, which signal, and after which share of its time: each command equally often, in random order."""
    rng = random.Random(seed)
    drawn = [(commands[turn % len(commands)], list(WORDS)[turn // len(commands) % 2]) for turn in range(number)]
    rng.shuffle(drawn)
    for command, how in drawn:
        yield command, how, rng.random()


def table(outcomes: Sequence[Outcome], key: Callable[[Outcome], tuple[str, ...]]) -> list[str]:
    """How the processes ended, by a key."""
    kinds = sorted({outcome.how for outcome in outcomes}, key=lambda how: (how not in GOOD, how))
    rows = []
    for group in sorted({key(outcome) for outcome in outcomes}):
        members = [outcome for outcome in outcomes if key(outcome) == group]
        counts = Counter(outcome.how for outcome in members)
        slowest = max(outcome.seconds for outcome in members)
        cells = [*group, str(len(members)), *(str(counts[kind] or "") for kind in kinds), f"{slowest:.2f} s"]
        rows.append("| " + " | ".join(cells) + " |")
    return ["", "| " + " | ".join([*([""] * len(group)), "signals", *kinds, "slowest"]) + " |", *rows]


def main() -> int:
    """Run the storm and print what became of it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--number", type=int, default=200, help="of signals (default: %(default)s)")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--at-once", type=int, default=2, help="processes (default: %(default)s)")
    options.add_argument("--limit", type=float, default=20.0, help="seconds until one is wedged (default: %(default)s)")
    options.add_argument("--late", type=float, default=LATE, help="seconds until one is late (default: %(default)s)")
    options.add_argument("--only", metavar="A,B", help="commands by name")
    options.add_argument("--bin", type=Path, default=Path(sys.executable).parent, help="where the commands lie")
    options.add_argument("--json", action="store_true", help="print the outcomes as JSON")
    chosen = options.parse_args()
    # A shell's background job ignores it, and so would all processes that are started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    there = {device for device, library in LIBRARIES.items() if find_spec(library)} | {"cpu"}
    commands = [each for each in COMMANDS if each.device in there]
    if chosen.only:
        commands = [each for each in commands if each.name in chosen.only.split(",")]
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        storm = Storm(Path(folder), chosen.bin, chosen.limit, chosen.late)
        drawn = list(blows(chosen.number, chosen.seed, commands))
        with ThreadPoolExecutor(chosen.at_once) as pool:
            list(pool.map(storm.usual, dict.fromkeys(command for command, _, _ in drawn)))
            outcomes = list(pool.map(lambda blow: storm.strike(*blow), drawn))
    if chosen.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes]))
    else:
        for key in (
            lambda each: (each.command, each.device, each.signal),
            lambda each: (each.signal, each.moment),
        ):
            print("\n".join(table(outcomes, key)))
        seconds = sorted(outcome.seconds for outcome in outcomes if outcome.how in ("ended", "late"))
        if seconds:
            print(f"\nfrom signal to end: median {seconds[len(seconds) // 2]:.2f} s, slowest {seconds[-1]:.2f} s")
        for outcome in outcomes:
            if outcome.how not in GOOD:
                print(f"\n{outcome}")
    return int(any(outcome.how not in GOOD for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
