"""How a recipe names a webhook."""

import traceback
from pathlib import Path

import pytest

from flows.recipe_file import checked, read_recipe
from tasks.errors import UserError
from tasks.promotion.notify_config import NotifyConfig
from tasks.settings import Section, identity

SECRET = "T0PS3CRET"
ADDRESS = f"https://hooks.example.com/services/{SECRET}"


class Recipe(Section):
    notify: NotifyConfig = NotifyConfig()


def refusal(recipe: str, folder: Path, *overrides: str) -> str:
    """The message of a refused recipe; a traceback of it says no more than that."""
    path = folder / "night.yaml"
    path.write_text(recipe)
    with pytest.raises(UserError) as refused:
        checked(Recipe, read_recipe(str(path), overrides))
    assert SECRET not in "".join(traceback.format_exception(refused.value))
    return str(refused.value)


@pytest.mark.parametrize(
    "recipe",
    [
        f"notify: {{webhook: '{ADDRESS}'}}",
        f"notify: {{webhook: 'env:{ADDRESS}'}}",
        f"notify: {{webhook: ['{ADDRESS}']}}",
        f"notify: {ADDRESS}",
        f"notify: {{webhook: {{url: '{ADDRESS}'}}}}",
    ],
)
def test_address_in_a_recipe_is_refused_with_the_fix_and_not_repeated(recipe: str, tmp_path: Path) -> None:
    said = refusal(recipe, tmp_path)
    assert said.startswith(f"{tmp_path / 'night.yaml'}:1: notify")
    assert "Fix: put the address into an environment variable" in said


def test_address_in_an_override_is_not_repeated(tmp_path: Path) -> None:
    assert "--set notify.webhook=…: notify.webhook: expected env:NAME" in refusal("{notify: {}}", tmp_path, f"notify.webhook={ADDRESS}")


@pytest.mark.parametrize("webhook", ["env:MILL_WEBHOOK", "secret:mill-webhook", None])
def test_where_the_address_is_may_be_named_and_makes_no_other_artifact(webhook: str | None) -> None:
    assert identity(NotifyConfig(webhook=webhook, when="failed")) == {}


@pytest.mark.parametrize("webhook", ["env:", "env:1A", "secret:Mill_Webhook", "secret:", "MILL_WEBHOOK", ""])
def test_name_that_neither_can_have_is_refused(webhook: str, tmp_path: Path) -> None:
    assert "expected env:NAME or secret:BLOCK" in refusal(f"notify: {{webhook: '{webhook}'}}", tmp_path)
