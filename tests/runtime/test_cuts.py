"""Scene cuts, on real footage."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from uir.calibration.degradations import degrade
from uir.runtime.cuts import CutDetector

Frame = NDArray[np.uint8]
BUNNY = Path(__file__).parents[1] / "media" / "bunny.mp4"


@pytest.fixture(scope="module")
def shot() -> list[Frame]:
    """Sixteen frames of real footage, 320x180, without a cut."""
    frames = []
    with av.open(str(BUNNY)) as container:
        for frame in container.decode(video=0):
            frames.append(frame.reformat(320, 180, "rgb24", interpolation="AREA").to_ndarray())
            if len(frames) == 16:
                break
    return frames


def other(frames: list[Frame]) -> list[Frame]:
    """What stands in for another scene: the same, upside down."""
    return [np.ascontiguousarray(frame[::-1]) for frame in frames]


def cuts(frames: list[Frame]) -> list[int]:
    detector = CutDetector()
    return [i for i, frame in enumerate(frames) if detector(frame)]


def degraded(frames: list[Frame], **severities: float) -> list[Frame]:
    return [
        np.rint(255 * degrade(frame.astype(np.float32) / 255, severities, 3, i / 24)).astype(np.uint8)
        for i, frame in enumerate(frames)
    ]


@pytest.mark.parametrize(
    "severities", [{}, {"rain": 1.0}, {"snow": 1.0}, {"noise": 1.0}, {"lowlight": 1.0}, {"lowlight": 0.8, "noise": 0.8}]
)
def test_cuts_are_found_in_any_weather(shot: list[Frame], severities: dict[str, float]) -> None:
    frames = shot[:6] + other(shot[6:9]) + shot[9:12]
    assert cuts(degraded(frames, **severities) if severities else frames) == [6, 9]


@pytest.mark.parametrize("severities", [{"haze": 0.8}, {"rain": 0.8, "haze": 0.6}, {"lowlight": 0.9, "noise": 0.6}])
def test_weather_that_begins_is_no_cut(shot: list[Frame], severities: dict[str, float]) -> None:
    assert cuts(shot[:6] + degraded(shot[6:12], **severities)) == []


def test_light_that_flickers_is_no_cut(shot: list[Frame]) -> None:
    frames = [np.rint(frame * (1.0 if i % 2 else 0.5)).astype(np.uint8) for i, frame in enumerate(shot)]
    assert cuts(frames) == []


def test_noise_on_a_flat_sky_is_no_cut() -> None:
    ramp = np.broadcast_to(np.linspace(170, 185, 180, dtype=np.float32)[:, None, None], (180, 320, 3))
    rng = np.random.default_rng(1)
    sky = [np.clip(ramp + rng.normal(0, 50, ramp.shape), 0, 255).astype(np.uint8) for _ in range(6)]
    assert cuts(sky) == []


def test_out_of_black_and_into_it(shot: list[Frame]) -> None:
    black = [np.zeros_like(shot[0])] * 3
    assert cuts(black + shot[:3] + black) == [3, 6]
    faded = [cv2.convertScaleAbs(frame, alpha=i / 16).astype(np.uint8) for i, frame in enumerate(shot)]
    assert cuts(black + faded) == []


def test_footage_that_jumps_all_the_time_becomes_usual(shot: list[Frame]) -> None:
    upside = other(shot)
    frames = [(upside if i % 2 else shot)[i % 16] for i in range(60)]
    found = cuts(frames)
    assert found[:3] == [1, 2, 3]
    assert found[-1] < 12
