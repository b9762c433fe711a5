"""From a base and its adapters to a package. The only room, with the tools above it, that imports torch."""

from uir.runtime.version import command

run = command("uir-export", "uir.export.cli")
