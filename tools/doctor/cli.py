"""Say on one page what this machine has, which devices uir-edge can use on it, and why not the others.

Each device is tried with a small network. --selftest restores made-up frames by each engine of a package, one for each
composition that it lists (ten in a package of ten adapters) and each precision that the device runs, and holds them
against float32 on the CPU. Engines are kept, so that this also builds them ahead of their use, for frames of --size
alone; on a Jetson, that takes minutes for each, and --compose tests one composition only.

What PSNR against float32 an engine needs: 60 dB for fp32 and fp16 (some six samples in a hundred are off by one code);
for int8, what the package's own graph gives on the CPU, less 1 dB; 45 dB for fp32 in a faster type of the device's own,
such as bfloat16.

Exit status: 0; 1 where no device can be used, or an engine fails the test.

examples:
  uir-doctor
  uir-doctor --selftest --device tensorrt --size 1280x720 --compose rain
  uir-doctor --json
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from tqdm import tqdm

from uir.runtime.backends.devices import DEVICES
from uir.runtime.composition import Composition
from uir.runtime.errors import BackendError, UsageError
from uir.runtime.package import DEFAULT_PACKAGE, Package
from uir.runtime.version import add_version
from uir.tools.doctor.devices import AUTO, NAMES, Device, chosen_by_auto, find_devices
from uir.tools.doctor.engine_cache import CacheState
from uir.tools.doctor.libraries import LIBRARIES
from uir.tools.doctor.page import Page, look_around, to_json
from uir.tools.doctor.results import Size
from uir.tools.doctor.selftest import selftest

USUAL = 640, 360
LEAST, MOST = 32, 16384  # pixels, of a side


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(
        prog="uir-doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_version(options)
    options.add_argument("--json", action="store_true", help="print everything as one JSON object")
    options.add_argument("--selftest", action="store_true", help="also run the engines of a package")
    options.add_argument("--package", type=Path, metavar="FOLDER", help=f"to test (default: {DEFAULT_PACKAGE})")
    options.add_argument("--device", choices=DEVICES, help="to test on (default: $UIR_DEVICE, or else auto)")
    options.add_argument("--size", type=_size, metavar="WxH", help="of the frames (default: 640x360)")
    options.add_argument(
        "--compose",
        action="append",
        metavar="A=W,B=W",
        help="test this composition instead of all that the package lists; may be repeated",
    )
    return options


def _size(text: str) -> Size:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}: write a size as WIDTHxHEIGHT, such as 640x360")
    width, height = int(match[1]), int(match[2])
    if not (LEAST <= width <= MOST and LEAST <= height <= MOST):
        raise argparse.ArgumentTypeError(f"{text!r}: sides are from {LEAST} to {MOST} pixels")
    return width, height


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the page, and test the package if that is asked for; 1 where nothing can be used, or an engine fails.

    Raises:
        UirError: the options make no sense, the package cannot be read, or the device to test cannot be used.
    """
    options = parser().parse_args(arguments)
    if not options.selftest and any((options.package, options.device, options.size, options.compose)):
        raise UsageError("--package, --device, --size and --compose say what --selftest tests; add --selftest")
    package = Package(options.package or DEFAULT_PACKAGE) if options.selftest else None
    compositions = [Composition.parse(text) for text in options.compose or ()]
    if package is not None:
        for composition in compositions:
            composition.check_names(package.manifest.adapters)
    page = _look()
    if not options.json:
        print(page, flush=True)
    found = asdict(page)
    passed = page.healthy
    if package is not None:
        device = chosen_device(page, options.device or page.named or AUTO)
        tested = selftest(package, device, options.size or USUAL, compositions)
        if not options.json:
            print(f"\n{tested}")
        found["selftest"] = tested.as_dict()
        passed = passed and tested.passed
    if options.json:
        print(to_json(found))
    return 0 if passed else 1


def _look() -> Page:
    total = len(LIBRARIES) + len(NAMES)
    with tqdm(total=total, desc="looking around", delay=2, leave=False, disable=None) as bar:
        page = look_around(bar.update)
        devices = find_devices(bar.update)
    auto, named = chosen_by_auto(devices), os.environ.get("UIR_DEVICE") or None
    return replace(page, devices=devices, auto=auto.name if auto else None, named=named, cache=CacheState.here())


def chosen_device(page: Page, name: str) -> Device:
    """The device to test. Raises BackendError or UsageError."""
    if name not in DEVICES:
        raise UsageError(f"{name}: no such device; there are {', '.join(DEVICES)}")
    wanted = page.auto if name == AUTO else name
    for device in page.devices:
        if device.name == wanted and device.usable:
            return device
        if device.name == wanted:
            raise BackendError(f"{wanted}: cannot be tested: {device.failure}")
    raise BackendError("no device can be used on this machine")
