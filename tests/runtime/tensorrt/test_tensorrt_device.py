"""The door to CUDA, as far as it opens without a GPU: real bindings, real errors."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from uir.runtime.backends.tensorrt.device_memory import CudaPython, available_memory, find_device, open_device
from uir.runtime.errors import BackendError

MEMINFO = """MemTotal:        7620000 kB
MemFree:          210000 kB
MemAvailable:    4100000 kB
Cached:          3500000 kB
"""


@pytest.fixture
def no_gpu() -> None:
    """Skip where there is a GPU."""
    if find_device():
        pytest.skip("there is a GPU here")


@pytest.mark.usefixtures("no_gpu")
def test_no_driver_is_said_so() -> None:
    pytest.importorskip("cuda.bindings.runtime")
    with pytest.raises(BackendError, match=r"no NVIDIA driver .*nvidia-smi.*--device cpu"):
        open_device()
    with pytest.raises(BackendError, match=r"CUDA driver version is insufficient .*cudaErrorInsufficientDriver"):
        CudaPython()


@pytest.mark.usefixtures("no_gpu")
def test_neither_cuda_python_nor_pycuda(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(BackendError, match="neither cuda-python nor PyCUDA is installed"):
        open_device()


@pytest.mark.usefixtures("no_gpu")
def test_bindings_linked_to_a_driver_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> object:
        if name.startswith("cuda."):
            raise ModuleNotFoundError(name)
        raise ImportError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr("importlib.import_module", broken)
    with pytest.raises(BackendError, match=r"no NVIDIA driver .*libcuda\.so\.1"):
        open_device()


def test_shared_memory_is_counted_as_linux_counts_it(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(MEMINFO)
    jetson = SimpleNamespace(integrated=True, free_memory=lambda: 210_000 * 1024)
    desktop = SimpleNamespace(integrated=False, free_memory=lambda: 123)
    assert available_memory(jetson, meminfo) == 4_100_000 * 1024  # type: ignore[arg-type]
    assert available_memory(desktop, meminfo) == 123  # type: ignore[arg-type]
    assert available_memory(jetson) > 2**20  # type: ignore[arg-type]


@pytest.mark.requires_gpu
def test_a_gpu_copies_there_and_back() -> None:
    device = find_device() or pytest.skip("no GPU")
    with device.active():
        stream, buffer = device.stream(), device.allocate(1000)
        source, target = device.pinned(1000), device.pinned(1000)
        source[:] = np.arange(1000) % 251

        def work() -> None:
            device.upload(buffer, source, stream)
            device.download(target, buffer, stream)

        work()
        device.wait(stream)
        assert (target == source).all()
        launch = device.record(stream, work)
        source[:] = 7
        if launch is not None:
            launch()
            device.wait(stream)
            assert (target == 7).all()
    assert available_memory(device) > 0
