"""A source that is not what it was when a stage was identified must never be kept under that identity."""

from pathlib import Path

import pytest

from flows.recipe import CorpusRecipe, check_sources
from flows.runner.execution import check_unchanged
from flows.stages import INGEST, identify
from tasks.artifacts import Workspace
from tasks.corpus.ingest import IngestConfig
from tasks.errors import UserError


def config(path: Path) -> IngestConfig:
    source = {"name": "notes", "kind": "text", "paths": [str(path)]}
    return IngestConfig.model_validate({"sources": [source]})


def test_a_file_that_changed_meanwhile_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    found = identify(INGEST, config(tmp_path), {}, "nowhere", Workspace(tmp_path / "w"))
    check_unchanged(INGEST, config(tmp_path), found, Workspace(tmp_path / "w"))
    (tmp_path / "a.txt").write_text("another")
    with pytest.raises(UserError, match=r"ingest: notes/a\.txt changed while the stage was at work"):
        check_unchanged(INGEST, config(tmp_path), found, Workspace(tmp_path / "w"))


def test_a_file_that_came_meanwhile_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    found = identify(INGEST, config(tmp_path), {}, "nowhere", Workspace(tmp_path / "w"))
    (tmp_path / "b.txt").write_text("new")
    with pytest.raises(UserError, match=r"notes/b\.txt changed"):
        check_unchanged(INGEST, config(tmp_path), found, Workspace(tmp_path / "w"))


def test_a_missing_source_is_told_before_anything_starts(tmp_path: Path) -> None:
    sources = {"sources": [{"name": "notes", "kind": "text", "paths": [str(tmp_path / "absent.txt")]}]}
    with pytest.raises(UserError, match=r"absent\.txt"):
        check_sources(CorpusRecipe.model_validate({"makes": "corpus", "name": "x", "ingest": sources}))
