"""PEFT's settings for some modules: `rank_pattern` and `alpha_pattern`, by the first pattern that fits a module's name.

A pattern is a regular expression that fits a name or the end of it after a dot: `re.match(rf"(.*\\.)?({key})$", name)`.
Python's own matcher tries all ways to fit one, of which a hostile pattern has more than can ever be tried. Here a plain
name, which nearly every pattern is, is compared; any other goes to RE2 (Cox 2010, "Regular Expression Matching in the
Wild"), whose time is linear in the name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from uir.runtime.errors import AdapterError, UsageError, shown
from uir.runtime.version import install

MOST = 4096  # patterns, as of tensors
MOST_REGULAR = 20
"""Patterns that are more than a name. Those that programs write are names; these are written by hand."""
LONGEST = 200  # characters of a pattern, as of a weight's name

_PLAIN = re.compile(r"(\^?)((?:[\w.-]|\\[.-])*)\$?", re.ASCII)
_REGULAR = re.compile(
    r"""(?: [\w.|)*+?^$-] | \\[.dDsSwW_-] | \((?!\?) | \(\?: | \{\d{1,2}(?:,\d{0,2})?\}
        | \[\^?(?:[\w.-]|\\[.dDsSwW-])+\] )*""",
    re.ASCII | re.VERBOSE,
)
"""What Python and RE2 read alike. Lookarounds and back references, which RE2 has not, are not in it."""


class Patterns:
    """The values of one such setting, all patterns compiled.

    Raises:
        AdapterError: a pattern is malformed, too long, or more than can be matched in linear time.
        UsageError: RE2 is needed, and not installed.
    """

    def __init__(self, values: Mapping[str, float] | None) -> None:
        listed = values or {}
        if len(listed) > MOST or sum(not _PLAIN.fullmatch(key) for key in listed) > MOST_REGULAR:
            raise AdapterError(f"sets more than {MOST} modules, or {MOST_REGULAR} patterns that are more than a name")
        self._values = [(_matcher(key), value) for key, value in listed.items()]

    def get(self, module: str, default: float) -> float:
        """The value of the first pattern that fits a module's name, which is ASCII."""
        return next((value for fits, value in self._values if fits(module)), default)


def _matcher(key: str) -> Callable[[str], bool]:
    if len(key) > LONGEST:
        raise AdapterError(f"{shown(key, 40)} is longer than {LONGEST} characters; write names of modules instead")
    plain = _PLAIN.fullmatch(key)
    return _plain(plain[2], whole=bool(plain[1])) if plain else _regular(key)


def _plain(name: str, *, whole: bool) -> Callable[[str], bool]:
    """A name in which an unescaped dot is any character. It has one length, so it fits one end of a module's alone."""
    characters = re.compile(name)
    length = len(name) - name.count("\\")

    def fits(module: str) -> bool:
        begin = len(module) - length
        after_dot = begin > 0 and not whole and module[begin - 1] == "."
        return (begin == 0 or after_dot) and characters.fullmatch(module, begin) is not None

    return fits


def _regular(key: str) -> Callable[[str], bool]:
    if not _REGULAR.fullmatch(key):
        raise AdapterError(
            f"{shown(key, 40)} is not a pattern of module names, or holds more than . | () [] * + ? {{}} ^ $ and "
            "escapes of these; write names of modules instead"
        )
    try:
        import re2
    except ModuleNotFoundError as error:
        raise UsageError(f"{shown(key, 40)}: a pattern needs {error.name}: {install('export')}") from error
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(rf"(.*\.)?({key})", options)
    except re2.error as error:
        raise AdapterError(f"{shown(key, 40)} is not a pattern of module names") from error
    return lambda module: compiled.fullmatch(module) is not None
