"""A run that plainly does not fit is refused before anything starts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows.dags import load
from flows.runner.room import require_room
from tasks.errors import UserError
from tests.earlier_runs import machine

if TYPE_CHECKING:
    from tests.flows.conftest import Built, Done

DEMO = str(Path(__file__).parents[3] / "configs" / "demo.yaml")
SMALL = replace(machine(), memory=400 * 10**6)


def test_run_that_does_not_fit_is_refused_with_what_would(command: Callable[..., "Done"], tmp_path: Path) -> None:
    sets = ["--set", "model.width=8192", "--set", "model.layers=48", "--set", "cluster.device_memory=40GB"]
    refusal = command("run", DEMO, "--workspace", str(tmp_path / "workspace"), *sets).refusal()
    assert "pretrain does not fit: " in refusal
    assert "cluster.device_memory" in refusal
    assert not (tmp_path / "workspace" / "recipes").exists()


def test_training_that_is_done_needs_no_room(built: "Built", recipe: Path) -> None:
    loaded = load(str(recipe), [f"workspace={built.workspace}"])
    require_room(loaded.recipe, loaded.dag, SMALL)
    changed = load(str(recipe), [f"workspace={built.workspace}", "finetune.0.optimizer.learning_rate=5.0e-4"])
    with pytest.raises(UserError, match="finetune: topics does not fit") as told:
        require_room(changed.recipe, changed.dag, SMALL)
    assert "pretrain" not in str(told.value)


def test_memory_that_the_recipe_tells_counts_in_place_of_what_was_found(recipe: Path, tmp_path: Path) -> None:
    told = load(str(recipe), [f"workspace={tmp_path}", "cluster.device_memory=8GB"])
    require_room(told.recipe, told.dag, SMALL)


def test_workers_elsewhere_are_not_judged_by_this_machine(recipe: Path, tmp_path: Path) -> None:
    away = load(str(recipe), [f"workspace={tmp_path}", "cluster.address=head:6379", "pretrain.workers=2", "finetune=[]"])
    require_room(away.recipe, away.dag, SMALL)
