"""`wordmill register`: what waits, what was decided on and never registered, and what is missing for all else."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows.commands.register import register_artifact, registered_view
from flows.stages import Given
from tasks.artifacts import GateDecision, ModelMemory, PretrainedModel, Workspace, describe
from tasks.errors import UserError
from tasks.ledger import StageOutcome
from tasks.promotion.champion import Registry
from tasks.promotion.waiting import Waiting, read_waiting, write_waiting
from tasks.settings import Json

MODEL, OTHER = "1111222233334444", "1111aaaabbbbcccc"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Two models, of which one was decided on."""
    workspace = Workspace(tmp_path / "workspace").open()
    artifact(workspace, "pretrain", MODEL)
    artifact(workspace, "pretrain", OTHER)
    artifact(workspace, "memory", "5" * 16, {"model": MODEL})
    artifact(workspace, "gate", "6" * 16, {"model": MODEL, "memory": "5" * 16}, {"name": "mill"})
    return workspace


def artifact(
    workspace: Workspace, stage: str, fingerprint: str, inputs: dict[str, str] | None = None, config: Json = None, **notes: str
) -> Path:
    built = workspace.begin(stage, fingerprint, keep=False)
    (built / "file").write_text(stage)
    return workspace.publish(describe(stage, fingerprint, config, inputs or {}, built, StageOutcome(notes=notes), 1.0))


def address(workspace: Workspace) -> str:
    return f"sqlite:///{workspace.root}/mlflow.db"


def carry(config: str, given: Given, out: Path, registry: Registry) -> StageOutcome:
    """A registration that tells what it was given."""
    run = MlflowClient(registry.uri, registry.uri).get_run(registry.run)
    model, memory, decision = given.one("model", PretrainedModel), given.maybe("memory", ModelMemory), given.maybe("decision", GateDecision)
    found = f"{model.fingerprint} {memory and memory.fingerprint} {decision and decision.fingerprint} in a run that is {run.info.status}"
    return StageOutcome(notes={"name": config, "version": "3", "verdict": "promoted", "why": found, "uri": "models:/mill@champion"})


def test_model_that_waits_is_registered_by_the_start_of_its_fingerprint_or_its_folder(workspace: Workspace) -> None:
    folder = workspace.folder("pretrain", OTHER)
    waiting = Waiting(OTHER, "a" * 16, "gate: base", "settings", {"model": str(folder)}, address(workspace), "2026-01-02", "away")
    for reference in (OTHER[:8], str(folder)):
        write_waiting(workspace, waiting)
        (notes,) = register_artifact(reference, workspace, address(workspace), carry)
        assert (notes["name"], notes["why"]) == ("settings", f"{OTHER} None None in a run that is RUNNING")
        assert read_waiting(workspace) == ()
    client = MlflowClient(address(workspace), address(workspace))
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_model_that_was_decided_on_and_never_registered_is_found_by_its_decision(workspace: Workspace) -> None:
    done = register_artifact(MODEL, workspace, address(workspace), carry)
    assert registered_view(done).startswith(f'{{"name": "mill"}}: version 3, promoted: {MODEL} {"5" * 16} {"6" * 16}')


def test_model_that_is_registered_is_not_registered_again(workspace: Workspace) -> None:
    artifact(workspace, "register", "7" * 16, {"model": MODEL}, name="mill", version="4")
    with pytest.raises(UserError, match=f"{MODEL} is registered already, as mill version 4. .* wordmill champion mill --set 4 --why"):
        register_artifact(MODEL, workspace, address(workspace), carry)


def test_what_is_missing_is_named(workspace: Workspace) -> None:
    with pytest.raises(UserError, match=rf"pretrain {OTHER} was never decided on \(made of it: nothing\)"):
        register_artifact(OTHER, workspace, address(workspace), carry)
    with pytest.raises(UserError, match=f"several models begin so: {MODEL}, {OTHER} in "):
        register_artifact("1111", workspace, address(workspace), carry)
    with pytest.raises(UserError, match="no finished model of that name in .*, where nothing waits"):
        register_artifact("nosuch", workspace, address(workspace), carry)
