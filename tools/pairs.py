"""Which degradations come together."""

from __future__ import annotations

COMMON = (
    ("rain", "haze"),
    ("snow", "haze"),
    ("rain", "lowlight"),
    ("haze", "lowlight"),
    ("snow", "lowlight"),
    ("rain", "raindrop"),
    ("noise", "lowlight"),
    ("noise", "jpeg"),
    ("noise", "blur"),
    ("blur", "jpeg"),
)
"""Pairs that pictures often have: weather with its haze and with the night (as in CDD-11, Guo et al. 2024), and what a
camera does to a picture one after the other. Half of the pairs that training draws are of these."""
