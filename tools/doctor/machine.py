"""The machine: system, processor, memory and, on a Jetson, its board and software. The standard library alone."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from uir.tools.processor import board, processor, usable_cores

_PATIENCE = 5.0  # seconds, for a command that answers at once


@dataclass(frozen=True)
class Machine:
    """What is known of a machine.

    Attributes:
        cores: those that this process may use.
        memory: bytes; None where the system has no /proc/meminfo.
        available: bytes that can be had without swapping (proc(5), MemAvailable); None likewise.
        board: the device tree's model, which Jetsons and other Arm boards have.
        jetson_linux: the version of L4T, such as `36.4.3`.
        jetpack: the version of the package nvidia-jetpack, if it is installed.
        power_mode: as nvpmodel names it.
    """

    system: str
    architecture: str
    python: str
    processor: str
    cores: int
    memory: int | None
    available: int | None
    board: str | None
    jetson_linux: str | None
    jetpack: str | None
    power_mode: str | None

    @classmethod
    def here(cls, root: Path = Path("/")) -> Machine:
        """Describe the machine that this runs on.

        Args:
            root: where its `proc`, `etc` and `var` are.
        """
        jetson_linux = _jetson_linux(_text(root / "etc/nv_tegra_release"))
        memory = _text(root / "proc/meminfo")
        return cls(
            system=_system(),
            architecture=platform.machine(),
            python=platform.python_version(),
            processor=processor(root),
            cores=usable_cores(),
            memory=_kibibytes(memory, "MemTotal"),
            available=_kibibytes(memory, "MemAvailable"),
            board=board(root),
            jetson_linux=jetson_linux,
            jetpack=_jetpack(_text(root / "var/lib/dpkg/status")) if jetson_linux else None,
            power_mode=_power_mode() if jetson_linux else None,
        )


def driver_version(root: Path = Path("/")) -> str | None:
    """The version of NVIDIA's driver, if it can be told: the kernel module's, or nvidia-smi's where that is hidden."""
    version = _text(root / "proc/driver/nvidia/version")
    found = re.search(r"^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s", version, re.MULTILINE)
    if found:
        return found[1]
    said = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").strip()
    return said.splitlines()[0] if re.match(r"\d", said) else None


def _system() -> str:
    kernel = f"{platform.system()} {platform.release()}"
    with suppress(OSError):
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {kernel}"
    return kernel


def _kibibytes(meminfo: str, name: str) -> int | None:
    found = re.search(rf"^{name}:\s+(\d+) kB$", meminfo, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _jetson_linux(release: str) -> str | None:
    """`36.4.3` of `# R36 (release), REVISION: 4.3, GCID: ...`; the whole line where it is of another form."""
    line = release.strip().partition("\n")[0]
    found = re.match(r"# R(\d+) \(release\), REVISION: ([\d.]+)", line)
    return f"{found[1]}.{found[2]}" if found else line or None


def _jetpack(status: str) -> str | None:
    """The version of the package that stands for all of JetPack, in dpkg's list of packages."""
    stanza = re.search(r"^Package: nvidia-jetpack\n(?:.+\n)*", status, re.MULTILINE)
    if not stanza or "Status: install ok installed" not in stanza[0]:
        return None
    found = re.search(r"^Version: (\S+)", stanza[0], re.MULTILINE)
    return found[1] if found else None


def _power_mode() -> str | None:
    """The name in nvpmodel's `NV Power Mode: 15W`."""
    found = re.search(r"^NV Power Mode:\s*(.+)$", _output("nvpmodel", "-q"), re.MULTILINE)
    return found[1].strip() if found else None


def _text(path: Path) -> str:
    """A file's text; of one that is not there or may not be read, none."""
    with suppress(OSError):
        return path.read_text(errors="replace")
    return ""


def _output(command: str, *arguments: str) -> str:
    program = shutil.which(command)
    if program is None:
        return ""
    with suppress(OSError, subprocess.TimeoutExpired):
        ended = subprocess.run(
            [program, *arguments], capture_output=True, text=True, errors="replace", timeout=_PATIENCE
        )
        return ended.stdout
    return ""
