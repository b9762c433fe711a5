"""The disk cache: what a key is, what is kept, what is given up, and what is not believed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uir.runtime.disk_cache import DEFAULT_BUDGET, DiskCache, default_budget, default_folder
from uir.runtime.engine_key import EngineKey
from uir.runtime.errors import UsageError

CONTENT = b"an engine's own bytes " * 50


def key_of(number: int) -> EngineKey:
    return EngineKey({"backend": "tensorrt", "number": number})


KEY, OTHER = key_of(0), key_of(1)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def entry_size(folder: Path, content: bytes = CONTENT, key: EngineKey = KEY) -> int:
    """Bytes that an entry takes, found by keeping one."""
    cache = DiskCache(folder)
    cache.put(key, content)
    return cache.clear()[1]


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(tmp_path / "engines")


# Keys


def test_the_canonical_form_is_sorted_compact_json() -> None:
    parts = {"weights": {"rain": "0.6000", "dünn": "0.4000"}, "shapes": [(1, 64, 48), None], "int8": True, "a": -7}
    key = EngineKey(parts)
    assert key.canonical == (
        '{"a":-7,"int8":true,"shapes":[[1,64,48],null],"weights":{"dünn":"0.4000","rain":"0.6000"}}'
    )
    assert key.digest == hashlib.sha256(key.canonical.encode()).hexdigest()
    # Engines on disk are lost when this changes.
    assert key.digest == "ee85ac4993c9ee7d02a4610b081410766bfbb18a9982bc80ef52823a1b7e2db1"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text("abc", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=6,
)


def reverse(value: Any) -> Any:
    """The same JSON value, its mappings filled the other way round."""
    if isinstance(value, dict):
        return {name: reverse(value[name]) for name in reversed(value)}
    return [reverse(item) for item in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text("abc", max_size=3), JSON, max_size=4), JSON)
def test_a_key_knows_no_order_of_names_and_every_value(parts: dict[str, Any], value: Any) -> None:
    key = EngineKey(parts)
    assert EngineKey(reverse(parts)) == key and hash(EngineKey(reverse(parts))) == hash(key)
    assert key.parts == parts == json.loads(key.canonical)
    changed = {**parts, "d": value}
    assert EngineKey(changed).digest != key.digest
    assert EngineKey({**parts, "d": [value]}).digest != EngineKey(changed).digest


@pytest.mark.parametrize(
    "value",
    [
        0.5,
        float("nan"),
        2**63,
        b"rain",
        {1, 2},
        {1: "rain"},
        Path("rain"),
        "/srv/restore.uir",
        "C:\\restore.uir",
        "\ud800",
    ],
)
def test_a_key_refuses_what_has_no_one_text_and_any_path(value: object) -> None:
    with pytest.raises(UsageError, match=r"key\.deep\[1\]"):
        EngineKey({"deep": ["rain", value]})


def test_a_key_does_not_change_with_what_it_was_made_of() -> None:
    parts = {"shapes": [1]}
    key = EngineKey(parts)
    parts["shapes"].append(2)
    assert key == EngineKey({"shapes": [1]}) and key.parts == {"shapes": [1]}


# What is kept


def test_an_engine_is_kept_as_its_own_bytes_beside_what_they_are(cache: DiskCache) -> None:
    assert cache.get(KEY) is None
    assert not cache.folder.exists()
    cache.put(KEY, CONTENT)
    assert cache.get(KEY) == CONTENT
    assert DiskCache(cache.folder).get(KEY) == CONTENT
    assert names(cache.folder) == {f"{KEY.digest}.engine", f"{KEY.digest}.json"}
    assert (cache.folder / f"{KEY.digest}.engine").read_bytes() == CONTENT
    assert json.loads((cache.folder / f"{KEY.digest}.json").read_text()) == {
        "schema": 1,
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "size": len(CONTENT),
        "about": {"backend": "tensorrt", "number": 0},
    }
    assert cache.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("content", [b"", b"\0", os.urandom(3_000_000)])
def test_any_bytes_are_kept(cache: DiskCache, content: bytes) -> None:
    cache.put(KEY, content)
    assert cache.get(KEY) == content


def test_an_engine_replaces_the_one_before_it(cache: DiskCache) -> None:
    cache.put(KEY, CONTENT)
    cache.put(KEY, b"another")
    assert cache.get(KEY) == b"another"
    assert len(cache.entries()) == 1


def test_entries_are_told_oldest_use_first(cache: DiskCache) -> None:
    for number in range(3):
        cache.put(key_of(number), CONTENT)
    cache.get(KEY)
    entries = cache.entries()
    assert [entry.about["number"] for entry in entries] == [1, 2, 0]
    assert [entry.digest for entry in entries] == [key_of(number).digest for number in (1, 2, 0)]
    assert sum(entry.size for entry in entries) == sum(
        (cache.folder / name).stat().st_size for name in names(cache.folder)
    )
    assert entries[2].last_used == (cache.folder / f"{KEY.digest}.engine").stat().st_mtime


def test_a_use_is_noted_by_a_clock_that_tells_neighbours_apart(cache: DiskCache) -> None:
    for number in range(20):  # the system's clock for files stands still for some milliseconds
        before = time.time_ns()
        cache.put(key_of(number), b"")
        assert (cache.folder / f"{key_of(number).digest}.engine").stat().st_mtime_ns >= before


def test_engines_are_removed_one_by_one_and_all_at_once(cache: DiskCache) -> None:
    cache.remove(KEY)
    assert cache.clear() == (0, 0)
    assert not cache.folder.exists()
    for number in range(3):
        cache.put(key_of(number), CONTENT)
    cache.remove(OTHER)
    cache.remove(OTHER)
    assert cache.get(OTHER) is None
    size = sum(entry.size for entry in cache.entries())
    assert cache.clear() == (2, size)
    assert names(cache.folder) == set() and cache.entries() == []


def test_what_others_keep_in_the_folder_is_left_alone_and_not_counted(tmp_path: Path) -> None:
    size = entry_size(tmp_path / "engines")
    cache = DiskCache(tmp_path / "engines", size)
    (cache.folder / "folder.engine").mkdir()
    foreign = ["notes.txt", "resnet.engine", "resnet.json", f"{KEY.digest}.engine.bak", f"{'A' * 64}.engine", ".hidden"]
    for name in foreign:
        (cache.folder / name).write_bytes(CONTENT)
    cache.put(KEY, CONTENT)
    assert len(cache.entries()) == 1
    cache.put(OTHER, CONTENT)
    assert [entry.about["number"] for entry in cache.entries()] == [1]
    cache.clear()
    assert names(cache.folder) == {*foreign, "folder.engine"}


# What is given up


def test_a_hundred_engines_stay_within_the_budget(tmp_path: Path) -> None:
    size = entry_size(tmp_path / "engines", key=key_of(100))
    cache = DiskCache(tmp_path / "engines", 10 * size)
    for number in range(100, 200):
        cache.put(key_of(number), CONTENT)
        assert cache.get(key_of(100)) == CONTENT  # used all the time, so never given up
        assert sum(path.stat().st_size for path in cache.folder.iterdir()) <= cache.budget
    assert [entry.about["number"] for entry in cache.entries()] == [*range(191, 200), 100]
    assert len(names(cache.folder)) == 20


OPERATIONS = st.tuples(st.sampled_from(["put", "get", "remove"]), st.integers(0, 5), st.integers(1, 5))


@settings(max_examples=15)
@given(st.lists(OPERATIONS, max_size=25), st.integers(2000, 9999))
def test_the_least_recently_used_are_given_up(operations: list[tuple[str, int, int]], budget: int) -> None:
    with TemporaryDirectory() as folder:
        sidecar = entry_size(Path(folder), bytes(1000)) - 1000
        cache = DiskCache(Path(folder), budget)
        model: OrderedDict[int, bytes] = OrderedDict()
        for operation, number, thousands in operations:
            key, content = key_of(number), bytes(1000 * thousands)
            if operation == "get":
                assert cache.get(key) == model.get(number)
                if number in model:
                    model.move_to_end(number)
            elif operation == "remove":
                cache.remove(key)
                model.pop(number, None)
            else:
                cache.put(key, content)
                if len(content) + sidecar <= budget:
                    model.pop(number, None)
                    model[number] = content
                    while sum(len(kept) + sidecar for kept in model.values()) > budget:
                        model.popitem(last=False)
            assert [entry.about["number"] for entry in cache.entries()] == list(model)


def test_an_engine_over_the_budget_is_not_kept_and_displaces_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = DiskCache(tmp_path, entry_size(tmp_path))
    cache.put(KEY, CONTENT)
    cache.put(OTHER, CONTENT + b"!")
    assert cache.get(OTHER) is None
    assert cache.get(KEY) == CONTENT
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert re.search(rf"{tmp_path}: an engine of \d+ bytes is over the budget of {cache.budget}", caplog.text)
    assert "UIR_CACHE_SIZE" in caplog.text


# What is not believed

Damage = Callable[[Path, Path], object]


def edit(note: Path, **changes: object) -> None:
    note.write_text(json.dumps({**json.loads(note.read_text()), **changes}))


def swap(engine: Path, note: Path) -> None:
    """Give the entry another one's two files, as a careless copy would."""
    for suffix, path in (("engine", engine), ("json", note)):
        shutil.copy(path.with_name(f"{OTHER.digest}.{suffix}"), path)


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "truncated": (lambda engine, _: os.truncate(engine, 100), r"engine: has 100 bytes, and 1100 were written"),
    "empty": (lambda engine, _: os.truncate(engine, 0), r"engine: has 0 bytes"),
    "longer": (lambda engine, _: engine.write_bytes(CONTENT + b"\0"), r"engine: has 1101 bytes"),
    "zeros": (lambda engine, _: engine.write_bytes(bytes(len(CONTENT))), r"engine: .*SHA-256 differs"),
    "one bit": (lambda engine, _: engine.write_bytes(CONTENT[:-1] + b"!"), r"engine: .*SHA-256 differs"),
    "another's engine": (lambda engine, _: shutil.copy(engine.with_name(f"{OTHER.digest}.engine"), engine), r"differs"),
    "another's entry": (swap, r"json: describes another engine"),
    "another's sidecar": (
        lambda _, note: shutil.copy(note.with_name(f"{OTHER.digest}.json"), note),
        r"json: describes",
    ),
    "a pipe": (lambda engine, _: to_pipe(engine), r"engine: is not a file"),
    "sidecar missing": (lambda _, note: note.unlink(), r"engine: its .*\.json is missing"),
    "sidecar empty": (lambda _, note: note.write_bytes(b""), r"json: not an engine's description"),
    "sidecar truncated": (lambda _, note: os.truncate(note, 60), r"json: not an engine's description"),
    "sidecar garbage": (lambda _, note: note.write_bytes(b"\xff\0garbage"), r"json: not an engine's description"),
    "sidecar nested": (lambda _, note: note.write_bytes(b'{"about":' + b"[" * 100_000), r"json: not an engine's desc"),
    "sidecar deep": (
        lambda _, note: edit(note, about={"a": json.loads("[" * 900 + "]" * 900)}),
        r"json: (not an engine's description|describes another engine)",
    ),
    "sidecar a list": (lambda _, note: note.write_bytes(b"[]"), r"json: not an engine's description"),
    "sidecar a pipe": (lambda _, note: to_pipe(note), r"json: is not a file"),
    "sidecar with a float": (lambda _, note: edit(note, about={"weight": 0.5}), r"json: not an engine's description"),
    "sidecar of no size": (lambda _, note: edit(note, size="big"), r"json: not an engine's description"),
    "sidecar of another size": (lambda _, note: edit(note, size=7), r"engine: has 1100 bytes, and 7 were written"),
    "sidecar of another hash": (lambda _, note: edit(note, sha256="0" * 64), r"engine: .*SHA-256 differs"),
    "a newer schema": (lambda _, note: edit(note, schema=2), r"json: is of schema 2, and this version reads schema 1"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_removed_with_its_reason(
    cache: DiskCache, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    cache.put(KEY, CONTENT)
    cache.put(OTHER, CONTENT[::-1])
    spoil, reason = DAMAGES[damage]
    spoil(cache.folder / f"{KEY.digest}.engine", cache.folder / f"{KEY.digest}.json")
    assert cache.get(KEY) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert re.search(rf"^{cache.folder}/{KEY.digest}\.{reason}" if reason[0] in "ej" else reason, record.message)
    assert names(cache.folder) == {f"{OTHER.digest}.engine", f"{OTHER.digest}.json"}
    cache.put(KEY, CONTENT)
    assert (cache.get(KEY), cache.get(OTHER)) == (CONTENT, CONTENT[::-1])
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "damage", sorted(set(DAMAGES) - {"zeros", "one bit", "another's engine", "sidecar of another hash"})
)
def test_what_is_seen_to_be_damaged_is_no_entry_and_is_swept(cache: DiskCache, damage: str) -> None:
    cache.put(KEY, CONTENT)
    cache.put(OTHER, CONTENT[::-1])
    DAMAGES[damage][0](cache.folder / f"{KEY.digest}.engine", cache.folder / f"{KEY.digest}.json")
    assert [entry.digest for entry in cache.entries()] == [OTHER.digest]
    cache.put(OTHER, CONTENT[::-1])
    assert names(cache.folder) == {f"{OTHER.digest}.engine", f"{OTHER.digest}.json"}


def test_leavings_of_dead_processes_are_swept(cache: DiskCache) -> None:
    cache.put(KEY, CONTENT)
    leavings = [
        f".{KEY.digest}.a1b2c3.part.engine",
        f".{OTHER.digest}.a1b2c3.part.json",
        f"{OTHER.digest}.json",
        f"{key_of(2).digest}.engine",
        f"{key_of(3).digest}.lock",
    ]
    for name in leavings:
        (cache.folder / name).write_bytes(CONTENT[:50])
    assert len(cache.entries()) == 1
    with cache.building(key_of(4)):
        cache.put(KEY, CONTENT)
        kept = {f"{KEY.digest}.engine", f"{KEY.digest}.json", f"{key_of(4).digest}.lock", ".uir-edge.lock"}
        assert {path.name for path in cache.folder.iterdir()} == kept  # the lock in use is among them


def test_threads_that_read_what_others_replace_see_whole_engines(
    cache: DiskCache, caplog: pytest.LogCaptureFixture
) -> None:
    contents = [bytes([number]) * 20_000 for number in range(4)]
    whole = {None, *contents}

    def write(content: bytes) -> None:
        for _ in range(15):
            cache.put(KEY, content)
            cache.remove(OTHER)
            cache.put(OTHER, content)

    def read(_: int) -> int:
        seen = 0
        while not all(writer.done() for writer in writers):
            assert cache.get(KEY) in whole and cache.get(OTHER) in whole
            seen += len(cache.entries())
        return seen

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, content) for content in contents[:2]]
        readers = [pool.submit(read, number) for number in range(2)]
        assert all(reader.result(60) for reader in readers)
        assert not any(writer.exception() for writer in writers)
    assert cache.get(KEY) in contents
    assert not caplog.records


# Where


def test_the_folder_is_what_the_variable_says_or_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("UIR_CACHE", str(tmp_path / "mine"))
    assert default_folder() == tmp_path / "mine"
    monkeypatch.setenv("UIR_CACHE", "")
    assert default_folder() == tmp_path / ".cache/uir-edge/engines"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_folder() == tmp_path / ".cache/uir-edge/engines"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert default_folder() == tmp_path / "caches/uir-edge/engines"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", DEFAULT_BUDGET),
        ("0", 0),
        ("123456789012", 123456789012),
        ("500MB", 500 * 10**6),
        (" 2 GiB ", 2**31),
        ("1.5gib", 3 * 2**29),
        ("64k", 64000),
        ("1TiB", 2**40),
        ("7B", 7),
    ],
)
def test_the_budget_is_what_the_variable_says(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UIR_CACHE_SIZE", text)
    assert default_budget() == size
    monkeypatch.delenv("UIR_CACHE_SIZE")
    assert default_budget() == DEFAULT_BUDGET


@pytest.mark.parametrize("text", ["much", "-1", "2XB", "GiB", "1e9", "2 Gi Bytes", "٣GB", "nan"])
def test_a_budget_that_is_no_size_is_refused_by_the_variables_name(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UIR_CACHE_SIZE", text)
    with pytest.raises(UsageError, match=f"UIR_CACHE_SIZE={re.escape(text)}: not a size; write it as 2GiB, 500MB or"):
        default_budget()
