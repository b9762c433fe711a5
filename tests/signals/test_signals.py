"""A storm of signals over all commands: each ends at once, says so, and leaves nothing half-written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

STORM = Path(__file__).with_name("storm.py")
NUMBER, HANG = 38, 10  # seconds; how soon it is on a machine that does nothing else, `make signals` tells


def test_a_signal_at_any_moment_ends_any_command() -> None:
    options = ["--number", str(NUMBER), "--seed", "7", "--limit", str(HANG), "--late", str(HANG), "--json"]
    done = subprocess.run([sys.executable, str(STORM), *options], capture_output=True, text=True, timeout=600)
    assert done.stdout, done.stderr
    outcomes = json.loads(done.stdout)
    assert len(outcomes) == NUMBER
    assert not [each for each in outcomes if each["how"] not in ("ended", "python", "finished")]
    counts = Counter(each["how"] for each in outcomes)
    assert counts["ended"] > NUMBER / 2
