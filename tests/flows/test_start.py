"""`pretrain.start` in a recipe: the plan says what is reused, and what cannot be gone on from is refused before anything runs."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.flows.conftest import Built, Done

Command = Callable[..., "Done"]


def started(built: "Built", command: Command, recipe: Path, name: str, *overrides: str) -> "Done":
    parent = built.stage("pretrain")["fingerprint"]
    sets = [f"pretrain.start.from='{parent[:8]}'", *overrides]
    return command(name, str(recipe), "--workspace", str(built.workspace), "--json", *(part for one in sets for part in ("--set", one)))


def test_plan_says_what_of_another_pretraining_is_reused(built: "Built", command: Command, recipe: Path) -> None:
    parent = built.stage("pretrain")["fingerprint"]
    same = started(built, command, recipe, "plan", "pretrain.start.step=4", "pretrain.checkpoint_every=2").document()
    assert f"pretrain goes on from pretrain/{parent} step 4: 4 of 8 steps are reused, data go on at step 4" in same["notes"]
    anew = started(built, command, recipe, "plan", "pretrain.start.counts=anew").document()
    assert any(note.endswith("steps count anew, data begin at step 0, the learning rate warms up over 2 steps") for note in anew["notes"])
    rows = {row["label"]: row for row in anew["stages"]}
    assert rows["shards"]["cached"]
    assert not rows["pretrain"]["cached"]
    assert "file start: new input" in rows["pretrain"]["why"]


def test_run_that_cannot_go_on_is_refused_before_anything_runs(built: "Built", command: Command, recipe: Path) -> None:
    told = started(built, command, recipe, "run", "pretrain.steps=12").refusal()
    assert "a jump. Fix: no checkpoint was kept of a step at which both agree" in told
