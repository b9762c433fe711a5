"""The disk cache where nothing can be written: a frame is never lost by it, and one warning says why."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from uir.runtime.disk_cache import DiskCache, default_folder
from uir.runtime.engine_key import EngineKey

KEY, OTHER = (EngineKey({"number": number}) for number in range(2))
CONTENT = b"engine" * 100


def use_all(cache: DiskCache) -> None:
    """All that a process may ask of a cache, as it builds two engines."""
    for key in (KEY, OTHER):
        with cache.building(key):
            if cache.get(key) is None:
                cache.put(key, CONTENT)
        cache.get(key)
    cache.entries()
    cache.remove(OTHER)
    cache.clear()


def warned_once(caplog: pytest.LogCaptureFixture, folder: Path, reason: str) -> bool:
    """Whether all that was said is one warning, with the folder, the reason and the remedy."""
    (record,) = caplog.records
    pattern = (
        rf"{re.escape(str(folder))}: no engines are kept here, .*: {reason}; give it room and .* set UIR_CACHE to .*"
    )
    return record.levelname == "WARNING" and re.fullmatch(pattern, record.message) is not None


def make_file(folder: Path) -> tuple[Path, str]:
    (folder / "file").touch()
    return folder / "file", "it is not a folder"


def below_a_file(folder: Path) -> tuple[Path, str]:
    (folder / "file").touch()
    return folder / "file" / "engines", "it is not a folder"


def link_to_itself(folder: Path) -> tuple[Path, str]:
    (folder / "loop").symlink_to(folder / "loop")
    return folder / "loop" / "engines", "Too many levels of symbolic links"


def name_too_long(folder: Path) -> tuple[Path, str]:
    return folder / ("engines" * 100), "File name too long"


def below_proc(_: Path) -> tuple[Path, str]:
    return Path("/proc/uir-edge/engines"), "No such file or directory"  # where root may not write either


@pytest.mark.parametrize("place", [make_file, below_a_file, link_to_itself, name_too_long, below_proc])
def test_where_no_folder_can_be_nothing_is_kept(
    place: Callable[[Path], tuple[Path, str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, reason = place(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    cache = DiskCache(folder)
    use_all(cache)
    assert cache.get(KEY) is None
    assert (cache.entries(), cache.clear()) == ([], (0, 0))
    assert warned_once(caplog, folder, reason)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_user_without_a_home_is_told_of_the_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for variable in ("UIR_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "home").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    use_all(DiskCache(default_folder()))
    assert warned_once(caplog, tmp_path / "home/.cache/uir-edge/engines", "it is not a folder")


def test_many_threads_warn_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, reason = make_file(tmp_path)
    cache = DiskCache(folder)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: use_all(cache), range(8)))
    assert warned_once(caplog, folder, reason)


def test_a_missing_parent_is_made(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "a/b/engines")
    use_all(cache)
    cache.put(KEY, CONTENT)
    assert cache.get(KEY) == CONTENT


def test_a_full_disk_keeps_what_it_had(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = DiskCache(small_disk)
    cache.put(KEY, CONTENT)
    for number in range(2, 5):
        cache.put(EngineKey({"number": number}), os.urandom(2**20))
    assert warned_once(caplog, small_disk, "No space left on device")
    assert cache.get(KEY) == CONTENT
    assert [path.suffix for path in sorted(small_disk.iterdir())] == [".lock", ".engine", ".json"]
    cache.put(OTHER, CONTENT)
    assert cache.get(OTHER) == CONTENT
    assert len(caplog.records) == 1


def test_a_disk_without_room_for_a_lock_is_no_error(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Two files at the most: the disk itself, and the cache's folder.
    subprocess.run(["mount", "-o", "remount,nr_inodes=2", small_disk], check=True)
    use_all(DiskCache(small_disk / "engines"))
    assert warned_once(caplog, small_disk / "engines", "No space left on device")
    assert [path.name for path in small_disk.rglob("*")] == ["engines"]


def spoil(cache: DiskCache, key: EngineKey) -> None:
    (cache.folder / f"{key.digest}.engine").write_bytes(CONTENT[::-1])


def check_read_only(cache: DiskCache, caplog: pytest.LogCaptureFixture) -> None:
    """Of a folder with a whole entry and a damaged one that has become read-only."""
    with cache.building(KEY):
        assert cache.get(KEY) == CONTENT
    assert len(cache.entries()) == 2
    assert not caplog.records  # whoever finds all that he needs is not bothered
    assert cache.get(OTHER) is None
    (damage,) = [record for record in caplog.records if OTHER.digest in record.message]
    assert "SHA-256 differs" in damage.message
    caplog.records.remove(damage)
    cache.put(EngineKey({"number": 2}), CONTENT)
    cache.remove(KEY)
    assert cache.clear() == (0, 0)
    assert cache.get(KEY) == CONTENT


def test_a_read_only_disk_is_read(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = DiskCache(small_disk / "engines")
    for key in (KEY, OTHER):
        cache.put(key, CONTENT)
    spoil(cache, OTHER)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    check_read_only(cache, caplog)
    assert warned_once(caplog, cache.folder, "Read-only file system")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_of_others_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = DiskCache(tmp_path / "engines")
    for key in (KEY, OTHER):
        cache.put(key, CONTENT)
    spoil(cache, OTHER)
    (cache.folder / ".uir-edge.lock").unlink()
    cache.folder.chmod(0o500)
    check_read_only(cache, caplog)
    assert warned_once(caplog, cache.folder, "Permission denied")
    cache.folder.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is hidden from root")
def test_an_entry_that_may_not_be_read_is_another_users_and_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = DiskCache(tmp_path)
    cache.put(KEY, CONTENT)
    (tmp_path / f"{KEY.digest}.json").chmod(0)
    assert cache.get(KEY) is None
    cache.put(OTHER, CONTENT)
    assert (tmp_path / f"{KEY.digest}.engine").exists()
    assert warned_once(caplog, tmp_path, "Permission denied")


def test_a_folder_that_someone_writes_to_for_ever_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = DiskCache(tmp_path, patience=0.05)
    for key in (KEY, OTHER):
        cache.put(key, CONTENT)
    spoil(cache, OTHER)
    with FileLock(tmp_path / ".uir-edge.lock"):
        check_read_only(cache, caplog)
    (record,) = caplog.records
    assert record.message.startswith(f"{tmp_path}/.uir-edge.lock: this process holds this lock; going on without")
    cache.put(OTHER, CONTENT)
    assert cache.get(OTHER) == CONTENT


def test_a_folder_in_an_entrys_place_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / f"{KEY.digest}.engine" / "inner").mkdir(parents=True)
    cache = DiskCache(tmp_path)
    assert cache.get(KEY) is None
    cache.put(KEY, CONTENT)
    cache.put(OTHER, CONTENT)
    assert cache.get(OTHER) == CONTENT
    assert (tmp_path / f"{KEY.digest}.engine" / "inner").is_dir()
    assert sum(record.message.count("no engines are kept here") for record in caplog.records) == 1


def test_a_build_within_the_same_build_does_not_wait_for_ever(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = DiskCache(tmp_path, patience=0.05)
    with cache.building(KEY), cache.building(OTHER):
        assert not caplog.records  # each key has its own
        with cache.building(KEY):
            cache.put(KEY, CONTENT)
    assert [record.message for record in caplog.records] == [
        f"{tmp_path}/{KEY.digest}.lock: another builder has held this for 0.05 s; the engine is built here too"
    ]
    assert cache.get(KEY) == CONTENT


def test_errors_of_the_build_are_the_callers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = DiskCache(tmp_path)
    for error in (OSError("no compiler"), TimeoutError("no device"), FileNotFoundError(2, "no model")):
        with pytest.raises(type(error)) as caught, cache.building(KEY):
            raise error
        assert caught.value is error
    with cache.building(KEY):  # free again
        pass
    assert not caplog.records
