"""What the self-test found, for people and programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from uir.tools.doctor.page import layout
from uir.tools.doctor.trial import Measured

Size = tuple[int, int]
"""Width and height, pixels."""


@dataclass(frozen=True)
class Result:
    """One engine.

    Attributes:
        passed: it ran, and its PSNR is what is needed, or more.
        psnr: of all frames together against float32 on the CPU, dB, at most 100.
        needed: dB.
        largest: the largest difference of a sample, in codes of 8 bits.
        measured: how it ran.
        failure: why it did not, if so.
    """

    composition: str
    precision: str
    passed: bool
    psnr: float | None = None
    needed: float | None = None
    largest: int | None = None
    measured: Measured | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Tested:
    """All engines of a package.

    Attributes:
        size: width and height of the frames, pixels.
    """

    package: str
    device: str
    size: Size
    results: Sequence[Result]

    @property
    def passed(self) -> bool:
        """Whether all of them passed, and there was one at all."""
        return bool(self.results) and all(result.passed for result in self.results)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "passed": self.passed}

    def __str__(self) -> str:
        lines = ["selftest", *layout("package", self.package), *layout("frames", "x".join(map(str, self.size)))]
        engines = dict.fromkeys(result.measured.engine for result in self.results if result.measured)
        for engine in engines:
            lines += layout(self.device, engine)
        lines += layout("dB", "PSNR against float32 on the CPU, at most 100, and what is needed")
        lines += layout("largest", "difference of a sample, of 255")
        lines += layout("first s", "until the first frame: an engine is built, or loaded where one is kept")
        if len(engines) > 1:
            lines += layout("auto", "fp32 where it is not asked for by name: in a faster type of the device's")
        lines += ["", _line("", "dB", "needed", "largest", "first s", "fps", "MiB", "GPU MiB", "")]
        for composition in dict.fromkeys(result.composition for result in self.results):
            lines.append(composition)
            for result in self.results:
                if result.composition == composition:
                    lines += _lines(result)
        failed, count = sum(not result.passed for result in self.results), len(self.results)
        verdict = f"{failed} of {count} engines FAILED" if failed else f"all {count} engines passed"
        return "\n".join([*lines, "", f"selftest: {verdict}"])


def _lines(result: Result) -> list[str]:
    measured = result.measured
    if measured is None or result.psnr is None or result.needed is None:
        return layout(result.precision, f"FAIL: {result.failure}")
    cells = (
        f"{result.psnr:.1f}",
        f"{result.needed:.1f}",
        str(result.largest),
        f"{measured.first_seconds:.1f}",
        f"{measured.fps:.1f}",
        "-" if measured.peak_bytes is None else f"{measured.peak_bytes / 2**20:.0f}",
        "-" if measured.gpu_bytes is None else f"{measured.gpu_bytes / 2**20:.0f}",
    )
    return [_line(result.precision, *cells, "pass" if result.passed else "FAIL")]


def _line(precision: str, *cells: str) -> str:
    *numbers, verdict = cells
    return f"  {precision:6}{''.join(cell.rjust(9) for cell in numbers)}  {verdict}".rstrip()
