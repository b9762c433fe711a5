"""A few hundred hostile inputs of the harness, and that the harness sees what it looks for. `make fuzz` goes on."""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fuzz import registry, runner
from fuzz.cases import Good, try_case
from fuzz.goods import make_good
from fuzz.registry import Mutator, Target
from fuzz.runner import Ended, Zygote, run_alone

JOBS = 2


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Good:
    return make_good(tmp_path_factory.mktemp("good"), "cpu")


@pytest.fixture(scope="module")
def zygotes(good: Good) -> Iterator[list[Zygote]]:
    made = [Zygote(good.cache) for _ in range(JOBS)]
    yield made
    for zygote in made:
        zygote.close()


def faults(good: Good, zygotes: list[Zygote], target: Target, seeds: range, device: str = "cpu") -> list[str]:
    """What is wrong with the cases of some seeds, which the zygotes share."""

    def work(place: int) -> list[str]:
        mine = seeds[place :: len(zygotes)]
        verdicts = [try_case(good, target, seed, zygotes[place].run, ["--device", device]) for seed in mine]
        return [str(verdict) for verdict in verdicts if verdict.fault]

    with ThreadPoolExecutor(len(zygotes)) as pool:
        return [fault for found in pool.map(work, range(len(zygotes))) for fault in found]


@pytest.mark.parametrize(("target", "count"), [("package", 200), ("adapter", 60)])
def test_hostile_inputs_are_refused_or_harmless(good: Good, zygotes: list[Zygote], target: Target, count: int) -> None:
    if target not in registry.targets():
        pytest.skip(f"there is no mutator of an {target}")
    assert not faults(good, zygotes, target, range(count))


def test_hostile_packages_do_not_reach_openvino(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    good = make_good(tmp_path, "openvino")
    zygote = Zygote(good.cache)
    assert not faults(good, [zygote], "package", range(1000, 1020), "openvino")
    zygote.close()


def test_commands_of_their_own_end_alike(good: Good) -> None:
    for seed in range(2000, 2004):
        verdict = try_case(good, "package", seed, lambda arguments, _: run_alone(arguments, good.cache))
        assert not verdict.fault, verdict


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[[registry.Mutate], None]:
    """A function that makes a mutator the only one there is."""

    def choose(mutate: registry.Mutate) -> None:
        monkeypatch.setattr(registry, "MUTATORS", [Mutator("own", "package", "same", 1, mutate)])

    return choose


def do_nothing(package: Path, rng: random.Random) -> str:
    assert package.is_dir()
    return f"nothing {rng.random()}"


def remove(package: Path, rng: random.Random) -> str:
    shutil.rmtree(package)
    return f"gone {rng.random()}"


def test_a_good_package_and_a_missing_one_are_both_well(
    good: Good, zygotes: list[Zygote], only: Callable[[registry.Mutate], None]
) -> None:
    only(do_nothing)
    right = try_case(good, "package", 0, zygotes[0].run)
    assert (right.fault, right.ended.status) == (None, 0)
    assert right.done == try_case(good, "package", 0, zygotes[0].run).done
    only(remove)
    gone = try_case(good, "package", 0, zygotes[0].run)
    assert (gone.fault, gone.ended.status) == (None, 1)


def test_another_picture_is_seen(good: Good, zygotes: list[Zygote], only: Callable[[registry.Mutate], None]) -> None:
    only(do_nothing)
    wrong = dataclasses.replace(good, right=255 - good.right)
    assert str(try_case(wrong, "package", 0, zygotes[0].run).fault).startswith("wrong picture")
    smaller = dataclasses.replace(good, right=np.ascontiguousarray(good.right[1:]))
    assert str(try_case(smaller, "package", 0, zygotes[0].run).fault).startswith("wrong picture")


def test_a_file_that_is_left_behind_is_seen(
    good: Good, zygotes: list[Zygote], only: Callable[[registry.Mutate], None]
) -> None:
    def leave(package: Path, rng: random.Random) -> str:
        (package.parent / "out" / "o.png.part").touch()
        return remove(package, rng)

    only(leave)
    assert try_case(good, "package", 0, zygotes[0].run).fault == "left behind: o.png.part"


@pytest.mark.parametrize(("limit", "value", "fault"), [("SECONDS", 0.0, "hang"), ("MEMORY", 2**20, "memory")])
def test_limits_are_held(
    good: Good, zygotes: list[Zygote], monkeypatch: pytest.MonkeyPatch, limit: str, value: float, fault: str
) -> None:
    monkeypatch.setattr(runner, limit, value)
    ways = [zygotes[0].run, lambda arguments, _: run_alone(arguments, good.cache)]
    for run in ways:
        monkeypatch.setattr(registry, "MUTATORS", [Mutator("own", "package", "same", 1, do_nothing)])
        assert try_case(good, "package", 0, run).fault == fault


@pytest.mark.parametrize(
    ("status", "stderr", "fault"),
    [
        (0, "", None),
        (0, "uir-run: warning: slow\n", None),
        (1, "uir-run: error: p.uir: damaged\n", None),
        (1, "Traceback (most recent call last):\nTypeError: x\n", "traceback: TypeError: x"),
        (-11, "", "crash by SIGSEGV"),
        (3, "", "exit status 3"),
        (1, "", "no single clear line"),
        (1, "uir-run: error: two\nlines\n", "no single clear line"),
        (1, f"uir-run: error: {'x' * 3000}\n", "no single clear line"),
        (0, "a library speaks\n", "stray words"),
    ],
)
def test_faults_are_told_by_how_a_command_ends(status: int, stderr: str, fault: str | None) -> None:
    assert partial(Ended, status, 1.0, 2**20, None)(stderr).fault() == fault
