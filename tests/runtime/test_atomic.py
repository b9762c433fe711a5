"""Outputs appear whole or not at all, on a real file system and a real full disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from uir.runtime.atomic import atomic_output, check_destination
from uir.runtime.errors import MissingFileError, OutputError


class BrokenError(Exception):
    """What goes wrong inside the block."""


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def write_folder(path: Path, text: str) -> None:
    (path / "inner").mkdir(parents=True)
    (path / "inner" / "file").write_text(text)


def test_a_file_appears_under_its_name_only_when_whole(tmp_path: Path) -> None:
    destination = tmp_path / "clip.mp4"
    with atomic_output(destination) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".mp4"
        temporary.write_text("new")
        assert not destination.exists()
    assert destination.read_text() == "new"
    assert names(tmp_path) == ["clip.mp4"]


@pytest.mark.parametrize("error", [BrokenError, KeyboardInterrupt, MissingFileError])
def test_a_failure_leaves_nothing_and_touches_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "old.mp4").write_text("old")
    for name in ("old.mp4", "new.mp4"):
        with pytest.raises(error), atomic_output(tmp_path / name, overwrite=True) as temporary:
            temporary.write_text("half")
            raise error
    assert names(tmp_path) == ["old.mp4"]
    assert (tmp_path / "old.mp4").read_text() == "old"


def test_a_folder_replaces_a_folder_whole(tmp_path: Path) -> None:
    destination = tmp_path / "restore.uir"
    write_folder(destination, "old")
    (destination / "stale").write_text("old")
    with atomic_output(destination, overwrite=True) as temporary:
        write_folder(temporary, "new")
        assert (destination / "inner" / "file").read_text() == "old"
    assert names(tmp_path) == ["restore.uir"]
    assert names(destination) == ["inner"]
    assert (destination / "inner" / "file").read_text() == "new"


def test_a_folder_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    destination = tmp_path / "restore.uir"
    write_folder(destination, "old")
    with pytest.raises(BrokenError), atomic_output(destination, overwrite=True) as temporary:
        write_folder(temporary, "new")
        raise BrokenError
    assert names(tmp_path) == ["restore.uir"]
    assert (destination / "inner" / "file").read_text() == "old"


def test_replacing_a_link_leaves_what_it_pointed_to(tmp_path: Path) -> None:
    write_folder(tmp_path / "kept", "old")
    (tmp_path / "restore.uir").symlink_to("kept")
    with atomic_output(tmp_path / "restore.uir", overwrite=True) as temporary:
        write_folder(temporary, "new")
    assert (tmp_path / "kept" / "inner" / "file").read_text() == "old"
    assert (tmp_path / "restore.uir" / "inner" / "file").read_text() == "new"
    assert names(tmp_path) == ["kept", "restore.uir"]


def test_an_existing_output_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_text("old")
    with (
        pytest.raises(OutputError, match="exists already; give another name, or --overwrite"),
        atomic_output(tmp_path / "clip.mp4"),
    ):
        pytest.fail("the work began")


def test_impossible_destinations_are_refused(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_text("old")
    with pytest.raises(OutputError, match="missing: no such folder; create it first"):
        check_destination(tmp_path / "missing" / "clip.mp4")
    with pytest.raises(OutputError, match="no such folder"):
        check_destination(tmp_path / "clip.mp4" / "clip.mp4")
    with pytest.raises(OutputError, match="the output is the input itself"):
        check_destination(tmp_path / "clip.mp4", overwrite=True, source=tmp_path / "." / "clip.mp4")
    (tmp_path / "hard.mp4").hardlink_to(tmp_path / "clip.mp4")
    with pytest.raises(OutputError, match="the output is the input itself"):
        check_destination(tmp_path / "hard.mp4", overwrite=True, source=tmp_path / "clip.mp4")


@pytest.mark.parametrize("name", [".", "..", "/", "sub/.."])
def test_a_destination_without_a_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "here" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(OutputError, match="name"), atomic_output(Path(name), overwrite=True) as temporary:
        temporary.mkdir()
    assert names(tmp_path) == ["here"]
    assert names(tmp_path / "here") == ["sub"]


def test_a_name_that_the_system_refuses_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="cannot be written: File name too long"),
        atomic_output(tmp_path / ("x" * 250 + ".mp4")) as temporary,
    ):
        temporary.write_text("new")
    assert names(tmp_path) == []
    with pytest.raises(OutputError, match="cannot be written: File name too long"):
        check_destination(tmp_path / ("x" * 300))


def test_of_two_that_write_at_once_the_second_is_refused(tmp_path: Path) -> None:
    destination = tmp_path / "restore.uir"
    with pytest.raises(OutputError, match="exists already"), atomic_output(destination) as late:
        write_folder(late, "late")
        with atomic_output(destination) as early:
            write_folder(early, "early")
    assert names(tmp_path) == ["restore.uir"]
    assert (destination / "inner" / "file").read_text() == "early"


def test_of_two_that_replace_at_once_one_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    destination, replace = tmp_path / "restore.uir", Path.replace
    write_folder(destination, "old")

    def disturbed(source: Path, target: Path) -> Path:
        moved = replace(source, target)
        if target.suffix == ".old":  # between the old one's stepping aside and ours taking its place
            write_folder(destination, "theirs")
        return moved

    monkeypatch.setattr(Path, "replace", disturbed)
    with pytest.raises(OutputError, match="not empty"), atomic_output(destination, overwrite=True) as temporary:
        write_folder(temporary, "ours")
    assert names(tmp_path) == ["restore.uir"]
    assert (destination / "inner" / "file").read_text() == "theirs"


def test_a_file_over_a_folder_is_refused_and_the_folder_kept(tmp_path: Path) -> None:
    write_folder(tmp_path / "clip.mp4", "old")
    with (
        pytest.raises(OutputError, match="cannot be written"),
        atomic_output(tmp_path / "clip.mp4", overwrite=True) as temporary,
    ):
        temporary.write_text("new")
    assert names(tmp_path) == ["clip.mp4"]
    assert (tmp_path / "clip.mp4" / "inner" / "file").read_text() == "old"


def test_errors_of_reading_are_not_blamed_on_the_output(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent") as caught, atomic_output(tmp_path / "clip.mp4"):
        (tmp_path / "absent").read_bytes()
    assert not isinstance(caught.value, OutputError)


def test_a_full_disk_is_said_and_leaves_nothing(small_disk: Path) -> None:
    (small_disk / "clip.mp4").write_text("old")
    with (
        pytest.raises(OutputError, match=r"clip\.mp4: cannot be written: No space left on device"),
        atomic_output(small_disk / "clip.mp4", overwrite=True) as temporary,
    ):
        temporary.write_bytes(os.urandom(2**20))
    assert names(small_disk) == ["clip.mp4"]
    assert (small_disk / "clip.mp4").read_text() == "old"
