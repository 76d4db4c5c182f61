"""Searches by `wordmill tune`: trials that fall behind end early, the best becomes a recipe, an interrupted search goes on."""

import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from mlflow import MlflowClient

from flows.dags import load
from flows.recipe_fields import value_at
from tasks.tune.trials import FINAL, TRIALS, EndedReader

if TYPE_CHECKING:
    from mlflow.entities import Run

    from tests.flows.conftest import Built, Mill

COUNT = 4  # trials
OVER_RATES = ["--over", "pretrain.optimizer.learning_rate=1e-7,2e-2,1e38", "--trials", f"{COUNT}", "--minutes", "20", "--json"]
RATE, FINAL_RATE = "pretrain.optimizer.learning_rate", "pretrain.optimizer.final_learning_rate"


@dataclass(frozen=True)
class Searched:
    """A search that was made once; tests read it."""

    workspace: Path
    written: Path
    document: dict
    err: str


@pytest.fixture(scope="module")
def searched(mill: "Mill", recipe: Path, built: "Built", tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """A rate that learns next to nothing, one that destroys the model, and a better one, beside the recipe's, whose run is known."""
    folder = tmp_path_factory.mktemp("searched")
    workspace = Path(shutil.copytree(built.workspace, folder / "workspace"))
    done = mill("tune", str(recipe), "--workspace", str(workspace), *OVER_RATES, "--write", str(folder / "best.yaml"))
    return Searched(workspace, folder / "best.yaml", done.document(), done.err)


def test_trials_that_fall_behind_are_ended_early(searched: Searched) -> None:
    trials = searched.document["trials"]
    assert trials[0]["values"] == {RATE: 0.003}
    assert trials[0]["told"] == "made by a run"
    steps = {"finished": 8, "stopped early": 4, "failed": 0}
    assert {trial["ended"] for trial in trials} == set(steps)
    assert [trial["step"] for trial in trials] == [steps[trial["ended"]] for trial in trials]
    assert [trial["values"][RATE] for trial in trials if trial["trial"] == searched.document["best"]] == [0.02]


def test_trial_that_fails_is_told_and_ends_no_other(searched: Searched) -> None:
    (failed,) = [trial for trial in searched.document["trials"] if trial["ended"] == "failed"]
    assert failed["values"] == {RATE: 1e38}
    assert "learning_rate" in failed["told"]
    assert failed["told"] in searched.err


def test_recipe_that_is_written_differs_in_the_fields_alone(searched: Searched, recipe: Path) -> None:
    before, after = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in (recipe, searched.written))
    assert value_at(after, RATE) == 0.02
    assert value_at(after, FINAL_RATE) == pytest.approx(0.02 * 1e-4 / 3e-3, rel=0.01)
    after["pretrain"]["optimizer"] = before["pretrain"]["optimizer"]
    assert after == before
    load(str(searched.written))
    assert searched.document["diff"].count("\n+") == 2  # the file's name, and the line of the optimizer
    assert searched.document["next"].startswith(f"wordmill run {searched.written} ")


def runs_of(workspace: Path) -> "tuple[Run, list[Run]]":
    """The search in MLflow, and its trials."""
    client = MlflowClient(f"sqlite:///{workspace}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], "tags.`wordmill.flow` = 'tune'", order_by=["attributes.start_time DESC"])[:1]
    children = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    return parent, sorted(children, key=lambda run: int(run.data.tags["wordmill.trial"]))


def test_each_trial_is_a_child_run_with_its_values_and_its_curve(searched: Searched) -> None:
    parent, children = runs_of(searched.workspace)
    assert parent.info.status == "FINISHED"
    assert [run.info.run_name for run in children] == [f"trial {number}" for number in range(1, COUNT + 1)]
    assert {run.data.tags["wordmill.ended"]: run.info.status for run in children} == {
        "finished": "FINISHED",
        "stopped early": "FINISHED",
        "failed": "FAILED",
    }
    client = MlflowClient(f"sqlite:///{searched.workspace}/mlflow.db")
    for run, trial in zip(children, searched.document["trials"], strict=True):
        assert float(run.data.params[RATE]) == trial["values"][RATE]
        assert run.data.tags["wordmill.ended"] == trial["ended"]
        curve = client.get_metric_history(run.info.run_id, "validation_loss")
        assert [point.step for point in curve] == [step for step in (4, 8) if step <= trial["step"]]
        assert [point.value for point in curve][-1:] == pytest.approx([trial["validation_loss"]] if trial["step"] else [])
    best = searched.document["trials"][searched.document["best"] - 1]
    assert parent.data.metrics["validation_loss"] == pytest.approx(best["validation_loss"])


def test_only_the_best_leaves_its_training_which_the_run_takes_over(searched: Searched) -> None:
    (folder,) = searched.workspace.glob("tune/*")
    assert [path.name for path in folder.iterdir()] == [TRIALS]
    best = searched.document["trials"][searched.document["best"] - 1]["fingerprint"]
    assert [path.stem for path in searched.workspace.glob("pretrain/*.partial")] == [best]
    assert sorted(path.name for path in (searched.workspace / "pretrain" / f"{best}.partial" / "checkpoints").glob("step-*"))[-1].endswith(
        "8"
    )


def test_known_trials_are_not_trained_again_and_more_are_added(searched: Searched, mill: "Mill", recipe: Path, tmp_path: Path) -> None:
    workspace = Path(shutil.copytree(searched.workspace, tmp_path / "workspace"))
    (noted,) = workspace.glob(f"tune/*/{TRIALS}")
    before = noted.read_text()
    written = tmp_path / "best.yaml"
    again = mill("tune", str(recipe), "--workspace", str(workspace), *OVER_RATES, "--write", str(written)).document()
    assert again["trials"] == searched.document["trials"]
    assert noted.read_text() == before


def arguments(recipe: Path, workspace: Path, written: Path) -> list[str]:
    """Steps of many micro-batches, so that there is time to interrupt."""
    changes = ["pretrain.steps=16", "pretrain.batch_tokens=2048", "pretrain.micro_rows=1"]
    sets = [part for change in changes for part in ("--set", change)]
    over = ["--over", "pretrain.seed=1,2,3,4,5", "--trials", "5", "--minutes", "20"]
    return ["tune", str(recipe), "--workspace", str(workspace), *sets, *over, "--write", str(written), "--json"]


def test_interrupted_search_goes_on_and_repeats_no_finished_trial(
    mill: "Mill", recipe: Path, workspace: Path, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    asked = arguments(recipe, workspace, tmp_path / "best.yaml")
    process = mill.start(*asked)
    wait_until(lambda: any(workspace.glob(f"tune/*/{TRIALS}")), "the end of the first trial", process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 130, err[-3000:]
    (folder,) = workspace.glob("tune/*")
    known = [one for one in EndedReader(folder).new_ends() if one.why in FINAL]
    assert 1 <= len(known) < 5
    done = mill(*asked).document()
    assert {trial["ended"] for trial in done["trials"]} <= {"finished", "stopped early"}
    ends = Counter(one.fingerprint for one in EndedReader(folder).new_ends() if one.why in FINAL)
    assert set(ends.values()) == {1}
    assert len(ends) == 5
