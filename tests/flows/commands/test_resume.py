"""`wordmill resume`: what it finds, what it refuses, and that a killed training goes on by its fingerprint alone."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from flows.dags import load
from flows.runner.origin import origin_of, write_origin
from model.training.curve import read_curve
from tasks.artifacts import Workspace
from tests.left_trainings import curve_to, leave_training

if TYPE_CHECKING:
    from tests.flows.conftest import Built, Done, Mill

Command = Callable[..., "Done"]
ONE = "1111222233334444"


@pytest.fixture
def workspace_of_one(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace").open()


@pytest.fixture
def resume(command: Command, workspace_of_one: Workspace) -> Command:
    return lambda *arguments: command("resume", *arguments, "--workspace", str(workspace_of_one.root))


@pytest.fixture(autouse=True)
def stays_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command goes where the recipe was run; a test comes back."""
    monkeypatch.chdir(Path.cwd())


def test_finished_training_is_said_to_be_and_how_to_lengthen_it(resume: Command, workspace_of_one: Workspace) -> None:
    leave_training(workspace_of_one, "pretrain", ONE, curve_to(100), (100,), figures={"steps": 100.0})
    done = resume("1111")
    assert done.code == 0
    assert f"pretrain {ONE} is finished: step 100 of 100" in done.out
    assert f"pretrain.start: {{from: {ONE}}}" in done.out
    assert resume("1111", "--json").document()["resumed"] is None


def test_training_that_another_run_is_at_work_on_is_left_alone(resume: Command, workspace_of_one: Workspace) -> None:
    leave_training(workspace_of_one, "pretrain", ONE, curve_to(50), (40,))
    (workspace_of_one.root / "locks").mkdir()
    with FileLock(workspace_of_one.root / "locks" / f"pretrain-{ONE}.lock"):
        told = resume(ONE).refusal()
    assert "is being trained now, by another run: step 50 of 100. Nothing was done" in told


def test_training_whose_checkpoints_are_all_damaged_is_not_begun_anew_unasked(resume: Command, workspace_of_one: Workspace) -> None:
    folder = leave_training(workspace_of_one, "pretrain", ONE, curve_to(50), (40,))
    (folder / "checkpoints" / "step-00000040" / "state.json").unlink()
    told = resume(ONE).refusal()
    assert "none of its checkpoints is whole (step 40: state.json is missing). Nothing was done" in told
    assert "which begins at the first step" in told


def test_training_whose_recipe_was_not_noted_says_what_to_run(resume: Command, workspace_of_one: Workspace) -> None:
    leave_training(workspace_of_one, "pretrain", ONE, curve_to(50), (40,))
    assert f"wordmill run RECIPE --workspace {workspace_of_one.root}" in resume(ONE).refusal()


def test_unknown_training_is_refused(resume: Command) -> None:
    assert "no training of that name" in resume("feedfeed").refusal()


def test_recipe_that_makes_another_training_now_is_not_run(command: Command, recipe: Path, workspace: Path, built: "Built") -> None:
    chosen = Workspace(workspace)
    leave_training(chosen, "pretrain", ONE, curve_to(50), (40,))
    loaded = load(str(recipe), ["pretrain.seed=2"])
    write_origin(chosen, origin_of(loaded.flow, loaded.recipe), "pretrain", ONE, "pretrain")
    told = command("resume", ONE, "--workspace", str(workspace)).refusal()
    assert f"pretrain {ONE}: its recipe would make pretrain " in told
    assert "What differs first: pretrain: pretrain.seed: 1 → 2" in told
    (workspace / "recipes" / f"pretrain-{ONE}.yaml").unlink()
    assert "no such recipe" in command("resume", ONE, "--workspace", str(workspace)).refusal()


def test_folder_in_which_a_recipe_was_run_that_is_gone_is_named(
    command: Command, recipe: Path, workspace_of_one: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_training(workspace_of_one, "pretrain", ONE, curve_to(50), (40,))
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    write_origin(workspace_of_one, origin_of("pretrain", load(str(recipe)).recipe), "pretrain", ONE, "pretrain")
    monkeypatch.chdir(tmp_path)
    gone.rmdir()
    told = command("resume", ONE, "--workspace", str(workspace_of_one.root)).refusal()
    assert f"{gone}: No such file or directory; relative paths of the recipe begin in this folder" in told


def test_killed_training_goes_on_by_its_fingerprint_alone(
    mill: "Mill", recipe: Path, workspace: Path, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(recipe.read_text())
    changes = ("finetune=[]", "pretrain.steps=24", "pretrain.batch_tokens=2048", "pretrain.micro_rows=1", "register.promote=never")
    process = mill.start("run", str(own), "--workspace", str(workspace), *(part for change in changes for part in ("--set", change)))
    wait_until(lambda: any(workspace.glob("pretrain/*.partial/checkpoints/step-*")), "the first checkpoint", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (folder,) = workspace.glob("pretrain/*.partial")
    wait_until(lambda: not at_work(folder), "the end of what the killed run had started")
    own.unlink()
    fingerprint = folder.stem
    listed = {one["artifact"]: one for one in mill("runs", "--workspace", str(workspace), "--json").document()["trainings"]}
    assert (listed[fingerprint]["state"], listed[fingerprint]["recipe"]) == ("interrupted", "tiny")
    done = mill("resume", fingerprint[:8], "--workspace", str(workspace), "--json")
    told = done.document()
    assert told["resumed"]["checkpoint"] > 0
    assert f"goes on from checkpoint {told['resumed']['checkpoint']}, which is whole" in done.err
    assert {stage["fingerprint"]: stage["status"] for stage in told["stages"]}[fingerprint] == "ran"
    assert read_curve(workspace / "pretrain" / fingerprint)[-1].step == 24


def at_work(folder: Path) -> bool:
    """Whether any process still has the training on its command line."""
    import psutil

    return any(folder.stem in part for process in psutil.process_iter(["cmdline"]) for part in process.info["cmdline"] or ())
