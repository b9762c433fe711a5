"""What an adapter is once its file format is forgotten: for each weight that it touches, one update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Factors:
    """A low-rank update of one weight: `delta = scale * (B @ A)` (LoRA, Hu et al. 2021, eq. 3).

    Attributes:
        b: m x r, float32.
        a: r x n, float32, where m * n is the weight's size.
        scale: alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA.
    """

    b: NDArray[np.float32]
    a: NDArray[np.float32]
    scale: float

    @property
    def size(self) -> int:
        """The number of entries of the weight that this updates."""
        return int(self.b.shape[0] * self.a.shape[1])

    @property
    def rank(self) -> int:
        """r, the number of rows of A."""
        return int(self.a.shape[0])

    def delta(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The update in the weight's own shape, float32."""
        return (np.float32(self.scale) * (self.b @ self.a)).reshape(shape)


@dataclass(frozen=True)
class DenseDelta:
    """An update stored whole, where its factors would be larger (a depthwise convolution's).

    Attributes:
        values: the scaled delta, float32, of the weight's size.
    """

    values: NDArray[np.float32]

    @property
    def size(self) -> int:
        """The number of entries of the weight that this updates."""
        return int(self.values.size)

    @property
    def rank(self) -> int:
        """0: there are no factors."""
        return 0

    def delta(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The update in the weight's own shape, float32."""
        return self.values.reshape(shape)


Update = Factors | DenseDelta


@dataclass(frozen=True)
class Adapter:
    """One LoRA in canonical form.

    Attributes:
        name: what compositions call it, such as `rain`.
        updates: by the name of the base weight that each is added to.
    """

    name: str
    updates: Mapping[str, Update]

    @property
    def rank(self) -> int:
        """The largest rank among its factors."""
        return max((update.rank for update in self.updates.values()), default=0)
