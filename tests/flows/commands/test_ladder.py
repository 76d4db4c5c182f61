"""`wordmill plan --ladder`: small trainings of a recipe's own tokens, kept in the workspace, and the recipes that it is not for."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.artifacts import read_manifest

if TYPE_CHECKING:
    from tests.flows.conftest import Done, Mill

LADDER = ("pretrain.steps=64", "ladder.rungs=3", "ladder.share=0.5", "ladder.ratio=4")


def sets(*overrides: str) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


def finished(workspace: Path) -> dict[str, str]:
    """Rung -> when it was trained."""
    manifests = [read_manifest(folder) for folder in (workspace / "rung").iterdir()]
    return {one.fingerprint: f"{one.finished} {one.seconds}" for one in manifests if one is not None}


def test_ladder_predicts_the_whole_run_and_is_climbed_once(mill: "Mill", recipe: Path, workspace: Path) -> None:
    asked = ("plan", str(recipe), "--workspace", str(workspace), "--ladder", "--json", *sets(*LADDER))
    first = mill(*asked).document()
    found = first["ladder"]
    assert [one["flops"] < found["law"]["flops"] for one in found["rungs"]] == [True] * 3
    assert found["law"]["low"] < found["law"]["loss"] < found["law"]["high"] < found["rungs"][0]["loss"]
    assert Path(found["picture"]).read_text().startswith("<?xml")
    assert "pretrain" in [row["label"] for row in first["stages"]]
    trained = finished(workspace)
    assert len(trained) == 3
    assert mill(*asked).document()["ladder"] == found
    assert finished(workspace) == trained


def test_recipe_without_pretraining_is_refused(command: Callable[..., "Done"], tmp_path: Path) -> None:
    told = command("plan", "configs/corpus/mixed.yaml", "--ladder", "--workspace", str(tmp_path)).refusal()
    assert "pretrains nothing, so there is no loss to predict" in told


def test_recipe_that_goes_on_from_a_model_is_refused(command: Callable[..., "Done"], tmp_path: Path) -> None:
    told = command("plan", "configs/continue.yaml", "--ladder", "--workspace", str(tmp_path)).refusal()
    assert "begins with weights from elsewhere (champion), which no smaller model has" in told


def test_run_that_is_too_short_is_refused_before_anything_starts(command: Callable[..., "Done"], recipe: Path, tmp_path: Path) -> None:
    told = command("plan", str(recipe), "--ladder", "--workspace", str(tmp_path / "workspace")).refusal()
    assert "the whole run has 8. Fix: set pretrain.steps to" in told
    assert not (tmp_path / "workspace").exists()
