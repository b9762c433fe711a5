"""The weights that ship: one base and its adapters, each adapter a PEFT folder, the base with its traced graph;
and the router that chooses among the adapters.

They are stored as float16, and read as float32.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from uir.export.package_writer import ExportBase
from uir.export.tensors import read_tensors
from uir.runtime.errors import BaseModelError
from uir.runtime.manifest import FrameContract

ZOO = Path(__file__).parent


class ZooBase(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in `base.json` beside the base's weights and graph."""

    name: str
    architecture: str
    licence: str
    frame: FrameContract


def zoo_adapters() -> dict[str, Path]:
    """The folders of the shipped adapters, by name."""
    return {config.parent.name: config.parent for config in sorted((ZOO / "adapters").glob("*/adapter_config.json"))}


def zoo_router() -> Path | None:
    """The folder of the shipped router; None in a zoo that has none."""
    folder = ZOO / "router"
    return folder if folder.is_dir() else None


def zoo_base() -> ExportBase:
    """The shipped base, with the graph that was traced when it was published: no torch is needed."""
    folder = ZOO / "base"
    about = msgspec.json.decode((folder / "base.json").read_bytes(), type=ZooBase)
    return ExportBase(
        name=about.name,
        architecture=about.architecture,
        licence=about.licence,
        graph=(folder / "graph.onnx").read_bytes(),
        weights=read_tensors(folder / "base.safetensors", BaseModelError),
        frame=about.frame,
    )
