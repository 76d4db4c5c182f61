"""Overrides, and which parts of a recipe make up a stage's identity."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from flows.dags import kind_of
from flows.recipe import FinetuneRecipe, Recipe
from flows.recipe_file import read_recipe
from flows.runner.summaries import flattened
from model.config.checks import IS_LATER
from tasks.errors import UserError
from tasks.settings import Later, identity
from tests.flows.recipe_text import load_recipe

KEYS = st.text("abcdefghij_", min_size=1, max_size=6)
VALUES = st.one_of(st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.just("word"))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A recipe with one section, which no override below touches."""
    path = tmp_path_factory.mktemp("recipe") / "empty.yaml"
    path.write_text("NAME: x\n")
    return str(path)


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("pretrain.steps=20", 20),
        ("deduplicate.threshold=0.5", 0.5),
        ("deduplicate.threshold=null", None),
        ("model.tie_embeddings=false", False),
        ("evaluate.prompts=[a, b]", ["a", "b"]),
        ("finetune.1.steps=9", 9),
        ("ingest.sources.1.window_chars=200", 200),
    ],
)
def test_override_is_read_as_yaml(recipe: Path, override: str, found: object) -> None:
    loaded = load_recipe(Recipe, str(recipe), [override])
    holder: object = loaded
    for key in override.partition("=")[0].split("."):
        holder = holder[int(key)] if key.isdigit() else getattr(holder, key)  # type: ignore[index]
    assert holder == found


def test_later_override_wins(recipe: Path) -> None:
    assert load_recipe(Recipe, str(recipe), ["pretrain.steps=2", "pretrain.steps=3"]).pretrain.steps == 3


def test_override_adds_an_entry_at_the_end_of_a_list(recipe: Path) -> None:
    loaded = load_recipe(Recipe, str(recipe), ["finetune.2={name: more, examples: topics}"])
    assert [tuning.name for tuning in loaded.finetune] == ["topics", "answers", "more"]


def test_override_makes_the_sections_on_its_way(recipe: Path) -> None:
    assert load_recipe(Recipe, str(recipe), ["cluster.address=auto"]).cluster.address == "auto"


@given(st.lists(KEYS, min_size=1, max_size=4), VALUES)
def test_override_puts_its_value_where_its_keys_lead(empty: str, keys: list[str], value: object) -> None:
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
    recipe = read_recipe(empty, [f"{'.'.join(keys)}={text}"])
    holder: object = recipe.values
    for key in keys:
        holder = holder[key]  # type: ignore[index]
    assert holder == value
    assert recipe.values["NAME"] == "x"


def test_recipe_with_a_source_pretrains_and_one_without_fine_tunes(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "tune.yaml").write_text("champion: {}\n")
    assert kind_of(read_recipe(str(recipe), [])).recipe is Recipe
    assert kind_of(read_recipe(str(tmp_path / "tune.yaml"), [])).recipe is FinetuneRecipe


PLACEMENT = [
    "workspace=elsewhere",
    "concurrency=1",
    "cluster.address=auto",
    "tracking.uri=http://other",
    "pretrain.workers=2",
    "pretrain.threads=2",
    "pretrain.gpus_per_worker=1",
    "pretrain.workers=[1, 2]",
    "pretrain.layout={shards: true}",
    "finetune.0.layout={shards: true, reshards: false}",
    "pretrain.norms_every=10",
    "pretrain.profile={steps: [1, 2]}",
    "pretrain.checkpoint_place=s3://elsewhere",
    "cluster.restarts=1",
    "cluster.collective_seconds=60",
    "cluster.gpu=H100",
    "cluster.device_memory=80GB",
    "finetune.0.workers=2",
    "finetune.0.threads=2",
    "pretrain.layout={shards: true}",
    "finetune.0.layout={shards: true}",
    "ingest.sources.0.paths=[elsewhere]",
    "examples.0.source.paths=[elsewhere]",
]


@pytest.mark.parametrize("override", PLACEMENT)
def test_placement_is_no_part_of_the_identity(recipe: Path, override: str) -> None:
    changed = load_recipe(Recipe, str(recipe), [override])
    assert changed != load_recipe(Recipe, str(recipe))
    assert identity(changed) == identity(load_recipe(Recipe, str(recipe)))


def test_every_other_field_of_a_recipe_is_part_of_the_identity(recipe: Path) -> None:
    placed = {override.partition("=")[0] for override in PLACEMENT} | {
        "ingest.sources.1.paths",
        "examples.1.source.paths",
    }
    shown = flattened(identity(load_recipe(Recipe, str(recipe))))
    every = flattened(load_recipe(Recipe, str(recipe)).model_dump(mode="json"))
    hidden = {key for key in every if not any(key == name or name.startswith(f"{key}.") for name in shown)}
    by_content = {"tokenizer.references", "pretrain.word_vectors", "pretrain.objective.words"}
    placed |= by_content | {"files.place", "decontaminate.allow", "deduplicate.against"}
    names = ("workers", "threads", "gpus_per_worker", "paths", "heldout_paths", "existing")
    placed |= {"cluster.object_store_bytes", "tracking.uri", "register_.wait_seconds"}
    placed |= {"champion", "base", "adapt", "replay", "finetune.1.layout"}  # none in this recipe; placed as that of the first is
    later = set(came_later(load_recipe(Recipe, str(recipe))))
    rest = {key for key in hidden if not key.endswith(names) and not any(key == one or key.startswith(f"{one}.") for one in placed | later)}
    assert rest == set()


def came_later(value: object, place: str = "") -> Iterator[str]:
    """Keys that enter the identity only where they are set, by their marks."""
    if isinstance(value, BaseModel):
        for name, info in type(value).model_fields.items():
            is_later = any(isinstance(mark, Later) for mark in info.metadata)
            yield from _at(f"{place}{name}", is_later, getattr(value, name))
    elif isinstance(value, tuple):
        for number, one in enumerate(value):
            yield from came_later(one, f"{place}{number}.")
    elif is_dataclass(value):
        for field in fields(value):
            yield from _at(f"{place}{field.name}", IS_LATER in field.metadata, getattr(value, field.name))


def _at(place: str, is_later: bool, value: object) -> Iterator[str]:
    yield from [place] if is_later else came_later(value, f"{place}.")


def test_holdout_is_set_once_for_all_sections(recipe: Path) -> None:
    loaded = load_recipe(Recipe, str(recipe), ["heldout={share: 0.2, seed: 7}"])
    assert [(one.heldout_share, one.seed) for one in loaded.examples] == [(0.2, 7)] * 2
    assert (loaded.decontaminate.heldout_share, loaded.decontaminate.heldout_seed) == (0.2, 7)
    assert (loaded.evaluate.heldout_share, loaded.evaluate.heldout_seed) == (0.2, 7)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("examples.0.heldout_share=0.2", "examples.0 holds out by share 0.2, but heldout.share is 0.3"),
        ("examples.1.seed=7", "examples.1 holds out by seed 7, but heldout.seed is 575"),
        ("decontaminate.heldout_seed=7", "decontaminate holds out by seed 7, but heldout.seed is 575"),
        ("evaluate.heldout_share=0.1", "evaluate holds out by share 0.1, but heldout.share is 0.3"),
        ("heldout.share=2", r"heldout\.share: found 2; input should be less than 1"),
    ],
)
def test_recipe_whose_sections_hold_out_differently_is_refused(recipe: Path, override: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_recipe(Recipe, str(recipe), [override])


def test_key_that_came_later_enters_the_identity_only_where_it_is_set(recipe: Path) -> None:
    shown = flattened(identity(load_recipe(Recipe, str(recipe), ["heldout.share=0.12"]).evaluate))
    assert "heldout_share" not in shown
    assert flattened(identity(load_recipe(Recipe, str(recipe)).evaluate))["heldout_share"] == "0.3"


def test_model_preset_is_the_known_shape_with_the_named_keys_changed(recipe: Path) -> None:
    loaded = load_recipe(Recipe, str(recipe), ["model={preset: gpt2-124m, dropout: 0.1}"])
    assert (loaded.model.family, loaded.model.layers, loaded.model.width) == ("gpt2", 12, 768)
    assert loaded.model.dropout == 0.1


def test_unknown_model_preset_is_refused_with_the_known_ones(recipe: Path) -> None:
    with pytest.raises(UserError, match="preset 'gpt3': expected one of gpt2-124m, gpt2-350m"):
        load_recipe(Recipe, str(recipe), ["model={preset: gpt3}"])


MASKED = ("model.family=bert", "pretrain.objective={kind: masked}")
RESERVED = 'tokenizer.reserve=["<|mask|>"]'


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["pretrain.objective={kind: masked}"], "objective masked does not go with family llama"),
        (["pretrain.layout={tensor: 2}"], r"pretrain\.layout\.tensor 2 does not divide 1 process"),
        (["pretrain.layout={tensor: 3}", "pretrain.workers=3"], r"pretrain\.layout\.tensor 3 does not divide the model's heads"),
        (["finetune.0.layout={tensor: 2}"], r"layout\.tensor 2 does not divide 1 process"),
        (
            ["model.family=lstm", "finetune.0.layout={activation_checkpointing: full}"],
            r"finetune \w+: layout\.activation_checkpointing full: the layers of lstm are one kernel",
        ),
        (["model.family=bert"], r"objective causal does not go with family bert.*objective\.kind to masked"),
        (["pretrain.objective={kind: restore}"], r"set model\.context to 64, or shards\.context to 16 or less"),
        (["pretrain.objective={kind: masked, rat: 0.2}"], r"pretrain\.objective.*rat"),
        ([*MASKED, "finetune=[]"], r'add to tokenizer\.reserve: \["<\|mask\|>"\]'),
        ([*MASKED, RESERVED], "finetune answers: instruction examples need a model that writes, but model.family is bert"),
    ],
)
def test_objective_that_cannot_be_is_refused_when_the_recipe_is_read(recipe: Path, overrides: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_recipe(Recipe, str(recipe), overrides)


def test_masks_are_recipe_enough_for_an_encoder(recipe: Path) -> None:
    loaded = load_recipe(Recipe, str(recipe), [*MASKED, RESERVED, "finetune=[]"])
    assert (loaded.model.family, loaded.pretrain.objective.kind) == ("bert", "masked")
