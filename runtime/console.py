"""What every command shares: how it ends, how it shows progress, how it speaks."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partialmethod

from tqdm import tqdm

from uir.runtime.errors import UirError

INTERRUPTED = 130  # 128 + SIGINT, the shell's convention
UNSIZED = 80, 24  # columns and rows of a terminal that does not say, as the terminals of old had


def run_command(name: str, main: Callable[[Sequence[str] | None], int | None]) -> int:
    """Run a command's main function and turn its errors into one clear line and an exit status.

    `UirError` prints its message, and so does an `OSError` that names a file, such as one that may not be looked at;
    Ctrl-C exits with 130; a closed pipe (`uir-bench --json | head`) is silent. SIGTERM, which is how services and
    containers are stopped, ends as Ctrl-C does, so that no half-written output stays behind. Anything else is a defect
    of ours and keeps its traceback.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.basicConfig(format=f"{name}: %(levelname)s: %(message)s")
    logging.addLevelName(logging.WARNING, "warning")
    _size_bars()
    try:
        status = main(None) or 0
        sys.stdout.flush()  # here, where a closed pipe is caught
        return status
    except UirError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes stdout once more at exit; give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        print(f"{name}: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1


def _size_bars() -> None:
    """Let bars be seen on a terminal that tells no size (serial consoles, some pty's), where tqdm shows none."""
    try:
        sized = all(os.get_terminal_size(sys.stderr.fileno()))
    except (OSError, ValueError):  # no terminal: there are no bars
        return
    if not sized:
        # tqdm's own way to a default of all bars, in whatever room they are made.
        tqdm.__init__ = partialmethod(tqdm.__init__, ncols=UNSIZED[0] - 1, nrows=UNSIZED[1])  # type: ignore[assignment]
