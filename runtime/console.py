"""What every command shares: how it ends, how it shows progress, how it speaks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partialmethod
from typing import NoReturn

from uir.runtime import stop
from uir.runtime.errors import UirError

INTERRUPTED = 130  # 128 + SIGINT, the shell's convention
UNSIZED = 80, 24  # columns and rows of a terminal that does not say, as the terminals of old had


def run_command(name: str, main: Callable[[Sequence[str] | None], int | None]) -> NoReturn:
    """Run a command's main function, turn its errors into one clear line, and end the process with its exit status.

    `UirError` prints its message, and so does an `OSError` that names a file, such as one that may not be looked at;
    a closed pipe (`uir-bench --json | head`) is silent. Ctrl-C exits with 130 and SIGTERM, which is how services and
    containers are stopped, with 143, at any moment and within two seconds, as `uir.runtime.stop` says. Anything else
    is a defect of ours and keeps its traceback.

    Signals are listened to from here on: let `main` import what takes time.
    """
    stop.listen(name)
    import logging

    logging.basicConfig(format=f"{name}: %(levelname)s: %(message)s")
    logging.addLevelName(logging.WARNING, "warning")
    _size_bars()
    try:
        status = main(None) or 0
        sys.stdout.flush()
    except BaseException as error:
        stop.give_way()
        status = _told(name, error)
    stop.give_way()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    stop.end(status)


def _told(name: str, error: BaseException) -> int:
    """Say what an error says; its exit status."""
    match error:
        case SystemExit(code=None):
            return 0
        case SystemExit(code=int(status)):
            return status
        case UirError():
            said, status = f"error: {error}", error.exit_status
        case SystemExit():
            print(error.code, file=sys.stderr)
            return 1
        case KeyboardInterrupt():
            said, status = "interrupted", INTERRUPTED
        case BrokenPipeError():
            return 1
        case OSError() if error.filename is not None:
            said, status = f"error: {error.filename}: {error.strerror}", 1
        case _:
            sys.excepthook(type(error), error, error.__traceback__)
            return 1
    print(f"{name}: {said}", file=sys.stderr)
    return status


def _size_bars() -> None:
    """Let bars be seen on a terminal that tells no size (serial consoles, some pty's), where tqdm shows none."""
    try:
        sized = all(os.get_terminal_size(sys.stderr.fileno()))
    except (OSError, ValueError):  # no terminal: there are no bars
        return
    if not sized:
        from tqdm import tqdm

        # tqdm's own way to a default of all bars, in whatever room they are made.
        tqdm.__init__ = partialmethod(tqdm.__init__, ncols=UNSIZED[0] - 1, nrows=UNSIZED[1])  # type: ignore[assignment]
