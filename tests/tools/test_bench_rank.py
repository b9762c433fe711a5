"""`uir-bench rank`: that what it cuts is the nearest there is, and that whole adapters stay what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uir.runtime import Restorer
from uir.runtime.errors import UsageError
from uir.runtime.factors import Adapter, DenseDelta, Factors
from uir.tools.bench.cli import main as bench
from uir.tools.bench.rank import truncated


def test_the_cut_is_the_best_there_is() -> None:
    """Its error is that of the singular values that it leaves out (Eckart and Young 1936)."""
    rng = np.random.default_rng(0)
    b, a = (rng.standard_normal(shape).astype(np.float32) for shape in ((7, 5), (5, 18)))
    adapter = Adapter("rain", {"low": Factors(b, a, 0.5), "dense": DenseDelta(b.ravel()), "small": Factors(b, a, 2.0)})
    cut = truncated(adapter, 2)
    low = cut.updates["low"]
    assert isinstance(low, Factors)
    assert (low.b.shape, low.a.shape) == ((7, 2), (2, 18))
    values = np.linalg.svd(0.5 * b @ a, compute_uv=False)
    error = np.linalg.norm(low.delta((7, 18)) - adapter.updates["low"].delta((7, 18)))
    assert error == pytest.approx(np.sqrt((values[2:] ** 2).sum()), rel=1e-4)
    assert cut.updates["dense"] is adapter.updates["dense"]
    assert truncated(adapter, 5).updates["low"] is adapter.updates["low"]


def rank(package: Path, photos: Path, output: Path, *more: str) -> Any:
    bench(["rank", "--package", str(package), "--photos", str(photos), "--json", str(output), *more])
    return json.loads(output.read_text())["results"]


def test_the_whole_rank_is_what_the_package_gives(paired_package: Path, photos: Path, tmp_path: Path) -> None:
    whole = Restorer(paired_package).package.manifest.adapters["rain"].rank
    results = rank(paired_package, photos, tmp_path / "rank.json", "--ranks", f"1,{whole + 3}", "--severity", "0.4")
    assert set(results["psnr"]) == {"rain", "haze"}
    assert set(results["psnr"]["rain"]) == {"1", str(whole)}  # no adapter has more than the whole
    assert results["share_of_base"]["1"] < results["share_of_base"][str(whole)]
    quality = tmp_path / "quality.json"
    options = ["--package", str(paired_package), "--photos", str(photos), "--severities", "0.4", "--json", str(quality)]
    bench(["quality", *options])
    measured = json.loads(quality.read_text())["results"]["degradations"]
    for name, at in results["psnr"].items():
        assert at[str(whole)] == pytest.approx(measured[name]["mean"]["adapter"]["psnr"])
        assert at["1"] != at[str(whole)]


@pytest.mark.parametrize("ranks", ["", "0", "four", "4,,8", "-1"])
def test_ranks_that_are_none(ranks: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench(["rank", "--photos", "photos", "--ranks", ranks])
    assert "write whole numbers above 0, such as 4,8" in capsys.readouterr().err


def test_a_severity_that_is_none(paired_package: Path, photos: Path) -> None:
    with pytest.raises(UsageError, match="must be from 0 to 1"):
        bench(["rank", "--package", str(paired_package), "--photos", str(photos), "--severity", "nan"])
