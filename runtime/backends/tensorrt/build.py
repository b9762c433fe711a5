"""Builds: a parsed network into a plan, the bytes that TensorRT's runtime loads."""

from __future__ import annotations

import logging
from concurrent.futures import wait
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from uir.runtime.atomic import atomic_output
from uir.runtime.backends import Shapes
from uir.runtime.backends.tensorrt.bindings import Bindings
from uir.runtime.backends.tensorrt.device_memory import Device, available_memory
from uir.runtime.backends.tensorrt.log import Log
from uir.runtime.backends.tensorrt.network import ParsedNetwork, parse
from uir.runtime.backends.tensorrt.options import BuildOptions, check_shapes
from uir.runtime.backends.tensorrt.progress import Progress
from uir.runtime.backends.tensorrt.refit import mark_refittable
from uir.runtime.background import PATIENCE, in_background
from uir.runtime.errors import BackendError, OutputError, UsageError

log = logging.getLogger(__name__)

_REMEDIES = {  # by what TensorRT says
    "workspace": "close other programs to free memory, or build for smaller frames",
    "memory": "close other programs to free memory, or build for smaller frames",
    "conformable": "the frames' height and width must be multiples of what the package's frame contract says",
}
_REMEDY = "run it on another backend (--device cpu)"


def build_plan(
    bindings: Bindings,
    native_log: Log,
    model: bytes,
    shapes: Shapes | None,
    options: BuildOptions,
    *,
    device: Device | None,
    timing_cache: Path | None = None,
) -> bytes:
    """Build a plan of a serialised ONNX model of frames (uint8, N x H x W x 3).

    The same model, shapes and options give the same bytes where no GPU is timed (TensorRT-RTX on a machine without).

    Args:
        native_log: what TensorRT says goes there.
        device: the GPU that is here, if any.
        timing_cache: a file of what kernels took, which makes later builds faster; TensorRT-RTX times none.

    Raises:
        UsageError: there are no shapes, they are not in order, or the options are not for these bindings.
        BackendError: TensorRT cannot build the model; the message carries TensorRT's reason.
    """
    shapes = check_shapes(shapes)
    targets = build_targets(bindings, options, device)
    if options.refittable and device is None:
        raise BackendError(f"{bindings.title} builds refittable engines on a machine with an NVIDIA GPU only")
    parsed = parse(bindings, native_log, model)
    mark_refittable(bindings, parsed, options.refittable)
    config = parsed.builder.create_builder_config()
    _configure(bindings, parsed, config, options, targets, device)
    profile = parsed.builder.create_optimization_profile()
    _limit(bindings, parsed, config, profile, shapes)
    cache = _read_timings(bindings, config, timing_cache)
    plan = _build(bindings, parsed, config, shapes, device)
    if cache is not None and timing_cache is not None:
        _write_timings(config, timing_cache)
    return plan


def build_targets(bindings: Bindings, options: BuildOptions, device: Device | None) -> tuple[str, ...]:
    """The compute capabilities to build for; none where that is left to TensorRT, which takes the GPU that is here.

    Raises:
        UsageError: the options name some that these bindings cannot build for.
    """
    known = bindings.compute_capabilities
    unknown = [name for name in options.compute_capabilities if name not in known]
    if unknown:
        there = f"it can for {', '.join(known)}" if known else "it builds for the GPU that is here"
        raise UsageError(f"{bindings.title} cannot build for compute capability {', '.join(unknown)}; {there}")
    return options.compute_capabilities or (() if device else known)


def _configure(
    bindings: Bindings,
    parsed: ParsedNetwork,
    config: Any,
    options: BuildOptions,
    targets: tuple[str, ...],
    device: Device | None,
) -> None:
    trt = bindings.module
    if bindings.compute_capabilities:
        names = [f"SM{name.replace('.', '')}" for name in targets] or ["CURRENT"]
        config.num_compute_capabilities = len(names)
        for number, name in enumerate(names):
            if not config.set_compute_capability(trt.ComputeCapability.__members__[name], number):
                raise BackendError(f"{bindings.title} cannot build for {name}: {parsed.log.reason()}")
    if device is not None:  # without one, the memory of the GPU to come is not known
        limit = int(options.workspace_share * available_memory(device))
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, limit)
    if options.refittable:
        config.set_flag(trt.BuilderFlag.REFIT_INDIVIDUAL)
    if options.layer_details:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED


def _limit(bindings: Bindings, parsed: ParsedNetwork, config: Any, profile: Any, shapes: Shapes) -> None:
    """Give the model's one input its sizes; a static engine's are all alike."""
    frame = parsed.network.get_input(0)
    try:
        profile.set_shape(frame.name, *((*shape, 3) for shape in (shapes.smallest, shapes.usual, shapes.largest)))
    except (RuntimeError, TypeError, ValueError) as error:
        raise BackendError(f"{bindings.title} does not take frames of {shapes.largest}: {error}") from error
    if config.add_optimization_profile(profile) < 0:
        raise BackendError(f"{bindings.title} does not take frames of {shapes.largest}: {parsed.log.reason()}")


def _build(bindings: Bindings, parsed: ParsedNetwork, config: Any, shapes: Shapes, device: Device | None) -> bytes:
    """Build in a thread: Ctrl-C would be swallowed inside of TensorRT's calls back.

    A build that is given up ends at its next step, and is waited for a little; the program may end before it does.
    """
    progress = Progress(bindings.module, f"{bindings.title} builds for {'x'.join(map(str, shapes.usual))}")
    config.progress_monitor = progress.native

    def work() -> Any:
        with device.active() if device else nullcontext():
            return parsed.builder.build_serialized_network(parsed.network, config)

    building = in_background(work, "tensorrt", progress.stop)
    try:
        plan = building.result()
    except BaseException:
        progress.stop()
        wait([building], PATIENCE)
        raise
    finally:
        progress.close()
    if plan is None:
        reason = parsed.log.reason()
        remedy = next((remedy for words, remedy in _REMEDIES.items() if words in reason), _REMEDY)
        raise BackendError(f"{bindings.title} cannot build an engine: {reason}; {remedy}")
    return bytes(plan)


def _read_timings(bindings: Bindings, config: Any, file: Path | None) -> Any:
    """The timing cache of a file, given to the build; one that is missing, damaged or of another GPU begins anew."""
    if file is None or bindings.flavour == "tensorrt-rtx":
        return None
    known = b""
    with suppress(OSError):
        known = file.read_bytes()
    for content in (known, b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
    return None


def _write_timings(config: Any, file: Path) -> None:
    cache = config.get_timing_cache()
    content = None if cache is None else cache.serialize()
    if content is None:
        return
    try:
        with atomic_output(file, overwrite=True) as temporary:
            temporary.write_bytes(bytes(content))
    except OutputError as error:
        log.warning("the next build will take as long as this one: %s", error)
