"""`uir-run --engines`, `uir-export --build`: what is in the engine cache, emptying it, filling it ahead of time."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

from tqdm import tqdm

from uir.runtime.arguments import FrameSize
from uir.runtime.composition import Composition
from uir.runtime.disk_cache import DiskCache, Entry, default_budget, default_folder
from uir.runtime.restorer import Restorer

COMMANDS = ("list", "clear", "build")


def list_engines(*, as_json: bool) -> None:
    """Print every engine on disk, the longest unused first, and how much room there is.

    Raises:
        UsageError: $UIR_CACHE_SIZE is no size.
    """
    folder, budget = default_folder(), default_budget()
    entries = DiskCache(folder).entries()
    if as_json:
        found = [_plain(entry) for entry in entries]
        print(json.dumps({"folder": str(folder), "budget": budget, "engines": found}, indent=2))
        return
    for entry in entries:
        print(_line(entry))
    print(
        f"{folder}: {len(entries)} engines, {sum(entry.size for entry in entries) / 1e6:.1f} of {budget / 1e6:.0f} MB"
    )


def clear_engines(*, as_json: bool) -> None:
    """Remove every engine from the disk."""
    folder = default_folder()
    count, size = DiskCache(folder).clear()
    if as_json:
        print(json.dumps({"folder": str(folder), "removed": count, "bytes": size}))
    else:
        print(f"{folder}: {count} engines removed, {size / 1e6:.1f} MB")


def build_engines(
    restorer: Restorer, compositions: Iterable[Composition], size: tuple[int, int] | None
) -> list[dict[str, Any]]:
    """Build engines ahead of time, so that the first frame need not wait; the instant one too, where there is one.

    Args:
        size: height and width of the frames to come; None for frames of all sizes.

    Returns:
        What was built: composition, precision and seconds, as JSON has it.

    Raises:
        BackendError: an engine cannot be built.
    """
    frame_size: FrameSize = size or "any"
    built = []
    for composition in tqdm(list(compositions), unit="engine", delay=2, disable=None):
        began = time.perf_counter()
        restorer.prepare(composition, frame_size).result()
        seconds, precision = round(time.perf_counter() - began, 3), restorer.precision_of(composition)
        built.append({"composition": composition.key, "precision": precision, "seconds": seconds})
    instant = restorer.prepare_instant(frame_size)
    if instant is not None:
        instant.result()
    return built


def print_built(restorer: Restorer, built: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Print what `build_engines` built."""
    if as_json:
        print(json.dumps({"device": restorer.describe(), "engines": built}, indent=2))
        return
    for each in built:
        print(engine_line(each))
    kept = "" if restorer.durable else "; it makes engines in no time, and keeps none on disk"
    print(f"{restorer.describe()}{kept}")


def engine_line(built: dict[str, Any]) -> str:
    """One built engine in words."""
    return f"{built['composition']} in {built['precision']}: {built['seconds']:.1f} s"


def frame_size(text: str) -> tuple[int, int]:
    """An argument `1920x1080` to height and width, pixels."""
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r}: write it as WIDTHxHEIGHT, such as 1920x1080")
    return int(height), int(width)


def _plain(entry: Entry) -> dict[str, Any]:
    return {"digest": entry.digest, "bytes": entry.size, "last_used": entry.last_used, "about": entry.about}


def _line(entry: Entry) -> str:
    about = entry.about
    backend = about.get("backend") or {}
    shapes = about.get("shapes")
    size = "any size" if not shapes or shapes[0] != shapes[-1] else f"{shapes[0][2]}x{shapes[0][1]}"
    mix = "+".join(weight for _, weight in about.get("adapters", [])) or "base"
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.last_used))
    words = (backend.get("backend", "unknown"), about.get("precision", "unknown"), size, f"weights {mix}")
    return f"{entry.digest[:12]}  {entry.size / 1e6:7.1f} MB  {used}  {', '.join(words)}"
