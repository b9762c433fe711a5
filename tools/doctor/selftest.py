"""Each engine of a package on one device, held against float32 on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from uir.calibration.degradations import DEGRADATIONS
from uir.calibration.gate import FLOAT16_PSNR
from uir.runtime.composition import Composition
from uir.runtime.manifest import Precision
from uir.runtime.package import Package
from uir.runtime.quantize import INT8_PSNR, mean_error
from uir.tools.bench.media import RATE, texture, view
from uir.tools.bench.metrics import Frame
from uir.tools.degrade import degrade_frame
from uir.tools.doctor.children import ChildError
from uir.tools.doctor.devices import AUTO, Device
from uir.tools.doctor.results import Result, Size, Tested
from uir.tools.doctor.trial import FRAMES, RESTORED, Measured, Stack, Task
from uir.tools.scratch import scratch_folder

MARGIN = 1.0
"""dB that a device may lose on what a narrower precision gives on the CPU: it may add up and round otherwise."""

IDENTICAL = 100.0  # dB, for frames that do not differ at all

SEVERITY = 0.5
COUNT = 3  # frames


def selftest(
    package: Package,
    device: Device,
    size: Size,
    compositions: Sequence[Composition] = (),
    *,
    exact: float = FLOAT16_PSNR,
) -> Tested:
    """Run compositions of a package, each in each precision that it has for it and that the device runs.

    Args:
        device: one that can be used here.
        compositions: none for those that the package lists, or else its default.
        exact: PSNR that fp32 needs, and fp16 unless the package's own graph gives less, dB.
    """
    chosen = compositions or package.listed or [Composition.parse(package.manifest.default)]
    engines = {composition: _engines(package.precisions(composition), device) for composition in chosen}
    results: list[Result] = []
    with tqdm(total=sum(map(len, engines.values())), unit="engine", delay=2, leave=False, disable=None) as bar:
        for composition, precisions in engines.items():
            for result in _test(package, composition, device.name, precisions, size, exact, bar.set_postfix_str):
                results.append(result)
                bar.update()
    return Tested(str(package.path), device.name, size, results)


def made_up_frames(composition: Composition, size: Size) -> Stack:
    """Smooth colours, hard edges, texture and grain, the same each time, degraded by what the composition undoes.

    What bfloat16 costs on them, it costs on the photos of `uir.calibration` too, within 1 dB; on the texture alone, as
    much as 5 dB more.

    Returns:
        `COUNT` successive frames of a pan. An adapter that is not named as a degradation adds none.
    """
    severities = {name: SEVERITY for name in composition.weights if name in DEGRADATIONS}
    picture = _picture()
    clean = [view(picture, *size, index) for index in range(COUNT)]
    return np.stack([degrade_frame(frame, severities, 0, index / RATE) for index, frame in enumerate(clean)])


@cache
def _picture() -> Frame:
    fine = texture().astype(np.float32) - 128
    y, x = np.indices(fine.shape[:2], np.float32)
    waves = np.stack([90 * np.sin(x / 97 + y / 131 + shift) for shift in range(3)], axis=2)
    tiles = np.where((x // 80 + y // 60) % 2, 20, -20)[..., None]
    return np.clip(128 + waves + tiles + fine / 2, 0, 255).astype(np.uint8)


def needed(precision: Precision | None, costs: Mapping[str, float | None], exact: float) -> float:
    """The PSNR that an engine needs, dB.

    A narrower precision is held to what it gives on the CPU on the same frames, since that depends on the frames: those
    that the package's gate judged it by are others.

    Args:
        precision: None for fp32 in a faster type of the device's own, such as bfloat16, which the gate did not see: it
            may cost what the gate lets int8 cost where no truth is known.
        costs: PSNR that the package's graphs give on the CPU, by precision, dB.
        exact: what fp32 needs, dB.
    """
    if precision is None:
        return INT8_PSNR
    expected = costs.get(precision)
    return exact if expected is None else min(exact, expected - MARGIN)


def _engines(there: Sequence[Precision], device: Device) -> list[Precision | None]:
    """The precisions to test; None for what the device takes where none is named, if that is none of the others."""
    both: list[Precision | None] = [precision for precision in there if precision in device.precisions]
    return [None, *both] if device.swift and both == ["fp32"] else both


def _test(
    package: Package,
    composition: Composition,
    device: str,
    precisions: Sequence[Precision | None],
    size: Size,
    exact: float,
    stage: Callable[[str], object],
) -> Iterator[Result]:
    """All engines of one composition. `stage` is told what is done next."""
    key = composition.key
    stage(f"{key}, float32 on the CPU")
    narrow = tuple(precision for precision in precisions if precision not in (None, "fp32"))
    with scratch_folder("uir-doctor-") as folder:
        np.save(Path(folder, FRAMES), made_up_frames(composition, size))
        about = folder, str(package.path.absolute()), key
        try:
            costs = Task(*about, "cpu", "fp32", seconds=0, also=narrow).run().costs
        except ChildError as error:
            for precision in precisions:
                yield Result(key, precision or AUTO, False, failure=f"cannot be held against float32: {error}")
            return
        reference = np.load(Path(folder, RESTORED))
        for precision in precisions:
            stage(f"{key}, {precision or AUTO}")
            try:
                measured = Task(*about, device, precision).run()
            except ChildError as error:
                yield Result(key, precision or AUTO, False, failure=str(error))
                continue
            restored = np.load(Path(folder, RESTORED))
            yield _judged(key, precision or AUTO, reference, restored, needed(precision, costs, exact), measured)


def _judged(
    composition: str, precision: str, reference: Stack, restored: Stack, least: float, measured: Measured
) -> Result:
    error = mean_error(restored, reference)
    psnr = min(IDENTICAL, 10 * float(np.log10(255**2 / max(error, 1e-9))))
    largest = int(np.abs(restored.astype(np.int16) - reference).max())
    return Result(composition, precision, psnr >= least, psnr, least, largest, measured)
