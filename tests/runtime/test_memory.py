"""Memory: what engines may take, by machine, container and variable, and that what is counted is what is taken."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from uir.export.cli import main as export
from uir.runtime import Restorer
from uir.runtime.errors import UsageError
from uir.runtime.memory import MOST, SHARE, VARIABLE, memory_budget, usable_memory

MIB = 2**20

# Engines of the shipped base, as many as are named, each of which has run: bytes of memory and as counted, for each.
COUNT = """
import json, sys
import numpy as np, psutil
from uir.runtime import Restorer

package, device, precision, throughput, few, many = sys.argv[1:]
restorer = Restorer(package, "rain", device=device, precision=precision, throughput=throughput == "yes")
frame = np.random.default_rng(0).integers(0, 256, (180, 320, 3), np.uint8)
restorer.expect(*frame.shape[:2])
found = []
for number in range(1, int(many) + 1):
    restorer.compose({"rain": 0.5, "haze": 0.4 + number / 1000})
    restorer(frame)
    if number in (int(few), int(many)):
        found.append((psutil.Process().memory_full_info().uss, restorer._source._cache.nbytes))
(before, counted_before), (after, counted) = found
print(json.dumps([after - before, counted - counted_before]))
"""


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of the shipped base."""
    path = tmp_path_factory.mktemp("shipped") / "restore.uir"
    export(["--adapters", "rain,haze", "-o", str(path)])
    return path


@pytest.mark.parametrize(
    ("device", "precision"), [("openvino", "fp32"), ("cpu", "fp32")], ids=["openvino", "onnxruntime"]
)
def test_what_is_counted_is_what_is_taken(shipped: Path, tmp_path: Path, device: str, precision: str) -> None:
    if device == "openvino":
        pytest.importorskip("openvino")
    environment = {**os.environ, "UIR_CACHE": str(tmp_path), VARIABLE: "8GiB"}
    given = [str(shipped), device, precision, "no", "3", "11"]
    done = subprocess.run(
        [sys.executable, "-c", COUNT, *given], capture_output=True, text=True, env=environment, timeout=120
    )
    assert not done.stderr
    taken, counted = json.loads(done.stdout)
    assert taken > 8 * 4 * MIB
    assert 0.75 < counted / taken < 1.34, f"{counted / 8 / MIB:.1f} MiB counted, {taken / 8 / MIB:.1f} taken"


def test_the_default_is_a_part_of_the_memory_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("uir.runtime.memory.usable_memory", lambda: 7_800_000_000)  # a Jetson of 8 GB
    assert memory_budget() == 7_800_000_000 // SHARE < MOST
    monkeypatch.setattr("uir.runtime.memory.usable_memory", lambda: 2**36)
    assert memory_budget() == MOST
    monkeypatch.setenv(VARIABLE, " 300 MB ")
    assert memory_budget() == 300_000_000


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "536870912\n"}, 512 * MIB),
        (
            {
                "proc/self/cgroup": "0::/a.slice/b.service\n",
                "sys/fs/cgroup/a.slice/memory.max": f"{300 * MIB}\n",
                "sys/fs/cgroup/a.slice/b.service/memory.max": "max\n",
            },
            300 * MIB,
        ),
        # The path is the host's, and what can be seen is the container's own.
        ({"proc/self/cgroup": "0::/docker/ab12\n", "sys/fs/cgroup/memory.max": f"{400 * MIB}\n"}, 400 * MIB),
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/ab12\n1:name=systemd:/x\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/docker/ab12/memory.limit_in_bytes": f"{200 * MIB}\n",
                "sys/fs/cgroup/cpu,cpuacct/x/memory.limit_in_bytes": "1\n",
            },
            200 * MIB,
        ),
    ],
)
def test_a_container_or_a_service_has_less(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert usable_memory(write(tmp_path, files)) == (machine if limit is None else limit)


@pytest.mark.parametrize("text", ["much", "-1", "1 GiB or so", "0x10"])
def test_a_budget_that_is_no_size_is_refused(shared_package: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(UsageError, match=f"{VARIABLE}={re.escape(text)}: not a size; write it as 2GiB, 500MB or a"):
        Restorer(shared_package, "rain")


GIVE_BACK = """
import re
from uir.runtime.memory import return_memory

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) >> 10

kept = [bytearray(1000) for _ in range(100_000)]
last = kept[-100:]  # in the way of what the system would take back by itself
full = resident()
del kept
freed = resident()
return_memory()
print(full - freed, freed - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries give back by themselves, or cannot")
def test_what_is_freed_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", GIVE_BACK], capture_output=True, text=True, timeout=60)
    assert not done.stderr
    by_itself, asked = map(int, done.stdout.split())
    assert by_itself < 30 < 60 < asked


def test_the_budget_is_the_variables(shared_package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("rain", "haze", "noise")
    for budget, held in (("1GiB", 3), ("0", 1)):
        monkeypatch.setenv(VARIABLE, budget)
        restorer = Restorer(shared_package, "rain")
        for name in names:
            restorer.compose(name)
        assert [restorer.ready(name) for name in names] == [held == 3, held == 3, True]
