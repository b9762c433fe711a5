"""Restore videos, images, folders of them or patterns, with a package that uir-export wrote.

Results stand beside their sources as NAME.restored.SUFFIX, or where -o says. Sound, subtitles, chapters, metadata
and times of a video are kept; so are orientation, colour profile, transparency and bit depth of an image.

Where no adapters are named, the package's router looks at the picture and chooses; along a video it looks again and
again. What is not degraded passes through untouched.

examples:
  uir-run video.mp4
  uir-run video.mp4 --explain --trace seen.json
  uir-run video.mp4 -o clear.mkv --adapters rain --compare --start 10 --duration 5
  uir-run 'photos/*.jpg' -o restored/ --compose haze=0.4,rain=0.6
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from tqdm import tqdm

from uir.runtime.atomic import check_destination
from uir.runtime.automatic import Automatic, Fixed, summary
from uir.runtime.backends.devices import DEVICES
from uir.runtime.background import in_background
from uir.runtime.composition import Composition
from uir.runtime.console import run_command
from uir.runtime.engine_commands import COMMANDS, build_engines, clear_engines, frame_size, list_engines, print_built
from uir.runtime.errors import UirError, UsageError
from uir.runtime.follow import FollowOptions
from uir.runtime.inputs import collect_all, pair_outputs
from uir.runtime.manifest import PRECISIONS
from uir.runtime.package import DEFAULT_PACKAGE, Package
from uir.runtime.picture_formats import IMAGE_SUFFIXES, is_image
from uir.runtime.restorer import DEFAULT_MEMORY_LIMIT, Restorer
from uir.runtime.router import Router
from uir.runtime.stage_profile import profile_table
from uir.runtime.version import add_version
from uir.runtime.video.options import PRESETS, VideoOptions

MIB = 2**20


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(
        prog="uir-run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_version(options)
    options.add_argument("input", nargs="*", metavar="INPUT", help="videos, images, folders or quoted patterns")
    options.add_argument("-o", "--output", help="a file, or a folder for several inputs (a single one: FOLDER/)")
    options.add_argument("--overwrite", action="store_true", help="replace what stands there already")
    options.add_argument("--json", action="store_true", help="print what was done as JSON")
    options.add_argument("--profile", action="store_true", help="say where a video's time went, stage by stage")

    restoring = options.add_argument_group("restoration")
    restoring.add_argument(
        "--package", type=Path, default=Path(DEFAULT_PACKAGE), metavar="FOLDER", help="default: %(default)s"
    )
    chosen = restoring.add_mutually_exclusive_group()
    chosen.add_argument("--adapters", metavar="A,B", help="merge these adapters in equal parts")
    chosen.add_argument("--compose", metavar="A=W,B=W", help="merge adapters by these weights")
    restoring.add_argument(
        "--device", choices=DEVICES, help="default: $UIR_DEVICE, or else auto: the first that can be used"
    )
    restoring.add_argument(
        "--precision",
        choices=("auto", *PRECISIONS),
        default="auto",
        help="default: auto, the fastest that the device runs and that passed the package's gate",
    )
    restoring.add_argument(
        "--calibrate",
        metavar="PATH",
        help="first find int8 ranges for the mix on this video, photo or folder, and keep them in the package",
    )
    restoring.add_argument(
        "--memory-limit",
        type=int,
        default=DEFAULT_MEMORY_LIMIT // MIB,
        metavar="MIB",
        help="for the network's activations; larger frames are restored in tiles (default: %(default)s)",
    )

    following = options.add_argument_group("automatic choice, where no adapters are named")
    following.add_argument("--explain", action="store_true", help="say what was seen and chosen, at each change")
    following.add_argument("--trace", type=Path, metavar="FILE", help="write what was seen and done, by frame, as JSON")
    following.add_argument(
        "--every",
        type=int,
        metavar="N",
        help="look at each Nth frame of a video, and where a scene begins (default: 3, less where frames are few)",
    )
    following.add_argument(
        "--fade",
        type=float,
        default=FollowOptions.fade,
        metavar="S",
        help="blend over changes for so many seconds; frames take twice as long meanwhile (default: %(default)s)",
    )

    engines = options.add_argument_group(
        "engines", "in memory: within an eighth of the machine's, 1 GiB at most, or $UIR_MEMORY, such as 500MB"
    )
    engines.add_argument(
        "--engines", choices=COMMANDS, help="list or clear the engines on disk, or build the package's ahead of time"
    )
    engines.add_argument(
        "--size", type=frame_size, metavar="WxH", help="with --engines build: the size of the frames to come"
    )

    video = options.add_argument_group("video")
    video.add_argument("--codec", help="the encoder (default: libx264, libvpx-vp9 for .webm)")
    video.add_argument(
        "--quality",
        type=int,
        default=VideoOptions.quality,
        metavar="CRF",
        help="0 is lossless, 51 the smallest file (default: %(default)s)",
    )
    video.add_argument(
        "--preset", choices=PRESETS, default=VideoOptions.preset, help="the encoder's effort (default: %(default)s)"
    )
    video.add_argument("--start", type=float, default=0.0, metavar="S", help="begin at this second")
    video.add_argument("--duration", type=float, metavar="S", help="restore only so many seconds")
    options.add_argument("--compare", action="store_true", help="show the source at the left, the result at the right")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Restore what was asked for; 1 if any of several inputs failed."""
    options = parser().parse_args(arguments)
    if bool(options.engines) == bool(options.input or options.calibrate):
        raise UsageError("name what to restore, or say --engines list, clear or build; uir-run --help says more")
    if options.size and options.engines != "build":
        raise UsageError("--size goes with --engines build: videos say their size themselves")
    if options.memory_limit < 1:
        raise UsageError(f"--memory-limit {options.memory_limit}: must be at least 1 MiB")
    if options.every is not None and options.every < 1:
        raise UsageError(f"--every {options.every}: must be at least 1")
    if not 0 <= options.fade < math.inf:
        raise UsageError(f"--fade {options.fade}: must be 0 or more seconds")
    named = bool(options.adapters or options.compose)
    if named and (options.explain or options.trace):
        raise UsageError("--explain and --trace go with the automatic choice: name no adapters")
    if options.engines:
        _run_engines(options)
        return 0
    package = None
    if options.calibrate:
        package = _calibrated(options)
        if not options.input:
            return 0
    video = VideoOptions(
        options.codec, options.quality, options.preset, options.compare, options.start, options.duration
    )
    output = options.output
    pairs = pair_outputs(
        collect_all(options.input),
        None if output is None else Path(output),
        into_folder=any(Path(name).is_dir() for name in options.input) or (output or "").endswith(("/", os.sep)),
    )
    if options.trace:
        check_destination(options.trace, overwrite=options.overwrite)
    restorer, chooser = _opened(options, package or Package(options.package), [source for source, _ in pairs])
    reports, failed = [], False
    files = tqdm(pairs, unit="file", delay=2, disable=len(pairs) == 1 or not sys.stderr.isatty())
    for source, destination in files:
        try:
            report = _restore(restorer, chooser, source, destination, video, options)
        except UirError as error:
            if len(pairs) == 1:
                raise
            # One bad file does not keep the others waiting.
            failed = True
            report = {"input": str(source), "error": str(error)}
            tqdm.write(f"uir-run: error: {error}", file=sys.stderr)
        reports.append(report)
        if not options.json and "error" not in report:
            tqdm.write(_sentence(report))
    if options.trace and isinstance(chooser, Automatic):
        chooser.write(options.trace, overwrite=options.overwrite)
    if options.json:
        print(json.dumps(reports, indent=2))
    return int(failed)


def _calibrated(options: argparse.Namespace) -> Package:
    """The package, calibrated for the composition that was asked for."""
    from uir.runtime.calibrate import calibrate  # ONNX Runtime's and the graph's tools, needed here alone

    package = Package(options.package)
    composition = _composition(options) or Composition.parse(package.manifest.default)
    entry = calibrate(package, composition, options.calibrate)
    verdict = "passed" if entry.passed else "did not pass, and is not used"
    said = f"{composition.key}: int8 keeps {entry.psnr:.1f} dB against float32 on {options.calibrate}: {verdict}"
    print(f"uir-run: {said}", file=sys.stderr)
    return package


def _opened(
    options: argparse.Namespace, package: Package, sources: Sequence[Path]
) -> tuple[Restorer, Fixed | Automatic]:
    """What restores the sources, and what chooses the composition.

    The engine is read or compiled beside all else that the first frame waits for: the router, and the libraries that
    read and write the files, which are imported here and not above.
    """
    pictures = {source.suffix.lower() in IMAGE_SUFFIXES for source in sources}
    opening = in_background(partial(_restorer, options, package, videos=True not in pictures), "opening")
    for picture in pictures:
        import_module("uir.runtime.images" if picture else "uir.runtime.video.process")
    router = None if options.adapters or options.compose else Router(package)
    restorer = opening.result()
    if router is None:
        return restorer, Fixed(restorer)
    follow = FollowOptions(every=options.every, fade=options.fade)
    return restorer, Automatic(restorer, router, follow, explain=options.explain, trace=options.trace is not None)


def _restorer(options: argparse.Namespace, package: Package, *, videos: bool) -> Restorer:
    return Restorer(
        package,
        _composition(options),
        device=options.device,
        precision=None if options.precision == "auto" else options.precision,
        memory_limit=options.memory_limit * MIB,
        throughput=videos,
    )


def _run_engines(options: argparse.Namespace) -> None:
    if options.engines == "list":
        list_engines(as_json=options.json)
    elif options.engines == "clear":
        clear_engines(as_json=options.json)
    else:
        restorer = _restorer(options, Package(options.package), videos=True)
        chosen = _composition(options)
        built = build_engines(restorer, [chosen] if chosen else restorer.package.listed, options.size)
        print_built(restorer, built, as_json=options.json)


def _composition(options: argparse.Namespace) -> Composition | None:
    if options.adapters:
        return Composition.equal_mix(name.strip() for name in options.adapters.split(",") if name.strip())
    return Composition.parse(options.compose) if options.compose else None


def _restore(
    restorer: Restorer,
    chooser: Fixed | Automatic,
    source: Path,
    destination: Path,
    video: VideoOptions,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Restore one file and report what was done."""
    still = is_image(source)
    process = chooser.begin(source, still=still)
    report: dict[str, Any] = {"input": str(source), "output": str(destination)}
    if still:
        from uir.runtime.images import process_image

        started = time.perf_counter()
        notes = process_image(
            source,
            destination,
            lambda frame: process.decide(frame, 0.0).run(),
            overwrite=options.overwrite,
            compare=video.compare,
        )
        for note in notes:
            tqdm.write(f"uir-run: {source}: {note}", file=sys.stderr)
        done = {"frames": 1, "seconds": time.perf_counter() - started, "notes": notes}
    else:
        from uir.runtime.video.process import process_video

        result = process_video(
            source,
            destination,
            process.decide,
            video,
            workers=restorer.at_once,
            overwrite=options.overwrite,
            label=lambda: process.label,
        )
        stages = {**asdict(result.times), "router": process.seconds_looking}
        done = {"frames": result.frames, "seconds": result.seconds, "stages": stages}
        if options.profile:
            table = profile_table(
                result.times, process.seconds_looking, result.frames, result.seconds, restorer.at_once
            )
            print(table, file=sys.stderr)
    compositions = [{"seconds": seconds, "composition": name} for seconds, name in chooser.decisions()]
    engine = {"engine": restorer.describe(), "precision": restorer.precision}
    return {**report, "compositions": compositions, **engine, **done}


def _sentence(report: dict[str, Any]) -> str:
    frames, seconds = report["frames"], report["seconds"]
    speed = f", {frames} frames in {seconds:.1f} s ({frames / seconds:.1f} fps)" if frames > 1 else ""
    decisions = [(each["seconds"], each["composition"]) for each in report["compositions"]]
    return f"{report['output']}: {summary(decisions)}{speed}"


def run() -> None:
    """The `uir-run` command."""
    run_command("uir-run", main)
