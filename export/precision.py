"""`uir-export --precision`: each composition typed, calibrated and judged, and a table of what that cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from uir.calibration.frames import check_degradations, default_frames, footage_frames, read_footage
from uir.calibration.precision import Trials, hold_the_mean, try_precisions
from uir.export.package_writer import ExportBase
from uir.runtime.composition import Composition, check_name
from uir.runtime.factors import Adapter
from uir.runtime.manifest import PRECISIONS, CompositionEntry, Precision, PrecisionEntry
from uir.runtime.merge import merge
from uir.runtime.quantize import Network

AUTO = "auto"
_ABBREVIATION = 4  # names in a cell of the table


def parse_precisions(text: str) -> list[Precision]:
    """`fp16,int8` to the precisions to try beside fp32, which is always there.

    `auto` is all of them. With int8 comes fp16, for the mixes that int8 is not calibrated for.

    Raises:
        UsageError: there is no such precision.
    """
    asked = {part.strip() for part in text.split(",")}
    for name in asked:
        check_name(name, (*PRECISIONS, AUTO), "precision")
    if AUTO in asked or "int8" in asked:
        return ["fp16", "int8"]
    return ["fp16"] if "fp16" in asked else []


def try_compositions(
    base: ExportBase,
    adapters: Sequence[Adapter],
    compositions: Sequence[Composition],
    precisions: Collection[Precision],
    footage: Path | None,
) -> dict[Composition, Trials]:
    """Try the precisions on each composition, calibrated on footage, or on the shipped photos where there is none.

    Raises:
        UsageError: an adapter is not named as a known degradation, and there is no footage.
        MissingFileError, MediaError: the footage cannot be read.
        PackageError: a composition gives NaN or infinity.
    """
    multiple_of = base.frame.multiple_of
    if footage is None:
        for composition in compositions:
            check_degradations(composition)
    pieces = None if footage is None else read_footage(footage, multiple_of)
    named = {adapter.name: adapter for adapter in adapters}
    tried: list[Trials] = []
    with tqdm(compositions, unit="composition", disable=None) as bar:
        for composition in bar:

            def stage(text: str, key: str = composition.key) -> None:
                bar.set_postfix_str(f"{key}: {text}")

            stage("frames")
            if pieces is None:
                frames = default_frames(composition, multiple_of)
            else:
                frames = footage_frames(pieces, composition, multiple_of)
            network = Network(base.graph, merge(base.weights, named, composition))
            tried.append(try_precisions(network, frames, precisions, stage))
    return dict(zip(compositions, hold_the_mean(tried), strict=True))


def table(compositions: Mapping[str, CompositionEntry]) -> str:
    """What each precision costs each composition, a line for each."""
    lines = [("composition", "", "against fp32", "restoration", "gate", "")]
    for key, entry in compositions.items():
        lines += [
            (
                key,
                precision,
                "too large" if tried.psnr is None else f"{tried.psnr:.1f} dB",
                "unknown" if tried.restoration is None else f"{round(tried.restoration, 2) + 0.0:+.2f} dB",
                "recommended" if precision == entry.recommended else "passed" if tried.passed else "FAILED",
                _remark(tried),
            )
            for precision, tried in entry.precisions.items()
        ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _remark(tried: PrecisionEntry) -> str:
    listed = ", ".join(tried.returned[:_ABBREVIATION])
    if len(tried.returned) > _ABBREVIATION:
        listed += f" and {len(tried.returned) - _ABBREVIATION} more"
    return "; ".join(filter(None, (tried.method, listed and f"in float16: {listed}")))
