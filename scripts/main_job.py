"""The main job in the environment that runs this: export, restore a video and a picture, and look at what came out.

`make matrix` runs it by each environment's own Python, in an empty folder far from the checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path

COMMANDS = "uir-export", "uir-run", "uir-train", "uir-degrade", "uir-bench", "uir-doctor"
PATIENCE = 300  # seconds, for one command that may hang
FRAMES = 12


class JobError(Exception):
    """What did not work, in words."""


def main() -> None:
    """Do the job, and print what was done as JSON: the versions, what passed, and what failed, if anything did."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("video", type=Path, help="a clean one")
    options.add_argument("--openvino", action="store_true", help="by OpenVINO, which must be there")
    chosen = options.parse_args()
    if chosen.openvino:
        os.environ["UIR_DEVICE"] = "openvino"
    os.environ["UIR_CACHE"] = str(Path("engines").resolve())
    passed: list[str] = []
    failure = None
    steps: dict[str, Callable[[], None]] = {
        "asked": asked,
        "exported": exported,
        "video": lambda: video(chosen.video),
        "picture": picture,
        "doctor": lambda: doctor(chosen.openvino),
    }
    try:
        for name, step in steps.items():
            step()
            passed.append(name)
    except JobError as error:
        failure = str(error)
    versions = {each.metadata["Name"].lower(): each.version for each in distributions()}
    print(json.dumps({"versions": versions, "passed": passed, "failure": failure}))


def asked() -> None:
    """Each command says its version and what it can do, whatever extras are missing."""
    for command in COMMANDS:
        said = call(command, "--version")
        if not said.startswith(f"{command} "):
            raise JobError(f"{command} --version says {said!r}")
    for command in ("uir-train", "uir-bench"):
        call(command, "--help")


def exported() -> None:
    """The package of the README's first command."""
    call("uir-export", "--adapters", "rain,haze")
    if not Path("restore.uir/manifest.json").is_file():
        raise JobError("uir-export left no package")


def video(clean: Path) -> None:
    """A part of a rainy video, restored: all its frames, and its sound's streams; better than it was."""
    seconds = FRAMES / 24
    call("uir-run", str(clean), "-o", "clean.mp4", "--adapters", "rain", "--duration", str(seconds), "--quality", "0")
    call("uir-degrade", "clean.mp4", "rainy.mp4", "rain=0.6", "haze=0.4")
    call("uir-run", "rainy.mp4")
    before, after = frames("rainy.mp4"), frames("rainy.restored.mp4")
    if len(before) != FRAMES or len(after) != FRAMES:
        raise JobError(f"of {FRAMES} frames, {len(before)} were degraded and {len(after)} restored")
    better("the video", frames("clean.mp4")[FRAMES // 2], before[FRAMES // 2], after[FRAMES // 2])


def picture() -> None:
    """One frame as a picture, restored."""
    import cv2

    truth = frames("clean.mp4")[0]
    cv2.imwrite("clean.png", truth[..., ::-1])
    call("uir-degrade", "clean.png", "rainy.png", "rain=0.6", "haze=0.4")
    call("uir-run", "rainy.png", "--adapters", "rain,haze")
    before, after = (cv2.imread(name)[..., ::-1] for name in ("rainy.png", "rainy.restored.png"))
    better("the picture", truth, before, after)


def doctor(openvino: bool) -> None:
    """The page on this machine; where OpenVINO is to be there, it can be used, and passes the test of its engines."""
    page = json.loads(call("uir-doctor", "--json", *(["--selftest", "--compose", "rain"] if openvino else [])))
    usable = [device["name"] for device in page["devices"] if device["usable"]]
    if "cpu" not in usable or (openvino and "openvino" not in usable):
        raise JobError(f"uir-doctor finds {usable} alone usable: {page['devices']}")


def frames(path: str) -> list:
    """All frames of a video, H x W x 3 RGB."""
    import av

    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def better(what: str, truth, before, after) -> None:
    """Refuse a result of another shape, or farther from the truth than the input was."""
    import cv2

    if truth.shape != after.shape:
        raise JobError(f"{what} came out as {after.shape} instead of {truth.shape}")
    was, found = (cv2.PSNR(image, truth) for image in (before, after))
    if found < was + 1:
        raise JobError(f"{what} was not restored: {was:.1f} dB before, {found:.1f} dB after")


def call(command: str, *arguments: str) -> str:
    """Run a command of this environment and give what it printed."""
    program = Path(sys.executable).with_name(command)
    try:
        ended = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise JobError(f"{command} {' '.join(arguments)}: {error}") from error
    if ended.returncode:
        raise JobError(
            f"{command} {' '.join(arguments)}: exit status {ended.returncode}\n{ended.stdout}{ended.stderr}".rstrip()
        )
    return ended.stdout


if __name__ == "__main__":
    main()
