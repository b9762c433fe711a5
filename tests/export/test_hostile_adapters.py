"""Adapters and bases that are meant to harm, or are spoilt: one clear line each, at once, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from uir.export.adapter_config import LARGEST_CONFIG
from uir.export.adapters import CONFIG, WEIGHTS, load_adapter
from uir.export.bases import load_base
from uir.export.cli import main as export
from uir.export.router import choose_prototypes, load_router
from uir.export.tensors import LARGEST_FILE, MOST_TENSORS
from uir.runtime.errors import AdapterError, BaseModelError, UirError

pytestmark = pytest.mark.usefixtures("use_zoo")

Tensors = dict[str, NDArray[Any]]


@pytest.fixture
def rain(training_run: Path, tmp_path: Path) -> Path:
    """A good adapter, to be spoilt."""
    return Path(shutil.copytree(training_run / "rain", tmp_path / "in" / "rain"))


@pytest.fixture
def refused(rain: Path, tmp_path: Path) -> Callable[[str], str]:
    """A function that says by which line the adapter is refused; export leaves nothing behind."""

    def check(words: str) -> str:
        (tmp_path / "out").mkdir()
        with pytest.raises(UirError, match=words) as caught:
            export(["--adapters", str(rain), "-o", str(tmp_path / "out" / "p.uir")])
        message = str(caught.value)
        assert message.isprintable()
        assert len(message) < 1000
        assert list((tmp_path / "out").iterdir()) == []
        return message

    return check


def edit_config(folder: Path, raw: str) -> None:
    """Put settings, as JSON's own text, behind those that are there."""
    text = (folder / CONFIG).read_text().strip()
    settings = json.loads(text)
    for key in json.loads(raw):
        settings.pop(key, None)
    (folder / CONFIG).write_text(json.dumps(settings)[:-1] + ", " + raw.strip()[1:])


def edit_tensors(folder: Path, edit: Callable[[Tensors], Any]) -> None:
    tensors = safetensors.numpy.load_file(folder / WEIGHTS)
    edit(tensors)
    (folder / WEIGHTS).write_bytes(safetensors.numpy.save(tensors))


def write_raw(file: Path, header: str, data: bytes = b"", length: int | None = None) -> None:
    text = header.encode()
    (file).write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ('{"r": 0}', "Expected `int` >= 1 - at `..r`"),
        ('{"r": -1}', "Expected `int` >= 1"),
        ('{"r": true}', "Expected `int`, got `bool`"),
        ('{"r": 2.5}', "Expected `int`, got `float`"),
        ('{"r": 99999999999999999999}', "Expected `int` <= 65536"),
        ('{"lora_alpha": NaN}', "it holds NaN, which is no number"),
        ('{"lora_alpha": Infinity}', "it holds Infinity, which is no number"),
        ('{"lora_alpha": 1e999}', "Expected `float` <="),
        ('{"lora_alpha": 1e300}', "Expected `float` <="),
        ('{"lora_alpha": -1}', "Expected `float` > 0.0"),
        ('{"lora_alpha": 0}', "Expected `float` > 0.0"),
        ('{"lora_alpha": true}', "Expected `float`, got `bool`"),
        ('{"lora_alpha": null}', "Expected `float`, got `null`"),
        ('{"lora_alpha": 1e30}', "rain: .*; use smaller weights, or see to lora_alpha and the training of rain"),
        ('{"alpha_pattern": {"intro": 1e30}}', "rain: "),
        ('{"alpha_pattern": {"intro": -1}}', "Expected `float` > 0.0 - at `..alpha_pattern"),
        ('{"rank_pattern": {"intro": 0}}', "Expected `int` >= 1 - at `..rank_pattern"),
        ('{"rank_pattern": {"(([a-z0-9.]+)+)+X?": 16}}', "but the rank is 16"),
        ('{"alpha_pattern": {"(?=(.*)*X)": 16}}', "is not a pattern of module names"),
        ('{"use_rslora": 1}', "Expected `bool`, got `int`"),
        ('{"peft_type": "' + "x" * 9999 + '"}', "of PEFT's type 'xxx"),
        ('{"invented\\nhere": "\\u001b[2J"}', r"it sets 'invented\\nhere'='\\x1b\[2J'"),
    ],
)
def test_settings_that_make_no_sense(rain: Path, refused: Callable[[str], str], settings: str, words: str) -> None:
    for key, value in re.findall(r'"(\w+)": (NaN|Infinity)', settings):  # which Python writes and reads
        text = json.loads((rain / CONFIG).read_text())
        (rain / CONFIG).write_text(json.dumps({**text, key: float(value)}))
        settings = "{}"
    if settings != "{}":
        edit_config(rain, settings)
    refused(words)


def test_a_pattern_may_be_hostile_and_still_have_an_answer(rain: Path) -> None:
    edit_config(rain, '{"rank_pattern": {"(([a-z0-9.]+)+)+X": 16}}')
    assert load_adapter(rain).rank == 2


@pytest.mark.parametrize(
    "text",
    ["[" * 500_000, "[" * 250_000 + "]" * 250_000, '{"a":' * 100_000, '{"r": ' + "9" * 5000 + "}", "{}{}", "7", "[7]"],
)
def test_json_that_is_none_or_without_end(rain: Path, refused: Callable[[str], str], text: str) -> None:
    (rain / CONFIG).write_text(text)
    refused("not the configuration of a LoRA")


def test_deep_settings_inside_a_good_configuration(rain: Path, refused: Callable[[str], str]) -> None:
    edit_config(rain, '{"target_modules": ' + "[" * 500 + "]" * 500 + "}")
    load_adapter(rain)
    deep = "[" * 900 + "]" * 900
    (rain / CONFIG).write_text((rain / CONFIG).read_text().strip()[:-1] + f', "invented": {deep}}}')
    refused("it sets invented=|nested too deep")


@pytest.mark.parametrize("extra", ['"r": 2', '"lora_alpha": 9', '"rank_pattern": {"intro": 2, "intro": 2}'])
def test_a_setting_that_stands_twice(rain: Path, refused: Callable[[str], str], extra: str) -> None:
    (rain / CONFIG).write_text((rain / CONFIG).read_text().strip()[:-1] + f", {extra}}}")
    refused("it sets '.*' twice")


A = "base_model.model.intro.lora_A.weight"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda t: t.update({A: t[A].reshape(2, *[1] * 60, -1)}), "intro.lora_A.weight has the shape .*no weight has"),
        (lambda t: t.update({A: np.zeros((2, 0, 6, 6), np.float32)}), r"has the shape \[2, 0, 6, 6\]"),
        (lambda t: t.update({A: np.zeros((0, 3, 6, 6), np.float32)}), "has the shape"),
        (lambda t: t.update({A: np.array(3, np.float32)}), "neither a linear layer's nor a convolution's"),
        (lambda t: t.update({A: t[A].astype(np.int32)}), "of type I32; weights are floats"),
        (lambda t: t.update({A: t[A] > 0}), "of type BOOL"),
        (lambda t: t.update({A: t[A].astype(np.complex64)}), "of type C64"),
        (lambda t: t.update({A: t[A].astype(np.float64) * 1e300}), "holds NaN or infinity"),
        (lambda t: t.update({A: t[A].astype(np.float16) * np.float16(6e4) * np.float16(9)}), "holds NaN or infinity"),
        (lambda t: t.update({A: np.full_like(t[A], 1e38)}), "rain: .*rain"),
        (
            lambda t: t.update({k: np.full_like(v, 3e19) for k, v in t.items()}),
            "merging rain takes .* beyond the range",
        ),
        (lambda t: t.update({"a\nb": t[A]}), r"'a\\nb' is no name of a network's weight"),
        (lambda t: t.update({"\x1b[2Jé\u202e": t[A]}), "is no name"),
        (lambda t: t.update({"": t[A]}), "'' is no name"),
        (lambda t: t.update({"x" * 5000: t[A]}), "is no name"),
        (
            lambda t: t.update({f"{A}{i}": np.ones(1, np.float32) for i in range(MOST_TENSORS)}),
            "holds 4116 tensors, and",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_tensors_that_no_adapter_has(
    rain: Path, refused: Callable[[str], str], edit: Callable[[Tensors], Any], words: str
) -> None:
    edit_tensors(rain, edit)
    refused(words)


def test_denormal_and_narrow_factors_are_read(rain: Path, tmp_path: Path) -> None:
    edit_tensors(rain, lambda t: t.update({A: np.full_like(t[A], 1e-42)}))
    export(["--adapters", str(rain), "-o", str(tmp_path / "p.uir")])


@pytest.mark.parametrize("length", [0, 1, 2**31, 2**63, 2**64 - 1, 3_000_000, 99_999_999])
def test_a_header_whose_length_lies(rain: Path, refused: Callable[[str], str], length: int) -> None:
    content = (rain / WEIGHTS).read_bytes()
    (rain / WEIGHTS).write_bytes(length.to_bytes(8, "little") + content[8:])
    refused("not a whole safetensors file")


@pytest.mark.parametrize(
    "header",
    [
        '{"a": {"dtype": "F32", "shape": [' + "1, " * 3000 + '1], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [4294967296, 4294967296, 4294967296], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [-1, 4], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}',
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 18446744073709551615]}}',
        '{"a": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4000000000000]}}',
        '{"a": {"dtype": "nonsense\\u001b[2J", "shape": [1], "data_offsets": [0, 4]}}',
        '{"a": ' + "[" * 200_000,
        '{"__metadata__": {"a": {"b": 1}}}',
    ],
)
def test_a_header_that_lies(rain: Path, refused: Callable[[str], str], header: str) -> None:
    write_raw(rain / WEIGHTS, header, b"\0" * 4)
    refused("not a whole safetensors file|has the shape")


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
@pytest.mark.parametrize("kind", ["zero", "pipe", "socket", "folder", "nowhere", "loop", "sparse"])
def test_what_is_no_file_of_the_size_that_it_should_be(
    rain: Path, refused: Callable[[str], str], name: str, kind: str
) -> None:
    file = rain / name
    listener = None
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "socket":
        here = os.open(rain, os.O_RDONLY)  # a socket's path is short
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"/proc/self/fd/{here}/{name}")
    elif kind == "folder":
        file.mkdir()
    elif kind == "sparse":
        file.touch()
        os.truncate(file, 8 << 30)
    else:
        file.symlink_to({"zero": "/dev/zero", "nowhere": "/no/such", "loop": file}[kind])
    largest = LARGEST_CONFIG if name == CONFIG else LARGEST_FILE
    refused(f"has 8589934592 bytes, and at most {largest} are read" if kind == "sparse" else f"has no {name}")
    if listener:
        listener.close()


@pytest.mark.parametrize("kind", ["loop", "two", "zero", "pipe", "nowhere"])
def test_a_folder_that_is_none(rain: Path, refused: Callable[[str], str], kind: str) -> None:
    shutil.rmtree(rain)
    other = rain.with_name("other")
    if kind == "pipe":
        os.mkfifo(rain)
    else:
        rain.symlink_to({"loop": rain, "two": other, "zero": "/dev/zero", "nowhere": "/no/such"}[kind])
    if kind == "two":
        other.symlink_to(rain)
    refused("name the folder" if kind in ("zero", "pipe") else "no such adapter")


def test_links_that_lead_to_an_adapter_are_followed(rain: Path, tmp_path: Path) -> None:
    """As a cache of downloaded files has them; one that leads back to the folder is not followed."""
    store = tmp_path / "store"
    store.mkdir()
    for name in (CONFIG, WEIGHTS):
        (rain / name).rename(store / name)
        (rain / name).symlink_to(store / name)
    (rain / "loop").symlink_to(rain)
    (tmp_path / "linked").symlink_to(rain)
    export(["--adapters", str(tmp_path / "linked"), "-o", str(tmp_path / "p.uir")])


def test_prototypes_and_routers_are_read_within_bounds(rain: Path, colour_router: Path, tmp_path: Path) -> None:
    router = load_router(colour_router)
    (rain / "prototype.safetensors").touch()
    os.truncate(rain / "prototype.safetensors", 8 << 30)
    with pytest.raises(AdapterError, match="has 8589934592 bytes"):
        choose_prototypes(router, {"rain": rain})
    folder = Path(shutil.copytree(colour_router, tmp_path / "router"))
    for name, content, words in (
        ("router.json", b"[" * 500_000, "not the settings of a router"),
        ("router.json", None, "has 8589934592 bytes"),
        ("router.onnx", None, "has 8589934592 bytes"),
    ):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(content or b"")
        if content is None:
            os.truncate(folder / name, 8 << 30)
        with pytest.raises(BaseModelError, match=words):
            load_router(folder)
        (folder / name).write_bytes(kept)


def base_tensors(training_run: Path) -> Tensors:
    return dict(safetensors.numpy.load_file(training_run / "base.safetensors"))


def many_levels(tensors: Tensors) -> None:
    for level in range(200):
        tensors[f"downs.{level}.weight"] = np.ones((1, 1, 1, 1), np.float32)


def nafnet_without_end(tensors: Tensors) -> None:
    tensors["encoders.0.0.beta"] = np.ones(1, np.float32)
    many_levels(tensors)


def wide_nafnet(tensors: Tensors) -> None:
    tensors.clear()
    tensors["intro.weight"] = np.ones((3_000_000, 1, 1, 1), np.float32)
    tensors["encoders.0.0.beta"] = np.ones(1, np.float32)
    for level in range(8):
        tensors[f"downs.{level}.weight"] = np.ones((1, 1, 1, 1), np.float32)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda t: t.update({"intro.weight": np.array(1, np.float32)}), "of no known architecture"),
        (lambda t: t.update({"downs.0.weight": np.ones(3, np.float32)}), "of no known architecture"),
        (lambda t: t.update({"intro.weight": np.zeros((2**40, 0, 6, 6), np.float32)}), "has the shape"),
        (lambda t: t.update({"intro.weight": np.ones((2_000_000, 3, 1, 1), np.float32)}), "looks like a unet, but is"),
        (many_levels, "of no known architecture"),
        (nafnet_without_end, "of no known architecture"),
        (wide_nafnet, "looks like a nafnet"),
        (
            lambda t: t.update({f"middle.{i}.conv1.weight": np.ones(1, np.float32) for i in range(9000)}),
            "tensors, and at",
        ),
        (lambda t: t.update({"intro.bias": t["intro.bias"].astype(np.int8)}), "of type I8"),
    ],
)
def test_a_base_of_impossible_size(
    training_run: Path, tmp_path: Path, edit: Callable[[Tensors], Any], words: str
) -> None:
    tensors = base_tensors(training_run)
    edit(tensors)
    file = tmp_path / "base.safetensors"
    file.write_bytes(safetensors.numpy.save(tensors))
    with pytest.raises(BaseModelError, match=words) as caught:
        load_base(file)
    assert str(caught.value).isprintable()


def test_a_base_file_that_takes_no_room(tmp_path: Path) -> None:
    file = tmp_path / "base.safetensors"
    file.touch()
    os.truncate(file, 8 << 30)
    with pytest.raises(BaseModelError, match="has 8589934592 bytes"):
        load_base(file)
