"""The rows of the table: what each is called, what type it multiplies in, and how it is begun."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib.util import find_spec

import onnxruntime

from uir.runtime.backends.devices import open_backend, unusable
from uir.runtime.backends.onnx_runtime import OnnxRuntimeEngine
from uir.runtime.composition import check_name
from uir.runtime.errors import UirError
from uir.runtime.manifest import PRECISIONS
from uir.runtime.version import install
from uir.tools.bench.speed.judge import Timed, benchmark_app
from uir.tools.bench.speed.subject import Restore, Subject

EXTRA = {"torch": "export", "onnxscript": "export", "openvino": "openvino"}
"""The extras that have the libraries that rows need."""

GPUS = ("tensorrt", "rtx", "cuda")
"""Devices that are listed only where they can be used: a machine without a GPU need not be told so nine times."""


@dataclass(frozen=True)
class Contender:
    """One row.

    Attributes:
        name: as `--rows` has it.
        title: as tables have it.
        kind: the type that it multiplies in, where the machine's limit in that type is looked for.
        begin: makes what restores frames, compiled and ready.
        judge: makes what times itself, in a process of its own; a row has one of the two.
    """

    name: str
    title: str
    kind: str | None
    begin: Callable[[Subject], Restore] | None = None
    judge: Callable[[Subject], Timed] | None = None


class NotInstalledError(UirError):
    """A row's library is missing."""

    def __init__(self, module: str) -> None:
        super().__init__(f"not installed: {install(EXTRA[module]) if module in EXTRA else f'pip install {module}'}")


def chosen_rows(names: Collection[str] | None) -> list[Contender]:
    """The rows of these names, in the table's order; of None, all that this machine may have.

    Raises:
        UsageError: there is no such row.
    """
    for name in names or ():
        check_name(name, [row.name for row in CONTENDERS], "row")
    if names is not None:
        return [row for row in CONTENDERS if row.name in names]
    absent = {device for device in GPUS if unusable(device) is not None}
    return [row for row in CONTENDERS if row.name.partition("-")[0] not in absent]


def _research(name: str) -> Callable[[Subject], Restore]:
    def begin(subject: Subject) -> Restore:
        _need("torch")
        from uir.tools.bench.speed import research

        restore: Restore = getattr(research, name)(subject)
        return restore

    return begin


def _ours(device: str, precision: str) -> Callable[[Subject], Restore]:
    return lambda subject: subject.restore_by(open_backend(device, exact=precision == "fp32"), precision)


def _cpu(precision: str) -> Callable[[Subject], Restore]:
    def begin(subject: Subject) -> Restore:
        if subject.threads is None:
            return _ours("cpu", precision)(subject)
        # ONNX Runtime looks at the machine's cores, not at those that the process may use.
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = subject.threads
        model = subject.model(precision).SerializeToString()
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        engine = OnnxRuntimeEngine(session, len(model))
        return lambda frame: engine.run(frame[None])[0]

    return begin


def _openvino(precision: str, *, exact: bool = False) -> Callable[[Subject], Restore]:
    def begin(subject: Subject) -> Restore:
        _need("openvino")
        backend = open_backend("openvino", exact=exact)
        if precision == "fp32" and not exact:
            _need_bf16(backend.identity()["precision"])
        return subject.restore_by(backend, precision)

    return begin


def _judged(precision: str, computed: str) -> Callable[[Subject], Timed]:
    """benchmark_app on the model of a precision, all else computed in a type of OpenVINO's."""

    def begin(subject: Subject) -> Timed:
        options = _computed(computed)
        path = subject.folder / f"{precision}.onnx"
        path.write_bytes(subject.model(precision).SerializeToString())
        return benchmark_app(path, (1, *subject.network_size, 3), options)

    return begin


def _judged_plain(subject: Subject) -> Timed:
    """benchmark_app on planes of bytes, which is the most that OpenVINO makes of a network as torch exports it."""
    options = _computed("bf16")
    _need("torch")
    from uir.tools.bench.speed.research import plain_model

    return benchmark_app(plain_model(subject), (1, 3, *subject.network_size), ("-ip", "u8", *options))


def _computed(kind: str) -> tuple[str, ...]:
    """benchmark_app's options for the type; of int8 models all else is computed as our backend does."""
    _need("openvino")
    fastest = open_backend("openvino").identity()["precision"]
    if kind == "bf16":
        _need_bf16(fastest)
    return ("-infer_precision", fastest if kind == "int8" else kind)


def _need(module: str) -> None:
    if find_spec(module) is None:
        raise NotInstalledError(module)


def _need_bf16(precision: str) -> None:
    if precision != "bf16":
        raise UirError("this processor has no bfloat16")


CONTENDERS = [
    Contender("torch-unmerged", "torch, adapters unmerged (PEFT)", "fp32", _research("unmerged")),
    Contender("torch", "torch, merged", "fp32", _research("merged")),
    Contender("torch-compile", "torch.compile, merged", "fp32", _research("compiled")),
    Contender("torch-bf16", "torch, merged, bf16 autocast", "bf16", _research("merged_bf16")),
    Contender("onnxruntime", "ONNX Runtime, plain export", "fp32", _research("plain_export")),
    Contender("cpu-fp32", "ours: cpu, fp32", "fp32", _cpu("fp32")),
    Contender("cpu-fp16", "ours: cpu, fp16", None, _cpu("fp16")),
    Contender("cpu-int8", "ours: cpu, int8", "int8", _cpu("int8")),
    Contender("openvino-fp32", "ours: openvino, fp32", "fp32", _openvino("fp32", exact=True)),
    Contender("openvino-bf16", "ours: openvino, bf16", "bf16", _openvino("fp32")),
    Contender("openvino-int8", "ours: openvino, int8", "int8", _openvino("int8")),
    *(
        Contender(f"{device}-{precision}", f"ours: {device}, {precision}", None, _ours(device, precision))
        for device in GPUS
        for precision in reversed(PRECISIONS)
    ),
    Contender("app-fp32", "benchmark_app, fp32", "fp32", judge=_judged("fp32", "f32")),
    Contender("app-bf16", "benchmark_app, bf16", "bf16", judge=_judged("fp32", "bf16")),
    Contender("app-int8", "benchmark_app, int8", "int8", judge=_judged("int8", "int8")),
    Contender("app-plain", "benchmark_app, plain export, bf16", "bf16", judge=_judged_plain),
]
"""All rows, in the table's order; the first that runs is what others are compared with."""
