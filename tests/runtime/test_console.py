"""What all commands share: progress on terminals, whatever size they tell."""

from __future__ import annotations

import os
import subprocess
import sys
from fcntl import ioctl
from struct import pack
from termios import TIOCSWINSZ

import pytest

CODE = """
from tqdm import tqdm
from uir.runtime.console import run_command
def main(_):
    for _ in tqdm(range(5), desc="frames"):
        pass
run_command("test", main)
"""


def shown(columns: int, rows: int) -> str:
    """What a command with a bar shows on a terminal of a size."""
    master, terminal = os.openpty()
    ioctl(terminal, TIOCSWINSZ, pack("HHHH", rows, columns, 0, 0))
    try:
        subprocess.run([sys.executable, "-c", CODE], stderr=terminal, check=True, timeout=60)
        return os.read(master, 4096).decode()
    finally:
        os.close(master)
        os.close(terminal)


@pytest.mark.parametrize(
    ("columns", "rows", "width"), [(0, 0, 79), (0, 24, 79), (80, 0, 79), (50, 24, 49)], ids=lambda value: str(value)
)
def test_a_bar_is_seen_on_a_terminal_of_any_size(columns: int, rows: int, width: int) -> None:
    lines = shown(columns, rows).replace("\n", "\r").split("\r")
    (full,) = {line for line in lines if line.startswith("frames: 100%|")}
    assert len(full.strip()) == width
    assert "5/5" in full
