"""`uir-bench router`: that it counts right, on a router whose answers are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uir.runtime.composition import Composition
from uir.runtime.errors import UsageError
from uir.runtime.package import Package
from uir.runtime.router import Router
from uir.tools.bench.cases import Case
from uir.tools.bench.cli import main as bench
from uir.tools.bench.router_cases import Answer, Question, ask, questions
from uir.tools.bench.router_mixes import grid
from uir.tools.bench.router_tables import by_level


@pytest.fixture
def results(routed_package: Path, photos: Path, tmp_path: Path) -> Any:
    output = tmp_path / "router.json"
    given = ["--package", str(routed_package), "--photos", str(photos), "--severities", "0.4,0.8", "--limit", "1"]
    bench(["router", *given, "--size", "64x48", "--foreign", "--mixes", "--json", str(output)])
    return json.loads(output.read_text())["results"]


def test_every_picture_is_counted_once(results: Any) -> None:
    assert set(results["recognised"]) == {"clean", "clean, as JPEG", "haze", "rain", "noise"}
    assert {name: sum(taken.values()) for name, taken in results["confusion"].items()} == {
        "clean": 1,
        "clean, as JPEG": 2,
        "haze": 2,
        "rain": 2,
        "noise": 2,
    }
    for name, at in results["recognised"].items():
        if not name.startswith("clean"):
            right = results["confusion"][name].get(name, 0)
            assert at["mean"] == right / 2
    assert set(results["pairs"]) == {"haze+rain"}
    assert all(operator.partition(".")[0] in ("albumentations", "imagecorruptions") for operator in results["foreign"])
    assert results["foreign"]


def test_the_oracle_is_the_best_of_the_grid(results: Any) -> None:
    (mix,) = results["mixes"]
    assert mix["names"] == ["rain", "haze"]
    psnr = mix["psnr"]
    assert psnr["oracle"] >= max(psnr["uniform"], psnr["best single"])
    assert set(psnr) == {"input", "best single", "uniform", "by router", "oracle"}


def test_a_look_is_timed_beside_a_restoration(results: Any) -> None:
    cost = results["cost"]
    assert 0 < cost["milliseconds"]["seeing"] < cost["milliseconds"]["look"]
    assert cost["gflop"]["look"] == 0  # a mean of colours has no convolution
    assert cost["gflop"]["restore"] > 0


def test_answers_are_right_where_they_should_be() -> None:
    case = Case("rain+haze", lambda clean, *_: clean, [0.5, 1.0], {})
    answers = [
        Answer("a", 0.5, ("rain", "clean", "haze", "noise"), "rain", {"rain": 1.0}),
        Answer("b", 0.5, ("rain", "noise", "haze", "clean"), "rain", {"rain": 1.0}),
        Answer("a", 1.0, ("clean", "haze", "rain", "noise"), "clean", {}),
    ]
    pair = Question(("rain", "haze"), case)
    assert by_level(pair, answers) == {"0.5": 0.5, "1": 1.0, "mean": pytest.approx(2 / 3)}
    assert by_level(Question(("rain",), case), answers) == {"0.5": 1.0, "1": 0.0, "mean": pytest.approx(2 / 3)}
    assert by_level(Question((), case), answers) == {"0.5": 0.0, "1": 1.0, "mean": pytest.approx(1 / 3)}


def test_a_clean_picture_that_is_left_alone_counts_as_right(routed_package: Path) -> None:
    """The router of colours takes grey for clean."""
    clean = questions(Router(Package(routed_package)), [0.5])[0]
    grey, red = (np.full((30, 40, 3), colour, np.uint8) for colour in (120, (220, 20, 20)))
    answers = ask(
        Router(Package(routed_package)), clean, [(Path("grey.png"), grey), (Path("red.png"), red)], 0, lambda: None
    )
    assert by_level(clean, answers)["mean"] == 0.5


def test_the_grid_has_every_mix_and_the_uniform_one() -> None:
    pairs, triples = grid(["rain", "haze"]), grid(["rain", "haze", "noise"])
    assert len(pairs) == 9
    assert len(triples) == 15 + 1  # thirds are no quarters
    assert Composition.equal_mix(["rain", "haze", "noise"]) in triples
    assert all(sum(mix.weights.values()) == pytest.approx(1, abs=1e-3) for mix in (*pairs, *triples))


def test_a_package_without_router(paired_package: Path, photos: Path) -> None:
    with pytest.raises(UsageError, match="has no router"):
        bench(["router", "--package", str(paired_package), "--photos", str(photos)])
