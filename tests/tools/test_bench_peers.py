"""The classical peers: each is right where the right answer is known, and helps where its users expect it to."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from uir.calibration.degradations import DEGRADATIONS, inpaint_mask, seed_for
from uir.tools.bench import dehaze
from uir.tools.bench.metrics import score
from uir.tools.bench.peers import PEERS, brighten, median, noise_level
from uir.tools.bench.sample import Sample
from uir.tools.degrade import degrade_frame

Pixels = NDArray[np.uint8]
SEED = 5


@pytest.fixture(scope="module")
def scene() -> Pixels:
    """A picture of 160 x 240 with edges, smooth parts, and dark and light colours in it everywhere."""
    rng = np.random.default_rng(7)
    fields = cv2.resize(rng.integers(0, 256, (8, 12, 3), dtype=np.uint8), (240, 160), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.GaussianBlur(fields, (0, 0), 0.8), np.uint8)


def degraded(scene: Pixels, name: str, severity: float = 0.5) -> Sample:
    return Sample(scene, degrade_frame(scene, {name: severity}, SEED), severity, SEED)


@pytest.mark.parametrize("name", ["haze", "snow", "blur", "lowlight", "noise", "jpeg", "inpaint"])
def test_a_peer_helps_against_its_degradation(scene: Pixels, name: str) -> None:
    sample = degraded(scene, name)
    restored = PEERS[name].restore(sample)
    before, after = score(scene, sample.degraded), score(scene, restored)
    assert after.psnr > before.psnr + 0.2
    assert after.ssim > before.ssim


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("code", [0, 128, 255])
def test_peers_take_small_flat_pictures(name: str, code: int) -> None:
    """Also those that are all dark or all light, which have no noise, no contrast and no airlight."""
    frame = np.full((9, 16, 3), code, np.uint8)
    restored = PEERS[name].restore(Sample(frame, frame, 0.5, SEED))
    assert (restored.shape, restored.dtype) == (frame.shape, np.uint8)


def test_there_is_no_peer_for_drops_and_shadows() -> None:
    assert DEGRADATIONS.keys() - PEERS.keys() == {"raindrop", "shadow"}


@pytest.mark.parametrize("sigma", [5, 15, 30])
def test_the_noise_is_estimated(sigma: float) -> None:
    """Over a slope, which is no noise."""
    slope = np.linspace(90, 160, 200)[None, :, None] * np.ones((150, 1, 3))
    noisy = slope + np.random.default_rng(0).normal(0, sigma, slope.shape)
    assert noise_level(np.rint(noisy).clip(0, 255).astype(np.uint8)) == pytest.approx(sigma, abs=0.5)


def test_brightening_reaches_its_mean(scene: Pixels) -> None:
    assert np.all(brighten(np.full((8, 8, 3), 20, np.uint8)) == round(0.45 * 255))
    assert 100 < brighten(degraded(scene, "lowlight").degraded).mean() < 130


def test_the_median_takes_thin_light_away_and_leaves_thin_dark() -> None:
    ground = np.full((30, 40, 3), 90, np.uint8)
    streaks, lines = ground.copy(), ground.copy()
    streaks[3:25, 7::9] = 200
    lines[3:25, 7::9] = 10
    assert np.array_equal(median(streaks, 3), ground)
    assert np.array_equal(median(lines, 3), lines)


def test_inpainting_fills_the_true_mask_and_nothing_else(scene: Pixels) -> None:
    flat = np.full_like(scene, 77)
    for clean in (flat, scene):
        sample = degraded(clean, "inpaint", 0.8)
        filled = PEERS["inpaint"].restore(sample)
        hidden = inpaint_mask(clean.shape[:2], 0.8, seed_for("inpaint", SEED))
        assert 0.05 < hidden.mean() < 0.3
        assert np.array_equal(filled[~hidden], clean[~hidden])
        assert np.all((filled != sample.degraded).any(axis=2)[hidden] | (sample.degraded == clean).all(axis=2)[hidden])
    assert np.array_equal(PEERS["inpaint"].restore(degraded(flat, "inpaint", 0.8)), flat)


def test_dehazing_undoes_the_law_of_haze(scene: Pixels) -> None:
    """Where something near every pixel is black and the airlight can be seen, t = 1 - omega + omega * t_true."""
    clean = scene.copy()
    clean[::6, ::6] = 0
    light = np.where(clean <= 10, clean / 255 / 12.92, ((clean / 255 + 0.055) / 1.055) ** 2.4)
    passed, airlight = 0.4, 0.8
    hazy = light * passed + airlight * (1 - passed)
    hazy[:20, :30] = airlight  # a piece of sky
    codes = np.rint(255 * (1.055 * hazy ** (1 / 2.4) - 0.055)).astype(np.uint8)
    estimated = 1 - dehaze.KEPT * (1 - passed)
    expected = np.clip(airlight + (hazy - airlight) / estimated, 0.0031308, 1)
    expected = 255 * (1.055 * expected ** (1 / 2.4) - 0.055)
    found = dehaze.dehaze(codes)
    far = np.s_[110:, 130:]  # from the sky, whose transmission the guided filter spreads
    assert np.abs(found[far].astype(float) - expected[far]).mean() < 2
    assert score(clean[far], found[far]).psnr > score(clean[far], codes[far]).psnr + 10


def test_the_dark_channel_is_the_least_nearby() -> None:
    picture = np.full((40, 50, 3), 0.9, np.float32)
    picture[20, 30] = 0.5, 0.1, 0.7
    dark = np.full((40, 50), 0.9, np.float32)
    dark[13:28, 23:38] = 0.1
    assert np.array_equal(dehaze.dark_channel(picture), dark)


def test_the_guided_filter_keeps_what_follows_the_guide() -> None:
    rng = np.random.default_rng(1)
    guide = cv2.resize(rng.random((12, 16), dtype=np.float32), (160, 120), interpolation=cv2.INTER_NEAREST)
    noisy = (0.2 + 0.5 * guide + rng.normal(0, 0.1, guide.shape)).astype(np.float32)
    smooth = dehaze.guided_filter(guide, noisy)
    assert np.abs(smooth - (0.2 + 0.5 * guide)).max() < 0.04
    flat = dehaze.guided_filter(guide, np.full_like(guide, 0.3))
    assert np.abs(flat - 0.3).max() < 1e-5
