"""Draw what uir-run --trace wrote: what was seen along a video, what was decided, and what restored each frame.

Above, how similar the frames that were looked at are to each adapter's degradation, and to clean pictures; below, the
composition that was wanted and the one that served, a band for each adapter as high as its weight; scene cuts are
dotted lines. A trace of several files gives as many pictures: seen.png becomes seen-1.png, seen-2.png and so on.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from uir.runtime.composition import Composition
from uir.runtime.decision import CLEAN_NAME
from uir.runtime.errors import MediaError, MissingFileError, UsageError
from uir.tools.bench.options import check_least
from uir.tools.bench.plots import check_plot, save_plot
from uir.tools.bench.report import Report, Table

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY = "0.75"  # of what is clean


class TracedFrame(msgspec.Struct, frozen=True):
    """One frame, as `Trace.plain` in `uir.runtime.trace` has it."""

    seconds: float
    similarities: dict[str, float] | None
    cut: bool
    wanted: str
    served: str


@dataclass(frozen=True)
class Decision:
    """What was wanted from a time on, in seconds, and for how many frames."""

    seconds: float
    wanted: str
    frames: int


class TracedFile(msgspec.Struct, frozen=True):
    """One file of a trace."""

    input: str
    engine: str
    frames: list[TracedFrame]

    @property
    def decisions(self) -> list[Decision]:
        """What was wanted, one after another."""
        runs = [list(run) for _, run in groupby(self.frames, lambda frame: frame.wanted)]
        return [Decision(run[0].seconds, run[0].wanted, len(run)) for run in runs]


class _Traces(msgspec.Struct, frozen=True):
    files: list[TracedFile]


def add_options(command: argparse.ArgumentParser) -> None:
    """The command's options."""
    command.add_argument("trace", type=Path, metavar="TRACE", help="the JSON that uir-run --trace wrote")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.png", help="the picture to write")
    command.add_argument("--file", type=int, metavar="N", help="only the trace's Nth file, from 1")


def measure(options: argparse.Namespace) -> Report:
    """Draw the trace, and say when what was decided.

    Raises:
        UirError: the options make no sense, the trace cannot be read, or a picture cannot be written.
        ModuleNotFoundError: matplotlib is missing.
    """
    check_least(options, "file", 1)
    traced = read_trace(options.trace)
    if options.file is not None:
        if options.file > len(traced):
            raise UsageError(f"--file {options.file}: {options.trace} has {len(traced)}")
        traced = traced[options.file - 1 : options.file]
    shown = [file for file in traced if file.frames]
    if not shown:
        raise MediaError(f"{options.trace}: no frame was traced, so there is nothing to draw")
    targets = [options.output] if len(shown) == 1 else [_numbered(options.output, i + 1) for i in range(len(shown))]
    for target in targets:
        check_plot(target, overwrite=options.overwrite)
    for target, file in zip(targets, shown, strict=True):
        save_plot(target, draw_trace(file), overwrite=options.overwrite)
    notes = [f"Drawn: {', '.join(map(str, targets))}."]
    if len(shown) < len(traced):
        notes.append(f"Without a frame: {', '.join(file.input for file in traced if not file.frames)}.")
    return Report({"trace": str(options.trace)}, [_plain(file) for file in shown], list(map(_table, shown)), notes)


def read_trace(path: Path) -> list[TracedFile]:
    """The files of a trace.

    Raises:
        MissingFileError: there is no such file.
        MediaError: it is no trace.
    """
    try:
        traced = msgspec.json.decode(path.read_bytes(), type=_Traces).files
        for key in {key for file in traced for frame in file.frames for key in (frame.wanted, frame.served)}:
            Composition.parse(key)
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file; uir-run --trace writes one") from None
    except (OSError, UnicodeDecodeError, msgspec.DecodeError, UsageError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MediaError(f"{path}: not a trace that uir-run --trace wrote: {reason}") from error
    return traced


def draw_trace(file: TracedFile, truth: Sequence[tuple[float, str]] = ()) -> Figure:
    """The picture of a file with at least one frame.

    Args:
        truth: when what really began, seconds and name, where that is known.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    seen, wanted, served = figure.subplots(3, sharex=True, height_ratios=[3, 1, 1])
    colours = _colours(file)
    looks = [(frame.seconds, frame.similarities) for frame in file.frames if frame.similarities]
    for name, colour in colours.items():
        points = [(seconds, similarities[name]) for seconds, similarities in looks if name in similarities]
        if points:
            style = "--" if name == CLEAN_NAME else "-"
            seen.plot(*zip(*points, strict=True), style, marker=".", markersize=3, color=colour, linewidth=1.2)
    for axes, keys in (
        (wanted, [each.wanted for each in file.frames]),
        (served, [each.served for each in file.frames]),
    ):
        _draw_bands(axes, [frame.seconds for frame in file.frames], keys, colours)
    for axes in (seen, wanted, served):
        axes.margins(x=0)
        for seconds in (frame.seconds for frame in file.frames if frame.cut):
            axes.axvline(seconds, color="black", linestyle=":", linewidth=1)
        for seconds, _ in truth:
            axes.axvline(seconds, color="black", linewidth=1)
    for seconds, name in truth:
        seen.text(seconds, 1.01, name, transform=seen.get_xaxis_transform(), fontsize=8)
    seen.set_ylabel("similarity (cosine)")
    wanted.set_ylabel("wanted")
    served.set_ylabel("served")
    served.set_xlabel("seconds")
    figure.legend(handles=list(_handles(file, colours, bool(truth))), loc="outside right upper", fontsize=8)
    figure.suptitle(f"{Path(file.input).name}, {file.engine}", fontsize=9)
    return figure


def _draw_bands(axes: Axes, times: Sequence[float], keys: Sequence[str], colours: dict[str, str]) -> None:
    """What each frame had, until the next one: bands above each other, as high as the weights."""
    last = times[-1] + (times[-1] - times[0]) / max(1, len(times) - 1)
    ends = [*times, last if last > times[-1] else times[-1] + 1]  # one frame alone is drawn a second long
    weights = [Composition.parse(key).weights for key in (*keys, keys[-1])]
    stacks = [[each.get(name, 0.0) for each in weights] for name in colours]
    axes.stackplot(ends, stacks, colors=list(colours.values()), step="post", linewidth=0)
    axes.set_ylim(0, max(1.0, *(sum(each.values()) for each in weights)))
    axes.set_yticks([0, 0.5, 1])


def _colours(file: TracedFile) -> dict[str, str]:
    """A colour for each adapter by its name's place, and grey for `clean`, which comes last."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    compositions = {key for frame in file.frames for key in (frame.wanted, frame.served)}
    names = {name for frame in file.frames for name in frame.similarities or ()}
    names.update(name for key in compositions for name in Composition.parse(key).weights)
    chosen = colormaps["tab10" if len(names) <= 11 else "tab20"]
    found = {name: to_hex(chosen(place % chosen.N)) for place, name in enumerate(sorted(names - {CLEAN_NAME}))}
    return {**found, CLEAN_NAME: GREY}


def _handles(file: TracedFile, colours: dict[str, str], truth: bool) -> Iterator[Artist]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    yield from (Patch(color=colour, label=name) for name, colour in colours.items())
    if any(frame.cut for frame in file.frames):
        yield Line2D([], [], color="black", linestyle=":", label="scene cut")
    if truth:
        yield Line2D([], [], color="black", linewidth=1, label="real change")


def _numbered(path: Path, number: int) -> Path:
    return path.with_stem(f"{path.stem}-{number}")


def _plain(file: TracedFile) -> dict[str, object]:
    return {
        "input": file.input,
        "engine": file.engine,
        "frames": len(file.frames),
        "looks": sum(frame.similarities is not None for frame in file.frames),
        "cuts": [frame.seconds for frame in file.frames if frame.cut],
        "decisions": file.decisions,
        "served": Counter(frame.served for frame in file.frames),
    }


def _table(file: TracedFile) -> Table:
    rows = [[each.wanted, f"{each.seconds:.2f}", str(each.frames)] for each in file.decisions]
    cuts = sum(frame.cut for frame in file.frames)
    title = f"{file.input}: {len(file.frames)} frames, scene cuts: {cuts}"
    return Table(title, ["wanted", "from second", "frames"], rows)
