"""What a build may be told, beyond the model and its sizes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from uir.runtime.backends import Shapes
from uir.runtime.errors import UsageError


@dataclass(frozen=True)
class BuildOptions:
    """Options of a build. All of them are part of an engine's identity.

    Attributes:
        workspace_share: how much of the free memory a kernel may take for its scratch space, in (0, 1]. Free is what
            CUDA says, and where the GPU shares the machine's memory (Jetson) what Linux could make available. The rest
            is left to the build itself, which on a Jetson is killed where both together take too much.
        compute_capabilities: build for these GPUs, such as `("8.6", "8.9")`: TensorRT-RTX alone can. Empty: for the GPU
            that is here, or where there is none for all that TensorRT-RTX knows.
        refittable: names of the weights that can be exchanged in the built engine (`TensorRTEngine.refit`). Such
            an engine is slower, since its kernels cannot be chosen for its weights; it needs a GPU to be built.
        layer_details: keep every layer's types and formats, in the plan and in the log.
    """

    workspace_share: float = 0.5
    compute_capabilities: tuple[str, ...] = ()
    refittable: tuple[str, ...] = ()
    layer_details: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.workspace_share <= 1:
            raise UsageError(f"a workspace share of {self.workspace_share}: must be above 0 and at most 1")

    def identity(self) -> dict[str, str]:
        """All options as text; the names of refittable weights as a hash."""
        names = "\n".join(sorted(self.refittable))
        return {
            "workspace_share": repr(self.workspace_share),
            "refittable": hashlib.sha256(names.encode()).hexdigest() if names else "none",
            "layer_details": str(self.layer_details).lower(),
        }


def check_shapes(shapes: Shapes | None) -> Shapes:
    """The shapes, if TensorRT can build for them.

    Raises:
        UsageError: there are none (TensorRT builds for given sizes only), or they are not in order.
    """
    if shapes is None:
        raise UsageError(
            "TensorRT builds engines for given sizes of frames: say which, as Shapes.only((1, 1080, 1920))"
        )
    for name, *lengths in zip("NHW", shapes.smallest, shapes.usual, shapes.largest, strict=True):
        if not 1 <= lengths[0] <= lengths[1] <= lengths[2]:
            raise UsageError(
                f"frames of {shapes.smallest} to {shapes.largest}, usually {shapes.usual}: {name} must be at least 1, "
                "and must not shrink from the smallest to the usual to the largest"
            )
    return shapes
