"""Good inputs made hostile, by the hundred: none may crash, hang, take much memory or end in a traceback."""

from fuzz import adapters, bombs, graphs, packages  # noqa: F401 - each lists its mutators
