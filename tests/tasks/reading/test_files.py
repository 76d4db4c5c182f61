"""Finding files: names that depend on the recipe alone, each file once, no circle without end."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import UserError
from tasks.reading.files import SourceFile, digest_of, find_files, pattern_regex, state_of


def names(*patterns: Path) -> list[str]:
    return [file.name for file in find_files("here", [str(pattern) for pattern in patterns])]


def grow(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)


def test_a_new_file_changes_no_name_of_another(tmp_path: Path):
    grow(tmp_path, "sub/a.txt")
    before = names(tmp_path / "**" / "*.txt")
    grow(tmp_path, "b.txt", "other/c.txt")
    assert names(tmp_path / "**" / "*.txt") == ["b.txt", "other/c.txt", "sub/a.txt"]
    assert before == ["sub/a.txt"]


def test_paths_folders_and_globs_share_the_folder_they_all_start_from(tmp_path: Path):
    grow(tmp_path, "one/a.txt", "one/deep/no.txt", "two/b.txt", "two/.hidden", "two/[x].txt")
    assert names(tmp_path / "one", tmp_path / "two" / "b.txt") == ["one/a.txt", "two/b.txt"]
    assert names(tmp_path / "t*" / "?.txt") == ["two/b.txt"]
    assert names(tmp_path / "two" / "[x].txt") == ["[x].txt"]


def test_a_file_is_found_once_and_links_in_a_circle_end(tmp_path: Path):
    grow(tmp_path, "z.txt", "a/b.txt")
    for name in ("a", "a/c"):
        (tmp_path / name).mkdir(exist_ok=True)
        os.symlink(tmp_path, tmp_path / name / "up")
        os.symlink(tmp_path / "z.txt", tmp_path / name / "again.txt")
    assert names(tmp_path / "**" / "*.txt", tmp_path / "z.txt") == ["a/b.txt", "z.txt"]


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["**", "*", "a", "b", "?", "[ab]"]), min_size=1, max_size=4), st.data())
def test_a_pattern_finds_what_the_standard_library_finds(parts: list[str], data: st.DataObject):
    import glob
    import re
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        grow(Path(folder), *(f"{x}/{y}/f" for x in "ab" for y in "ab"), "f", "a/f")
        pattern = "/".join([*parts, "f"])
        expected = set(glob.glob(pattern, root_dir=folder, recursive=True))
        every = {str(path.relative_to(folder)) for path in Path(folder).rglob("f") if path.is_file()}
        assert {path for path in every if re.fullmatch(pattern_regex(pattern), path)} == expected


def test_a_pattern_without_files_names_what_lies_beside_it(tmp_path: Path):
    grow(tmp_path, "novel.txt")
    with pytest.raises(UserError, match=r"\*\.md' matches no file\. .* holds novel\.txt"):
        names(tmp_path / "*.md")
    with pytest.raises(UserError, match="nowhere' matches no file"):
        names(tmp_path / "nowhere")


def test_files_behind_an_address_are_found_and_digested():
    import fsspec

    for name in ("a.txt", "sub/b.txt"):
        with fsspec.open(f"memory://corpus/{name}", "wb") as file:
            file.write(b"remote")
    (found,) = find_files("here", ["memory://corpus/*.txt"])
    assert (found.name, found.bytes, len(digest_of(found))) == ("a.txt", 6, 64)
    assert [file.name for file in find_files("here", ["memory://corpus/**/*.txt"])] == ["a.txt", "sub/b.txt"]
    before = state_of(found)
    with fsspec.open("memory://corpus/a.txt", "wb") as file:
        file.write(b"longer than before")
    assert state_of(found) != before


def test_a_file_that_is_gone_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"gone\.txt: No such file"):
        digest_of(SourceFile("gone.txt", str(tmp_path / "gone.txt")))
