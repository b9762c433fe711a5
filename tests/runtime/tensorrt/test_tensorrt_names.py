"""What we call exists: in TensorRT 10.3 and 11.4 as `tools/tensorrt_names.py` wrote them down, in what is installed."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import uir.runtime.backends.tensorrt as backend
from uir.runtime.backends.tensorrt.bindings import Bindings

FOLDER = Path(backend.__file__).parent
NAMES: dict[str, dict[str, list[str]]] = json.loads((Path(__file__).parent / "names.json").read_text())

CLASSES = {  # by file, or all files, and by the name of the variable or attribute that holds an object
    "": {
        "trt": "",
        "module": "",
        "builder": "Builder",
        "network": "INetworkDefinition",
        "config": "IBuilderConfig",
        "parser": "OnnxParser",
    },
    "build.py": {"profile": "IOptimizationProfile", "frame": "ITensor", "cache": "ITimingCache"},
    "network.py": {"parser_error": "ParserError"},
    "refit.py": {"refitter": "Refitter", "prototype": "Weights", "engine": "ICudaEngine"},
    "engine.py": {
        "_runtime": "Runtime",
        "_engine": "ICudaEngine",
        "engine": "ICudaEngine",
        "_context": "IExecutionContext",
    },
}

ONLY_RTX = {
    ("", "ComputeCapability"),
    ("IBuilderConfig", "num_compute_capabilities"),
    ("IBuilderConfig", "set_compute_capability"),
}
"""Called where the module has compute capabilities to choose from."""


def uses() -> Iterator[tuple[str, str]]:
    """Each name that our code takes from an object of TensorRT: the object's class, and the name."""
    for path in sorted(FOLDER.glob("*.py")):
        holders = CLASSES[""] | CLASSES.get(path.name, {})
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Attribute) or node.attr.startswith("__"):
                continue
            holder = node.value
            name = getattr(holder, "attr", None) or getattr(holder, "id", None)
            if name in holders:
                yield holders[name], node.attr
            elif isinstance(holder, ast.Attribute) and holders.get(_name(holder.value)) == "":
                yield holder.attr, node.attr  # trt.MemoryPoolType.WORKSPACE


def _name(node: ast.expr) -> str:
    return str(getattr(node, "attr", None) or getattr(node, "id", ""))


USES = set(uses())


def test_our_calls_are_found() -> None:
    assert len(USES) > 50
    assert {
        ("", "OnnxParser"),
        ("MemoryPoolType", "WORKSPACE"),
        ("BuilderFlag", "REFIT_INDIVIDUAL"),
        ("INetworkDefinition", "mark_weights_refittable"),
        ("OnnxParser", "get_error"),
        ("ParserError", "node_operator"),
        ("IExecutionContext", "execute_async_v3"),
        ("Refitter", "refit_cuda_engine"),
        ("ITimingCache", "serialize"),
    } <= USES
    assert ONLY_RTX < USES


@pytest.mark.parametrize("version", NAMES)
def test_every_name_is_in_that_version(version: str) -> None:
    names = NAMES[version]
    missing = {(owner, name) for owner, name in USES - ONLY_RTX if name not in names[owner]}
    assert not missing
    assert "STRONGLY_TYPED" in names["NetworkDefinitionCreationFlag"]  # looked up by its name
    assert {"started", "finished"}.isdisjoint(names["IProgressMonitor"])
    assert set(names["IProgressMonitor"]) == {"phase_start", "step_complete", "phase_finish"}


@pytest.mark.rtx
def test_every_name_is_in_the_installed_tensorrt_rtx(rtx: Bindings) -> None:
    for owner, name in USES:
        holder = getattr(rtx.module, owner) if owner else rtx.module
        assert hasattr(holder, name), f"{owner}.{name}"
    assert hasattr(rtx.module.IExecutionContext, "is_stream_capturable")  # asked for by getattr


def test_every_name_is_in_the_installed_cuda_python() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    found = set()
    for node in ast.walk(ast.parse((FOLDER / "device_memory.py").read_text())):
        if isinstance(node, ast.Attribute) and node.attr.startswith("cuda"):
            holder = _name(node.value)
            if holder == "_runtime":
                assert hasattr(runtime, node.attr), node.attr
            else:
                kind = "cudaDeviceAttr" if holder == "attribute" else holder
                assert hasattr(getattr(runtime, kind), node.attr), node.attr
            found.add(node.attr)
    assert {"cudaMemcpyAsync", "cudaGraphLaunch", "cudaDevAttrIntegrated", "cudaMemcpyHostToDevice"} <= found
