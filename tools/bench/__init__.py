"""`uir-bench`: quality, speed and size, measured so that anyone can measure them again."""

from uir.runtime.version import command

run = command("uir-bench", "uir.tools.bench.cli")
