"""Put a training run into the zoo: `python -m uir.tools.publish runs/base`.

Traces the run's base, so that the zoo's users need no torch, and replaces the zoo's adapters by the run's.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import safetensors.numpy

from uir.export.bases import load_base
from uir.export.cli import ZOO_LICENCE
from uir.export.trace import trace
from uir.export.zoo import ZOO, ZooBase
from uir.runtime.console import run_command

FOLDERS = re.compile(r"(^|=)/(?:[^/]+/)*")
"""The folders of an absolute path: they are the trainer's own, and mean nothing to the zoo's users."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    options = argparse.ArgumentParser(prog="python -m uir.tools.publish", description=__doc__)
    options.add_argument("run", type=Path, help="the folder that `uir-train base` wrote")
    options.add_argument("--name", default="unet-2m", help="the base's name (default: %(default)s)")
    options.add_argument("--zoo", type=Path, default=ZOO, help="the zoo's folder (default: the installed one)")
    chosen = options.parse_args(arguments)
    publish(chosen.run, chosen.zoo, chosen.name)


def publish(run: Path, zoo: Path, name: str) -> None:
    """Write `zoo/base`, `zoo/adapters/*` and `zoo/record.json` from a run of `uir-train base`."""
    base = load_base(run / "base.safetensors")
    traced = trace(base.network)
    about = ZooBase(name=name, architecture=base.architecture, licence=ZOO_LICENCE, frame=traced.frame)
    (zoo / "base").mkdir(parents=True, exist_ok=True)
    (zoo / "base" / "graph.onnx").write_bytes(traced.graph)
    (zoo / "base" / "base.safetensors").write_bytes(safetensors.numpy.save(traced.weights))
    (zoo / "base" / "base.json").write_bytes(msgspec.json.format(msgspec.json.encode(about), indent=2) + b"\n")
    # Adapters of another base would not fit this one.
    shutil.rmtree(zoo / "adapters", ignore_errors=True)
    for config in sorted(run.glob("*/adapter_config.json")):
        shutil.copytree(config.parent, zoo / "adapters" / config.parent.name)
    record = json.loads((run / "record.json").read_text())
    record["command"] = [FOLDERS.sub(r"\1", word) for word in record["command"]]
    (zoo / "record.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(run_command("uir.tools.publish", main))
