"""The router benchmark's numbers as tables, and what they come to in a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from uir.runtime.decision import CLEAN_NAME
from uir.tools.bench.report import Table
from uir.tools.bench.router_cases import CODED, Answer, Question, share
from uir.tools.bench.router_cost import Cost, cost_table
from uir.tools.bench.router_mixes import Mix, mix_table

MEAN = "mean"


@dataclass(frozen=True)
class Results:
    """All that was measured.

    Attributes:
        recognised: by case (`clean`, `rain`) and level, the share of pictures taken for what they are, from 0 to 1; a
            clean picture is where it would be left alone.
        confusion: by what a picture is, over all levels, how many were taken for what.
        pairs: by pair and level, the share of pictures with both the most similar ones.
        weighed: by case, the share of pictures whose composition has just those adapters.
        foreign: by library and operator, the shares of each level.
        mixes: what the weights are worth; empty where it was not asked for.
    """

    recognised: Mapping[str, Mapping[str, float]]
    confusion: Mapping[str, Mapping[str, int]]
    pairs: Mapping[str, Mapping[str, float]]
    weighed: Mapping[str, float]
    foreign: Mapping[str, Mapping[str, float]]
    cost: Cost
    mixes: Sequence[Mix]


def summarise(
    found: Sequence[tuple[Question, list[Answer]]],
    foreign: Mapping[str, Mapping[str, float]],
    cost: Cost,
    mixes: Sequence[Mix],
) -> Results:
    """Count the answers."""
    singles = [(question, answers) for question, answers in found if len(question.names) < 2]
    confusion: dict[str, dict[str, int]] = {}
    for question, answers in singles:
        taken = confusion.setdefault(question.names[0] if question.names else question.case.name, {})
        for answer in answers:
            taken[answer.first] = taken.get(answer.first, 0) + 1
    return Results(
        recognised={question.case.name: by_level(question, answers) for question, answers in singles},
        confusion=confusion,
        pairs={each.case.name: by_level(each, answers) for each, answers in found if len(each.names) == 2},
        weighed={question.case.name: share(answers, _weighs(question.names)) for question, answers in found},
        foreign=foreign,
        cost=cost,
        mixes=mixes,
    )


def _weighs(names: Sequence[str]) -> Callable[[Answer], bool]:
    """Whether an answer's composition has just these adapters."""
    return lambda answer: set(answer.weights) == set(names)


def by_level(question: Question, answers: Sequence[Answer]) -> dict[str, float]:
    """The share of right answers at each level, and `mean` of them all."""

    def right(answer: Answer) -> bool:
        if not question.names:
            return answer.composition == CLEAN_NAME
        if len(question.names) == 1:
            return answer.first == question.names[0]
        return answer.among_first(question.names)

    at = {
        f"{level:g}": share([answer for answer in answers if answer.level == level], right)
        for level in question.case.levels
    }
    return {**at, MEAN: share(answers, right)}


def tables(results: Results) -> list[Table]:
    """What there is to show, in order."""
    weighed = results.weighed
    shown = [
        _shares("Taken for what they are (clean pictures: left alone)", "picture", results.recognised, weighed),
        _confusion(results.confusion),
    ]
    if results.pairs:
        shown.append(_shares("Of two degradations, both the most similar ones", "pair", results.pairs, weighed))
    if results.foreign:
        shown.append(_shares("Other libraries' pictures, taken for their adapter's", "operator", results.foreign))
    if results.mixes:
        shown.append(mix_table(results.mixes))
    return [*shown, cost_table(results.cost)]


def notes(results: Results) -> list[str]:
    """What the tables come to."""
    alone = [at[MEAN] for name, at in results.recognised.items() if name not in (CLEAN_NAME, CODED)]
    parts = [f"clean {results.recognised[CLEAN_NAME][MEAN]:.1%}", f"{CODED} {results.recognised[CODED][MEAN]:.1%}"]
    parts.append(f"single degradations {_mean(alone):.1%}")
    if results.pairs:
        parts.append(f"pairs {_mean(at[MEAN] for at in results.pairs.values()):.1%}")
    if results.foreign:
        parts.append(f"other libraries' {_mean(at[MEAN] for at in results.foreign.values()):.1%}")
    return [f"Recognised: {', '.join(parts)}."]


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return math.fsum(listed) / len(listed)


def _shares(
    title: str, what: str, shares: Mapping[str, Mapping[str, float]], weighed: Mapping[str, float] | None = None
) -> Table:
    """Rows of shares by level, of whatever levels each has."""
    levels = list(dict.fromkeys(level for at in shares.values() for level in at if level != MEAN))
    columns = [what, *levels, MEAN] + (["just these weighed"] if weighed else [])
    rows = []
    for name, at in shares.items():
        row = [name, *(f"{at[level]:.1%}" if level in at else "" for level in (*levels, MEAN))]
        rows.append(row + ([f"{weighed[name]:.1%}"] if weighed else []))
    means = {level: _mean(at[level] for at in shares.values() if level in at) for level in (*levels, MEAN)}
    last = [MEAN, *(f"{means[level]:.1%}" for level in (*levels, MEAN))]
    rows.append(last + ([f"{_mean(weighed[name] for name in shares):.1%}"] if weighed else []))
    return Table(title, columns, rows)


def _confusion(confusion: Mapping[str, Mapping[str, int]]) -> Table:
    """A row for what pictures are, a column for what they were taken for."""
    taken = [name for name in confusion if name not in (CLEAN_NAME, CODED)] + [CLEAN_NAME]
    rows = [[name, *(str(at[other]) if other in at else "." for other in taken)] for name, at in confusion.items()]
    return Table("What was taken for what: pictures", ["is", *taken], rows)
