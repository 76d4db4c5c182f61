"""`wordmill runs`: what is shown of trainings that finished, were left, or are at work."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from flows.commands.runs import shown_digits
from flows.dags import load
from flows.runner.origin import origin_of, write_origin
from model.training.events import Event
from model.training.left_out import LeftOut, write_left_out
from tasks.artifacts import Workspace
from tests.left_trainings import curve_to, leave_training

if TYPE_CHECKING:
    from tests.flows.conftest import Done

Command = Callable[..., "Done"]
ROOT = Path(__file__).parents[3]
FINISHED, LEFT, BUSY = "1111222233334444", "5555666677778888", "9999aaaabbbbcccc"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A training that finished, one that was left with a damaged checkpoint, and one that a run is at work on."""
    workspace = Workspace(tmp_path / "workspace").open()
    figures = {"steps": 100.0, "validation_loss": 3.0, "validation_bits_per_byte": 1.5}
    leave_training(workspace, "pretrain", FINISHED, curve_to(100), (80, 100), figures=figures)
    left = leave_training(workspace, "finetune", LEFT, curve_to(50), (20, 40), [Event("skipped", 3, "loss nan", data_step=2)])
    write_left_out(left / "checkpoints", [LeftOut(20, 20, 4)])
    (left / "checkpoints" / "step-00000040" / "model.safetensors").write_bytes(b"half")
    leave_training(workspace, "pretrain", BUSY, curve_to(10))
    loaded = load(str(ROOT / "configs" / "demo.yaml"))
    write_origin(workspace, origin_of(loaded.flow, loaded.recipe), "finetune", LEFT, "finetune: areas")
    return workspace


@pytest.fixture
def runs(command: Command, workspace: Workspace) -> Command:
    return lambda *arguments: command("runs", "--workspace", str(workspace.root), *arguments)


def test_every_training_is_listed_with_what_became_of_it(runs: Command, workspace: Workspace) -> None:
    (workspace.root / "locks").mkdir()
    with FileLock(workspace.root / "locks" / f"pretrain-{BUSY}.lock"):
        found = {one["artifact"]: one for one in runs("--json").document()["trainings"]}
    assert {name: one["state"] for name, one in found.items()} == {FINISHED: "finished", LEFT: "interrupted", BUSY: "in training"}
    assert {name: one["recipe"] for name, one in found.items()} == {FINISHED: "", LEFT: "demo", BUSY: ""}
    assert (found[FINISHED]["step"], found[FINISHED]["best"]) == (100, {"step": 100, "value": 3.0, "bits_per_byte": 1.5})
    left = found[LEFT]
    assert (left["label"], left["step"], left["steps"], left["skipped"]) == ("finetune: areas", 50, 100, 1)
    assert left["returns"] == [{"step": 20, "first": 20, "count": 4}]
    assert [(kept["step"], kept["damage"] is None) for kept in left["checkpoints"]] == [(40, False), (20, True)]
    assert left["bytes"] == sum(kept["bytes"] for kept in left["checkpoints"]) > 0


def test_table_names_what_is_damaged_and_what_can_go_on(runs: Command) -> None:
    shown = runs().out
    told = " ".join(shown.split())
    assert f"{FINISHED[:8]} pretrain 100 of 100 best 1.50 bits/byte at 100 100 best, 80 finished – " in told
    assert f"{LEFT[:8]} finetune: areas 50 of 100 best 4.000 at 50 40 damaged, 20 interrupted of demo " in told
    assert "last 3.000, 1 skipped, 1 return" in told
    assert f"{LEFT[:8]}: checkpoint 40 is damaged: model.safetensors has 4 bytes" in told
    assert told.endswith(f"to go on: wordmill resume {BUSY[:8]} or {LEFT[:8]}")
    assert max(map(len, shown.splitlines())) <= 100


def test_workspace_without_a_training_says_so_and_none_at_all_is_refused(command: Command, tmp_path: Path) -> None:
    Workspace(tmp_path / "new").open()
    assert command("runs", "--workspace", str(tmp_path / "new")).out == "no training in this workspace yet\n"
    assert "no workspace" in command("runs", "--workspace", str(tmp_path / "none")).refusal()


def test_fingerprints_are_shown_as_long_as_tells_them_apart() -> None:
    assert shown_digits([]) == 8
    assert shown_digits([FINISHED, LEFT]) == 8
    assert shown_digits([FINISHED, FINISHED[:11] + "00000"]) == 12
    assert shown_digits([FINISHED, FINISHED]) == 8
