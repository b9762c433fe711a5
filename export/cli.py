"""Turn a base and its adapters into a package that uir-run restores with.

Each adapter becomes a composition of its own. Two or three together also become their equal mix, which then is the
default: what runs where no adapters are named and no router chooses. Larger mixes were never trained, so that of more
adapters the first is the default. Adapters are named from the zoo, by a preset, or are folders in PEFT format.

For fp16 and int8, each composition is calibrated and held against float32: what they cost is printed and stored, and
what costs too much is not used. This is done on photos that are degraded here, or better on your own footage.

examples:
  uir-export --adapters rain,haze
  uir-export --preset weather3
  uir-export --adapters rain,haze --compose rain=0.7,haze=0.3 --emit onnx -o storm.uir
  uir-export --adapters rain,haze --precision auto --calibrate drive.mp4
  uir-export --base mine.safetensors --adapters fog=loras/fog,./loras/rain
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from uir.export.adapters import check_fits, compacted, load_adapter
from uir.export.package_writer import ExportAdapter, ExportBase, write_package
from uir.export.picture_check import check_pictures
from uir.export.precision import parse_precisions, table, try_compositions
from uir.export.presets import PRESETS, preset_adapters
from uir.export.router import choose_prototypes, load_router
from uir.export.zoo import zoo_adapters, zoo_base, zoo_router
from uir.runtime.atomic import check_destination
from uir.runtime.composition import Composition, check_name, is_adapter_name
from uir.runtime.console import run_command
from uir.runtime.engine_commands import build_engines, engine_line, frame_size
from uir.runtime.errors import UsageError
from uir.runtime.factors import Adapter
from uir.runtime.manifest import Manifest
from uir.runtime.package import DEFAULT_PACKAGE
from uir.runtime.restorer import Restorer
from uir.runtime.version import add_version, install

ZOO_LICENCE = "Apache-2.0"
UNSTATED = "unstated"
LARGEST_MIX = 3
"""Adapters in a mix: the shipped ones were trained alone, in pairs and in threes. The equal mix of more is poor."""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(
        prog="uir-export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_version(options)
    chosen = options.add_mutually_exclusive_group(required=True)
    chosen.add_argument(
        "--adapters",
        metavar="A,B",
        help=f"zoo names ({', '.join(zoo_adapters())}), PEFT folders, or NAME=FOLDER",
    )
    chosen.add_argument(
        "--preset",
        choices=PRESETS,
        help="a set of the zoo's adapters: " + "; ".join(f"{name} ({', '.join(PRESETS[name])})" for name in PRESETS),
    )
    options.add_argument("-o", "--output", type=Path, default=Path(DEFAULT_PACKAGE), help="default: %(default)s")
    options.add_argument(
        "--compose",
        action="append",
        default=[],
        metavar="A=W,B=W",
        help="also list this mix; the first one given becomes the package's default (repeatable)",
    )
    options.add_argument(
        "--base", type=Path, metavar="FILE", help="a base checkpoint, .safetensors (default: the zoo's; needs torch)"
    )
    options.add_argument(
        "--precision",
        default="fp32",
        metavar="P,P",
        help="fp32, fp16, int8, or auto for all: besides fp32, which is always there (default: %(default)s)",
    )
    options.add_argument(
        "--calibrate",
        type=Path,
        metavar="PATH",
        help="calibrate on this video, photo or folder, as it comes to be restored (default: photos of ours, degraded)",
    )
    options.add_argument(
        "--build",
        nargs="?",
        const=(),
        type=frame_size,
        metavar="WxH",
        help="also build the engines for this machine's device ($UIR_DEVICE), for frames of that size, or of all",
    )
    options.add_argument(
        "--router", type=Path, metavar="FOLDER", help="what chooses adapters by a frame (default: the zoo's)"
    )
    options.add_argument("--emit", choices=["onnx"], help="also write each composition as a stand-alone model.onnx")
    options.add_argument("--overwrite", action="store_true", help="replace a package of that name")
    options.add_argument("--json", action="store_true", help="print what was written as JSON")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    options = parser().parse_args(arguments)
    check_destination(options.output, overwrite=options.overwrite)
    sources = preset_adapters(options.preset) if options.preset else parse_adapters(options.adapters)
    compositions, default = usual_compositions(sources)
    asked = [Composition.parse(text) for text in options.compose]
    for composition in asked:
        composition.check_names(sources)

    precisions = parse_precisions(options.precision)
    if options.calibrate and not precisions:
        raise UsageError("--calibrate is for narrower precisions; add --precision auto")
    listed = list(dict.fromkeys([*compositions, *asked]))

    router_folder = options.router or zoo_router()
    whole = load_router(router_folder) if router_folder else None
    router, unknown = choose_prototypes(whole, sources) if whole else (None, {})
    zoo = zoo_adapters()
    adapters = [load_adapter(folder, name) for name, folder in sources.items()]
    base, adapters = _traced_base(options.base, adapters) if options.base else (_zoo_base(adapters), adapters)
    adapters = [compacted(adapter) for adapter in adapters]
    check_pictures(base, adapters, listed)
    tried = try_compositions(base, adapters, listed, precisions, options.calibrate) if precisions else {}
    manifest = write_package(
        options.output,
        base,
        [
            ExportAdapter(adapter, ZOO_LICENCE if sources[adapter.name] == zoo.get(adapter.name) else UNSTATED)
            for adapter in adapters
        ],
        listed,
        asked[0] if asked else default,
        command=["uir-export", *(arguments if arguments is not None else sys.argv[1:])],
        tried=tried,
        router=router,
        emit_onnx=options.emit == "onnx",
        overwrite=options.overwrite,
    )
    built = _build(options) if options.build is not None else []
    _report(options, manifest, built)
    for name, reason in unknown.items():
        print(
            f"uir-export: {name} {reason}, so automatic choice cannot pick it; uir-train prototype makes one from "
            "examples",
            file=sys.stderr,
        )
    if len(sources) > LARGEST_MIX and not asked and router is None:
        print(
            f"uir-export: mixes of {len(sources)} adapters were never trained, so the default is {default.key} alone; "
            "choose another by --compose here, or by --adapters or --compose at each uir-run",
            file=sys.stderr,
        )


def _report(options: argparse.Namespace, manifest: Manifest, built: list[dict[str, Any]]) -> None:
    """Say what was written and built."""
    size = sum(file.stat().st_size for file in options.output.rglob("*") if file.is_file())
    if options.json:
        report = {
            "package": str(options.output),
            "bytes": size,
            "compositions": msgspec.to_builtins(manifest.compositions),
            "default": manifest.default,
            "engines": built,
        }
        print(json.dumps(report))
        return
    if any(entry.precisions for entry in manifest.compositions.values()):
        print(table(manifest.compositions))
    keys = " ".join(manifest.compositions)
    print(f"{options.output}: {size / 1e6:.1f} MB, compositions {keys}; default {manifest.default}")
    for each in built:
        print(engine_line(each))


def _build(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Build the engines of the package's compositions, and say what was built."""
    restorer = Restorer(options.output)
    return build_engines(restorer, restorer.package.listed, options.build or None)


def usual_compositions(names: Collection[str]) -> tuple[list[Composition], Composition]:
    """What a package of these adapters lists where no mix is asked for, and which of these is the default.

    It lists each adapter alone, and two or three of them by equal weights too, which then is the default. Of more the
    first is: mixes so large were never trained, and leave each adapter too little weight to do its work.
    """
    alone = [Composition.of({name: 1.0}) for name in names]
    if not 1 < len(alone) <= LARGEST_MIX:
        return alone, alone[0]
    mix = Composition.equal_mix(names)
    return [*alone, mix], mix


def parse_adapters(text: str) -> dict[str, Path]:
    """`rain,fog=loras/fog,./loras/snow` to folders by adapter name, in the order given.

    Raises:
        UsageError: a name is unknown, malformed or given twice.
    """
    sources: dict[str, Path] = {}
    zoo = zoo_adapters()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, folder = part.partition("=")
        if equals:
            path = Path(folder)
        elif part in zoo:
            path = zoo[part]
        elif "/" in part or Path(part).is_dir():
            name, path = Path(part).name, Path(part)
        else:
            check_name(part, zoo, "adapter in the zoo")
            raise AssertionError("unreachable: the name is not in the zoo")
        if not is_adapter_name(name):
            raise UsageError(f"{name!r}: not a name for an adapter (letters, digits, - and _); write it as NAME={path}")
        if name in sources:
            raise UsageError(f"{name} is named twice in --adapters {text}")
        sources[name] = path
    if not sources:
        raise UsageError(f"--adapters {text!r} names no adapter; in the zoo are {', '.join(zoo)}")
    return sources


def _zoo_base(adapters: Iterable[Adapter]) -> ExportBase:
    base = zoo_base()
    for adapter in adapters:
        check_fits(adapter, base.weights)
    return base


def _traced_base(path: Path, adapters: Sequence[Adapter]) -> tuple[ExportBase, list[Adapter]]:
    """Load a checkpoint, fold it with its adapters and trace it; the only place where export needs torch."""
    try:
        from uir.export.bases import load_base
        from uir.export.fold import fold
        from uir.export.trace import trace, weights_of

        base = load_base(path)
        weights = weights_of(base.network)
        for adapter in adapters:  # before the tracing, which takes seconds
            check_fits(adapter, weights)
        network, folded = fold(base.network, adapters)
        traced = trace(network)
    except ModuleNotFoundError as error:
        raise UsageError(f"--base needs {error.name}: {install('export')}") from error
    return ExportBase(path.stem, base.architecture, UNSTATED, traced.graph, traced.weights, traced.frame), folded


def run() -> None:
    """The `uir-export` command."""
    run_command("uir-export", main)
