"""The good inputs that cases are made of: the shipped base with two adapters and the router, and a small picture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from fuzz.cases import Good
from fuzz.runner import run_alone

ADAPTERS = ("haze", "rain")


def make_good(folder: Path, device: str) -> Good:
    """Export a package into a folder, and restore a picture with it."""
    from uir.export.zoo import zoo_adapters

    package, picture, restored = folder / "good.uir", folder / "in.png", folder / "right.png"
    export = [str(Path(sys.executable).with_name("uir-export")), "--adapters", ",".join(ADAPTERS), "-o", str(package)]
    subprocess.run(export, check=True, stdout=subprocess.DEVNULL)
    _paint(picture)
    command = ["uir-run", str(picture), "--package", str(package), "-o", str(restored), "--device", device]
    ended = run_alone(command, folder / "cache")
    if ended.status:
        raise RuntimeError(ended.stderr)
    with Image.open(restored) as image:
        right = np.asarray(image)
    return Good(package, {name: zoo_adapters()[name] for name in ADAPTERS}, picture, right, folder / "cache")


def _paint(path: Path) -> None:
    """A picture that the router takes for hazy: smooth, pale, of odd size."""
    y, x = np.mgrid[0:45, 0:61] / 60
    colours = [0.6 + 0.1 * np.sin(5 * x), 0.62 + 0.1 * np.cos(4 * y), 0.66 + 0.1 * np.sin(3 * x + 4 * y)]
    Image.fromarray((np.stack(colours, axis=2) * 255).round().astype(np.uint8)).save(path)
