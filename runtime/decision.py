"""Decisions: what a router makes of a picture. Restore it with a composition, or leave it as it is."""

from __future__ import annotations

from dataclasses import dataclass

from uir.runtime.composition import Composition

CLEAN_NAME = "clean"
"""What a decision to leave a picture alone, and the similarity to pictures without any degradation, are called."""


@dataclass(frozen=True)
class Decision:
    """What is to be done with a picture.

    Attributes:
        composition: what restores it; None for a clean picture, which passes through untouched. (The empty composition
            is not that: it runs the base alone.)
    """

    composition: Composition | None

    @property
    def key(self) -> str:
        """The composition's key, or `clean`."""
        return CLEAN_NAME if self.composition is None else self.composition.key

    @property
    def weights(self) -> dict[str, float]:
        """The composition's weights by adapter name; none for a clean picture."""
        return {} if self.composition is None else self.composition.weights

    def __str__(self) -> str:
        return self.key


CLEAN = Decision(None)
