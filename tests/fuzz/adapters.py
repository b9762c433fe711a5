"""Mutators of an adapter's folder: its configuration, the header and the values of its weights, links and devices."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from fuzz.registry import mutates

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

Header = dict[str, Any]

NUMBERS = ["0", "-1", "1e30", "-1e30", "1e300", "1e999", "NaN", "Infinity", "-Infinity", "true", "null", '"4"', "[]"]
NUMBERS += ["2.5", "1e-30", "-0.0", "9" * 30, "9" * 400, "9" * 5000, "{}", "2147483648", "1e5", "1e10"]
PATTERNS = [
    "(([a-z0-9.]+)+)+X",
    "(" * 20_000 + ")" * 20_000,
    "(a|a)*" * 40 + "X",
    "(.*)*" * 8 + "X",
    "(.*.*.*.*.*.*.*.*)X",
    "(?:[a-z0-9.]+){1,500}X",
    "((a{1,1000}){1,1000}){1,1000}",
    "(?=(.*)*X)",
    r"(.)\1*(.)\2*X",
    "[" * 20_000,
    "x" * 500_000,
    "(?P<n>.+)+(?P=n)X",
    "^(?!.*(.+)+X).*$",
    "\\",
    "(?",
    "*",
    "",
    "\x00",
    "é" * 100,
    "(?i)" + "(a?)" * 30 + "a" * 30,
    "|" * 100_000,
    ".*" * 30 + "X",
]
SHAPES: list[Any] = [[1] * 74, [0, 0], [], [0], [-1, 4], [2**31, 2**31], [2**63, 2], [1.5], "x", None, [[1]], [2**70]]
SHAPES += [[1] * 33, [4] * 2_000, [True], [2**40, 0], [1, 0, 2**40], {"a": 1}]
DTYPES = ["BF16", "F64", "F16", "F8_E4M3", "I8", "I64", "BOOL", "C64", "U4", "F128", "", 7, None, "f32", "O"]
NAMES = [
    "a\nb",
    "\x1b[2J\x1b[31mred",
    "é",
    "\u202eevil",
    "x" * 100_000,
    "",
    "../../etc",
    "base_model.model..lora_A.weight",
]
NAMES += ["__metadata__", "base_model.model.\ud7ff.lora_A.weight", "base_model.model.a.lora_A.weight", "\x00"]
VALUES = [b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\x7f\x7f", b"\x01\x00\x00\x00", b"\xca\xf2\x49\x71"]
VALUES += [b"\x00\x00\x00\x00", b"\xf9\x02\x15\x50", b"\x00\x00\x80\xff"]  # 1e10 among them


def edits(weight: int = 1) -> Callable[[Callable[[Path, random.Random], None]], Callable[[Path, random.Random], str]]:
    """List an edit of an adapter's folder as a mutator; its weights are float32 when it begins."""

    def register(edit: Callable[[Path, random.Random], None]) -> Callable[[Path, random.Random], str]:
        def mutate(folder: Path, rng: random.Random) -> str:
            wide = {
                key: value.astype(np.float32) for key, value in safetensors.numpy.load_file(folder / WEIGHTS).items()
            }
            (folder / WEIGHTS).write_bytes(safetensors.numpy.save(wide))
            edit(folder, rng)
            return edit.__doc__ or edit.__name__

        mutate.__name__ = f"adapter_{edit.__name__}"
        return mutates("adapter", picture="any", weight=weight)(mutate)

    return register


def split(folder: Path) -> tuple[Header, bytearray]:
    content = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), bytearray(content[8 + length :])


def join(folder: Path, header: Header | str, data: bytes, length: int | None = None) -> None:
    text = (header if isinstance(header, str) else json.dumps(header)).encode("utf-8", "surrogatepass")
    text += b" " * (-len(text) % 8)
    claimed = len(text) if length is None else length
    (folder / WEIGHTS).write_bytes(claimed.to_bytes(8, "little") + text + data)


def tensor(header: Header, rng: random.Random) -> str:
    return rng.choice(sorted(key for key in header if key != "__metadata__"))


def edit_config(folder: Path, key: str, raw: str) -> None:
    config = json.loads((folder / CONFIG).read_text())
    config[key] = "\x00here"
    (folder / CONFIG).write_text(json.dumps(config).replace('"\\u0000here"', raw))


@edits()
def number(folder: Path, rng: random.Random) -> None:
    """R or lora_alpha is no number that training gives."""
    edit_config(folder, rng.choice(["r", "lora_alpha", "lora_alpha"]), rng.choice(NUMBERS))


@edits(2)
def pattern(folder: Path, rng: random.Random) -> None:
    """A pattern that harms who matches it by trial."""
    key = rng.choice(["rank_pattern", "alpha_pattern"])
    edit_config(folder, key, json.dumps({rng.choice(PATTERNS): rng.choice([16, 2])}))


@edits()
def pattern_value(folder: Path, rng: random.Random) -> None:
    """A module's own rank or alpha is none."""
    module = tensor(split(folder)[0], rng).removeprefix("base_model.model.").rpartition(".lora_")[0]
    key = rng.choice(["rank_pattern", "alpha_pattern"])
    edit_config(folder, key, f'{{"{module}": {rng.choice(NUMBERS)}}}')


@edits()
def many_patterns(folder: Path, rng: random.Random) -> None:
    """Patterns by the thousand."""
    count = rng.choice([1_000, 30_000])
    edit_config(folder, "rank_pattern", json.dumps({f"layer.{i}.*x" if i % 2 else f"l{i}": 2 for i in range(count)}))


@edits()
def deep(folder: Path, rng: random.Random) -> None:
    """JSON nested without end."""
    text = rng.choice(["[" * 500_000, "[" * 250_000 + "]" * 250_000, '{"a":' * 100_000, "[" * 2_000 + "]" * 2_000])
    if rng.random() < 0.5:
        edit_config(folder, rng.choice(["target_modules", "rank_pattern", "revision"]), text)
    else:
        (folder / CONFIG).write_text(text)


@edits()
def deep_header(folder: Path, rng: random.Random) -> None:
    """A header nested without end."""
    header, data = split(folder)
    name = tensor(header, rng)
    text = json.dumps({**header, name: "\x00here"}).replace(
        '"\\u0000here"', rng.choice(["[" * 300_000, '{"a":' * 9_000])
    )
    join(folder, text, bytes(data))


@edits()
def duplicate(folder: Path, rng: random.Random) -> None:
    """A name that stands twice."""
    if rng.random() < 0.5:
        text = (folder / CONFIG).read_text().strip()
        extra = rng.choice(['"r": 9', '"lora_alpha": 1e30', '"peft_type": "LORA"', '"rank_pattern": {"a": 1, "a": 2}'])
        (folder / CONFIG).write_text(f"{text[:-1]}, {extra}}}")
    else:
        header, data = split(folder)
        name = tensor(header, rng)
        text = json.dumps(header)
        join(folder, f"{text[:-1]}, {json.dumps(name)}: {json.dumps(header[tensor(header, rng)])}}}", bytes(data))


@edits()
def setting(folder: Path, rng: random.Random) -> None:
    """Another setting, or one of another type."""
    keys = ["peft_type", "use_rslora", "bias", "init_lora_weights", "target_modules", "use_dora", "rank_pattern"]
    values = [*NUMBERS, '"x"', '{"x": {}}', '["\\u001b[2J"]', f'"{"x" * 200_000}"', '"a\\nb"']
    edit_config(folder, rng.choice([*keys, "invented"]), rng.choice(values))


@edits()
def bytes_of(folder: Path, rng: random.Random) -> None:
    """Bytes flipped."""
    file = folder / rng.choice([CONFIG, WEIGHTS])
    content = bytearray(file.read_bytes())
    for _ in range(rng.choice([1, 4, 64])):
        content[rng.randrange(min(len(content), 3_000))] = rng.randrange(256)
    file.write_bytes(content)


@edits()
def length_of(folder: Path, rng: random.Random) -> None:
    """A file cut off, or with more behind it."""
    file = folder / rng.choice([CONFIG, WEIGHTS])
    content = file.read_bytes()
    file.write_bytes(
        content[: rng.randrange(len(content))] if rng.random() < 0.6 else content + b"\0" * rng.choice([1, 8])
    )


@edits()
def header_length(folder: Path, rng: random.Random) -> None:
    """A header's length that lies."""
    header, data = split(folder)
    join(folder, header, bytes(data), rng.choice([0, 1, 7, 2**31, 2**63, 2**64 - 1, 100_000_001, 99_999_999, 1_000]))


@edits()
def shape(folder: Path, rng: random.Random) -> None:
    """A shape that lies."""
    header, data = split(folder)
    header[tensor(header, rng)]["shape"] = rng.choice(SHAPES)
    join(folder, header, bytes(data))


@edits()
def wide_shape(folder: Path, rng: random.Random) -> None:
    """More dimensions, and as many values."""
    header, data = split(folder)
    entry = header[tensor(header, rng)]
    entry["shape"] = [*entry["shape"], *[1] * rng.choice([29, 61, 70, 5_000])]
    join(folder, header, bytes(data))


@edits()
def empty_tensor(folder: Path, rng: random.Random) -> None:
    """A tensor of no values."""
    tensors = safetensors.numpy.load_file(folder / WEIGHTS)
    tensors[rng.choice(sorted(tensors))] = np.zeros(rng.choice([(0,), (0, 4), (2**40, 0), (4, 0, 3, 3)]), np.float32)
    (folder / WEIGHTS).write_bytes(safetensors.numpy.save(tensors))


@edits()
def offsets(folder: Path, rng: random.Random) -> None:
    """Offsets that lie."""
    header, data = split(folder)
    entry = header[tensor(header, rng)]
    begin, end = entry["data_offsets"]
    entry["data_offsets"] = rng.choice(
        [[end, begin], [begin, 2**63], [0, end], [-1, end], [begin], "x", [begin, end + 4]]
    )
    join(folder, header, bytes(data))


@edits()
def dtype(folder: Path, rng: random.Random) -> None:
    """Another type."""
    header, data = split(folder)
    kind = rng.choice(DTYPES)
    for entry in [header[tensor(header, rng)]] if rng.random() < 0.5 else [v for v in header.values() if "dtype" in v]:
        entry["dtype"] = kind
        if kind in ("BF16", "F16") and "shape" in entry:
            entry["shape"] = [*entry["shape"][:-1], entry["shape"][-1] * 2]
    join(folder, header, bytes(data))


@edits()
def name(folder: Path, rng: random.Random) -> None:
    """A name that no module has."""
    header, data = split(folder)
    header = {
        rng.choice(NAMES) if key == chosen else key: entry
        for chosen in [tensor(header, rng)]
        for key, entry in header.items()
    }
    join(folder, header, bytes(data))


@edits()
def many_tensors(folder: Path, rng: random.Random) -> None:
    """Empty tensors by the hundred thousand."""
    header, data = split(folder)
    count, end = rng.choice([30_000, 300_000]), len(data)
    for i in range(count):
        header[f"base_model.model.m{i}.lora_{'AB'[i % 2]}.weight"] = {
            "dtype": "F32",
            "shape": [0, 0],
            "data_offsets": [end, end],
        }
    join(folder, header, bytes(data))


@edits(2)
def value(folder: Path, rng: random.Random) -> None:
    """Values that are not finite, or huge."""
    header, data = split(folder)
    begin, end = header[tensor(header, rng)]["data_offsets"]
    words = range(begin, end, 4) if rng.random() < 0.5 else [rng.randrange(begin, end) // 4 * 4]
    chosen = rng.choice(VALUES)
    for at in words:
        data[at : at + 4] = chosen
    join(folder, header, bytes(data))


@edits(2)
def scaled(folder: Path, rng: random.Random) -> None:
    """A scale out of all proportion."""
    edit_config(folder, "lora_alpha", repr(rng.choice([1e2, 1e4, 1e6, 1e9, 1e15, 1e20, 1e30, 1e37, 1e38])))


@edits()
def swapped(folder: Path, rng: random.Random) -> None:
    """Two tensors trade their names or their shapes."""
    header, data = split(folder)
    one, other = tensor(header, rng), tensor(header, rng)
    if rng.random() < 0.5:
        header[one], header[other] = header[other], header[one]
    else:
        header[one]["shape"] = header[one]["shape"][::-1]
    join(folder, header, bytes(data))


@edits(2)
def links(folder: Path, rng: random.Random) -> None:
    """Links, devices, pipes, and files that take no room."""
    file = folder / rng.choice([CONFIG, WEIGHTS])
    kind = rng.choice(["self", "loop", "zero", "full", "pipe", "directory", "sparse", "nowhere", "inside", "stdin"])
    if kind in ("self", "loop"):
        shutil.rmtree(folder)
        other = folder if kind == "self" else folder.with_name(f"{folder.name}-other")
        other.unlink(missing_ok=True)
        folder.symlink_to(other)
        if kind == "loop":
            other.symlink_to(folder)
        return
    if kind == "inside":
        (folder / "loop").symlink_to(folder)
        return
    if kind == "sparse":
        os.truncate(file, 8 << 30)
        return
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "directory":
        file.mkdir()
    else:
        places = {"zero": "/dev/zero", "full": "/dev/full", "nowhere": "/no/such", "stdin": "/dev/stdin"}
        file.symlink_to(places[kind])


@edits()
def whole_is_a_pipe(folder: Path, rng: random.Random) -> None:
    """A pipe or a device in the folder's place."""
    shutil.rmtree(folder)
    rng.choice([lambda: os.mkfifo(folder), lambda: folder.symlink_to("/dev/zero"), lambda: folder.write_bytes(b"")])()


@edits()
def sparse_tensor(folder: Path, rng: random.Random) -> None:
    """A header that is true to its file, which is large and costs nothing."""
    header, data = split(folder)
    one, extra = tensor(header, rng), rng.choice([6 << 30, 3 << 30])
    end = len(data)
    header[one] = {"dtype": "F32", "shape": [2, extra // 8], "data_offsets": [end, end + extra]}
    join(folder, header, bytes(data))
    with (folder / WEIGHTS).open("r+b") as stream:
        stream.truncate((folder / WEIGHTS).stat().st_size + extra)


@edits()
def metadata(folder: Path, rng: random.Random) -> None:
    """Metadata of another form."""
    header, data = split(folder)
    header["__metadata__"] = rng.choice([{"router": "x" * 1_000_000}, {"a": 1}, [], "x", None, {"a": {"b": "c"}}])
    join(folder, header, bytes(data))
