"""Devices: which of them this machine can use, why not the others, and that OpenVINO restores as ONNX Runtime does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from uir.runtime import Restorer
from uir.runtime.backends import Shapes
from uir.runtime.backends.devices import DEVICES, open_backend, unusable
from uir.runtime.backends.nvidia import nvidia_gpu
from uir.runtime.backends.onnx_runtime import OnnxRuntimeBackend
from uir.runtime.backends.openvino import multiplies_bytes
from uir.runtime.backends.trial import small_network, try_backend
from uir.runtime.composition import Composition
from uir.runtime.disk_cache import DiskCache
from uir.runtime.errors import BackendError, UsageError
from uir.runtime.merge import fill_graph, merge_package
from uir.runtime.package import Package

Frame = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of engines of the test's own."""
    monkeypatch.setenv("UIR_CACHE", str(tmp_path / "engines"))
    return tmp_path / "engines"


@pytest.fixture
def frames() -> Frame:
    """Two frames, 48 x 64, of waves and a little grain."""
    y, x = np.mgrid[0:48, 0:64]
    waves = np.stack([128 + 90 * np.sin(x / 9 + y / 7 + shift) for shift in (0, 1, 2)], axis=2)
    grain = np.random.default_rng(0).normal(0, 4, (2, 48, 64, 3))
    return (waves + grain).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def model(shared_package: Path) -> bytes:
    package = Package(shared_package)
    merged = merge_package(package, Composition.parse("rain=0.7,haze=0.3"))
    return bytes(fill_graph(package.graph(), merged).SerializeToString())


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(UsageError, match="gpu9: no such device; there are auto, tensorrt, rtx, cuda, openvino, cpu"):
        open_backend("gpu9")


def test_the_cpu_can_always_be_used() -> None:
    assert unusable("cpu") is None
    assert open_backend("auto").name in DEVICES


def test_a_device_that_cannot_be_used_says_why_and_what_to_do() -> None:
    for device in DEVICES[1:]:
        reason = unusable(device)
        if reason is None:
            assert open_backend(device).describe()
            continue
        with pytest.raises(BackendError) as caught:
            open_backend(device)
        assert str(caught.value) == reason
        assert "install" in reason or "driver" in reason, reason


def test_onnxruntime_without_a_provider_says_what_to_install() -> None:
    if unusable("cuda") is None:
        pytest.skip("CUDA can be used here")
    with pytest.raises(BackendError, match="CUDA"):
        open_backend("cuda")


@pytest.mark.parametrize("shapes", [None, Shapes.only((2, 48, 64))], ids=["any size", "one size"])
def test_openvino_gives_what_onnxruntime_gives(model: bytes, frames: Frame, shapes: Shapes | None) -> None:
    pytest.importorskip("openvino")
    reference, exact = open_backend("cpu"), open_backend("openvino", exact=True)
    expected = reference.load(reference.build(model, None)).run(frames).astype(int)
    engine = exact.load(exact.build(model, shapes))
    assert np.abs(engine.run(frames) - expected).max() <= 1
    # In its faster type, where the processor has one, the errors stay far below what is seen.
    fast = open_backend("openvino")
    mean_square = np.mean((fast.load(fast.build(model, shapes)).run(frames) - expected) ** 2)
    assert 10 * np.log10(255**2 / max(mean_square, 1e-9)) > 45
    assert exact.identity() | {"precision": ""} == fast.identity() | {"precision": ""}


CPUINFO = "processor\t: 0\nmodel name\t: {}\nflags\t\t: fpu sse4_2 avx2 {}\nbogomips\t: 4000.00\n"


@pytest.mark.parametrize(
    ("model", "flags", "fast"),
    [
        ("Skylake-X", "avx512f avx512vl", False),
        ("Cascade Lake", "avx512f avx512_vnni", True),
        ("Alder Lake", "avx_vnni", True),
        ("Sapphire Rapids", "amx_tile amx_int8", True),
        ("avx512_vnni", "", False),
    ],
)
def test_int8_comes_first_where_the_processor_multiplies_bytes(
    model: str, flags: str, fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(CPUINFO.format(model, flags))
    assert multiplies_bytes(cpuinfo) is fast
    assert not multiplies_bytes(tmp_path / "none")
    monkeypatch.setattr("uir.runtime.backends.openvino.multiplies_bytes", lambda: fast)
    assert open_backend("openvino").preferred == (("int8", "fp32") if fast else ("fp32", "int8"))


def test_openvino_takes_bfloat16_only_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, call: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    pytest.importorskip("openvino")
    code = "from uir.runtime.backends.devices import open_backend as o; print(o('openvino').identity()['precision'])"
    monkeypatch.setenv("OV_CPU_MAX_ISA", "AVX2")  # OpenVINO's own switch
    assert call("python", "-c", code).stdout == "f32\n"


def test_openvino_runs_frames_of_all_sizes_in_many_threads(model: bytes, frames: Frame) -> None:
    pytest.importorskip("openvino")
    backend = open_backend("openvino", exact=True)
    engine = backend.load(backend.build(model, None))
    assert engine.nbytes > 0
    parts = [frames[:1, :16, :16], frames[:, :32, :48], frames[1:, 16:, 16:]]
    alone = [engine.run(np.ascontiguousarray(part)) for part in parts]
    with ThreadPoolExecutor(6) as pool:
        for turn in range(4):
            together = list(pool.map(lambda part: engine.run(np.ascontiguousarray(part)), parts * 3))
            for number, result in enumerate(together):
                assert np.array_equal(result, alone[number % 3]), turn


def test_openvino_says_what_it_cannot_do(model: bytes, frames: Frame) -> None:
    pytest.importorskip("openvino")
    backend = open_backend("openvino")
    with pytest.raises(BackendError, match="cannot compile the model"):
        backend.build(b"no model", None)
    strange = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", ["frame"], ["restored"])],
            "strange",
            [onnx.helper.make_tensor_value_info("frame", onnx.TensorProto.UINT8, ["n", "h", "w", 3])],
            [onnx.helper.make_tensor_value_info("restored", onnx.TensorProto.UINT8, ["n", "h", "w", 3])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 18)],
        ir_version=10,
    )
    with pytest.raises(BackendError, match="where Cast is expected; export the package again"):
        backend.build(strange.SerializeToString(), None)
    for garbage in (b"", b"no engine", backend.build(model, None)[:1000]):
        with pytest.raises(BackendError, match="cannot load the engine"):
            backend.load(garbage)
    engine = backend.load(backend.build(model, Shapes.only((1, 48, 64))))
    with pytest.raises(BackendError, match="failed on frames of 1x32x32x3"):
        engine.run(np.ascontiguousarray(frames[:1, :32, :32]))


def test_an_openvino_engine_is_kept_for_the_next_process(
    shared_package: Path, cache: Path, frames: Frame, call: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    pytest.importorskip("openvino")
    restored = Restorer(shared_package, "rain", device="openvino")(frames)
    (entry,) = DiskCache(cache).entries()
    code = f"""
import numpy as np
from uir.runtime import Restorer
from uir.runtime.backends.openvino import OpenVinoBackend
OpenVinoBackend.build = None  # it must not be needed
frames = np.load({str(cache.parent / "frames.npy")!r})
np.save({str(cache.parent / "restored.npy")!r}, Restorer({str(shared_package)!r}, "rain", device="openvino")(frames))
"""
    np.save(cache.parent / "frames.npy", frames)
    done = call("python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.load(cache.parent / "restored.npy"), restored)
    (again,) = DiskCache(cache).entries()
    assert again.digest == entry.digest
    # A damaged file costs a build, and nothing else.
    (file,) = cache.glob("*.engine")
    file.write_bytes(file.read_bytes()[:-100])
    assert np.array_equal(Restorer(shared_package, "rain", device="openvino")(frames), restored)


def test_the_device_can_be_set_in_the_environment(shared_package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UIR_DEVICE", "gpu9")
    with pytest.raises(UsageError, match="gpu9: no such device"):
        Restorer(shared_package, "rain")
    assert "ONNX Runtime" in Restorer(shared_package, "rain", device="cpu").describe()


def test_a_backend_of_fixed_sizes_gets_an_engine_for_the_size_that_comes(
    shared_package: Path, cache: Path, frames: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO takes fixed sizes as well, so that what TensorRT needs is tried for real."""
    pytest.importorskip("openvino")
    from uir.runtime.backends.openvino import OpenVinoBackend

    def shapes() -> list[object]:
        return [entry.about["shapes"] for entry in DiskCache(cache).entries()]

    expected = Restorer(shared_package, "rain", device="openvino", precision="fp32")(frames[0])
    DiskCache(cache).clear()
    monkeypatch.setattr(OpenVinoBackend, "static", True)
    restorer = Restorer(shared_package, "rain", device="openvino", precision="fp32", memory_limit=2**22)
    assert shapes() == []  # nothing is built before the size is known
    restorer.expect(48, 64)
    assert np.abs(restorer(frames[0]).astype(int) - expected).max() <= 1
    assert shapes() == [[[1, 48, 64]] * 3]
    restorer.compose("haze")
    assert shapes() == [[[1, 48, 64]] * 3] * 2
    restorer.compose("rain")
    small = np.ascontiguousarray(frames[0][:20, :30])
    assert restorer(small).shape == small.shape
    smallest, usual, largest = shapes()[-1]  # type: ignore[misc]
    assert smallest < usual <= largest
    with pytest.raises(UsageError):
        Restorer(shared_package, "fog", device="openvino")


@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_the_small_network_changes_nothing(device: str) -> None:
    if unusable(device):
        pytest.skip(f"{device} cannot be used here")
    backend = open_backend(device)
    frames = np.random.default_rng(1).integers(0, 256, (2, 16, 24, 3), np.uint8)
    assert np.array_equal(backend.load(backend.build(small_network(), None)).run(frames), frames)


@pytest.mark.rtx
def test_tensorrt_builds_the_small_network() -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    from uir.runtime.backends.tensorrt import BuildOptions, TensorRTBackend

    backend = TensorRTBackend("tensorrt-rtx", BuildOptions(compute_capabilities=("8.6",)))
    assert backend.build(small_network(), Shapes.only((1, 32, 32)))


@pytest.fixture
def providers(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime as onnxruntime-gpu is on a machine without a GPU: it lists what it then falls back from."""
    listed = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)


@pytest.mark.usefixtures("providers")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_auto_passes_over_what_fails_on_a_gpu_and_says_why(
    shared_package: Path, frames: Frame, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if onnxruntime.get_device() == "GPU":
        pytest.skip("this ONNX Runtime can use a GPU")
    monkeypatch.setattr("uir.runtime.backends.devices.nvidia_gpu", lambda: True)
    expected = Restorer(shared_package, "rain", device="cpu")(frames)
    assert not caplog.records
    restorer = Restorer(shared_package, "rain", device="auto", precision="fp32")
    assert np.abs(restorer(frames).astype(int) - expected).max() <= 1
    (record,) = caplog.records
    said = record.getMessage()
    assert record.levelname == "WARNING"
    assert "\n" not in said
    taken = "cpu" if unusable("openvino") else "openvino"
    assert said.startswith(f"auto takes {taken}, since what is installed for others fails: tensorrt: ")
    assert "; cuda: ONNX Runtime" in said
    assert "fell back to CPUExecutionProvider: CUDA cannot be used here" in said
    with pytest.raises(BackendError, match="CUDA cannot be used here"):
        open_backend("cuda")


@pytest.mark.usefixtures("providers")
def test_auto_says_nothing_where_there_is_no_gpu(caplog: pytest.LogCaptureFixture) -> None:
    if nvidia_gpu():
        pytest.skip("there is a GPU here")
    assert open_backend("auto").name in ("openvino", "cpu")
    assert not caplog.records
    caplog.set_level("DEBUG")
    open_backend("auto")
    assert [record.args[0] for record in caplog.records if record.args] == ["tensorrt", "rtx", "cuda"]


DRIVER = """
int cuInit(unsigned flags) { return INIT; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize(
    ("init", "count", "there"),
    [(0, 1, True), (0, 0, False), (100, 0, False), (999, 0, True)],
    ids=["a GPU", "none", "no device", "a driver that fails"],
)
def test_a_gpu_is_what_the_driver_shows(init: int, count: int, there: bool, tmp_path: Path) -> None:
    (tmp_path / "driver.c").write_text(DRIVER)
    library = [f"-DINIT={init}", f"-DCOUNT={count}", "-o", "libcuda.so.1", "driver.c"]
    subprocess.run(["cc", "-shared", "-fPIC", *library], check=True, cwd=tmp_path)
    program = "from uir.runtime.backends.nvidia import nvidia_gpu; print(nvidia_gpu())"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert said.stdout == f"{there}\n"


def test_auto_says_nothing_of_what_is_not_installed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uir.runtime.backends.devices.nvidia_gpu", lambda: True)
    for module in ("tensorrt", "tensorrt_rtx", "openvino"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert open_backend("auto").name == "cpu"
    assert not caplog.records


def test_a_device_that_gives_another_frame_is_refused() -> None:
    class Wrong(OnnxRuntimeBackend):
        def build(self, model: bytes, shapes: Shapes | None) -> bytes:
            graph = onnx.load_from_string(super().build(model, shapes))
            kernel = numpy_helper.to_array(graph.graph.initializer[0]) * np.float32(0.5)
            graph.graph.initializer[0].CopyFrom(numpy_helper.from_array(kernel, "kernel"))
            return bytes(graph.SerializeToString())

    try_backend(OnnxRuntimeBackend())
    with pytest.raises(BackendError, match="on the CPU gave another frame for a network that changes nothing"):
        try_backend(Wrong())


def test_on_a_jetson_no_gpu_build_of_onnxruntime_is_recommended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    for release, file in (("5.15.148-tegra", "none"), ("6.8.12-custom", "nv_tegra_release")):
        (tmp_path / "nv_tegra_release").touch()
        monkeypatch.setattr("platform.release", lambda release=release: release)
        monkeypatch.setattr("uir.runtime.backends.onnx_runtime._TEGRA", tmp_path / file)
        with pytest.raises(BackendError) as caught:
            OnnxRuntimeBackend("cuda")
        assert "pip install onnxruntime-gpu" not in str(caught.value)
        assert "--device tensorrt; docs/jetson.md says how" in str(caught.value)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(BackendError, match="then pip install onnxruntime-gpu"):
        OnnxRuntimeBackend("cuda")
