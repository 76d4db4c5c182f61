"""Runs that are killed, interrupted, or share a workspace."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from mlflow import MlflowClient

from flows.runner.interruption import INTERRUPTED
from model.training.curve import read_curve
from model.training.events import read_events

if TYPE_CHECKING:
    from tests.flows.conftest import Built, Mill

# Steps of many micro-batches, so that there is time to strike between two checkpoints.
LONG = [
    "finetune=[]",
    "pretrain.steps=16",
    "pretrain.batch_tokens=2048",
    "pretrain.micro_rows=1",
    "register.promote=never",
]
ROOT = Path(__file__).parents[2]
CHECKPOINTS = 4  # steps between them
BEFORE_TRAINING = ["ingest", "annotate", "select", "deduplicate", "decontaminate", "tokenizer", "shards"]


def arguments(recipe: Path, workspace: Path, *overrides: str) -> list[str]:
    changes = [part for change in (*LONG, *overrides) for part in ("--set", change)]
    return ["run", str(recipe), "--workspace", str(workspace), "--json", *changes]


def losses(folder: Path) -> list[tuple[float | None, ...]]:
    """Step, loss, gradient norm and validation loss, exactly as they were written."""
    return [(point.step, point.loss, point.gradient_norm, point.validation_loss) for point in read_curve(folder)]


def written_steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "curve.jsonl").read_text().splitlines()]


def model_folder(document: dict, workspace: Path) -> Path:
    return workspace / "pretrain" / next(s["fingerprint"] for s in document["stages"] if s["stage"] == "pretrain")


def run_statuses(workspace: Path) -> list[str]:
    """How MLflow says that the runs of the recipe ended, the first one first."""
    client = MlflowClient(f"sqlite:///{workspace}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    return [run.info.status for run in runs if "mlflow.parentRunId" not in run.data.tags]


def running_in(workspace: Path) -> list[psutil.Process]:
    """Processes with the workspace on their command line: the run, its trainings, its sender."""
    return [p for p in psutil.process_iter(["cmdline"]) if any(str(workspace) in part for part in p.info["cmdline"] or ())]


@pytest.fixture(scope="module")
def whole(mill: "Mill", recipe: Path, built: "Built", tmp_path_factory: pytest.TempPathFactory) -> list[tuple[float | None, ...]]:
    """The losses of the same training, left alone."""
    workspace = Path(shutil.copytree(built.workspace, tmp_path_factory.mktemp("whole") / "workspace"))
    return losses(model_folder(mill(*arguments(recipe, workspace)).document(), workspace))


@pytest.fixture
def training(mill: "Mill", recipe: Path, workspace: Path, wait_until: Callable[..., None]) -> tuple[subprocess.Popen[str], Path]:
    """A run whose training has written its first checkpoint, and the folder that it builds in."""
    process = mill.start(*arguments(recipe, workspace))
    wait_until(lambda: any(workspace.glob("pretrain/*.partial/checkpoints/step-*")), "the first checkpoint", process)
    (folder,) = workspace.glob("pretrain/*.partial")
    return process, folder


def test_killed_training_goes_on_with_the_losses_of_an_uninterrupted_one(
    mill: "Mill",
    recipe: Path,
    workspace: Path,
    whole: list[tuple[float | None, ...]],
    training: tuple[subprocess.Popen[str], Path],
    wait_until: Callable[..., None],
) -> None:
    process, folder = training
    os.killpg(process.pid, signal.SIGKILL)
    for one in running_in(workspace):  # its training too, which would save when it is left alone
        one.kill()
    process.communicate()
    wait_until(lambda: not running_in(workspace), "the end of what the killed run had started")
    written = len(written_steps(folder))
    done = mill(*arguments(recipe, workspace)).document()
    status = {stage["stage"]: stage["status"] for stage in done["stages"]}
    assert {status[label] for label in BEFORE_TRAINING} == {"cached"}
    assert status["pretrain"] == "ran"
    finished = model_folder(done, workspace)
    first = written_steps(finished)[written]
    assert first > CHECKPOINTS
    assert first % CHECKPOINTS == 1
    assert losses(finished) == whole
    assert run_statuses(workspace) == ["FINISHED", "KILLED", "FINISHED"]


def interrupt_the_run(process: subprocess.Popen[str]) -> None:
    """As a terminal does for Ctrl-C."""
    os.killpg(process.pid, signal.SIGINT)


def terminate_the_training(process: subprocess.Popen[str]) -> None:
    """As `kill` does, to the training's process alone."""
    (child,) = [one for one in psutil.Process(process.pid).children() if "tasks.training_process" in one.cmdline()]
    child.terminate()


@pytest.mark.parametrize(
    ("strike", "said"),
    [(interrupt_the_run, "Stopping what is at work"), (terminate_the_training, "pretrain: stopped at step")],
    ids=["ctrl-c", "training alone"],
)
def test_interrupted_run_ends_with_130_leaves_no_process_and_goes_on_without_a_step_taken_twice(
    mill: "Mill",
    recipe: Path,
    workspace: Path,
    whole: list[tuple[float | None, ...]],
    training: tuple[subprocess.Popen[str], Path],
    wait_until: Callable[..., None],
    strike: Callable[[subprocess.Popen[str]], None],
    said: str,
) -> None:
    process, _ = training
    strike(process)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), err
    assert "Interrupted" in err
    assert said in err
    assert "Traceback" not in err
    wait_until(lambda: not running_in(workspace), "the end of what the interrupted run had started")
    done = mill(*arguments(recipe, workspace)).document()
    folder = model_folder(done, workspace)
    assert losses(folder) == whole
    assert len(written_steps(folder)) == len(whole)
    assert run_statuses(workspace) == ["FINISHED", "KILLED", "FINISHED"]


def test_run_that_is_asked_to_save_has_its_training_save_and_goes_on(
    training: tuple[subprocess.Popen[str], Path], workspace: Path, whole: list[tuple[float | None, ...]]
) -> None:
    process, _ = training
    process.send_signal(signal.SIGUSR1)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    folder = model_folder(json.loads(out), workspace)
    saved = [event.step for event in read_events(folder) if event.kind == "saved"]
    assert [step for step in saved if step % CHECKPOINTS]
    assert losses(folder) == whole


@pytest.mark.parametrize(("send", "number"), [(os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM)], ids=["ctrl-c", "SIGTERM"])
def test_run_that_has_its_own_server_and_has_used_polars_ends_in_seconds_with_a_word_and_leaves_no_process(
    mill: "Mill",
    recipe: Path,
    workspace: Path,
    wait_until: Callable[..., None],
    send: Callable[[int, signal.Signals], None],
    number: signal.Signals,
) -> None:
    """Polars installs a handler of SIGINT that restarts waits; the stage `examples` loads it in the run's own process.

    A terminal sends Ctrl-C to the temporary server too, whose clients then wait for it.
    """
    environment = {name: value for name, value in mill.environment.items() if name != "PREFECT_API_URL"}
    alone = type(mill)(environment)
    process = alone.start(*arguments(recipe, workspace, "heldout.share=0.35", "pretrain.steps=4000"))
    wait_until(lambda: any(workspace.glob("pretrain/*.partial/checkpoints/step-*")), "the first checkpoint", process)
    family = psutil.Process(process.pid).children(recursive=True)
    assert any("uvicorn" in " ".join(member.cmdline()) for member in family)
    send(process.pid, number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, ""), err
    said = [line for line in err.splitlines() if line]
    assert said[-2:] == ["Stopping what is at work.", INTERRUPTED]
    wait_until(lambda: not any(member.is_running() for member in family), "the end of what the run had started")


LEAVE_TWICE = """
import os, time
from flows.runner import interruption
leave_now = os._exit
os._exit = lambda code: (time.sleep(0.5), leave_now(code))  # a process that takes its time to end
interruption.leave_soon(0.1)
interruption.leave()
"""


def test_interruption_is_told_once_when_command_and_timer_end_the_process_together() -> None:
    done = subprocess.run([sys.executable, "-c", LEAVE_TWICE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.split("\n")) == (130, ["", INTERRUPTED, ""])


def test_two_runs_at_once_build_each_artifact_once(mill: "Mill", recipe: Path, tmp_path: Path) -> None:
    command = [
        "run",
        str(recipe),
        "--workspace",
        str(tmp_path / "shared"),
        "--json",
        "--set",
        "finetune=[]",
        "--set",
        "examples=[]",
    ]
    with ThreadPoolExecutor(2) as pool:
        documents = [done.document() for done in pool.map(lambda _: mill(*command), range(2))]
    first, second = ({stage["stage"]: (stage["status"], stage["fingerprint"]) for stage in d["stages"]} for d in documents)
    assert {label: digest for label, (_, digest) in first.items()} == {label: digest for label, (_, digest) in second.items()}
    both = {label: sorted((first[label][0], second[label][0])) for label in first}
    assert [label for label, found in both.items() if found != ["cached", "ran"]] == []
