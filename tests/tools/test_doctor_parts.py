"""The parts of `uir-doctor`: what it reads of machines that are not at hand, and how it asks what may crash."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from uir.runtime.errors import BackendError
from uir.tools.doctor.children import ChildError, ask
from uir.tools.doctor.cli import chosen_device
from uir.tools.doctor.devices import Device, chosen_by_auto
from uir.tools.doctor.engine_cache import CacheState
from uir.tools.doctor.graphics import Gpu, Graphics, find_graphics
from uir.tools.doctor.libraries import Library
from uir.tools.doctor.machine import Machine, driver_version
from uir.tools.doctor.page import Page

RELEASE = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    "DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\n"
    "TARGET_USERSPACE_LIB_DIR=nvidia\n"
)
MEMINFO = "MemTotal:        7802144 kB\nMemFree:          912340 kB\nMemAvailable:    5120000 kB\n"
DPKG = (
    "Package: nvidia-jetson-services\nStatus: install ok installed\nVersion: 9.9\n\n"
    "Package: nvidia-jetpack\nStatus: install ok installed\nPriority: standard\nVersion: 6.2+b77\n\n"
    "Package: zlib1g\nStatus: install ok installed\nVersion: 1\n"
)
DRIVER = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (buildbrain@mobile-u64)\n"
    "GCC version:  collect2: error: ld returned 1 exit status\n"
)
OLDER_DRIVER = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n"


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes files, by path, under a root of their own."""

    def write(files: dict[str, str]) -> Path:
        root = tmp_path / "root"
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return root

    return write


def test_a_jetson_is_read_from_its_files(tree: Callable[..., Path]) -> None:
    root = tree(
        {
            "etc/nv_tegra_release": RELEASE,
            "proc/meminfo": MEMINFO,
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
            "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 62.50\n",
            "proc/driver/nvidia/version": DRIVER,
            "var/lib/dpkg/status": DPKG,
        }
    )
    machine = Machine.here(root)
    assert (machine.jetson_linux, machine.jetpack) == ("36.4.3", "6.2+b77")
    assert machine.board == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert (machine.memory, machine.available) == (7802144 * 1024, 5120000 * 1024)
    assert driver_version(root) == "540.4.0"


@pytest.mark.parametrize(
    ("release", "read"),
    [
        ("# R35 (release), REVISION: 5.0, GCID: 35550185, BOARD: t186ref, EABI: aarch64\n", "35.5.0"),
        ("# R38 (release), REVISION: 2.1, GCID: 1", "38.2.1"),
        ("something else\nand more", "something else"),
        ("", None),
    ],
)
def test_other_releases_of_jetson_linux(tree: Callable[..., Path], release: str, read: str | None) -> None:
    assert Machine.here(tree({"etc/nv_tegra_release": release})).jetson_linux == read


def test_a_machine_that_tells_nothing_is_no_error(tree: Callable[..., Path], tmp_path: Path) -> None:
    machine = Machine.here(tmp_path / "nothing")
    assert (machine.memory, machine.board, machine.jetson_linux, machine.jetpack) == (None,) * 4
    assert machine.cores >= 1
    removed = DPKG.replace("install ok installed\nPriority", "deinstall ok config-files\nPriority")
    assert Machine.here(tree({"etc/nv_tegra_release": RELEASE, "var/lib/dpkg/status": removed})).jetpack is None
    assert driver_version(tree({"proc/driver/nvidia/version": OLDER_DRIVER})) == "535.183.01"


def test_the_power_mode_is_nvpmodels(tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(
        {"etc/nv_tegra_release": RELEASE, "bin/nvpmodel": "#!/bin/sh\necho NV Power Mode: MAXN_SUPER\necho 2\n"}
    )
    (root / "bin/nvpmodel").chmod(0o755)
    monkeypatch.setenv("PATH", str(root / "bin"), prepend=os.pathsep)
    assert Machine.here(root).power_mode == "MAXN_SUPER"


DRIVER_LIBRARY = """
#include <stdlib.h>
#include <string.h>
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuInit(unsigned flags) { if (CRASHES) abort(); return flags ? 1 : INIT; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 40 + ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, device == 40 ? "Orin" : "Other", length); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = device == 40 ? 7989000000u : 8589934592u; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 8 : attribute == 76 ? device - 33 : attribute == 18 ? device == 40 : -1; return 0; }
int cuGetErrorString(int error, const char **text) { *text = error == 100 ? "no device" : 0; return 0; }
"""


@pytest.fixture
def make_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that puts a stand-in for the GPU's driver, of the same C interface, where it is found first."""

    def make(init: int = 0, crashes: int = 0) -> None:
        if shutil.which("cc") is None:
            pytest.skip("no C compiler")
        source = tmp_path / "driver.c"
        source.write_text(DRIVER_LIBRARY)
        library = tmp_path / "libcuda.so.1"
        line = ["cc", "-shared", "-fPIC", f"-DINIT={init}", f"-DCRASHES={crashes}", "-o", str(library), str(source)]
        subprocess.run(line, check=True)
        monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))

    return make


def test_gpus_are_what_the_driver_shows(make_driver: Callable[..., None]) -> None:
    make_driver()
    orin, other = Gpu("Orin", "8.7", 7989000000, True), Gpu("Other", "8.8", 2**33, False)
    assert find_graphics() == Graphics([orin, other], "12.6")


def test_a_driver_that_fails_is_a_reason(make_driver: Callable[..., None]) -> None:
    make_driver(init=100)
    assert find_graphics() == Graphics([], "12.6", "CUDA failed: no device (cuInit: 100)")
    make_driver(init=999)
    assert find_graphics() == Graphics([], "12.6", "CUDA failed: unknown error (cuInit: 999)")


def test_a_driver_that_crashes_is_a_reason(make_driver: Callable[..., None]) -> None:
    make_driver(crashes=1)
    assert find_graphics() == Graphics([], None, "asking NVIDIA's driver crashed with SIGABRT")


CHILDREN = {
    "crashes": ("os.write(2, b'first\\nlast words\\n'); os.abort()", "crashed with SIGABRT: last words"),
    "is killed": ("os.kill(os.getpid(), 9)", "was killed, as Linux does when memory runs out (dmesg | tail says so)"),
    "raises": ("raise RuntimeError('of its own')", "failed with exit status 1: RuntimeError: of its own"),
    "ends": ("sys.exit(0)", "failed with exit status 0"),
    "hangs": ("import time; time.sleep(60)", "gave no answer within 1 seconds"),
}


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A function that makes a module whose `run` does something, and returns its name."""

    def make(body: str) -> str:
        lines = "import os, sys\nfrom uir.tools.doctor.children import answer\n"
        (tmp_path / "asked.py").write_text(f"{lines}def run():\n    {body}\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return "asked"

    return make


@pytest.mark.parametrize("how", CHILDREN)
def test_how_a_process_failed_is_told(how: str, child: Callable[[str], str]) -> None:
    body, told = CHILDREN[how]
    with pytest.raises(ChildError) as caught:
        ask(child(body), patience=1 if how == "hangs" else 60)
    assert str(caught.value) == told


def test_an_answer_is_what_is_answered_whatever_else_happens(child: Callable[[str], str]) -> None:
    noise = "os.write(1, b'loading\\n'), print('loaded', flush=True)"
    module = child(f"answer(lambda words: ({noise}, {{'said': words}})[-1]); os.abort()")
    assert ask(module, "this", "that") == {"said": ["this", "that"]}


def test_modules_of_the_current_folder_are_not_taken_for_libraries(
    tmp_path: Path, child: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = child("import av; answer(lambda _: {'file': av.__file__})")
    here = tmp_path / "videos"
    here.mkdir()
    (here / "av.py").write_text("")
    monkeypatch.chdir(here)
    assert Path(ask(module)["file"]).name == "__init__.py"


def test_the_cache_is_looked_at_and_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UIR_CACHE", str(tmp_path / "a/b"))
    state = CacheState.here()
    assert (state.folder, state.engines, state.size, state.writable) == (str(tmp_path / "a/b"), 0, 0, True)
    assert state.free is not None
    assert not list(tmp_path.iterdir())


def test_a_budget_that_is_no_size_is_said_and_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UIR_CACHE", str(tmp_path))
    monkeypatch.setenv("UIR_CACHE_SIZE", "500MB")
    assert "holds         0 engines, 0 MiB of 477 MiB" in str(replace(PAGE, cache=CacheState.here()))
    monkeypatch.setenv("UIR_CACHE_SIZE", "much")
    state = CacheState.here()
    assert (state.budget, state.writable) == (None, True)
    assert "  budget        UIR_CACHE_SIZE=much: not a size; write it as" in str(replace(PAGE, cache=state))


def test_a_cache_where_nothing_can_be_written_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for folder, reason in (
        (tmp_path / "file", "Not a directory"),
        (tmp_path / "file/engines", "Not a directory"),
        (tmp_path / "loop/engines", "Too many levels of symbolic links"),
        (Path("/proc/uir-edge/engines"), "No such file or directory"),  # where root may not write either
    ):
        monkeypatch.setenv("UIR_CACHE", str(folder))
        state = CacheState.here()
        assert (state.writable, state.failure) == (False, reason), folder
        said = str(replace(PAGE, cache=state))
        assert f"no: {reason}; each start builds its engines again" in " ".join(said.split())


CPU = Device("cpu", opens=True, usable=True, backend="ONNX Runtime on the CPU", precisions=["fp32"])
CUDA = Device("cuda", opens=True, backend="ONNX Runtime on CUDA", precisions=["fp32"], failure="it fell back")
ABSENT = Device("rtx", failure="TensorRT-RTX is not installed")
PAGE = Page(
    uir_edge="0",
    machine=Machine("Linux", "aarch64", "3.10", "Arm", 6, 2**33, 2**32, "a board", "36.4.3", "6.2", "15W"),
    graphics=Graphics([Gpu("Orin", "8.7", 2**33, True)], "12.6"),
    driver="540.4.0",
    libraries=[Library("numpy", "1.26.4"), Library("av", failure="not installed")],
)


def test_what_a_jetsons_page_says() -> None:
    assert str(PAGE).splitlines()[2:12] == [
        "  system        Linux, aarch64, Python 3.10",
        "  processor     Arm, 6 cores",
        "  memory        8.0 GiB, 4.0 GiB available",
        "  board         a board",
        "  Jetson Linux  36.4.3, JetPack 6.2",
        "  power mode    15W",
        "  GPU           Orin, compute capability 8.7, 8.0 GiB shared with the machine",
        "  driver        540.4.0, for CUDA up to 12.6",
        "",
        "libraries",
    ]
    without = replace(PAGE, graphics=Graphics([], failure="CUDA shows no GPU"), driver=None)
    assert "none: CUDA shows no GPU; is your user in the groups video and render?" in " ".join(str(without).split())


@pytest.mark.parametrize(
    ("devices", "auto", "healthy", "said"),
    [
        ([ABSENT, CPU], "cpu", True, "auto takes cpu engine cache"),
        ([ABSENT, CUDA, CPU], "cuda", True, "auto takes cuda, which fails: name another with --device"),
        ([ABSENT], None, False, "auto takes nothing: no device can be used"),
    ],
)
def test_what_auto_takes(devices: Sequence[Device], auto: str | None, healthy: bool, said: str) -> None:
    taken = chosen_by_auto(devices)
    assert (taken and taken.name) == auto
    page = replace(PAGE, devices=devices, auto=auto)
    assert page.healthy is healthy
    assert said in " ".join(str(page).split())
    if auto == "cuda":
        with pytest.raises(BackendError, match="cuda: cannot be tested: it fell back"):
            chosen_device(page, "auto")
    assert not healthy or chosen_device(page, "cpu") is CPU
