"""A recipe's text with a few fields changed."""

import difflib
from pathlib import Path

import pytest
import yaml

from flows.recipe_edit import changed_text, spelled
from flows.recipe_file import RecipeLoader
from tasks.errors import UserError
from tasks.tune.spaces import Scalar

ROOT = Path(__file__).parents[2]
DEMO = (ROOT / "configs/demo.yaml").read_text(encoding="utf-8")


def changed_lines(before: str, after: str) -> list[str]:
    return [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]


def test_only_the_fields_change_and_comments_stay() -> None:
    text = changed_text(DEMO, {"model.layers": 6, "pretrain.optimizer.learning_rate": 1e-5}, "demo.yaml")
    assert changed_lines(DEMO, text) == [
        "-   layers: 4",
        "+   layers: 6",
        "-     learning_rate: 3.0e-3",
        "+     learning_rate: 1.0e-05",
    ]


def test_field_that_the_recipe_leaves_out_becomes_a_line() -> None:
    text = changed_text(DEMO, {"model.mlp_width": 64, "pretrain.faults.window": 64}, "demo.yaml")
    assert changed_lines(DEMO, text) == ["+   mlp_width: 64", "+   faults: {window: 64}"]


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    [
        ("a: {b: 1, c: 2} # why\n", {"a.c": 3}, "a: {b: 1, c: 3} # why\n"),
        ("a: {b: 1}\n", {"a.c": 3}, "a: {c: 3, b: 1}\n"),
        ("a: {}\n", {"a.c": 3}, "a: {c: 3}\n"),
        ("a:\nb: 1\n", {"a.c": 3}, "a: {c: 3}\nb: 1\n"),
        ("a:   # none yet\n", {"a.c": 3}, "a: {c: 3}   # none yet\n"),
        ("a: 1", {"b.c.d": True}, "a: 1\nb: {c: {d: true}}\n"),
        ("a:\n\n  # first\n  b: 1\n", {"a.c": "x"}, "a:\n\n  # first\n  c: x\n  b: 1\n"),
        ('a: {b: "true"}\n', {"a.b": "false"}, "a: {b: 'false'}\n"),
        ("a: {b: [1,\n  2]}\n", {"a.b": None}, "a: {b: null}\n"),
    ],
)
def test_field_is_changed_in_every_form_of_yaml(before: str, changes: dict[str, Scalar], after: str) -> None:
    assert changed_text(before, changes, "recipe.yaml") == after


def test_text_whose_alias_would_change_with_the_field_is_refused_with_another_way() -> None:
    with pytest.raises(UserError, match="recipe.yaml: .* Run it with --set b.c=2"):
        changed_text("a: &one {c: 1}\nb: *one\n", {"b.c": 2}, "recipe.yaml")


@pytest.mark.parametrize("value", [1e-5, 0.003, 3.0, 7, True, None, "true", "cosine", "1e-3", ""])
def test_value_is_spelled_so_that_it_is_read_as_it_was(value: Scalar) -> None:
    assert yaml.load(f"a: {spelled(value)}", Loader=RecipeLoader) == {"a": value}
