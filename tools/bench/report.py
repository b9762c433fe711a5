"""What every benchmark shares: the machine that it ran on, tables for people, JSON for programs."""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import onnxruntime

from uir.runtime.atomic import atomic_output, check_destination
from uir.tools.processor import board, processor, usable_cores

STDOUT = "-"


@dataclass(frozen=True)
class Table:
    """A table of text. The first column is aligned to the left, the others, which hold numbers, to the right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        lines = [self.columns, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        first, *others = widths
        text = [
            "  ".join(
                [line[0].ljust(first), *(cell.rjust(w) for cell, w in zip(line[1:], others, strict=True))]
            ).rstrip()
            for line in lines
        ]
        return "\n".join([self.title, "", text[0], "-" * (sum(widths) + 2 * len(others)), *text[1:]])


@dataclass(frozen=True)
class Report:
    """What a benchmark found.

    Attributes:
        settings: what was measured and how, enough to measure it again.
        results: the numbers, for `--json`: mappings, sequences and dataclasses of numbers and text.
        tables: the same for people.
        notes: what a reader must know to read the tables.
        failure: what the benchmark holds against what it measured; empty where there is nothing.
    """

    settings: Mapping[str, object]
    results: object
    tables: Sequence[Table]
    notes: Sequence[str] = ()
    failure: str = ""


@dataclass(frozen=True)
class Machine:
    """Where a benchmark ran.

    Attributes:
        cores: processor cores that this process may use.
        load: processes that wanted to run in the minute before the benchmark, on average. Anything well above 0 is
            work that took time from it. None where the system does not tell (Windows).
    """

    cpu: str
    cores: int
    load: float | None
    onnxruntime: str = field(default=onnxruntime.__version__)

    @classmethod
    def here(cls) -> Machine:
        """Describe the machine that this runs on."""
        load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
        return cls(board() or processor(), usable_cores(), load)

    def __str__(self) -> str:
        load = "" if self.load is None else f", load {self.load:g} at the start"
        return f"{self.cores} cores of {self.cpu}, ONNX Runtime {self.onnxruntime}{load}"


def add_report_options(command: argparse.ArgumentParser) -> None:
    """The options of every benchmark that say where its numbers go."""
    command.add_argument(
        "--json", metavar="FILE", help="also write the numbers as JSON; - prints them in the tables' place"
    )
    command.add_argument("--overwrite", action="store_true", help="replace files that stand there already")


def check_report_options(options: argparse.Namespace) -> None:
    """Refuse a destination that cannot be written before the work is done. Raises OutputError."""
    if options.json not in (None, STDOUT):
        check_destination(Path(options.json), overwrite=options.overwrite)


def publish(report: Report, machine: Machine, options: argparse.Namespace) -> None:
    """Print a report's tables, and write its JSON where `--json` says.

    Raises:
        OutputError: the JSON cannot be written.
    """
    content = {
        "benchmark": options.benchmark,
        "machine": machine,
        "settings": report.settings,
        "results": report.results,
    }
    encoded = msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"
    if options.json == STDOUT:
        print(encoded.decode(), end="")
        return
    parts = [f"uir-bench {options.benchmark}: {machine}", *map(str, report.tables)]
    print("\n\n".join([*parts, "\n".join(report.notes)]).rstrip())
    if options.json:
        with atomic_output(Path(options.json), overwrite=options.overwrite) as temporary:
            temporary.write_bytes(encoded)


def median(values: Sequence[float]) -> float:
    """The median, which one disturbed run does not move."""
    return statistics.median(values)
