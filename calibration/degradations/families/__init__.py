"""Families of degradations: what training learns to undo.

`uir-degrade` draws each degradation in one way. A network that learns from one way learns its look; so here each is a
family of independent models, drawn at random with random parameters inside a random imaging chain.
"""

from __future__ import annotations

from uir.calibration.degradations.families.chain import FAMILIES, draw, pair
from uir.calibration.degradations.families.scene import Effect, Family, Member, Scene

__all__ = ["FAMILIES", "Effect", "Family", "Member", "Scene", "draw", "pair"]
