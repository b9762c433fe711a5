"""`uir-train router` and `prototype`: what is drawn, what is learnt from it, and what adapters get of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors.numpy
import torch

from uir.export.router import MEAN_OF_CLEAN, load_router
from uir.runtime.decision import CLEAN_NAME
from uir.runtime.errors import UsageError
from uir.runtime.looks import CROP, CROPS, THUMBNAIL, look
from uir.runtime.router import Embedder
from uir.tools.photos import find_photos, read_photo
from uir.tools.publish import main as publish
from uir.tools.train import cli
from uir.tools.train.router import fit
from uir.tools.train.router_data import GRID, MILDEST, VIEWS, DegradedLooks, Looks, Plan
from uir.tools.train.router_network import NUMBERS, RouterNetwork, Whitening, router_onnx
from uir.tools.train.settings import Course


def waves(seed: int, height: int = 80, width: int = 96) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A picture of smooth shapes with a little grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    colours = [128 + 80 * np.sin(x / rng.uniform(5, 20) + y / rng.uniform(5, 20)) for _ in range(3)]
    return (np.stack(colours, axis=2) + rng.normal(0, 3, (height, width, 3))).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        assert cv2.imwrite(str(folder / f"{number}.png"), waves(number))
    return folder


def arguments(photos: Path, out: Path, *more: str) -> list[str]:
    few = ["--degradations", "noise,haze", "--scenes", "15", "--epochs", "2"]
    return ["router", "--photos", str(photos), *few, "--out", str(out), *more]


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run; it exports a network, which takes seconds."""
    out = tmp_path_factory.mktemp("runs") / "router"
    (photos.parent / "hazy.txt").write_text("2.png\n")
    cli.main(arguments(photos, out, "--exclude", f"haze={photos.parent / 'hazy.txt'}"))
    return out


def drawn(run: Path) -> Looks:
    with np.load(run / "looks" / "00000-00014.npz") as entries:
        return Looks(**entries)


def test_pictures_are_drawn_alike_each_time(run: Path, photos: Path) -> None:
    looks = drawn(run)
    plan = Plan(find_photos(photos), ["haze", "noise"], {"haze": {"2.png"}}, 1)
    again = DegradedLooks(plan, 15)[0]
    for name, first, second in zip(Looks._fields, looks, again, strict=True):
        assert np.array_equal(first, second), name
    assert looks.thumbnails.shape == (60, THUMBNAIL, THUMBNAIL, 3)
    assert looks.crops.shape == (60, CROPS, CROP, CROP, 3)
    assert looks.severities[looks.severities > 0].min() >= MILDEST


def test_a_scene_is_seen_clean_and_degraded(run: Path) -> None:
    looks = drawn(run)
    there = looks.severities > 0
    counts = there.sum(axis=1).reshape(-1, VIEWS)
    sound = counts[:, 0] == 0
    assert sound.any()
    assert (counts[sound] == (0, 1, 1, 2)).all()
    assert (counts[~sound] == (1, 1, 1, 2)).all()  # that photo was hazy before
    haze, noise = looks.changes.astype(np.float32).transpose(1, 0, 2, 3)
    assert haze.shape == (60, GRID, GRID)
    assert (haze[~there[:, 0]] == 0).all()
    assert (noise[~there[:, 1]] == 0).all()
    assert (haze[looks.severities[:, 0] > 0.3].mean(axis=(1, 2)) > 4).all()
    # What is seen of a scene is the same but for that.
    first, *others, _ = looks.thumbnails.reshape(15, VIEWS, -1).astype(np.float32).swapaxes(0, 1)
    for other in others:
        alike = [np.corrcoef(a, b)[0, 1] for a, b in zip(first, other, strict=True)]
        unlike = [np.corrcoef(a, b)[0, 1] for a, b in zip(first, np.roll(other, 1, axis=0), strict=True)]
        assert np.median(alike) > 0.7 > 0.3 > np.median(unlike)


def test_what_a_photo_had_before_is_not_held_against_it(run: Path) -> None:
    """Haze is not known to be absent from a photo that is listed as hazy, and no such photo is taken for clean."""
    looks = drawn(run)
    absent = looks.severities == 0
    unknown = absent & (looks.weights[:, :2] == 0)
    assert unknown[:, 0].any()
    assert not unknown[:, 1].any()
    clean = absent.all(axis=1)
    assert (looks.weights[clean] == 1).all()
    mild = (looks.severities > 0) & (looks.severities < 0.2)
    assert np.allclose(looks.weights[:, :2][mild], looks.severities[mild] / 0.2)


def test_a_run_is_a_routers_folder(run: Path) -> None:
    router = load_router(run)
    assert router.prototypes.keys() == {"haze", "noise", CLEAN_NAME, MEAN_OF_CLEAN}
    assert all(np.linalg.norm(each) == pytest.approx(1, abs=1e-5) for each in router.prototypes.values())
    record = json.loads((run / "record.json").read_text())
    assert len(record["losses"]) == 2
    assert record["scenes"] == 15


def test_a_run_goes_on_with_the_pictures_that_it_has(run: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "router"
    shutil.copytree(run, out)
    note = json.loads((out / "plan.json").read_text())
    before = (out / "looks" / "00000-00014.npz").stat().st_mtime_ns
    hazy = ["--exclude", f"haze={photos.parent / 'hazy.txt'}"]
    cli.main(arguments(photos, out, *hazy, "--epochs", "1"))
    assert (out / "looks" / "00000-00014.npz").stat().st_mtime_ns == before
    assert json.loads((out / "plan.json").read_text()) == note
    with pytest.raises(UsageError, match="has pictures that were drawn with another seed, or from other photos"):
        cli.main(arguments(photos, out, *hazy, "--seed", "2"))
    (out / "looks" / "00000-00014.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(UsageError, match=r"00000-00014\.npz: not a whole file of looks"):
        cli.main(arguments(photos, out, *hazy))


def test_the_network_learns_what_is_plain_to_see() -> None:
    """Noise, or not: after a few steps the right one is the nearer."""
    seen = [look(waves(number)) for number in range(40)]
    severities = np.zeros((40, 1), np.float32)
    severities[::2] = 1
    rng = np.random.default_rng(0)
    crops = np.stack([each.crops for each in seen])
    crops[::2] = np.clip(crops[::2] + rng.normal(0, 40, crops[::2].shape), 0, 255)
    weights = np.ones((40, 2), np.float32)
    changes = np.zeros((40, 1, GRID, GRID), np.float16)
    changes[::2] = 30
    looks = Looks(np.stack([each.thumbnail for each in seen]), crops, severities, weights, changes)
    torch.manual_seed(0)
    network, losses = fit(looks, Course(epochs=12))
    assert losses[-1] < losses[0] / 4
    with torch.no_grad():
        embeddings = network(torch.from_numpy(looks.thumbnails), torch.from_numpy(looks.crops)).numpy()
    assert (embeddings[:, :2].argmax(axis=1) == np.arange(40) % 2).all()


def test_onnx_runtime_computes_what_torch_does() -> None:
    torch.manual_seed(0)
    network = RouterNetwork(3)
    network.whole[0].fit(torch.from_numpy(waves(2, THUMBNAIL, THUMBNAIL)[None]))
    network.place[0].fit(torch.from_numpy(look(waves(3)).crops))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    seen = look(waves(1, 100, 150))
    embedding = Embedder(router_onnx(network))(seen)
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(seen.thumbnail[None]), torch.from_numpy(seen.crops[None]))[0]
    np.testing.assert_allclose(embedding, expected.numpy(), atol=1e-5)
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)


def test_whitened_patches_do_not_go_together() -> None:
    """What is faint beside the brightness is as large as it; only what is below the rounding of codes stays small."""
    pictures = torch.from_numpy(np.stack([waves(number, 96, 96) for number in range(4)]))
    whitening = Whitening()
    whitening.fit(pictures)
    numbers = whitening(pictures).flatten(2).transpose(1, 2).flatten(0, 1).numpy()
    together = np.cov(numbers.T)
    assert numbers.mean(axis=0) == pytest.approx(np.zeros(NUMBERS), abs=1e-3)
    assert np.abs(together - np.diag(np.diag(together))).max() < 1e-2
    assert together.diagonal().max() == pytest.approx(1, abs=1e-2)
    assert together.diagonal().min() > 0.2  # a grain of three codes


def test_a_prototype_is_made_of_examples(training_run: Path, colour_router: Path, tmp_path: Path) -> None:
    adapter, examples = tmp_path / "mist", tmp_path / "examples"
    shutil.copytree(training_run / "haze", adapter)
    examples.mkdir()
    for number in range(3):  # far from grey: of what is nearly clean, rounding is a large part
        assert cv2.imwrite(str(examples / f"{number}.png"), waves(number) // (1, 2, 3))
    cli.main(["prototype", str(adapter), "--examples", str(examples), "--router", str(colour_router)])
    embed = Embedder((colour_router / "router.onnx").read_bytes())
    mean = np.mean([embed(look(read_photo(photo))) for photo in find_photos(examples)], axis=0)
    found = safetensors.numpy.load_file(adapter / "prototype.safetensors")["prototype"]
    differing = mean - mean.mean()  # from grey, which is clean to this router
    np.testing.assert_allclose(found, differing / np.linalg.norm(differing), atol=1e-5)


def test_a_trained_adapter_gets_its_prototype(
    training_run: Path, photos: Path, colour_router: Path, tmp_path: Path
) -> None:
    small = ["--steps", "1", "--patch", "32", "--large-patch", "64", "--batch", "2", "--rank", "2", "--workers", "0"]
    base = str(training_run / "base.safetensors")
    out = tmp_path / "run"
    chosen = ["adapter", "lowlight", "haze", "--base", base, "--photos", str(photos), *small, "--out", str(out)]
    cli.main([*chosen, "--router", str(colour_router)])
    dark, hazy = (
        safetensors.numpy.load_file(out / name / "prototype.safetensors")["prototype"] for name in ("lowlight", "haze")
    )
    assert np.linalg.norm(dark) == pytest.approx(1, abs=1e-6)
    assert not np.allclose(dark, hazy)


def test_a_routers_run_is_published_by_itself(run: Path, tmp_path: Path) -> None:
    (tmp_path / "zoo").mkdir()
    publish([str(run), "--zoo", str(tmp_path / "zoo")])
    assert load_router(tmp_path / "zoo" / "router").digest == load_router(run).digest
    record = json.loads((tmp_path / "zoo" / "router" / "record.json").read_text())
    assert not any(word.startswith("/") for word in record["command"])
    assert sorted(path.name for path in (tmp_path / "zoo").iterdir()) == ["router"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--scenes", "0"], "--scenes must be at least 1"),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--lr", "0"], "--lr must be a number above 0"),
        (["--degradations", "fog"], "no such degradation: fog"),
        (["--degradations", ","], "no degradation is named"),
    ],
)
def test_options_that_make_no_sense(photos: Path, tmp_path: Path, option: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cli.main(arguments(photos, tmp_path / "run", *option))
    assert not (tmp_path / "run").exists()
