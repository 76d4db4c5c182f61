"""What the documents promise exists: commands, options, make targets, recipes, tables; and shipped recipes load."""

import dataclasses
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click
import pytest
from pydantic import TypeAdapter

from flows.cli import cli
from flows.dags import load
from flows.recipe import FinetuneRecipe, Recipe
from flows.recipe_file import checked, read_recipe
from model.config.lora_config import LoraConfig
from model.config.model_config import PRESETS, Activation, Family, Initialization
from model.config.objective_config import LEGAL_FAMILIES, ObjectiveConfig
from model.config.training_config import DECAYS, WSD_SHARE, DecayShape, OptimizerConfig
from tasks.corpus.decontaminate import DecontaminateConfig
from tasks.corpus.deduplicate import DeduplicateConfig
from tasks.corpus.replay import ReplayConfig
from tasks.corpus.select import PresetName
from tasks.evaluate.evaluate import EvaluateConfig
from tasks.examples.kinds.table import KINDS
from tasks.finetune.config import finetuning_optimizer
from tasks.kernels.statistics_columns import COLUMNS
from tasks.pretrain.adapt import LEAST, POOR, AdaptConfig
from tasks.pretrain.config import PretrainConfig
from tasks.pretrain.continued import MOST_EPOCHS
from tasks.pretrain.ladder import ENOUGH_STEPS, LadderConfig
from tasks.pretrain.start_config import StartConfig
from tasks.reading.sources import AnySource
from tasks.report.reasons import REASONS
from tasks.shards.packing import Packing
from tasks.shards.shards import ShardsConfig
from tasks.tokenizer.pretokenizers import ALLOWED

if TYPE_CHECKING:
    from tests.flows.conftest import Done

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name != "suites")
SUITES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs" / "suites").glob("*.yaml"))


def blocks_of(text: str, *languages: str) -> list[str]:
    """Code blocks of these languages, the empty one among them where a block names none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)  # all, or an end would be taken for a start
    return [block for language, block in found if language in languages]


def shell_lines(text: str) -> list[str]:
    """Lines of code blocks without a language, comments cut off."""
    blocks = blocks_of(text, "", "sh", "bash", "console")
    return [line.partition(" # ")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


PAGES = {
    page: (ROOT / page).read_text(encoding="utf-8")
    for page in (
        "README.md",
        "CONTRIBUTING.md",
        *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md") if path.name != "changelog.md"),
    )
}
COMMANDS = [(page, shlex.split(line)[1:]) for page, text in PAGES.items() for line in shell_lines(text) if line.startswith("wordmill ")]


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


def test_pages_have_commands_to_check() -> None:
    assert {page for page, _ in COMMANDS} >= {"README.md", "docs/tokens.md", "docs/models.md"}


@pytest.mark.parametrize(("page", "arguments"), COMMANDS, ids=[" ".join(arguments) for _, arguments in COMMANDS])
def test_command_of_a_page_is_understood(page: str, arguments: list[str]) -> None:
    name, *rest = arguments
    context = cli.commands[name].make_context(name, rest)
    if name in ("run", "plan"):
        recipe, overrides = context.params["recipe"], context.params["overrides"]
        load(recipe, overrides)


def inline(program: str, text: str) -> list[list[str]]:
    """Commands of a program that a text names between backticks, each as its words behind the program's name."""
    return [shlex.split(words) for words in re.findall(rf"`{program} ([^`]+)`", text)]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_page_mentions_exists_with_its_options(page: str) -> None:
    for name, *rest in inline("wordmill", PAGES[page]):
        assert name in cli.commands, name
        known = {option for part in cli.commands[name].params for option in part.opts}
        assert {word for word in rest if word.startswith("--")} <= known, name


def test_every_command_is_in_the_readme() -> None:
    assert set(cli.commands) <= set(re.findall(r"wordmill ([a-z]+)", README))


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_that_a_page_mentions_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    mentioned = {line.split()[1] for line in shell_lines(PAGES[page]) if line.startswith("make ")}
    assert mentioned | {words[0] for words in inline("make", PAGES[page])} <= targets


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_links_to_exists(page: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", PAGES[page])
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


def paths_in(text: str) -> set[str]:
    """Files and folders of the project that a text names between backticks."""
    named = re.findall(r"`((?:flows|tasks|model|tests|configs|docs|benchmarks)/[\w./-]*)`", text)
    return {path for path in named if not path.endswith("-")}


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    assert [path for path in sorted(paths_in(PAGES[page])) if not (ROOT / path).exists()] == []


ARCHITECTURE = PAGES["docs/architecture.md"]
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
    for page, text in PAGES.items():
        found += [(f"{page} {number}", block) for number, block in enumerate(blocks_of(text, "yaml"), 1)]
    return found


@pytest.mark.parametrize(("place", "block"), yaml_blocks(), ids=[place for place, _ in yaml_blocks()])
def test_yaml_of_a_page_is_part_of_a_recipe(place: str, block: str, tmp_path: Path) -> None:
    (tmp_path / "page.yaml").write_text(block, encoding="utf-8")
    sections = read_recipe(str(tmp_path / "page.yaml"), []).values
    assert sections, place
    recipe = next((kind for kind in (Recipe, FinetuneRecipe) if sections.keys() <= kind.model_fields.keys()), None)
    assert recipe is not None, f"{place}: no recipe has all of {', '.join(sections)}"
    for name, told in sections.items():
        TypeAdapter(recipe.model_fields[name].annotation).validate_python(told)


CORPUS, MODELS, TOKENS, TRAINING, CONTINUE = (PAGES[f"docs/{name}.md"] for name in ("corpus", "models", "tokens", "training", "continue"))


def table_of(page: str, heading: str) -> list[list[str]]:
    """The rows of the table whose first line begins with `| HEADING |`."""
    lines = page.partition(f"| {heading} |")[2].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in lines]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_corpus_page_has_every_statistic_as_the_code_says_it() -> None:
    assert {quoted(row[0])[0]: " | ".join(row[1:]) for row in table_of(CORPUS, "column")} == COLUMNS


def test_corpus_page_has_every_kind_of_source_and_every_preset() -> None:
    kinds = {get_args(source.model_fields["kind"].annotation)[0] for source in get_args(AnySource)}
    assert {name for row in table_of(CORPUS, "kind") for name in quoted(row[0])} == kinds
    assert [name for name in get_args(PresetName) if f"`{name}`" not in CORPUS] == []


def test_corpus_page_says_the_defaults_of_copies_and_overlap() -> None:
    copies, overlap = DeduplicateConfig(), DecontaminateConfig()
    assert f"{copies.slots} MinHash values, {copies.bands} bands of {copies.rows}" in CORPUS
    assert f"`threshold` ({copies.threshold})" in CORPUS
    assert copies.digits in CORPUS.partition("the default, keeps")[0].rpartition("`digits`")[2]
    assert f"{overlap.ngram_words} words, or {overlap.ngram_han} characters of Chinese" in " ".join(CORPUS.split())


def test_reasons_that_pages_name_are_told_in_reports() -> None:
    labels = [name for row in table_of(MODELS, "a label is") for name in quoted(row[1]) if "_" in name]
    found = re.findall(r"rejects? \(((?:`[a-z_]+`(?:, )?)+)\)|(?:reject, | is )`([a-z]+_[a-z_]+)`", CORPUS.replace("\n", " "))
    reasons = [name for several, one in found for name in (quoted(several) if several else [one])]
    assert {"subfolder", "unknown_charset", "empty_text"} <= set(reasons)
    assert "no_label" in labels
    assert [name for name in [*labels, *reasons] if name not in REASONS] == []


def test_models_page_has_every_family_option_preset_and_objective() -> None:
    assert {name for row in table_of(MODELS, "`model.family`") for name in quoted(row[0])} == set(get_args(Family))
    options = MODELS.partition("Options of several:")[2].partition("\n\n")[0].replace("\n", " ")
    assert f"`activation` ({', '.join(get_args(Activation))})" in options
    assert f"({', '.join(get_args(Initialization))})" in options
    assert set(PRESETS) <= set(quoted(options))
    assert [quoted(row[0])[0] for row in table_of(MODELS, "`pretrain.objective.kind`")] == list(LEGAL_FAMILIES)
    masked = ObjectiveConfig(kind="masked")
    left = 1 - masked.mask_share - masked.random_share
    assert (
        f"{masked.share:.0%}, of which {masked.mask_share:.0%} masked, {masked.random_share:.0%} random, {left:.0%}".replace("%", " %")
        in MODELS
    )


def test_models_page_has_every_kind_of_examples_and_the_defaults_of_fine_tuning() -> None:
    assert {quoted(row[0])[0] for row in table_of(MODELS, "`examples.kind`")} == set(KINDS)
    told = finetuning_optimizer()
    assert (told.learning_rate, told.warmup_steps, told.weight_decay) == (3e-4, 10, 0.01)
    assert "a peak of 3e-4, a\ntenth of the peak at the end, 10 steps of warm-up and a weight decay of 0.01" in MODELS
    (shown,) = re.findall(r"^    lora: (\{.*\})$", MODELS, re.MULTILINE)
    targets = "[" + ", ".join(f'"{target}"' for target in LoraConfig().targets) + "]"
    assert f"targets: {targets}" in shown
    assert {field.name for field in dataclasses.fields(LoraConfig)} == set(re.findall(r"(\w+):", shown))


def test_tokens_page_has_every_algorithm_with_its_pieces_and_every_packing() -> None:
    pieces = {quoted(row[0])[0]: tuple(quoted(row[1])) for row in table_of(TOKENS, "`tokenizer.algorithm`")}
    assert pieces == {**ALLOWED, "unigram": ()}  # "the same" as above it
    assert ALLOWED["unigram"] == ALLOWED["bpe"]
    rows = {quoted(row[0])[0]: row[0] for row in table_of(TOKENS, "`shards.packing`")}
    assert set(rows) == set(get_args(Packing))
    assert [name for name, cell in rows.items() if "(default)" in cell] == [ShardsConfig().packing]


def test_continue_page_says_the_bounds_and_defaults_of_the_code() -> None:
    said = " ".join(CONTINUE.split())
    assert f"{LEAST:.0%} of your text or more, and of which more than {POOR:.0%}".replace("%", " %") in said
    assert f"a note speaks up beyond {MOST_EPOCHS}" in said
    assert f"{ReplayConfig().share:g} where a recipe says nothing" in said
    asked = load("configs/continue.yaml").recipe
    assert isinstance(asked, Recipe)
    assert f"`replay.share: {asked.replay.share:g}`, as it stands" in said
    assert set(re.findall(r"`(?:adapt|replay)\.(\w+)", said)) <= {*AdaptConfig.model_fields, *ReplayConfig.model_fields}


def test_training_page_has_every_decay_tier_and_key_with_its_default() -> None:
    defaults = OptimizerConfig()
    rows = {quoted(row[0])[0]: row for row in table_of(TRAINING, "`optimizer.decay`")}
    assert tuple(sorted(rows)) == tuple(sorted(DECAYS))
    assert [name for name, row in rows.items() if "the default" in row[2]] == [defaults.decay]
    assert WSD_SHARE == 0.1
    assert "`decay_steps` (a tenth of all)" in rows["wsd"][1]
    assert f"minus `power` ({defaults.power:g})" in rows["power"][1]
    assert all(f"`{shape}`" in TRAINING for shape in get_args(DecayShape))
    pretrain = PretrainConfig()
    assert (pretrain.keep_every, pretrain.best) == (None, None)
    assert f"`keep_checkpoints` ({pretrain.keep_checkpoints})" in TRAINING
    keys = {field.alias or name for name, field in StartConfig.model_fields.items()}
    assert [key for key in sorted(keys) if not re.search(rf"\b{key}\b", TRAINING)] == []


def test_training_page_has_every_key_of_the_ladder_with_its_default() -> None:
    defaults = LadderConfig()
    shown = {quoted(row[0])[0]: row[1] for row in table_of(TRAINING, "`ladder.`")}
    assert shown == {name: f"{getattr(defaults, name):g}".replace("e+", "e") for name in LadderConfig.model_fields if name != "revision"}
    assert f"or {ENOUGH_STEPS:,} of them" in TRAINING


@pytest.mark.parametrize("page", PAGES)
def test_python_of_a_page_compiles(page: str) -> None:
    for block in blocks_of(PAGES[page], "python"):
        compile(block, page, "exec")
