"""Artifacts whose files were deleted, altered or moved: found, said, and built again with nothing else."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.flows.conftest import Built, Done, Mill

Command = Callable[..., "Done"]


def alter(path: Path) -> None:
    """Another byte in the middle, the same size."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture
def documents(workspace: Path, built: "Built") -> Path:
    """A table of the cleaned corpus, in the copy."""
    return next((workspace / "annotate" / built.stage("annotate")["fingerprint"]).glob("documents-*.parquet"))


@pytest.fixture
def vocabulary(workspace: Path, built: "Built") -> Path:
    return workspace / "tokenizer" / built.stage("tokenizer")["fingerprint"] / "tokenizer.json"


def test_next_run_names_damaged_files_and_builds_only_their_artifacts(
    mill: "Mill", recipe: Path, workspace: Path, documents: Path, vocabulary: Path
) -> None:
    alter(documents)
    vocabulary.unlink()
    done = mill.run(recipe, workspace)
    ran = {stage["stage"] for stage in done.document()["stages"] if stage["status"] == "ran"}
    assert ran == {"annotate", "tokenizer"}
    assert f"annotate: {documents} was altered after it was written (another SHA-256); it is built again" in done.err
    assert f"tokenizer: {vocabulary} is missing; it is built again" in done.err
    assert vocabulary.exists()


def test_verify_passes_a_sound_workspace(command: Command, built: "Built") -> None:
    done = command("verify", "--workspace", str(built.workspace))
    assert (done.code, done.out) == (0, "25 artifacts, 0 with faults\n")


def test_verify_finds_an_altered_byte_under_an_unchanged_time(command: Command, workspace: Path, documents: Path) -> None:
    before = documents.stat()
    alter(documents)
    os.utime(documents, ns=(before.st_atime_ns, before.st_mtime_ns))
    done = command("verify", "--workspace", str(workspace))
    assert done.code == 2
    assert f"FAIL {documents} was altered" in done.out


def test_verify_names_a_deleted_file(command: Command, workspace: Path, vocabulary: Path) -> None:
    vocabulary.unlink()
    done = command("verify", "--workspace", str(workspace), "--json")
    assert done.code == 2
    assert f"{vocabulary} is missing" in done.out


def test_workspace_that_was_moved_is_used_where_it_is_now(mill: "Mill", recipe: Path, workspace: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.move(workspace, moved)
    workspace.mkdir()
    done = mill.run(recipe, moved, "evaluate.max_documents=3", "finetune=[]").document()
    ran = {stage["stage"] for stage in done["stages"] if stage["status"] == "ran"}
    assert ran == {"evaluate: base", "gate: base", "report", "register: base"}
    assert done["report"].startswith(str(moved))
