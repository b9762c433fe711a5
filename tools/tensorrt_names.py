"""Write down the names that versions of TensorRT's Python bindings have, so that tests can hold our calls against them.

TensorRT itself cannot be installed on every machine, but its bindings can: they are small wheels, and import once there
are libraries with the few symbols that they want. Those made here are empty, so nothing can be called: the names are
all there is. Needs pip, a C compiler and the network.

example:
  python -m uir.tools.tensorrt_names 10.3.0 11.4.0.106
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from uir.runtime.atomic import atomic_output
from uir.runtime.console import run_command
from uir.runtime.errors import UsageError
from uir.tools.scratch import scratch_folder

NAMES = Path(__file__).parents[1] / "tests" / "runtime" / "tensorrt" / "names.json"

CLASSES = (
    "Builder",
    "BuilderFlag",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProgressMonitor",
    "ITensor",
    "ITimingCache",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "ParserError",
    "ProfilingVerbosity",
    "Refitter",
    "Runtime",
    "TensorIOMode",
    "Weights",
)
"""What the backend uses; the others would fill pages."""

_LIBRARIES = {  # what the bindings are linked to, and the symbols that they want of each
    "nvinfer": (
        "createInferBuilder_INTERNAL",
        "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL",
        "getBuilderPluginRegistry",
        "getPluginRegistry",
    ),
    "nvonnxparser": ("createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getNvOnnxParserVersion"),
    "nvinfer_plugin": ("initLibNvInferPlugins",),
}

_LIST = """
import json, sys, tensorrt_bindings as trt
public = lambda thing: sorted(name for name in dir(thing) if not name.startswith("_"))
print(json.dumps({"": public(trt)} | {name: public(getattr(trt, name)) for name in sys.argv[1:]}))
"""


def names_of(version: str) -> dict[str, list[str]]:
    """The public names of a version's classes, and those of the module itself under "".

    Raises:
        UsageError: there are no bindings of this version for this Python, or they do not load.
    """
    with scratch_folder() as name:
        folder = Path(name)
        package = f"tensorrt-cu12-bindings=={version}"
        _call(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder, package)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        for library, symbols in _LIBRARIES.items():
            source = folder / f"{library}.c"
            source.write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in symbols))
            shared = f"lib{library}.so.{version.split('.')[0]}"
            _call("cc", "-shared", "-fPIC", f"-Wl,-soname,{shared}", "-o", folder / shared, source)
        environment = {**os.environ, "LD_LIBRARY_PATH": name, "PYTHONPATH": name}
        listed = _call(sys.executable, "-c", _LIST, *CLASSES, environment=environment)
    found: dict[str, list[str]] = json.loads(listed)
    return found


def _call(*command: str | Path, environment: dict[str, str] | None = None) -> str:
    answered = subprocess.run(command, capture_output=True, text=True, env=environment)
    if answered.returncode:
        raise UsageError(f"{Path(command[0]).name} failed: {answered.stderr.strip()[-500:]}")
    return answered.stdout


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the names of the versions that are given."""
    parser = argparse.ArgumentParser(
        prog="python -m uir.tools.tensorrt_names",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("version", nargs="+", help="as on PyPI, of tensorrt-cu12-bindings")
    parser.add_argument("-o", "--output", type=Path, default=NAMES, help="default: %(default)s")
    options = parser.parse_args(arguments)
    versions = {version: names_of(version) for version in options.version}
    lines = [
        f'  "{version}": {{\n' + ",\n".join(f'    "{name}": {json.dumps(names[name])}' for name in names) + "\n  }"
        for version, names in versions.items()
    ]
    with atomic_output(options.output, overwrite=True) as temporary:
        temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    run_command("tensorrt_names", main)
