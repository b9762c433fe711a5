"""Whether what is exported restores pictures: every listed composition is run on a photo before anything is written.

Weights may be finite and still make nothing of a picture: of an adapter whose training diverged, whose lora_alpha has
lost its point, or that is asked for by too large a weight. The narrower precisions need no check of their own: those
that pass their gate are near float32, and no other is run or written as a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx

from uir.calibration.frames import PHOTOS
from uir.export.package_writer import ExportBase
from uir.runtime.composition import Composition
from uir.runtime.errors import AdapterError, BaseModelError
from uir.runtime.factors import Adapter
from uir.runtime.merge import Weights, fill_graph, merge
from uir.runtime.no_picture import no_picture
from uir.runtime.quantize import Frame, open_session, run_session
from uir.runtime.samples import sample_frames

LEAST_KEPT = 0.3
"""Share of the base's correlation with the photo that a composition keeps. The shipped adapters keep 0.99, all by
weights of 2 still 0.6; by 4, where nothing can be seen any more, 0.15. A share, since an untrained base has 0.4."""

_PHOTO = PHOTOS / "judge" / "arles.jpg"
_SIDE = 128  # pixels
_DARK = 0.15


def check_pictures(base: ExportBase, adapters: Sequence[Adapter], compositions: Iterable[Composition]) -> None:
    """Run each composition in float32 on a photo, bright and darkened: one of them must come out as a picture.

    Two, since what is made for the night may well take a photo of the day to white.

    Raises:
        AdapterError: a composition gives NaN or infinity, or makes nothing of both.
        BaseModelError: the base alone gives NaN or infinity.
    """
    (photo,) = sample_frames(_PHOTO, 1, base.frame.multiple_of, max(_SIDE, base.frame.multiple_of))
    frames = [photo, (photo * np.float32(_DARK)).astype(np.uint8)]
    try:
        if not all(np.isfinite(weight).all() for weight in base.weights.values()):
            raise FloatingPointError("leaves the range of float32")  # where layers were folded
        kept = max(map(correlation, frames, _restored(base.graph, base.weights, frames)))
    except FloatingPointError as error:
        raise BaseModelError(f"base {base.name}: {error}; its training has diverged") from error
    named: Mapping[str, Adapter] = {adapter.name: adapter for adapter in adapters}
    for composition in compositions:
        try:
            restored = _restored(base.graph, merge(base.weights, named, composition), frames)
        except FloatingPointError as error:
            raise _refusal(composition, str(error)) from error
        found = [_fault(*pair, LEAST_KEPT * max(kept, 0.0)) for pair in zip(frames, restored, strict=True)]
        if all(found):
            raise _refusal(composition, f"makes {found[0]} of a photo")


def correlation(one: Frame, other: Frame) -> float:
    """Pearson's correlation of two frames' grey values; 0 where one of them is flat."""
    greys = [frame.mean(2, dtype=np.float64) for frame in (one, other)]
    a, b = (grey - grey.mean() for grey in greys)
    spread = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / spread if spread else 0.0


def _restored(graph: bytes, weights: Weights, frames: Sequence[Frame]) -> list[Frame]:
    """What a network makes of frames.

    Raises:
        FloatingPointError: there is NaN or infinity ahead of the clamp, which would hide it.
    """
    model = fill_graph(graph, weights)
    model.graph.output.extend(
        onnx.ValueInfoProto(name=node.input[0]) for node in model.graph.node if node.op_type == "Clip"
    )
    session = open_session(model)
    found = []
    for frame in frames:
        restored, *floats = run_session(session, frame)
        if not all(np.isfinite(values).all() for values in floats):
            raise FloatingPointError("gives NaN or infinity for a photo")
        found.append(restored)
    return found


def _fault(frame: Frame, restored: Frame, least: float) -> str | None:
    """Why a restored frame is no picture; None where it is one."""
    if (reason := no_picture(restored)) is not None:
        return reason
    if (found := correlation(frame, restored)) < least:
        return f"something else (a correlation of {found:.2f}, where {least:.2f} is the least)"
    return None


def _refusal(composition: Composition, reason: str) -> AdapterError | BaseModelError:
    if not composition.items:
        return BaseModelError(f"{composition.key}: {reason}; leave it out, or give another --base")
    named = ", ".join(composition.weights)
    return AdapterError(
        f"{composition.key}: {reason}; use smaller weights, or see to lora_alpha and the training of {named}"
    )
