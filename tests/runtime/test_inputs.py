"""What stands for which files, and where their results go."""

from pathlib import Path

import pytest

from uir.runtime.errors import MissingFileError, OutputError, UsageError
from uir.runtime.inputs import collect, output_path, pair_outputs


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(paths):
    return [path.name for path in paths]


def test_a_folder_gives_its_images_and_videos_in_natural_order(tmp_path):
    touch(tmp_path, "f10.png", "f2.png", "F1.JPG", "clip.mp4", "notes.txt", "sub/deep.png", ".hidden.png")
    touch(tmp_path, "clip.restored.mp4")
    (tmp_path / "folder.png").mkdir()
    assert names(collect(str(tmp_path))) == ["clip.mp4", "F1.JPG", "f2.png", "f10.png"]


def test_a_pattern_gives_its_matches_without_earlier_results(tmp_path):
    touch(tmp_path, "b.png", "a.png", "a.restored.png", "c.jpg", "sub/d.png")
    assert names(collect(str(tmp_path / "*.png"))) == ["a.png", "b.png"]
    assert names(collect(str(tmp_path / "**" / "*.png"))) == ["a.png", "b.png", "d.png"]


def test_a_file_named_by_itself_is_taken_whatever_its_name(tmp_path):
    touch(tmp_path, "a.restored.png", "[draft].png", "clip.weird")
    for name in ("a.restored.png", "[draft].png", "clip.weird"):
        assert collect(str(tmp_path / name)) == [tmp_path / name]


def test_the_home_folder_is_understood_in_quotes(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    touch(tmp_path, "a.png")
    assert collect("~/*.png") == collect("~/a.png") == [tmp_path / "a.png"]


def test_nothing_found_says_what_was_looked_for(tmp_path):
    touch(tmp_path, "holiday.mp4", "old/x.restored.png", "text/notes.txt")
    with pytest.raises(MissingFileError, match=r"holidy\.mp4: no such file.*did you mean .*holiday\.mp4\?"):
        collect(str(tmp_path / "holidy.mp4"))
    with pytest.raises(MissingFileError, match=r"no such file or folder$"):
        collect(str(tmp_path / "nowhere" / "holiday.mp4"))
    with pytest.raises(MissingFileError, match="no file matches"):
        collect(str(tmp_path / "*.webm"))
    with pytest.raises(MissingFileError, match="no images or videos"):
        collect(str(tmp_path / "text"))
    with pytest.raises(MissingFileError, match=r"earlier results \(1 "):
        collect(str(tmp_path / "old"))
    with pytest.raises(MissingFileError, match=r"~nobody-of-that-name/x\.png: no such file"):
        collect("~nobody-of-that-name/x.png")


def test_without_output_the_result_stands_beside_its_source(tmp_path):
    assert output_path(tmp_path / "a.b.mp4", None, many=False) == tmp_path / "a.b.restored.mp4"
    assert output_path(tmp_path / "a.png", None, many=True) == tmp_path / "a.restored.png"


def test_an_output_is_a_file_for_one_source_and_a_folder_for_many(tmp_path):
    source, folder = Path("in/a.png"), tmp_path / "new" / "results"
    assert output_path(source, tmp_path / "b.jpg", many=False) == tmp_path / "b.jpg"
    assert output_path(source, tmp_path, many=False) == tmp_path / "a.png"
    assert output_path(source, folder, many=True) == folder / "a.png"
    assert folder.is_dir()


def test_a_file_cannot_take_many_results(tmp_path):
    touch(tmp_path, "b.png")
    with pytest.raises(OutputError, match="is a file"):
        output_path(Path("a.png"), tmp_path / "b.png", many=True)
    with pytest.raises(OutputError, match="cannot be created"):
        output_path(Path("a.png"), tmp_path / "b.png" / "sub", many=True)


def test_pairs_refuse_two_sources_with_one_result(tmp_path):
    sources = [Path("a/x.png"), Path("b/x.png")]
    assert pair_outputs(sources, None) == [(s, s.with_name("x.restored.png")) for s in sources]
    with pytest.raises(UsageError, match=r"a/x\.png and b/x\.png would both"):
        pair_outputs(sources, tmp_path)
    assert pair_outputs(sources[:1], tmp_path / "y.png") == [(sources[0], tmp_path / "y.png")]


def test_one_source_goes_into_a_folder_where_that_is_asked_for(tmp_path):
    source, folder = Path("a/x.png"), tmp_path / "new"
    assert pair_outputs([source], folder, into_folder=True) == [(source, folder / "x.png")]
    assert folder.is_dir()
