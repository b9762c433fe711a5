"""What is installed, which version of it, and what to install besides.

Imports nothing but the standard library: `--version` is answered before anything heavy is loaded.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from importlib import import_module

from uir.runtime.stop import listen

EXTRAS = {
    "export": "torch onnxscript google-re2",
    "gpu": "tensorrt cuda-python",
    "rtx": "tensorrt-rtx cuda-python",
    "openvino": "openvino",
    "bench": "scikit-image psutil matplotlib nrtk-albumentations imagecorruptions-imaug",
}
"""What each extra installs. Asking the metadata for it takes 20 ms of every start that finds one missing."""


def version() -> str:
    """The version that is installed."""
    from importlib import metadata  # which takes a while to load

    try:
        return metadata.version("uir-edge")
    except metadata.PackageNotFoundError:
        return "of unknown version: it is not installed"


def install(extra: str) -> str:
    """The command that installs what an extra stands for, wherever uir-edge itself came from."""
    return f"pip install {EXTRAS[extra]}"


def command(name: str, module: str) -> Callable[[], None]:
    """The function behind a command: a module's `run`, which is loaded where more is asked than the version."""

    def start() -> None:
        listen(name)  # first of all: what follows takes its time
        options = sys.argv[1:]
        if "--version" in options[: options.index("--") if "--" in options else None]:
            print(f"{name} {version()}")
        else:
            import_module(module).run()

    return start


def add_version(parser: argparse.ArgumentParser) -> None:
    """Give a parser the option `--version`."""
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="print the version and exit")


class _ShowVersion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        print(f"{parser.prog} {version()}")
        parser.exit()


uir_run = command("uir-run", "uir.runtime.cli")
