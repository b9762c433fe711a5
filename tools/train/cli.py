"""Train a base together with its adapters, adapters over a frozen base, or the router that chooses among them.

examples:
  uir-train base --photos photos/ --steps 20000 --out runs/ten
  uir-train base --init runs/ten --photos photos/ --steps 5000 --out runs/longer
  uir-train base --photos photos.pack --device cuda --minutes 9 --out runs/quick
  uir-train pack photos/ more/ --out photos.pack
  uir-train adapter snow --base B.safetensors --init runs/ten --beside rain,haze --photos photos/ --out runs/snow
  uir-train full rain --base B.safetensors --init runs/ten --photos photos/ --out runs/full_rain
  uir-train router --photos photos/ --out runs/router
  uir-train prototype loras/fog --examples foggy_photos/

A base is trained with one adapter for each degradation, on sampled compositions, since adapters that never met during
training interfere when they are merged. Adapters that are named together are likewise trained together, the base
frozen. One whole network for one degradation (full) is what adapters are compared with. A run that was interrupted goes
on when the same command is given again.

The router knows an adapter by its prototype. Adapters that are trained over a frozen base get theirs at the end; others
from examples of what they are for (prototype).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from uir.runtime.console import run_command
from uir.runtime.errors import UsageError
from uir.runtime.version import install
from uir.tools.train.options import check_pack, parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    since = time.monotonic()
    options = parser(__doc__).parse_args(arguments)
    if options.kind == "pack":
        _pack(options)
        return
    try:
        from uir.tools.train.work import work
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise UsageError(f"uir-train needs torch: {install('export')}") from error
    work(options, list(sys.argv[1:] if arguments is None else arguments), since)


def _pack(options: argparse.Namespace) -> None:
    check_pack(options)
    from uir.tools.train.pack import pack

    made = pack(options.photos, options.out, options.side, options.quality, overwrite=options.overwrite)
    mean, least = made.psnr
    size = f"{made.photos} photos, {made.size / 1e6:.1f} MB"
    print(f"{options.out}: {size}, PSNR of the JPEGs {mean:.1f} dB, least {least:.1f}")


def run() -> None:
    """The `uir-train` command."""
    run_command("uir-train", main)
