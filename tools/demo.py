"""The demonstration behind `make demo`: export, degrade a sample video, restore it, and show before and after.

Runs the very commands that a user types, on a clip whose truth is known.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from uir.export.cli import main as export
from uir.runtime.atomic import atomic_output
from uir.runtime.cli import main as restore
from uir.runtime.console import run_command
from uir.tools.degrade import main as degrade

SAMPLE = Path("tests/media/bunny.mp4")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the demonstration; see the module's docstring."""
    options = argparse.ArgumentParser(prog="python -m uir.tools.demo", description=__doc__)
    options.add_argument("folder", type=Path, help="where everything is written")
    options.add_argument("--video", type=Path, default=SAMPLE, help="a clean video (default: %(default)s)")
    chosen = options.parse_args(arguments)
    folder = chosen.folder
    folder.mkdir(parents=True, exist_ok=True)
    package, degraded, restored = folder / "restore.uir", folder / "degraded.mp4", folder / "restored.mp4"

    _show("uir-export", export, "--adapters", "rain,haze", "-o", str(package), "--overwrite")
    _show("uir-degrade", degrade, str(chosen.video), str(degraded), "rain=0.6", "haze=0.4", "--overwrite")
    _show("uir-run", restore, str(degraded), "-o", str(restored), "--package", str(package), "--overwrite")

    before, after, truth = (_middle_frame(path) for path in (degraded, restored, chosen.video))
    picture = folder / "before_after.png"
    with atomic_output(picture, overwrite=True) as temporary:
        cv2.imwrite(str(temporary), np.hstack([before, after])[..., ::-1])
    gain = f"{cv2.PSNR(before, truth):.1f} dB before, {cv2.PSNR(after, truth):.1f} dB after"
    print(f"\nrestored video: {restored}\nbefore and after: {picture} ({gain}, against the clean frame)")


def _show(name: str, command: object, *arguments: str) -> None:
    print(f"$ {name} {' '.join(arguments)}", flush=True)
    assert callable(command)
    command(arguments)


def _middle_frame(video: Path) -> NDArray[np.uint8]:
    """The frame halfway through a video, H x W x 3 RGB."""
    with av.open(str(video)) as container:
        middle = container.streams.video[0].frames // 2
        frame = next(itertools.islice(container.decode(video=0), middle, None))
        return np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)


if __name__ == "__main__":
    run_command("uir.tools.demo", main)
