"""TensorRT's log: its calls do not raise, they return None or False and log why."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

log = logging.getLogger(__name__)

_MOST = 3  # errors in one message: those behind them follow from the first
_WRAPPED = re.compile(r"^.*?Error Code \d+: [^(]*\((.*)\)[^)]*$", re.DOTALL)
_PLACE = re.compile(r"[.,]? *In \w+ at \S+?:\d+")
_ECHO = re.compile(r"(catchCudaError|ScopedCudaStream|ModelImporter\.cpp:\d+: (While|---|ERROR)|Invalid Node - )")


class Log:
    """Collects what TensorRT says during one piece of work, and hands warnings to Python's `logging`.

    Args:
        trt: the bindings' module.
        verbose: keep all messages, down to the finest, in `lines`.

    Attributes:
        native: the logger that TensorRT wants. It must live for as long as anything that was made with it.
        errors: error messages, in order.
        lines: all messages, if `verbose`.
    """

    def __init__(self, trt: Any, *, verbose: bool = False) -> None:
        self.errors: list[str] = []
        self.lines: list[str] = []
        self._verbose = verbose
        self.native = _logger_class(trt)(self._take)

    def _take(self, severity: str, message: str) -> None:
        if self._verbose:
            self.lines.append(message)
        if severity in ("ERROR", "INTERNAL_ERROR"):
            self.errors.append(message)
        elif severity == "WARNING":
            log.debug("%s", message)

    def reason(self) -> str:
        """Why the last call failed, as far as TensorRT says."""
        return explain(self.errors)


def explain(errors: Iterable[str]) -> str:
    """Error messages as one phrase: without wrapping, places in NVIDIA's sources and what only echoes another error.

    On a machine with no GPU each error drags one about CUDA along, which is kept only where it is the only one.
    """
    lines = list(dict.fromkeys(line for error in errors for line in error.splitlines() if line.strip()))
    telling = [line for line in lines if not _ECHO.search(line)] or lines
    return "; ".join(_plain(line) for line in telling[:_MOST]) or "it gives no reason"


def _plain(line: str) -> str:
    found = _WRAPPED.match(line)
    return _PLACE.sub("", found[1] if found else line).strip(" .")


@cache
def _logger_class(trt: Any) -> Callable[[Callable[[str, str], None]], Any]:
    """The class of loggers of one of the modules, made once: its base is known only when the module is loaded."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self, take: Callable[[str, str], None]) -> None:
            trt.ILogger.__init__(self)  # super() does not do for classes of pybind11
            self._take = take

        def log(self, severity: Any, message: str) -> None:
            self._take(severity.name, message)

    return Logger
