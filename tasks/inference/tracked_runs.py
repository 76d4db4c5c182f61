"""MLflow runs, by the ids that a user may have, and the models that they made."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

MODEL_STAGES = ("pretrain", "head", "finetune", "champion", "base")  # of which a run of several shows the first


def known_run(client: "MlflowClient", run_id: str) -> "Run | None":
    """The run with this MLflow id, or with this key in its journal."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException:
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        found = client.search_runs(experiments, f"tags.`wordmill.key` = '{run_id}'", max_results=1)
        return found[0] if found else None


def models_of(client: "MlflowClient", run: "Run") -> list[str]:
    """Fingerprints of the models that a run, or one of its stages, made or took; the one to show first."""
    children = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
    found: list[str] = []
    for candidate in sorted([run, *children], key=_rank):
        fingerprint = candidate.data.tags.get("wordmill.fingerprint", "")
        if candidate.data.tags.get("wordmill.stage") in MODEL_STAGES and fingerprint:
            found.append(fingerprint)
    return found


def _rank(run: "Run") -> tuple[int, int]:
    stage = run.data.tags.get("wordmill.stage", "")
    return (MODEL_STAGES.index(stage) if stage in MODEL_STAGES else len(MODEL_STAGES), run.info.start_time or 0)
