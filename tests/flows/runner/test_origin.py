"""The recipe of a training, noted as it is run."""

import json
from pathlib import Path

import pytest

from flows.dags import load
from flows.recipe import Recipe
from flows.runner.origin import origin_of, read_origin, write_origin
from tasks.artifacts import Workspace
from tasks.errors import UserError
from tasks.settings import identity

ROOT = Path(__file__).parents[3]
RECIPES = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name != "suites")
FINGERPRINT = "1111222233334444"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace").open()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_noted_recipe_is_the_one_that_was_run(recipe: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    loaded = load(str(recipe), ["concurrency=1", "name=off"])
    noted = write_origin(workspace, origin_of(loaded.flow, loaded.recipe), "pretrain", FINGERPRINT, "pretrain")
    again = load(str(noted.recipe), [], noted.flow)
    assert (again.recipe, identity(again.recipe)) == (loaded.recipe, identity(loaded.recipe))
    assert (noted.name, noted.folder) == ("off", str(ROOT))


def test_whatever_a_recipe_says_is_noted_letter_for_letter(tmp_path: Path) -> None:
    said = ["off", "1e-3", "2026-03-02", "~", "a: b # c", "", " x\n\ty ", "\u4e2d\u6587\u200b", "- '\"\\", "\x07\x85\u2028"]
    loaded = load(str(ROOT / "configs" / "demo.yaml"), [f"evaluate.prompts={json.dumps(said)}"])
    path = tmp_path / "recipe.yaml"
    path.write_text(origin_of(loaded.flow, loaded.recipe).recipe, encoding="utf-8")
    again = load(str(path)).recipe
    assert isinstance(again, Recipe)
    assert again == loaded.recipe
    assert list(again.evaluate.prompts) == said


def test_note_is_found_where_the_workspace_lies_now(workspace: Workspace, tmp_path: Path) -> None:
    loaded = load(str(ROOT / "configs" / "demo.yaml"))
    write_origin(workspace, origin_of(loaded.flow, loaded.recipe), "finetune", FINGERPRINT, "finetune: areas")
    moved = Workspace(workspace.root.rename(tmp_path / "moved"))
    noted = read_origin(moved, "finetune", FINGERPRINT)
    assert noted is not None
    assert (noted.label, noted.recipe) == ("finetune: areas", moved.root / "recipes" / f"finetune-{FINGERPRINT}.yaml")
    assert noted.recipe.is_file()
    assert read_origin(moved, "pretrain", FINGERPRINT) is None


def test_note_that_was_altered_is_named(workspace: Workspace) -> None:
    (workspace.root / "recipes").mkdir()
    (workspace.root / "recipes" / f"pretrain-{FINGERPRINT}.json").write_text('{"flow": 3}')
    with pytest.raises(UserError, match=r"\.json: not as it was written \(flow: .*Fix: run the recipe again"):
        read_origin(workspace, "pretrain", FINGERPRINT)
