import json
import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.artifacts import (
    AnnotatedCorpus,
    Manifest,
    RawCorpus,
    Workspace,
    canonical,
    describe,
    fault,
    fingerprint,
    inspect_all,
    read_manifest,
)
from tasks.errors import UserError
from tasks.ledger import Ledger, StageOutcome

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OUTCOME = StageOutcome(Ledger(rows_in=5, rows_out=3, dropped={"short": 2}), figures={"share": 0.6}, notes={"device": "cpu"})


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace").open()


def build(workspace: Workspace, digest: str = "f" * 16) -> Path:
    """A finished artifact of two files."""
    built = workspace.begin("clean", digest, keep=False)
    (built / "notes").mkdir()
    (built / "notes" / "text.txt").write_text("abc")
    pq.write_table(pa.table({"n": [1, 2, 3]}), built / "table.parquet")
    return workspace.publish(describe("clean", digest, {"min": 1}, {"raw": "a" * 16}, built, OUTCOME, 1.5))


def manifest_of(folder: Path) -> Manifest:
    found = read_manifest(folder)
    assert found is not None
    return found


@given(JSON)
def test_canonical_json_reads_back_as_the_same_value(value: object) -> None:
    assert json.loads(canonical(value)) == value  # type: ignore[arg-type]


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical({"b": 1, "a": {"d": 2, "c": 3}}) == canonical({"a": {"c": 3, "d": 2}, "b": 1}) == '{"a":{"c":3,"d":2},"b":1}'


def test_canonical_json_refuses_nan() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical(float("nan"))


def test_fingerprint_depends_on_stage_config_and_inputs() -> None:
    digests = {
        fingerprint("clean", {"min": 1}, {"raw": "a"}),
        fingerprint("other", {"min": 1}, {"raw": "a"}),
        fingerprint("clean", {"min": 2}, {"raw": "a"}),
        fingerprint("clean", {"min": 1.0}, {"raw": "a"}),
        fingerprint("clean", {"min": 1}, {"raw": "b"}),
        fingerprint("clean", {"min": 1}, {"raw": "a", "more": "a"}),
        fingerprint("clean", {"min": 1, "new": None}, {"raw": "a"}),
    }
    assert len(digests) == 7
    assert all(len(digest) == 16 for digest in digests)


def test_published_artifact_is_found_with_all_that_its_manifest_says(workspace: Workspace) -> None:
    folder = build(workspace)
    found = workspace.find(AnnotatedCorpus, "clean", "f" * 16)
    assert found == AnnotatedCorpus(str(folder), "f" * 16, OUTCOME.ledger, OUTCOME.figures, OUTCOME.notes)


def test_manifest_lists_every_file_with_its_rows(workspace: Workspace) -> None:
    manifest = manifest_of(build(workspace))
    assert [(entry.path, entry.rows) for entry in manifest.files] == [("notes/text.txt", -1), ("table.parquet", 3)]
    assert (manifest.config, manifest.inputs) == ({"min": 1}, {"raw": "a" * 16})


def test_unfinished_build_is_no_artifact(workspace: Workspace) -> None:
    (workspace.begin("clean", "f" * 16, keep=False) / "table.parquet").write_text("half")
    assert workspace.find(AnnotatedCorpus, "clean", "f" * 16) is None
    assert inspect_all(workspace) == []


def test_killed_build_is_kept_only_for_a_stage_that_goes_on(workspace: Workspace) -> None:
    (workspace.begin("clean", "f" * 16, keep=False) / "left").write_text("")
    assert (workspace.begin("clean", "f" * 16, keep=True) / "left").exists()
    assert not (workspace.begin("clean", "f" * 16, keep=False) / "left").exists()


def test_publishing_again_replaces_what_was_there(workspace: Workspace) -> None:
    folder = build(workspace)
    (folder / "stray").write_text("")
    assert build(workspace) == folder
    assert not (folder / "stray").exists()


def test_discarded_artifact_is_gone(workspace: Workspace) -> None:
    folder = build(workspace)
    workspace.discard("clean", "f" * 16)
    assert not folder.exists()
    workspace.discard("clean", "f" * 16)


@pytest.mark.parametrize("thorough", [False, True])
def test_sound_artifact_has_no_fault(workspace: Workspace, thorough: bool) -> None:
    folder = build(workspace)
    assert fault(folder, manifest_of(folder), thorough) is None


def test_missing_longer_and_altered_files_are_faults(workspace: Workspace) -> None:
    folder = build(workspace)
    manifest, text = manifest_of(folder), folder / "notes" / "text.txt"
    text.write_text("abcd")
    assert fault(folder, manifest) == f"{text} has 4 bytes, expected 3"
    text.write_text("abd")
    os.utime(text, ns=(0, 0))
    assert fault(folder, manifest) == f"{text} was altered after it was written (another SHA-256)"
    text.unlink()
    assert fault(folder, manifest) == f"{text} is missing"


def test_file_that_was_only_touched_is_sound(workspace: Workspace) -> None:
    folder = build(workspace)
    os.utime(folder / "table.parquet", ns=(0, 0))
    assert fault(folder, manifest_of(folder)) is None


def test_byte_altered_under_an_unchanged_time_is_found_by_a_thorough_look(workspace: Workspace) -> None:
    folder = build(workspace)
    text, manifest = folder / "notes" / "text.txt", manifest_of(folder)
    text.write_text("abd")
    os.utime(text, ns=(0, manifest.files[0].modified))
    assert fault(folder, manifest) is None
    assert [found.problem for found in inspect_all(workspace)] == [fault(folder, manifest, thorough=True)]


@pytest.mark.parametrize("text", ["", '{"format": 1, "sta', "\x00"])
def test_torn_manifest_counts_as_unfinished(workspace: Workspace, text: str) -> None:
    folder = build(workspace)
    (folder / "manifest.json").write_text(text)
    assert read_manifest(folder) is None


@pytest.mark.parametrize("text", ['{"format": 2}', "{}", "[1]", "3"])
def test_manifest_of_another_version_is_refused(workspace: Workspace, text: str) -> None:
    folder = build(workspace)
    (folder / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json: written by another version .* expected 1"):
        read_manifest(folder)


def test_lost_row_is_caught_before_the_artifact_is_published(workspace: Workspace) -> None:
    built = workspace.begin("clean", "f" * 16, keep=False)
    lost = replace(OUTCOME, ledger=Ledger(rows_in=6, rows_out=3, dropped={"short": 2}))
    with pytest.raises(AssertionError, match="clean: 6 rows in, but 3 out and 2 dropped"):
        describe("clean", "f" * 16, {}, {}, built, lost, 1.0)


def test_lost_bytes_are_caught() -> None:
    Ledger(bytes_in=10, bytes_out=6, dropped_bytes={"short": 3}, repaired_bytes=1).check("clean")
    with pytest.raises(AssertionError, match="10 bytes in, but 6 out, 3 dropped, 0 taken off"):
        Ledger(bytes_in=10, bytes_out=6, dropped_bytes={"short": 3}).check("clean")


def test_workspace_is_made_for_its_owners_eyes_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        root = Workspace(tmp_path / "new").open().root
    finally:
        os.umask(before)
    assert oct(root.stat().st_mode & 0o777) == "0o700"


def test_workspace_opens_again_and_keeps_what_it_holds(workspace: Workspace) -> None:
    build(workspace)
    assert Workspace(workspace.root).open().find(RawCorpus, "clean", "f" * 16) is not None


@pytest.mark.parametrize(("text", "message"), [('{"format": 2}', "format 2, expected 1"), ("{", "not JSON"), ("[]", "workspace.json")])
def test_workspace_that_is_not_ours_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "workspace.json").write_text(text)
    with pytest.raises(UserError, match=message):
        Workspace(tmp_path).open()


def test_file_in_place_of_a_workspace_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="--workspace DIR"):
        Workspace(tmp_path / "taken").open()
