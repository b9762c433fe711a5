"""Clean pictures to training pairs: what is seen, and what it should become."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np

from uir.calibration.degradations import seed_for
from uir.calibration.degradations._common import Image, check_image, check_seed
from uir.calibration.degradations.families.blur import BLUR
from uir.calibration.degradations.families.capture import CAPTURE
from uir.calibration.degradations.families.haze import HAZE
from uir.calibration.degradations.families.inpaint import INPAINT
from uir.calibration.degradations.families.jpeg import JPEG
from uir.calibration.degradations.families.lowlight import LOWLIGHT
from uir.calibration.degradations.families.noise import NOISE
from uir.calibration.degradations.families.rain import RAIN
from uir.calibration.degradations.families.raindrop import RAINDROP
from uir.calibration.degradations.families.scene import Effect, Family, Scene
from uir.calibration.degradations.families.shadow import SHADOW
from uir.calibration.degradations.families.snow import SNOW
from uir.runtime.errors import UsageError

FAMILIES: Mapping[str, Family] = {
    "shadow": SHADOW,
    "haze": HAZE,
    "snow": SNOW,
    "rain": RAIN,
    "raindrop": RAINDROP,
    "blur": BLUR,
    "lowlight": LOWLIGHT,
    "noise": NOISE,
    "jpeg": JPEG,
    "inpaint": INPAINT,
}
"""The members of each degradation, in the physical order of `DEGRADATIONS`."""

_CHAIN = (
    ("footage", "stored"),
    ("shadow", None),
    ("haze", None),
    ("snow", None),
    ("rain", None),
    ("raindrop", None),
    ("lens", "lens"),
    ("blur", None),
    ("lowlight", None),
    ("noise", None),
    ("grain", "grain"),
    ("software", "software"),
    ("resized", "resized"),
    ("jpeg", None),
    ("stored", "stored"),
    ("inpaint", None),
    ("software again", "software"),
    ("resized again", "resized"),
    ("stored again", "stored"),
)
"""Every step a picture may go through, in physical order, with what of `CAPTURE` it is, where it is no degradation.

What falls may be drawn into footage that a codec has been at. After it is stored a picture may be treated and stored a
second time (X. Wang et al., "Real-ESRGAN", ICCVW 2021, section 3.2).
"""

_RELATED = {"grain": "noise", "lens": "blur", "footage": "jpeg", "stored": "jpeg", "stored again": "jpeg"}
"""Steps that are left out where the degradation that they are a mild form of is present itself."""

_PRISTINE, _FOOTAGE, _AGAIN = 0.4, 0.12, 0.12
"""How often a picture has no history at all, is drawn into footage, and is treated a second time."""

_TWO = 0.12
"""How often two members of a family come together, where it is one of things that pile up."""

_PILING = frozenset({"rain", "snow", "raindrop", "blur", "noise", "shadow", "inpaint"})


def draw(name: str, scene: Scene, rng: np.random.Generator) -> Effect:
    """An effect of the named degradation: a random member, or two, of random severity."""
    family = FAMILIES[name]
    members = [member for _, member in family.values()]
    odds = np.array([share for share, _ in family.values()])
    if name not in _PILING or rng.random() >= _TWO:
        return members[rng.choice(len(members), p=odds / odds.sum())](scene, float(rng.uniform(0.02, 1)), rng)
    chosen = rng.choice(len(members), 2, p=odds / odds.sum())
    first, second = (members[one](scene, float(rng.uniform(0.02, 0.7)), rng) for one in chosen)
    return lambda image: second(first(image))


def pair(
    clean: Image, present: Collection[str], removed: Collection[str], seed: int, lines: float | None = None
) -> tuple[Image, Image]:
    """A picture with the degradations that are `present`, and the same one without those that are `removed`.

    Both have all else in common, drawn once: with rain and haze present and rain removed, the target has the same haze
    (what is removed leaves the rest alone). What names no degradation (lens, grain, software, scaling, a good JPEG) is
    in both too, so that nothing learns to change what it was not made for; but the grain of a dark exposure is not
    wanted once it is brightened, and is missing from the target where low light is removed. Such steps are drawn for
    six pictures in ten, and never those that are the mild form of a degradation that is present.

    Each degradation and each step draws from a seed of its own, so that rain stays the same when haze is added.

    Args:
        clean: float32 H x W x 3, RGB, sRGB-encoded, in [0, 1]; 32 pixels or more on each side.
        present: names of `FAMILIES`; they are applied in physical order, whatever order they are given in.
        removed: those among them that the target does not have.
        seed: 0 or more.
        lines: the height in pixels of the picture that `clean` is a crop of; `clean.shape[0]` for a whole picture. None
            draws it between that and 1440.

    Returns:
        The input and the target, both new arrays like `clean`.

    Raises:
        UsageError: an unknown name, one that is removed and not present, a negative seed, or no such image.
    """
    check_image("pair", clean)
    check_seed("pair", seed)
    here, gone = frozenset(present), frozenset(removed)
    if min(clean.shape[:2]) < 32:
        raise UsageError(f"pair: {clean.shape[1]} x {clean.shape[0]} is too small; give 32 pixels or more on each side")
    if unknown := sorted(here - FAMILIES.keys()):
        raise UsageError(f"{unknown[0]!r}: no such degradation; there are {', '.join(FAMILIES)}")
    if absent := sorted(gone - here):
        raise UsageError(f"{absent[0]!r}: is removed, but not present")
    scene = Scene.draw(clean, _rng("scene", seed), lines, here)
    seen, wanted = clean, clean
    for name, effect in _effects(scene, seed):
        unwanted = name in gone or (name == "grain" and "lowlight" in gone)
        shared = wanted is seen
        seen = effect(seen)
        if not unwanted:
            wanted = seen if shared else effect(wanted)
    return np.array(seen, np.float32), np.array(wanted, np.float32)


def _rng(name: str, seed: int) -> np.random.Generator:
    return np.random.default_rng(seed_for(name, seed))


def _effects(scene: Scene, seed: int) -> Iterator[tuple[str, Effect]]:
    history = _rng("history", seed)
    pristine, footage, again = history.random(3) < (_PRISTINE, _FOOTAGE, _AGAIN)
    for name, mild in _CHAIN:
        rng = _rng(name, seed)
        if mild is None:
            if name in scene.present:
                yield name, draw(name, scene, rng)
            continue
        share, step = CAPTURE[mild]
        if name == "footage":
            wanted = footage
        elif name.endswith("again"):
            wanted = again and rng.random() < 0.6
        else:
            wanted = rng.random() < share
        if wanted and not pristine and _RELATED.get(name) not in scene.present:
            yield name, step(scene, float(rng.random()), rng)
