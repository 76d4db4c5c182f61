"""Evaluation of any model on a suite: a run id, a registry name, an artifact or a Hugging Face folder."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from flows.recipe_file import checked, read_recipe
from flows.runner.summaries import flattened
from tasks.artifacts import Workspace
from tasks.contracts import check_table
from tasks.evaluate.evaluate import EvaluateConfig, score_model
from tasks.export.model_card import find_artifact, read_origin
from tasks.inference.saved_models import resolve_model
from tasks.lineage.holdout import judged_apart
from tasks.scores import OWN, ScoreRow, read_scores
from tasks.settings import identity
from tasks.tracking.address import require_answer, tracking_address
from tasks.tracking.journal import Journal, start_sender


def score(model: str, suite: str, overrides: Sequence[str], workspace: Path) -> list[ScoreRow]:
    """The rows of the score table; figures also go to the MLflow experiment `evaluate`, one run per call."""
    config = checked(EvaluateConfig, read_recipe(suite, overrides, "suite"))
    opened = Workspace(workspace).open()
    address = tracking_address(None, opened)
    require_answer(address)
    folder = resolve_model(model, opened, address)
    config = judged_apart(config, model, read_origin(find_artifact(folder, opened)).lineage)
    journal = Journal(opened.root / "journal", "evaluate", f"{model} on {config.suite}", {"wordmill.model": model})
    sender = start_sender(opened.root / "journal", address, opened.root / "mlartifacts")
    journal.params(journal.run, {"model": model, "folder": str(folder), **flattened(identity(config))})
    status = "FAILED"
    try:
        with TemporaryDirectory(prefix="wordmill-") as out:
            score_model(config, folder, Path(out))
            check_table("Scores", Path(out) / "scores.parquet")
            rows = read_scores(Path(out))
        own = {f"{row.task}.{row.metric}": row.value for row in rows if row.model == OWN}
        journal.metrics(journal.run, own)
        status = "FINISHED"
    finally:
        journal.end(journal.run, status)
        journal.close()
        sender.drain(journal.path)
    return rows
