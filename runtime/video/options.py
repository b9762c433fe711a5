"""How a video is written, and which part of it; told without FFmpeg's libraries, which take a while to load."""

from __future__ import annotations

from dataclasses import dataclass

from uir.runtime.errors import UsageError

PRESETS = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
)
LOSSLESS, WORST = 0, 51


@dataclass(frozen=True)
class VideoOptions:
    """How a video is written, and which part of it.

    Raises:
        UsageError: `quality` or `preset` is none.
    """

    codec: str | None = None
    """An encoder of FFmpeg; None takes the container's usual one."""
    quality: int = 18
    """0 is lossless, 18 looks like the source, 51 is the smallest file: a constant rate factor."""
    preset: str = "veryfast"
    """How long the encoder may search, one of x264's names. At 640x360 veryfast took 5 ms of CPU a frame and medium 17,
    for no smaller files at the same rate factor; a network on the same cores needs that time more."""
    compare: bool = False
    """Write the source at the left and the result at the right."""
    start: float = 0.0
    """Seconds into the video to begin at."""
    duration: float | None = None
    """Seconds to work on; None goes on to the end."""

    def __post_init__(self) -> None:
        if not LOSSLESS <= self.quality <= WORST:
            raise UsageError(f"quality {self.quality}: must be from {LOSSLESS} (lossless) to {WORST}")
        if self.preset not in PRESETS:
            raise UsageError(f"unknown preset {self.preset!r}; one of {', '.join(PRESETS)}")
