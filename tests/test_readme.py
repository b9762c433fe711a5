"""The README's Python runs as it stands."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize(("code", "shape"), list(zip(BLOCKS, [(37, 53, 3), (360, 640, 3)], strict=True)))
def test_example(
    code: str, shape: tuple[int, ...], package: Path, frame: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(package.parent)
    shutil.copy(ROOT / "tests" / "media" / "bunny.mp4", "video.mp4")
    scope: dict[str, object] = {"frame": frame}
    exec(code, scope)
    restored = scope["restored"]
    assert isinstance(restored, np.ndarray)
    assert (restored.shape, restored.dtype) == (shape, np.uint8)
