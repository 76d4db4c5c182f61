"""A whole run: what it leaves in the workspace, in MLflow and in Prefect; and what a second one finds."""

from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, TaskRunFilter

from tasks.report.reasons import reason_text

if TYPE_CHECKING:
    from tests.flows.conftest import Built, Mill

STAGES = [
    "ingest",
    "annotate",
    "select",
    "deduplicate",
    "examples: topics",
    "examples: answers",
    "decontaminate",
    "tokenizer",
    "shards",
    "pretrain",
    "evaluate: base",
    "memory: base",
    "finetune: topics",
    "finetune: answers",
    "evaluate: topics",
    "memory: topics",
    "evaluate: answers",
    "memory: answers",
    "gate: base",
    "gate: topics",
    "gate: answers",
    "report",
    "register: base",
    "register: topics",
    "register: answers",
]
CORPUS_STAGES = [
    "ingest",
    "annotate",
    "select",
    "deduplicate",
    "decontaminate",
    "examples: topics",
    "examples: answers",
]


@pytest.fixture(scope="module")
def client(built: "Built") -> MlflowClient:
    uri = f"sqlite:///{built.workspace}/mlflow.db"
    return MlflowClient(uri, uri)


@pytest.fixture(scope="module")
def parent(client: MlflowClient) -> Run:
    """The MLflow run of the flow run."""
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    (found,) = [run for run in client.search_runs([experiment.experiment_id]) if "mlflow.parentRunId" not in run.data.tags]
    return found


@pytest.fixture(scope="module")
def children(client: MlflowClient, parent: Run) -> dict[str, Run]:
    """The MLflow runs of the stages, by label."""
    found = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert len(found) == len({run.info.run_name for run in found})
    return {run.info.run_name: run for run in found}


def test_every_stage_of_the_recipe_runs(built: "Built") -> None:
    assert [(stage["stage"], stage["status"]) for stage in built.document["stages"]] == [(name, "ran") for name in STAGES]


@pytest.mark.parametrize("label", CORPUS_STAGES)
def test_rows_that_went_in_came_out_or_were_dropped_for_a_reason(built: "Built", label: str) -> None:
    stage = built.stage(label)
    assert stage["rows_in"] == stage["rows_out"] + sum(stage["dropped"].values()) > 0


def test_planted_copies_and_too_short_documents_are_counted_as_dropped(built: "Built") -> None:
    assert built.stage("select")["dropped"] == {"min_chars": 2}
    assert built.stage("deduplicate")["dropped"] == {"exact_copy": 3}


def test_report_is_written(built: "Built") -> None:
    page = Path(built.document["report"]).read_text(encoding="utf-8")
    assert "<html" in page
    assert reason_text("min_chars") in page


def test_stderr_has_one_line_for_each_stage(built: "Built") -> None:
    lines = built.err.splitlines()
    assert sorted(STAGES) == sorted(label for label in STAGES for line in lines if line.startswith(f"{label}: "))


def test_registered_models_lead_back_to_their_artifact(built: "Built", client: MlflowClient) -> None:
    names = {"tiny": "pretrain", "tiny-topics": "finetune: topics", "tiny-answers": "finetune: answers"}
    for name, label in names.items():
        version = client.get_model_version_by_alias(name, "champion")
        assert version.tags["wordmill.artifact"] == str(built.folder(label))
        assert version.tags["wordmill.fingerprint"] == built.stage(label)["fingerprint"]


def test_registered_model_names_the_flow_run_of_prefect(client: MlflowClient, prefect_api: str) -> None:
    version = client.get_model_version_by_alias("tiny", "champion")
    with SyncPrefectClient(prefect_api) as prefect:
        flow_run = prefect.read_flow_run(UUID(version.tags["prefect.flow_run_id"]))
    assert flow_run.state is not None
    assert flow_run.state.is_completed()


def test_prefect_has_one_task_run_for_each_stage(parent: Run, prefect_api: str) -> None:
    flow_run = UUID(parent.data.tags["prefect.flow_run_id"])
    with SyncPrefectClient(prefect_api) as prefect:
        found = prefect.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run])), task_run_filter=TaskRunFilter(), limit=200
        )
    assert sorted(run.name for run in found) == sorted(STAGES)
    assert all(run.state is not None and run.state.is_completed() for run in found)


def test_mlflow_has_one_child_run_for_each_stage(children: dict[str, Run], parent: Run) -> None:
    assert sorted(children) == sorted(STAGES)
    assert {run.info.status for run in [parent, *children.values()]} == {"FINISHED"}


def test_training_loss_is_logged_at_every_step(client: MlflowClient, children: dict[str, Run]) -> None:
    points = client.get_metric_history(children["pretrain"].info.run_id, "loss")
    assert sorted({point.step for point in points} - {0}) == list(range(1, 9))


def test_recipe_is_logged_as_flat_parameters(parent: Run, children: dict[str, Run]) -> None:
    assert parent.data.params["pretrain.optimizer.learning_rate"] == "0.003"
    assert parent.data.params["finetune.1.name"] == "answers"
    assert children["tokenizer"].data.params["vocab_size"] == "320"


def test_stages_are_logged_with_the_fingerprints_of_what_they_read(built: "Built", children: dict[str, Run]) -> None:
    inputs = {entry.dataset.name: entry.dataset.digest for entry in children["shards"].inputs.dataset_inputs}
    assert inputs == {name: built.stage(label)["fingerprint"] for name, label in (("corpus", "decontaminate"), ("tokenizer", "tokenizer"))}


def test_sources_are_logged_with_their_content_digest(children: dict[str, Run]) -> None:
    inputs = {entry.dataset.name: entry.dataset.digest for entry in children["ingest"].inputs.dataset_inputs}
    assert any("stories" in name for name in inputs)
    assert all(len(digest) >= 16 for digest in inputs.values())


def test_ledger_is_logged_as_metrics(children: dict[str, Run]) -> None:
    metrics = children["deduplicate"].data.metrics
    assert (metrics["rows_in"], metrics["rows_out"], metrics["dropped.exact-copy"]) == (51, 48, 3)


def test_second_run_of_a_recipe_builds_nothing(mill: "Mill", recipe: Path, workspace: Path, built: "Built") -> None:
    again = mill.run(recipe, workspace).document()
    assert [(stage["stage"], stage["status"]) for stage in again["stages"]] == [(name, "cached") for name in STAGES]
    assert [stage["fingerprint"] for stage in again["stages"]] == [stage["fingerprint"] for stage in built.document["stages"]]
