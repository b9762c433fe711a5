"""What a maintainer or a user runs beside the two main commands: training, degrading, benchmarks."""

from uir.runtime.version import command

run_degrade = command("uir-degrade", "uir.tools.degrade")
