"""What `wordmill tune` refuses before anything starts, and which trials it draws."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows.commands.tune_fields import BEFORE, REFUSED, TUNED
from flows.commands.tune_trials import Drawn, draw_trials
from flows.dags import load
from flows.recipe import Recipe
from flows.recipe_fields import find_field
from flows.runner.until_pretraining import plan_pretraining
from tasks.artifacts import Workspace
from tasks.tune.spaces import Choices, Range, Space

if TYPE_CHECKING:
    from tests.flows.conftest import Done

Command = Callable[..., "Done"]
LAYERS: dict[str, Space] = {"model.layers": Choices((1, 2))}


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ("model.layer=1,2", "model.layer: unknown field. Did you mean model.layers or model.decoder_layers?"),
        ("pretrain.optimizer.learning_rat=1..2", "Did you mean pretrain.optimizer.learning_rate"),
        ("modle.layers=1,2", "modle: unknown field. Did you mean model?"),
        ("model.layers", "expected FIELD=SPACE, such as model.layers=2,4,6"),
        ("model=1,2", "model: it is a section or a list"),
        ("pretrain.mixture=1,2", "pretrain.mixture: it is a section or a list"),
        ("pretrain.workers=1,2", "pretrain.workers: it says where, or how fast, not what: tuning over it finds nothing"),
        ("pretrain.threads=1..4", "pretrain.threads: it says where, or how fast, not what"),
        ("pretrain.layout.shards=true,false", "pretrain.layout.shards: it says where, or how fast, not what"),
        ("pretrain.steps=8,16", "trials of other lengths"),
        ("pretrain.objective.rate=0.1..0.3", "another objective has another loss"),
        ("tokenizer.vocab_size=320,640", "it stands before the pretraining"),
        ("finetune.0.steps=1,2", "finetune has no keys that could be tuned"),
        ("register.name=a,b", "it does not bear on the pretraining"),
        ("model.layers=0,2", "--over model.layers: 0 is not valid in this recipe: "),
        ("model.heads=2,3", "--over model.heads: 3 is not valid in this recipe: "),
        ("pretrain.optimizer.beta1=0.5..1.5", "--over pretrain.optimizer.beta1: 1.5 is not valid"),
        ("pretrain.optimizer.decay=cosine,cosin", "found 'cosin', expected cosine, linear"),
    ],
)
def test_what_cannot_be_tuned_is_told_with_the_reason(command: Command, recipe: Path, tmp_path: Path, over: str, message: str) -> None:
    told = command("tune", str(recipe), "--over", over, "--workspace", str(tmp_path / "new")).refusal()
    assert message in told
    assert over in told or told.startswith(f"error: --over {over.partition('=')[0]}: ")
    assert not (tmp_path / "new").exists()


def test_field_that_is_set_and_tuned_is_refused(command: Command, recipe: Path) -> None:
    told = command("tune", str(recipe), "--over", "model.layers=1,2", "--set", "model.layers=4").refusal()
    assert "--set model.layers=4: the field is tuned, too" in told


def test_recipe_that_is_there_is_not_replaced_unless_named(command: Command, recipe: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(recipe.read_text(encoding="utf-8"), encoding="utf-8")
    taken = tmp_path / "own-tuned.yaml"
    taken.write_text("kept")
    asked = ("tune", str(own), "--over", "model.layers=1,2")
    assert f"{taken} is there already. Fix: --write FILE" in command(*asked).refusal()
    assert f"--write {own}: it is the recipe itself" in command(*asked, "--write", str(own)).refusal()
    assert taken.read_text() == "kept"


def test_recipe_without_a_pretraining_is_refused(command: Command) -> None:
    told = command("tune", "configs/corpus/mixed.yaml", "--over", "model.layers=1,2").refusal()
    assert "which has no pretraining to tune" in told


def test_every_section_before_the_pretraining_and_every_refused_field_exists() -> None:
    known = {info.alias or name for name, info in Recipe.model_fields.items()}
    assert set(BEFORE) <= known
    assert set(TUNED) <= known
    for name in REFUSED:
        find_field(Recipe, name)


# ---------------------------------------------------------------------------------------------------------------------
# Trials


@pytest.fixture
def drawn(recipe: Path, tmp_path: Path) -> Callable[..., Drawn]:
    """Trials of the tiny recipe, of which nothing is made."""

    def draw(spaces: dict[str, Space], count: int, seed: int = 1) -> Drawn:
        loaded = load(str(recipe)).recipe
        assert isinstance(loaded, Recipe)
        return draw_trials(
            spaces, loaded, count, seed, lambda changes: plan_pretraining(load(str(recipe), changes).dag, Workspace(tmp_path), "none")
        )

    return draw


def test_first_trial_is_the_recipe_as_it_stands_and_none_is_drawn_twice(drawn: Callable[..., Drawn]) -> None:
    trials = drawn({**LAYERS, "model.width": Choices((16, 32, 48))}, 20).trials
    assert (trials[0].values, trials[0].changes) == ({"model.layers": 1, "model.width": 32}, {})
    assert len(trials) == 6
    assert len({(trial.values["model.layers"], trial.values["model.width"]) for trial in trials}) == 6
    assert len({trial.fingerprint for trial in trials}) == 6


def test_values_that_do_not_go_together_are_counted_and_told(drawn: Callable[..., Drawn]) -> None:
    found = drawn({"model.width": Choices((32, 36)), "model.heads": Choices((2, 6))}, 10)
    assert len(found.trials) == 3
    assert len(found.invalid) == 1
    assert "model.width=32 model.heads=6" in found.notes[0]


def test_final_learning_rate_keeps_its_share_unless_it_is_tuned(drawn: Callable[..., Drawn]) -> None:
    rate: dict[str, Space] = {"pretrain.optimizer.learning_rate": Range(1e-5, 1e-2, is_log=True, is_whole=False)}
    trial = drawn(rate, 2).trials[1]
    peak, final = (trial.changes[f"pretrain.optimizer.{name}"] for name in ("learning_rate", "final_learning_rate"))
    assert isinstance(peak, float)
    assert final == pytest.approx(peak / 30, rel=0.01)
    both = drawn({**rate, "pretrain.optimizer.final_learning_rate": Choices((0.0, 1e-6))}, 2).trials[1]
    assert both.changes == both.values
