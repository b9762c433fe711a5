"""Measure quality, speed, memory and size, and say on what machine.

Tables are for people, --json for programs; times are medians of several runs. Progress is shown on stderr.

examples:
  uir-bench quality --photos photos/ --sheet sheet.png
  uir-bench rank --photos photos/ --ranks 4,8
  uir-bench router --photos photos/ --foreign --mixes
  uir-bench merge --package restore.uir
  uir-bench video --sizes 640x360,1920x1080 --seconds 3 --json video.json
  uir-bench follow --package restore.uir --video clean.mp4 --plot followed.png
  uir-bench trace seen.json -o seen.png
  uir-bench size --package restore.uir
  uir-bench scaling --package restore.uir --plot scaling.png
  uir-bench speed --size 640x360 --seconds 120 --plot speed.png
  uir-bench engines --device rtx --size 1920x1080
  uir-bench soak --package restore.uir --time 2h
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from uir.runtime.console import run_command
from uir.runtime.errors import UirError, UsageError
from uir.runtime.version import add_version, install
from uir.tools.bench import (
    engines,
    flicker,
    follow,
    merge,
    quality,
    rank,
    router,
    scaling,
    size,
    soak,
    speed,
    trace,
    video,
)
from uir.tools.bench.report import Machine, add_report_options, check_report_options, publish

BENCHMARKS = (quality, flicker, rank, router, merge, video, follow, trace, size, scaling, speed, engines, soak)
"""A benchmark is a module: its docstring is its help, `add_options` its options; `measure` turns them into a report."""

EXTRA = {
    "skimage": "scikit-image",
    "psutil": "psutil",
    "matplotlib": "matplotlib",
    "albumentations": "nrtk-albumentations",
    "imagecorruptions": "imagecorruptions-imaug",
}
"""What only benchmarks need, by the name that it is imported by."""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    top = argparse.ArgumentParser(
        prog="uir-bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_version(top)
    commands = top.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK")
    for module in BENCHMARKS:
        description = module.__doc__ or ""
        command = commands.add_parser(
            module.__name__.rpartition(".")[2],
            help=description.partition("\n")[0].rstrip("."),
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_options(command)
        add_report_options(command)
        command.set_defaults(measure=module.measure)
    return top


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one benchmark and publish its report; see the module's docstring."""
    options = parser().parse_args(arguments)
    check_report_options(options)
    machine = Machine.here()
    try:
        report = options.measure(options)
    except ModuleNotFoundError as error:
        missing = EXTRA.get((error.name or "").partition(".")[0])
        if missing is None:
            raise
        raise UsageError(f"uir-bench {options.benchmark} needs {missing}: {install('bench')}") from error
    publish(report, machine, options)
    if report.failure:
        raise UirError(report.failure)


def run() -> None:
    """The `uir-bench` command."""
    run_command("uir-bench", main)


if __name__ == "__main__":
    run()
