"""Waiting registrations are carried out by the next run, for its own registry, and wait on where they cannot be."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Lock

import pytest

from flows.runner.waiting import KINDS, given_of, register_one, register_waiting
from flows.stages import Given
from tasks.artifacts import GateDecision, PretrainedModel, Scores, Workspace, describe
from tasks.errors import UserError
from tasks.ledger import StageOutcome
from tasks.promotion.champion import Registry
from tasks.promotion.waiting import Waiting, read_waiting, write_waiting
from tasks.tracking.patience import RegistryAway

HERE = "http://here:5000"
REGISTRY = Registry(HERE, "run", {}, Lock())


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace").open()


def artifact(workspace: Workspace, stage: str, fingerprint: str) -> str:
    built = workspace.begin(stage, fingerprint, keep=False)
    (built / "file").write_text(stage)
    return str(workspace.publish(describe(stage, fingerprint, {}, {}, built, StageOutcome(), 1.0)))


@pytest.fixture
def note(workspace: Workspace) -> Waiting:
    """A model that waits for HERE."""
    stages = {"model": "pretrain", "scores": "evaluate", "decision": "gate", "report": "report"}
    inputs = {name: artifact(workspace, stage, 4 * stage[0] + 12 * "0") for name, stage in stages.items()}
    waiting = Waiting("pppp" + 12 * "0", "aaaa", "register: base", "{}", inputs, HERE + "/", "2026-01-02T00:00:00+00:00", "away")
    write_waiting(workspace, waiting)
    return waiting


def taken(asked: list[str]) -> Callable[[str, Given, Path, Registry], StageOutcome]:
    """A registration that is taken, and told by the model's fingerprint."""

    def carry(config: str, given: Given, out: Path, registry: Registry) -> StageOutcome:
        assert out.is_dir()
        asked.append(given.one("model", PretrainedModel).fingerprint)
        return StageOutcome(notes={"name": "mill", "version": "3", "why": "better"})

    return carry


def test_what_waits_for_this_registry_is_registered_and_waits_no_longer(
    workspace: Workspace, note: Waiting, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "wordmill")
    elsewhere = replace(note, stage="bbbb", address="http://elsewhere:5000")
    write_waiting(workspace, elsewhere)
    asked: list[str] = []
    register_waiting(workspace, HERE, lambda: REGISTRY, taken(asked))
    assert asked == [note.fingerprint]
    assert read_waiting(workspace) == (elsewhere,)
    assert "register: mill had waited since 2026-01-02T00:00:00+00:00: version 3, better" in caplog.text


@pytest.mark.parametrize("fault", [RegistryAway("away again", HERE), UserError("refused: its name")])
def test_what_cannot_be_registered_now_is_told_waits_on_and_stops_no_run(
    workspace: Workspace, note: Waiting, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def carry(config: str, given: Given, out: Path, registry: Registry) -> StageOutcome:
        raise fault

    register_waiting(workspace, HERE, lambda: REGISTRY, carry)
    assert read_waiting(workspace) == (note,)
    assert f"register: base of model {note.fingerprint} waits on: {fault}" in caplog.text


def test_run_of_a_workspace_where_nothing_waits_asks_for_no_registry(workspace: Workspace) -> None:
    def never() -> Registry:
        raise AssertionError("asked for")

    register_waiting(workspace, HERE, never)


def test_registration_reads_what_its_stage_read(note: Waiting) -> None:
    given = given_of(note)
    assert given.one("model", PretrainedModel).folder == note.inputs["model"]
    assert given.one("scores", Scores).fingerprint == "eeee" + 12 * "0"
    assert given.maybe("decision", GateDecision) is not None
    assert given.inputs["examples"] is None
    assert set(KINDS) >= {"pretrain", "finetune", "head", "evaluate", "examples", "memory", "gate", "report"}


def test_artifact_that_is_gone_is_named_and_its_note_is_kept(workspace: Workspace, note: Waiting) -> None:
    workspace.discard("gate", "gggg" + 12 * "0")
    with pytest.raises(UserError, match=r"gate/gggg0+: gone, or not whole\. Fix: put it back"):
        register_one(workspace, note, REGISTRY, taken([]))
    assert read_waiting(workspace) == (note,)


def test_settings_that_are_not_whole_are_told(workspace: Workspace, note: Waiting) -> None:
    with pytest.raises(
        UserError, match=r"the settings of its registration are not whole \(contest: Field required\)\. Fix: run again the recipe"
    ):
        register_one(workspace, note, REGISTRY)
