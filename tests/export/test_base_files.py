"""A base checkpoint on disk: whole or not there, and for the same eyes as every other file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from uir.export.bases import load_base, save_base
from uir.export.bases.unet import UNet
from uir.runtime.errors import OutputError


def test_a_base_comes_back_and_may_be_read_by_whoever_may_read_its_neighbours(tmp_path: Path) -> None:
    path, neighbour = tmp_path / "base.safetensors", tmp_path / "neighbour"
    network = UNet((4, 8), (1, 1))
    path.write_text("an older one")
    save_base(path, "unet", network.state_dict())
    neighbour.touch()
    loaded = load_base(path)
    assert loaded.architecture == "unet"
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in loaded.network.state_dict().items())
    assert path.stat().st_mode == neighbour.stat().st_mode
    assert sorted(tmp_path.iterdir()) == [path, neighbour]


def test_a_base_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no such folder"):
        save_base(tmp_path / "nowhere" / "base.safetensors", "unet", {"a": torch.ones(1)})
