"""What the documents promise exists: commands, options, make targets, recipes; and shipped recipes load."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from pydantic import TypeAdapter

from flows.cli import cli
from flows.dags import load
from flows.recipe import Recipe
from flows.recipe_file import checked, read_recipe
from tasks.evaluate.evaluate import EvaluateConfig

if TYPE_CHECKING:
    from tests.flows.conftest import Done

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name != "suites")
SUITES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs" / "suites").glob("*.yaml"))


def shell_lines(text: str) -> list[str]:
    """Lines of code blocks without a language, comments cut off."""
    blocks = re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line.partition(" # ")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


COMMANDS = [shlex.split(line)[1:] for line in shell_lines(README) if line.startswith("wordmill ")]


@pytest.fixture(autouse=True)
def in_the_project_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("recipe", RECIPES)
def test_shipped_recipe_loads(recipe: str) -> None:
    load(recipe)


@pytest.mark.parametrize("suite", SUITES)
def test_shipped_suite_loads(suite: str) -> None:
    checked(EvaluateConfig, read_recipe(suite, []))


@pytest.mark.parametrize("path", [*RECIPES, *SUITES])
def test_shipped_recipe_says_how_to_run_it(path: str) -> None:
    heading = [line for line in (ROOT / path).read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any(path in line for line in heading)


def test_help_lists_every_command_with_what_it_does(command: Callable[..., "Done"]) -> None:
    done = command("--help")
    assert done.code == 0
    for name, entry in cli.commands.items():
        assert entry.help, name
        assert re.search(rf"^  {name}  +\w", done.out, re.MULTILINE), name


def test_help_of_every_command_names_its_options(command: Callable[..., "Done"]) -> None:
    for name, entry in cli.commands.items():
        shown = command(name, "--help").out
        assert all(option in shown for part in entry.params if isinstance(part, click.Option) for option in part.opts)


def test_readme_has_commands_to_check() -> None:
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_command_of_the_readme_is_understood(arguments: list[str]) -> None:
    name, *rest = arguments
    context = cli.commands[name].make_context(name, rest)
    if name in ("run", "plan"):
        recipe, overrides = context.params["recipe"], context.params["overrides"]
        load(recipe, overrides)


def test_every_command_that_the_readme_mentions_exists() -> None:
    mentioned = set(re.findall(r"`wordmill ([a-z]+)", README)) | {arguments[0] for arguments in COMMANDS}
    assert mentioned <= set(cli.commands)


def test_every_command_is_in_the_readme() -> None:
    assert set(cli.commands) <= set(re.findall(r"wordmill ([a-z]+)", README))


def test_every_make_target_that_the_readme_mentions_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    mentioned = {line.split()[1] for line in shell_lines(README) if line.startswith("make ")}
    assert mentioned | set(re.findall(r"`make ([a-z]+)", README)) <= targets


def test_every_file_that_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []


def paths_in(text: str) -> set[str]:
    """Files and folders of the project that a text names between backticks."""
    named = re.findall(r"`((?:flows|tasks|model|tests|configs|docs|benchmarks)/[\w./-]*)`", text)
    return {path for path in named if not path.endswith("-")}


PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md") if path.name != "changelog.md"),
]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert [path for path in sorted(paths_in(text)) if not (ROOT / path).exists()] == []


ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SECTION = ARCHITECTURE.partition("## Where does it go")[2].partition("\n## ")[0]
TOUR = [[cell.strip() for cell in line.strip("|").split("|")] for line in SECTION.splitlines() if line.startswith("| a")]


def test_tour_tells_of_every_extension_what_to_copy_what_to_touch_and_which_test_to_start_from() -> None:
    asked = ("file format", "rule", "kind of examples", "metric", "optimizer", "family", "command")
    told = [row[0] for row in TOUR]
    assert [word for word in asked if not any(word in what for what in told)] == []
    for what, copied, _, test in TOUR:
        assert paths_in(copied), what
        assert any(path.startswith("tests/") for path in paths_in(test)), what


def test_every_module_begins_with_its_term() -> None:
    """The first line of a module's docstring names what a reader would search for."""
    vague = re.compile(r"(What|Where|Which|Whether|How|When|The|A|An|From|It|This|Reads|Writes|Gathers|Looking|Settings)\b")
    paths = [path for package in ("flows", "tasks", "model") for path in (ROOT / package).rglob("*.py") if path.name != "__init__.py"]
    first = {path: path.read_text(encoding="utf-8").partition("\n")[0].removeprefix('"""') for path in paths}
    assert [f"{path.relative_to(ROOT)}: {line}" for path, line in first.items() if vague.match(line)] == []


def yaml_blocks() -> list[tuple[str, str]]:
    """Every YAML example of README.md and docs/, with its page and number."""
    found: list[tuple[str, str]] = []
    for page in PAGES:
        blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        found += [(f"{page} {number}", block) for number, block in enumerate(blocks, 1)]
    return found


@pytest.mark.parametrize(("place", "block"), yaml_blocks(), ids=[place for place, _ in yaml_blocks()])
def test_yaml_of_a_page_is_part_of_a_recipe(place: str, block: str, tmp_path: Path) -> None:
    (tmp_path / "page.yaml").write_text(block, encoding="utf-8")
    sections = read_recipe(str(tmp_path / "page.yaml"), []).values
    assert sections, place
    for name, told in sections.items():
        annotation = Recipe.model_fields[name].annotation
        TypeAdapter(annotation).validate_python(told)
