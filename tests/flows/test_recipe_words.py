"""What a recipe's words and a workspace's name mean: they are taken as they stand."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows.recipe_file import read_recipe
from tasks.tracking.address import database_path, database_url

if TYPE_CHECKING:
    from tests.flows.conftest import Done

DOCS = Path(__file__).parents[2] / "docs" / "corpus.md"


def test_the_rules_of_the_docs_are_read_as_they_are_printed(tmp_path: Path):
    printed = re.search(r"```yaml\n(clean:\n.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert printed is not None
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(printed.group(1))
    select = read_recipe(str(recipe), ["clean.select.off=[on]", "x=yes", "y=true"]).values
    assert select["clean"]["select"]["off"] == ["on"]  # type: ignore[index]
    assert (select["x"], select["y"]) == ("yes", True)


@pytest.mark.parametrize("name", ["123", "yes", "~", "a: b", "a b?c#d%20é中", "[x]", "null"])
def test_a_workspace_is_a_path_and_not_yaml(tmp_path: Path, name: str):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: x\n")
    assert read_recipe(str(recipe), [f"workspace={name}"]).values["workspace"] == name
    path = tmp_path / name / "mlflow.db"
    assert database_path(database_url(path)) == path
    assert database_path("http://127.0.0.1:5000") is None


def test_a_workspace_at_an_address_is_refused(command: "Callable[..., Done]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for arguments in (("verify",), ("plan", "r.yaml"), ("generate", "models:/x@champion", "The")):
        said = command(*arguments, "--workspace", "s3://bucket/ws").refusal()
        assert "workspace s3://bucket/ws: found an address, expected a folder" in said
    assert list(tmp_path.iterdir()) == []


def test_a_failed_generate_leaves_nothing_behind(command: "Callable[..., Done]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert "nothing is registered in" in command("generate", "models:/x@champion", "The").refusal()
    assert "no run of that id" in command("generate", "0" * 32, "The").refusal()
    assert list(tmp_path.iterdir()) == []


def test_a_suite_that_is_missing_is_called_a_suite(command: "Callable[..., Done]", tmp_path: Path):
    said = command("evaluate", "x", "--suite", "nosuch.yaml", "--workspace", str(tmp_path / "w")).refusal()
    assert said.startswith("error: nosuch.yaml: no such suite.")
