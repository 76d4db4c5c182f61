"""Judging: how promotion has models scored, certified and compared, joined from the folders that it may not import."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from flows.recipe_file import checked, read_recipe
from tasks.artifacts import Examples, FinetunedModel, ModelMemory, PretrainedModel, Scores, file_digest
from tasks.errors import UserError
from tasks.evaluate.judging import score_items, score_suite_items
from tasks.evaluate.suite import EvaluateConfig
from tasks.export.export import certify
from tasks.items import Asked
from tasks.ledger import StageOutcome
from tasks.promotion.champion import Registry, find_rival
from tasks.promotion.decision import Decision, read_decision
from tasks.promotion.gate import Contest, gate, record
from tasks.promotion.history import read_history
from tasks.report.decision_page import write_decision_page
from tasks.settings import given_path
from tasks.tracking.patience import Patience

PAGE = "decision.html"


def judge(model: Path, asked: Asked, out: Path) -> None:
    """Items and figures of the model in `out`; a suite is read from its file. UserError where the model cannot be asked."""
    if asked.suite is None:
        score_items(model, asked, out)
    else:
        score_suite_items(suite_of(asked.suite), model, out)


def suite_of(path: str) -> EvaluateConfig:
    """The suite of a YAML file. UserError for what is none."""
    return checked(EvaluateConfig, read_recipe(path, [], "suite"))


def guard_digests(config: Contest) -> dict[str, str]:
    """Content of the suites that guard, to enter the fingerprint. UserError for one that is not there."""
    found: dict[str, str] = {}
    for number, guard in enumerate(config.gate.guards):
        path = given_path(guard.suite)
        if not path.is_file():
            raise UserError(f"gate.guards.{number}.suite: {guard.suite}: no such file, expected a suite's YAML. Fix: correct the path.")
        found[f"guards.{number}"] = file_digest(path)
    return found


@dataclass(frozen=True)
class Challenger:
    """What the gate is given of a model."""

    model: PretrainedModel | FinetunedModel
    scores: Scores
    memory: ModelMemory
    examples: Examples | None
    base: PretrainedModel | None  # that it started from, where it is to be asked too


def decide_on(config: Contest, challenger: Challenger, out: Path, registry: Registry, seconds: float) -> StageOutcome:
    """Hold the challenger against the champion of now; the decision, its table and its page in `out`.

    RegistryAway where MLflow does not answer within `seconds`.
    """
    import mlflow

    client = mlflow.MlflowClient(registry.uri, registry.uri)
    with TemporaryDirectory(prefix="wordmill-", dir=out) as folder:
        rival = find_rival(registry, config.name, Path(folder), seconds)
        entries = Patience(registry.uri, seconds, f"gate: {config.name}").ask(lambda: read_history(client, config.name))
        one, base = challenger, None if challenger.base is None else challenger.base.path / "model"
        decision = gate(config, one.model, one.scores, one.memory, one.examples, out, rival, entries, judge, certify, base)
        outcome = record(decision, out)
    write_decision_page(read_decision(out), out / PAGE)
    return outcome


def decide_again(config: Contest, challenger: Challenger, out: Path, registry: Registry, seconds: float) -> Decision:
    """The same, for one whose rival is champion no longer."""
    decide_on(config, challenger, out, registry, seconds)
    return read_decision(out)
