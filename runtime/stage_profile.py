"""Where a video's time went, stage by stage: `uir-run --profile`."""

from __future__ import annotations

from uir.runtime.pipeline import StageTimes


def profile_table(times: StageTimes, looking: float, frames: int, seconds: float, at_once: int = 1) -> str:
    """A table of the stages, which overlap: the busiest is what bounds the speed.

    Args:
        times: as the pipeline measured them.
        looking: seconds that the router took, of the process stage.
        frames: how many there were.
        seconds: wall time.
        at_once: how many frames were restored at once; the engine's time is the sum of theirs.
    """
    rows = [
        ("decode", times.decode - times.to_rgb, "waited for the engine", times.decode_blocked),
        ("to RGB", times.to_rgb, "", 0.0),
        ("router", looking, "", 0.0),
        ("engine", times.process - looking, "waited for frames", times.process_starved),
        ("from RGB", times.from_rgb, "", 0.0),
        ("encode", times.encode - times.from_rgb, "waited for results", times.encode_starved),
    ]
    if at_once > 1:
        rows[3] = (*rows[3][:2], f"{at_once} frames at once, waited for frames", times.process_starved)
    lines = [f"{'stage':8}  {'s':>8}  {'ms/frame':>8}  {'of time':>7}"]
    for name, spent, why, waited in rows:
        note = f"  {why} {waited:.2f} s" if why else ""
        lines.append(f"{name:8}  {spent:8.2f}  {1000 * spent / max(1, frames):8.2f}  {spent / seconds:7.0%}{note}")
    # Several frames at once wait in the encoder's queue while they are restored, which says nothing of the encoder.
    if at_once == 1 and times.process_blocked > 0.01 * seconds:
        lines.append(f"the engine waited {times.process_blocked:.2f} s for the encoder")
    lines.append(f"{'all':8}  {seconds:8.2f}  {1000 * seconds / max(1, frames):8.2f}")
    return "\n".join(lines)
