"""Training: the base with its adapters, or adapters over a frozen base, from any folder of photos."""

from uir.runtime.version import command

run = command("uir-train", "uir.tools.train.cli")
