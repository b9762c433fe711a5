"""Runs commands as forks of one process that has imported what they need: each in milliseconds, yet on its own.

Reads one JSON list of arguments a line, the command first, and the folder to write `stdout` and `stderr` to last;
answers each with its process id. What becomes of the process is for the one who asked to see.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

COMMANDS = {"uir-run": "uir.runtime.cli", "uir-export": "uir.export.cli"}
# Not OpenVINO: importing it starts threads, and a fork waits for ever for what they hold.
IMPORTED = ("uir.runtime.images", "uir.runtime.merge", "onnxruntime")


def serve() -> None:
    """Answer lines until there are no more."""
    for name in (*COMMANDS.values(), *IMPORTED):
        importlib.import_module(name)
    for line in sys.stdin:
        command, *arguments, folder = json.loads(line)
        ready, go = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(go)
            os.read(ready, 1)  # until the parent knows the process
            for number, name in ((0, os.devnull), (1, Path(folder, "stdout")), (2, Path(folder, "stderr"))):
                os.dup2(os.open(name, os.O_RDWR | os.O_CREAT, 0o600), number)
            sys.argv = [command, *arguments]
            sys.stdout = os.fdopen(1, "w", closefd=False)
            sys.stderr = os.fdopen(2, "w", closefd=False)
            _finish(importlib.import_module(COMMANDS[command]).run)
        os.close(ready)
        print(child, flush=True)
        os.close(go)
        _, status, usage = os.wait4(child, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024]), flush=True)


def _finish(run: Callable[[], None]) -> None:
    """Run a command and end as it does, but without the goodbyes of libraries, which wait for their threads."""
    status = 99
    try:
        run()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    serve()
