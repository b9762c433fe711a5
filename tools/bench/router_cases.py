"""What the router is tested on: photos degraded in known ways, and what it made of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from uir.calibration.degradations import DEGRADATIONS
from uir.runtime.decision import CLEAN_NAME
from uir.runtime.router import Router
from uir.tools.bench.cases import PAIRS, Case, as_jpeg, degrading
from uir.tools.bench.foreign import LEVELS, OPERATORS, Operator
from uir.tools.bench.metrics import Frame
from uir.tools.pairs import COMMON

CODED = "clean, as JPEG"
QUALITIES = (95.0, 88.0)
"""Of the JPEGs that clean photos are stored as: no fault that should be restored."""

MIXED = tuple(dict.fromkeys(tuple(sorted(pair)) for pair in (*COMMON, *PAIRS)))
"""The pairs that pictures often have: those that training favours, and those of the quality benchmark."""


@dataclass(frozen=True)
class Question:
    """One way of degrading photos, and the adapters that should be found.

    Attributes:
        names: the degradations; none for a clean picture.
        case: how; its levels are severities, or whatever its operator counts.
    """

    names: tuple[str, ...]
    case: Case


@dataclass(frozen=True)
class Answer:
    """What the router made of one picture.

    Attributes:
        ranked: the adapters from the most similar on, and `clean` among them.
        composition: the key of what the picture would be restored with, or `clean`.
        weights: the same by adapter.
    """

    photo: str
    level: float
    ranked: tuple[str, ...]
    composition: str
    weights: dict[str, float]

    @property
    def first(self) -> str:
        """What the picture is taken for."""
        return self.ranked[0]

    def among_first(self, names: Sequence[str]) -> bool:
        """Whether just these adapters are the most similar ones, `clean` left aside."""
        adapters = [name for name in self.ranked if name != CLEAN_NAME]
        return set(adapters[: len(names)]) == set(names)


def questions(router: Router, severities: Sequence[float]) -> list[Question]:
    """Clean photos, each degradation alone and each of `MIXED`, as far as the package's adapters go."""
    known = [name for name in DEGRADATIONS if name in router.adapters]
    asked = [
        Question((), Case(CLEAN_NAME, lambda clean, *_: clean, [0.0], {})),
        Question((), Case(CODED, as_jpeg, QUALITIES, {})),
    ]
    wanted = [(name,) for name in known] + [pair for pair in MIXED if set(pair) <= set(known)]
    return asked + [Question(names, Case("+".join(names), degrading(*names), severities, {})) for names in wanted]


def foreign_questions(router: Router) -> list[tuple[Operator, Question]]:
    """The operators of other libraries whose adapter the package has."""
    return [
        (each, Question((each.adapter,), Case(each.name, each.degrade, LEVELS, {})))
        for each in OPERATORS
        if each.adapter in router.adapters
    ]


def ask(
    router: Router, question: Question, photos: Iterable[tuple[Path, Frame]], seed: int, done: Callable[[], object]
) -> list[Answer]:
    """What the router makes of each photo at each level. `done` is called after each picture."""
    answers = []
    for photo, clean in photos:
        for level in question.case.levels:
            answers.append(see(router, question.case.sample(clean, photo, level, seed).degraded, photo.name, level))
            done()
    return answers


def see(router: Router, frame: Frame, photo: str, level: float) -> Answer:
    """What the router makes of one picture."""
    similarities = router.look(frame)
    ranked = sorted(similarities, key=lambda name: -similarities[name])
    chosen = router.weigh(similarities)
    return Answer(photo, level, tuple(ranked), chosen.key, chosen.weights)


def share(answers: Sequence[Answer], right: Callable[[Answer], bool]) -> float:
    """How many of the answers are right, from 0 to 1."""
    return sum(map(right, answers)) / len(answers)
