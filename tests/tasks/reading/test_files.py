"""Finding files: names that depend on the recipe alone, each file once, no circle without end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import UserError
from tasks.reading.files import SourceFile, digest_of, find_files, left_aside, list_files, state_of
from tasks.reading.listing import pattern_regex


def names(*patterns: Path) -> list[str]:
    return [file.name for file in list_files("here", [str(pattern) for pattern in patterns]).files if not file.fault]


def faults(*patterns: Path) -> list[tuple[str, str]]:
    return [(file.name, file.fault) for file in list_files("here", [str(pattern) for pattern in patterns]).files if file.fault]


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


def passed_over(*patterns: Path) -> list[tuple[str, str]]:
    found = list_files("here", [str(pattern) for pattern in patterns]).passed_over
    return [(one.kind, Path(one.url).name) for one in found]


def test_what_a_folder_holds_beside_files_is_named(tmp_path: Path):
    grow(tmp_path, "a.txt", "more/b.txt", ".hidden")
    os.symlink("/nowhere/c.txt", tmp_path / "c.txt")
    os.symlink("loop", tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    expected = [("c.txt", "dangling_link"), ("loop", "dangling_link"), ("more", "subfolder"), ("pipe", "special_file")]
    assert names(tmp_path) == names(tmp_path / "*") == ["a.txt"]
    assert faults(tmp_path) == faults(tmp_path / "*") == expected
    assert passed_over(tmp_path) == passed_over(tmp_path / "*") == [("hidden", ".hidden")]
    assert faults(tmp_path / "**" / "*.txt") == faults(tmp_path / "c.txt") == [("c.txt", "dangling_link")]
    assert faults(tmp_path, tmp_path / "more") == [entry for entry in expected if entry[0] != "more"]
    told = left_aside(list_files("here", [str(tmp_path)]))
    assert told[1] == "subfolders left out (a path that ends in /** reads them too): 1 (more/ with 1 file)"
    assert [line.partition(" (")[0] for line in (told[0], told[2])] == ["names of what is no file: 3", "hidden names left out: 1"]
    with pytest.raises(UserError, match=r"here: .*c\.txt \(and 3 more like it\): a link to /nowhere/c\.txt; expected a file"):
        find_files("here", [str(tmp_path)])


def test_links_that_may_lead_to_folders_and_second_names_are_passed_over_by_name(tmp_path: Path):
    grow(tmp_path, "a/x.txt", "a/.git/config")
    os.symlink("/nowhere", tmp_path / "disk")
    os.symlink("x.txt", tmp_path / "a" / "y.txt")
    assert names(tmp_path / "*" / "*.txt") == ["a/x.txt"]
    assert passed_over(tmp_path / "*" / "*.txt") == [("broken link", "disk"), ("second name", "y.txt")]
    assert passed_over(tmp_path / "**" / "*.txt") == [("broken link", "disk"), ("hidden", ".git"), ("second name", "y.txt")]


def test_a_name_that_is_there_as_written_is_no_wildcard(tmp_path: Path):
    grow(tmp_path, "[ab]/1.txt", "[cd]/2.txt", "q?.txt", "plain/3.txt")
    assert names(tmp_path / "[ab]" / "*.txt") == ["1.txt"]
    assert names(tmp_path / "[cd]" / "**" / "*.txt") == ["2.txt"]
    assert names(tmp_path / "q?.txt") == ["q?.txt"]
    assert names(tmp_path / "*" / "*.txt") == ["[ab]/1.txt", "[cd]/2.txt", "plain/3.txt"]
    grow(tmp_path, "a/4.txt", "qs.txt")
    for pattern, other, spelled in (("[ab]/*.txt", "a", "[[]ab]"), ("q?.txt", "qs.txt", "q[?].txt")):
        with pytest.raises(UserError) as refused:
            names(tmp_path / pattern)
        assert f"as a wildcard it stands for {other} too. Fix: write {spelled} for" in str(refused.value)
    assert names(tmp_path / "[[]ab]" / "*.txt") == ["[ab]/1.txt"]
    assert names(tmp_path / "q[?].txt") == ["q?.txt"]


def test_a_folder_that_may_not_be_listed_is_a_refusal():
    """As another user where the tests run as root, who may list everything."""
    program = """
import os, pathlib, sys, tempfile
from tasks.errors import UserError
from tasks.reading.files import list_files
top = pathlib.Path(tempfile.mkdtemp())
(top / "shut").mkdir()
(top / "shut" / "b.txt").write_text("b")
(top / "a.txt").write_text("a")
(top / "shut").chmod(0)
top.chmod(0o755)
if os.geteuid() == 0:
    os.seteuid(65534)
for pattern in ("**/*.txt", "*/*.txt", "shut", "shut/b.txt"):
    try:
        print(list_files("here", [str(top / pattern)]).files)
    except UserError as error:
        print(error)
if os.getuid() == 0:
    os.seteuid(0)
(top / "shut").chmod(0o755)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(said) == 4
    assert all("Permission denied" in line and "/shut" in line and "Fix: " in line for line in said)


def test_names_of_any_bytes_and_of_both_forms_of_a_letter_are_files_of_their_own(tmp_path: Path):
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    grow(tmp_path, "caf\u00e9.txt", "cafe\u0301.txt", "id")
    assert sorted(names(tmp_path)) == sorted(["cafe\u0301.txt", "caf\u00e9.txt", "caf\\udce9.txt", "id"])
    (tmp_path / "caf\u00e9.txt").unlink()
    with pytest.raises(UserError, match="holds a name that looks the same"):
        names(tmp_path / "caf\u00e9.txt")


def test_signs_that_mean_something_in_addresses_mean_nothing_in_names(tmp_path: Path):
    for name in ("a#b.txt", "a%20b.txt", "a b.txt", "a;b&c.txt", "~a.txt"):
        grow(tmp_path, name)
        assert names(tmp_path / name) == [name]


def test_a_home_of_nobody_is_a_message():
    with pytest.raises(UserError, match=r"here: '~nosuchuser/x': ~nosuchuser is no user of this machine\. Fix: "):
        find_files("here", ["~nosuchuser/x"])


@pytest.mark.parametrize(
    ("path", "found"),
    [("a\0b", "a null character"), ("x" * 300 + "/*.txt", "a name of 300 bytes, expected 255 at most"), ("\ud800/a", "half")],
)
def test_what_no_file_can_be_called_is_told(path: str, found: str):
    with pytest.raises(UserError, match=found + ".* Fix: correct the path"):
        find_files("here", [path])


@pytest.mark.parametrize(
    "url", ["s3://bucket/*.txt", "s3://Bad_Bucket!/x", "http://127.0.0.1:9/x.txt", "nosuch://x/y", "hf://", "reference://x", "dir://x"]
)
def test_a_service_that_refuses_is_a_message_with_its_address(url: str, monkeypatch: pytest.MonkeyPatch):
    import s3fs

    settings = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_CONFIG_FILE": "/nowhere"}
    for name, value in {**settings, "AWS_SHARED_CREDENTIALS_FILE": "/nowhere"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(UserError) as refused:
        find_files("here", [url])
    assert str(refused.value).startswith(f"here: {url}: ")
    assert "Fix: " in str(refused.value)
