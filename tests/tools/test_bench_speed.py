"""`uir-bench speed`: that its rows run what they say, and that its counts are exact. Nothing timed is asserted."""

from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from uir.runtime import Restorer, UirError
from uir.runtime.composition import Composition
from uir.runtime.errors import OutputError, UsageError
from uir.runtime.package import Package
from uir.tools.bench.cli import main as bench
from uir.tools.bench.speed import limits, turns
from uir.tools.bench.speed.contenders import CONTENDERS
from uir.tools.bench.speed.judge import benchmark_app, median_latency
from uir.tools.bench.speed.limits import Limits
from uir.tools.bench.speed.results import Row, long_failures, tables
from uir.tools.bench.speed.subject import Subject, limited
from uir.tools.bench.work import Work, count_work

PAIR = "haze=0.5,rain=0.5"
Pixels = NDArray[np.uint8]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small limits and a single turn."""
    monkeypatch.setattr(limits, "SIDE", 64)
    monkeypatch.setattr(limits, "COPIED", 1 << 20)
    monkeypatch.setattr(turns, "TURNS", 1)
    monkeypatch.setattr("uir.tools.bench.speed.command.TURNS", 1)


def speed(package: Path, output: Path, rows: str, *more: object) -> Any:
    """Run `uir-bench speed` in this process and return its JSON."""
    usual = ["--package", package, "--size", "50x34", "--seconds", "0.01", "--rows", rows, "--json", output]
    bench(["speed", *map(str, usual), *map(str, more)])
    return json.loads(output.read_text())


def model(nodes: list[onnx.NodeProto], weights: dict[str, tuple[int, ...]], shape: list[object]) -> onnx.ModelProto:
    """A model of these nodes from `x` to `y`, its weights all ones."""
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    result = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    tensors = [onnx.numpy_helper.from_array(np.ones(dims, np.float32), name) for name, dims in weights.items()]
    graph = helper.make_graph(nodes, "network", given, result, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize(
    ("node", "weights", "shape", "work"),
    [
        # 2 x 5 x 8 x 10 outputs, each a sum over 3 x 3 x 3; 3 x 8 x 10 values in; the bias is a weight.
        (
            helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1, 1, 1, 1]),
            {"w": (5, 3, 3, 3), "b": (5,)},
            (2, 3, 8, 10),
            Work(2 * 2 * 5 * 80 * 27, 135 + 5, 2 * 80 * (3 + 5)),
        ),
        # Two groups of 2 channels to 3, every second pixel.
        (
            helper.make_node("Conv", ["x", "w"], ["y"], group=2, strides=[2, 2]),
            {"w": (6, 2, 2, 2)},
            (1, 4, 8, 10),
            Work(2 * 6 * 20 * 8, 48, 4 * 80 + 6 * 20),
        ),
        # Each of 4 x 6 inputs is spread over 5 x 2 x 2.
        (
            helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2]),
            {"w": (4, 5, 2, 2)},
            (1, 4, 2, 3),
            Work(2 * 4 * 6 * 20, 80, 4 * 6 + 5 * 24),
        ),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), {"w": (7, 5)}, (2, 3, 7), Work(2 * 6 * 5 * 7, 35, 42 + 30)),
        (
            helper.make_node("Gemm", ["x", "w"], ["y"], transA=1, transB=1),
            {"w": (5, 7)},
            (7, 3),
            Work(2 * 3 * 5 * 7, 35, 21 + 15),
        ),
    ],
)
def test_work_is_counted_as_by_hand(
    node: onnx.NodeProto, weights: dict[str, tuple[int, ...]], shape: tuple[int, ...], work: Work
) -> None:
    free: list[object] = [f"d{index}" for index in range(len(shape))]
    assert count_work(model([node], weights, free), shape) == work


def test_only_products_are_work() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["z"]), helper.make_node("Relu", ["z"], ["y"])]
    work = count_work(model(nodes, {"w": (4, 3, 1, 1), "unused": (9,)}, ["n", 3, "h", "w"]), (1, 3, 2, 2))
    assert work == Work(2 * 4 * 4 * 3, 12, 12 + 16)
    assert (work.nbytes(4), work.nbytes(1)) == (160, 40)


def test_a_network_may_have_several_inputs() -> None:
    """As a router's, whose codes are averaged in between."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["f"]),
        helper.make_node("Flatten", ["f"], ["r"]),
        helper.make_node("Gemm", ["r", "w"], ["s"], transB=1),
        helper.make_node("MatMul", ["s", "other"], ["y"]),
    ]
    both = model(nodes, {"w": (7, 2)}, ["n", 2, 9, 9])
    both.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ["a", "b"]))
    assert count_work(both, (1, 2, 9, 9), (7, 3)).flops == 2 * (7 * 2 + 3 * 7)


def test_what_cannot_be_counted_is_refused() -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["i"]), helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT)]
    nodes.append(helper.make_node("MatMul", ["w", "f"], ["y"], name="last"))
    with pytest.raises(UirError, match="MatMul last: the shape of f cannot be told"):
        count_work(model(nodes, {"w": (4, 2)}, ["n", "m"]), (3, 3))


@pytest.mark.usefixtures("quick")
def test_rows_run_the_same_network(paired_package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino")
    rows = "torch-unmerged,torch,torch-bf16,onnxruntime,cpu-fp32,cpu-int8,openvino-fp32,app-plain"
    plot = tmp_path / "plot.png"
    report = speed(paired_package, tmp_path / "s.json", rows, "--threads", "1", "--plot", plot)
    results, text = report["results"], capsys.readouterr().out
    found = {row["name"]: row for row in results["rows"]}
    assert sorted(found) == sorted(rows.split(","))
    assert list(found) == [each.name for each in CONTENDERS if each.name in found]
    assert found["cpu-int8"]["failure"] == "not in the package: export it with --precision auto"
    assert found["cpu-int8"]["seconds"] is None
    ran = {name: row for name, row in found.items() if name != "cpu-int8"}
    for name, row in ran.items():
        assert row["failure"] is None
        assert row["quartiles"][0] <= row["seconds"] <= row["quartiles"][1]
        assert row["speedup"] == pytest.approx(found["torch-unmerged"]["seconds"] / row["seconds"])
        assert row["share"] == pytest.approx(results["bounds"][row["kind"]]["seconds"] / row["seconds"])
        assert row["samples"] == 1 if name == "app-plain" else row["samples"] % turns.TIMED == 0 < row["samples"]
        # At most one code of 8 bits beside exact float32: 48 dB. That of bfloat16 depends on the weights.
        if name not in ("torch-bf16", "app-plain"):
            assert row["psnr"] > 55
    assert found["cpu-fp32"]["psnr"] == 100
    assert found["app-plain"]["psnr"] is None
    assert report["settings"]["threads"] == 1
    assert report["settings"]["composition"] == PAIR
    line = next(line for line in text.splitlines() if line.startswith("ours: cpu, int8"))
    assert line.endswith("not in the package: export it with --precision auto")
    line = next(line for line in text.splitlines() if line.startswith("torch, merged  "))
    assert f" {found['torch']['seconds'] * 1e3:.1f} " in line
    picture = cv2.imread(str(plot))
    assert picture is not None
    # The bars of ours are blue, those of others grey.
    assert (picture == (180, 119, 31)).all(axis=2).any()
    assert (picture == (127, 127, 127)).all(axis=2).any()


@pytest.mark.usefixtures("quick")
def test_all_precisions_of_a_package_run(typed_package: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    rows = "cpu-fp32,cpu-fp16,cpu-int8,openvino-int8"
    found = speed(typed_package, tmp_path / "s.json", rows)["results"]["rows"]
    assert [row["failure"] for row in found] == [None] * 4
    assert found[0]["speedup"] == 1
    exact, half, whole, other = (row["psnr"] for row in found)
    assert exact == 100 > half > whole > 20
    assert other > 20


@pytest.mark.usefixtures("quick")
def test_a_missing_library_is_said_and_the_rest_is_timed(
    paired_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("peft", "onnxscript", "openvino"):
        monkeypatch.setitem(sys.modules, module, None)
    rows = "torch-unmerged,onnxruntime,cpu-fp32,openvino-fp32,app-fp32"
    found = speed(paired_package, tmp_path / "s.json", rows)["results"]["rows"]
    assert [row["failure"] for row in found] == [
        "not installed: pip install peft",
        "not installed: pip install torch onnxscript google-re2",
        None,
        *["not installed: pip install openvino"] * 2,
    ]
    # The first row that ran is what others are compared with.
    assert found[2]["speedup"] == 1
    assert "not installed: pip install peft\n" in capsys.readouterr().out


@pytest.mark.usefixtures("quick")
def test_without_torch_there_are_no_limits(
    paired_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    results = speed(paired_package, tmp_path / "s.json", "torch,cpu-fp32")["results"]
    assert results["rows"][0]["failure"] == "not installed: pip install torch onnxscript google-re2"
    assert (results["rows"][1]["share"], results["bounds"]) == (None, {})
    assert results["work"]["flops"] > 0
    text = capsys.readouterr().out
    assert "limits are measured by torch: not installed" in text
    assert "peak GFLOP/s" not in text


def test_a_long_failure_stands_below_the_table() -> None:
    rows = [Row("a", "one", "fp32", failure="not installed"), Row("b", "two", "fp32", failure="reasons, " * 9)]
    (table,) = tables(rows, {}, Limits())
    assert [row[-1] for row in table.rows] == ["not installed", "see below"]
    assert long_failures(rows) == ["two: " + "reasons, " * 9]


def test_why_another_library_failed_is_its_first_line() -> None:
    from uir.tools.bench.speed.research import others_work

    with pytest.raises(UirError, match=r"^torch\.compile: OSError: no compiler$"), others_work("torch.compile"):
        raise OSError("\nno compiler\nand more")
    with pytest.raises(ModuleNotFoundError), others_work("PEFT"):
        raise ModuleNotFoundError(name="transformers")


@pytest.mark.usefixtures("quick")
def test_no_row_at_all_is_an_error(paired_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UirError, match="no row could be run: ours: openvino, fp32: not installed"):
        speed(paired_package, tmp_path / "s.json", "openvino-fp32")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("quick")
def test_the_base_alone_has_nothing_unmerged(paired_package: Path, tmp_path: Path) -> None:
    rows = speed(paired_package, tmp_path / "s.json", "torch-unmerged,cpu-fp32", "--compose", "base")["results"]["rows"]
    assert rows[0]["failure"] == "base has no adapter that could be left unmerged"


def test_frames_are_what_the_restorer_takes(paired_package: Path, tmp_path: Path) -> None:
    subject = Subject(Package(paired_package), Composition.parse(PAIR), (50, 34), None, tmp_path)
    assert subject.network_size == (36, 52)
    assert {frame.shape for frame in subject.frames} == {(36, 52, 3)}
    assert len({frame.tobytes() for frame in subject.frames}) == len(subject.frames)
    restore = next(each for each in CONTENDERS if each.name == "cpu-fp32").begin
    assert restore is not None
    frame = subject.frames[0]
    assert np.array_equal(restore(subject)(frame), Restorer(paired_package, PAIR, device="cpu")(frame))


def test_turns_meet_every_row_in_rounds() -> None:
    """Each visit is a frame that does not count and then those that do; judges come once a turn."""
    seen: list[str] = []
    steps: list[str] = []
    frames = [np.full((1, 1, 3), value, np.uint8) for value in range(3)]

    def row(name: str) -> Any:
        def restore(frame: Pixels) -> Pixels:
            seen.append(f"{name}{frame[0, 0, 0]}")
            return frame

        return restore

    def judge(seconds: float) -> float:
        assert seconds == pytest.approx(1e-9 / 4 / turns.TURNS)
        return 0.25

    def fails(_: float) -> float:
        raise UirError("it broke")

    rows, judges = {"a": row("a"), "b": row("b")}, {"j": judge, "k": fails}
    times, failures = turns.take_turns(frames, rows, judges, 1e-9, lambda: seen.append("-"), steps.append)
    one = ["a0", "a0", "a1", "b0", "b0", "b1", "-"]
    two = ["a2", "a2", "a0", "b2", "b2", "b0", "-"]
    assert seen[:14] == one + two
    assert len(times["a"]) == len(times["b"]) == turns.TIMED * turns.TURNS
    assert (times["j"], failures) == ([0.25] * turns.TURNS, {"k": "it broke"})
    assert "k" not in times
    assert len(steps) == turns.TURNS * 4
    assert statistics.median(times["a"]) >= 0


def test_the_best_that_was_seen_is_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SIDE", 64)
    monkeypatch.setattr(limits, "COPIED", 1 << 20)
    found = Limits(peaks={"fp32": 1e30}, bandwidth=1.0)
    found.look()
    assert found.peaks["fp32"] == 1e30
    assert found.peaks["bf16"] > 0
    assert found.bandwidth is not None
    assert found.bandwidth > 1e6


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot keep a process to some cores")
def test_threads_are_limited_while_it_runs() -> None:
    cores = os.sched_getaffinity(0)
    with limited(1):
        assert os.sched_getaffinity(0) == {min(cores)}
    assert os.sched_getaffinity(0) == cores
    for threads in (0, -1, len(cores) + 1):
        with pytest.raises(UsageError, match=f"--threads {threads}: must be from 1 to {len(cores)}"), limited(threads):
            raise AssertionError("unreachable")


def test_what_benchmark_app_says_is_read(tmp_path: Path) -> None:
    said = "[ INFO ] Latency:\n[ INFO ]    Median:        24.40 ms\n[ INFO ]    Average:       25.10 ms\n"
    assert median_latency(said) == pytest.approx(0.0244)
    assert median_latency("[ INFO ]    Median:        920.00 us\n") == pytest.approx(0.00092)
    with pytest.raises(UirError, match="benchmark_app: Cannot do this"):
        median_latency("[ INFO ] so far\n[ ERROR ] Cannot do this\nTraceback\n")
    with pytest.raises(UirError, match="benchmark_app: Killed"):
        median_latency("", "first\nKilled\n")
    with pytest.raises(UirError, match="benchmark_app: no latency"):
        median_latency("")
    pytest.importorskip("openvino")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(UirError, match=r"benchmark_app: .*"):
        benchmark_app(tmp_path / "broken.onnx", (1, 8, 8, 3))(1)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (["--package", "nowhere.uir"], UirError, "nowhere.uir: no such package"),
        (["--compose", "fog"], UsageError, "fog: no such adapter"),
        (["--seconds", "0"], UsageError, "--seconds 0: must be more than 0"),
        (["--seconds", "nan"], UsageError, "--seconds nan"),
        (["--seconds", "inf"], UsageError, "--seconds inf"),
        (["--threads", "0"], UsageError, "--threads 0"),
        (["--rows", "torch,numpy"], UsageError, "numpy: no such row"),
        (["--plot", "plot.jpg"], UsageError, r"plot.jpg: .*\.png"),
        (["--plot", "there.png"], OutputError, "there.png: exists"),
    ],
)
def test_refusals(paired_package: Path, there: Path, change: list[str], error: type[UirError], words: str) -> None:
    with pytest.raises(error, match=words):
        bench(["speed", "--package", str(paired_package), *change])
    assert there.read_text() == "mine"


def test_a_missing_matplotlib_is_said_at_once(paired_package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"uir-bench speed needs matplotlib: pip install scikit-image psutil"):
        bench(["speed", "--package", str(paired_package), "--plot", "plot.png"])
