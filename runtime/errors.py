"""The errors of uir-edge: one family, so that a caller can catch `UirError` and be done.

Each child also subclasses the builtin that fits it, so that code written against the builtin keeps working. A message
names the file, says what is wrong with it, and says what to do; the commands print it as one line and exit with
`exit_status`.
"""

from __future__ import annotations


class UirError(Exception):
    """Base of every error that uir-edge raises on purpose."""

    exit_status = 1


class UsageError(UirError, ValueError):
    """An argument makes no sense: a malformed composition, an impossible option. Exit status 2, as for argparse."""

    exit_status = 2


class MissingFileError(UirError, FileNotFoundError):
    """A file or folder that was named does not exist."""


class OutputError(UirError, OSError):
    """The result cannot be written: it exists already, the folder is read-only, the disk is full."""


class MediaError(UirError, ValueError):
    """An image or video cannot be read: truncated, empty, not a picture, a form that is not supported."""


class PackageError(UirError, ValueError):
    """A package is damaged, hostile or of a newer schema."""


class AdapterError(UirError, ValueError):
    """An adapter cannot be read, or does not fit the base."""


class BaseModelError(UirError, ValueError):
    """A base checkpoint cannot be read, or is of no known architecture."""


class FrameError(UirError, ValueError):
    """A frame given to the `Restorer` has the wrong type or shape."""


class BackendError(UirError, RuntimeError):
    """A backend cannot compile or run a model on this device."""


class MissingBackendError(BackendError):
    """What would run a device is not installed."""


def shown(value: object, longest: int = 160) -> str:
    """What came from outside as a message may show it: on one line, no control characters, of bounded length.

    An exception comes as its message, all else as Python writes it.
    """
    try:
        text = " ".join(str(value).split()) if isinstance(value, Exception) else repr(value)
    except Exception:  # a type of the caller's, lists too deep, an integer of more digits than Python prints
        text = f"a {type(value).__name__}"
    if not text.isprintable():
        text = repr(text)
    return text if len(text) <= longest else f"{text[:longest]}..."
