"""Bad input: one message that names the place, what was found and the fix; exit code 2, no traceback."""

import json
import socket
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows.recipe_file import read_recipe
from tasks.errors import UserError

if TYPE_CHECKING:
    from tests.flows.conftest import Built, Done, Mill

Command = Callable[..., "Done"]


@pytest.fixture
def edited(recipe: Path, tmp_path: Path) -> Callable[[str, str], Path]:
    """The tiny recipe with one part of its text replaced."""

    def edit(before: str, after: str) -> Path:
        text = recipe.read_text(encoding="utf-8")
        assert text.count(before) == 1
        copy = tmp_path / "recipe.yaml"
        copy.write_text(text.replace(before, after), encoding="utf-8")
        return copy

    return edit


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which something listens that never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("before", "after", "line", "message"),
    [
        ("vocab_size: 320", "vocab_sise: 320", 7, "tokenizer.vocab_sise: unknown key. Did you mean vocab_size? Known keys: "),
        ("warmup_steps: 2", "warm_up_steps: 2", 13, "pretrain.optimizer.warm_up_steps: unknown key. Did you mean warmup_steps?"),
        ("  threads: 1\nexamples", "  treads: 1\nexamples", 18, "pretrain.treads: unknown key. Did you mean threads?"),
        ("evaluate:", "evaluat:", 25, "evaluat: unknown key. Did you mean evaluate?"),
        ("steps: 8", "steps: many", 11, "pretrain.steps: found 'many'; input should be a valid integer"),
        ("steps: 8", "steps: 0", 11, "pretrain.steps: found 0; input should be greater than or equal to 1"),
        ("kind: text", "kind: txt", 6, "ingest.sources.1.kind: found 'txt', expected one of text, markdown, "),
        ("kind: instruction", "kind: ranking", 21, "examples.1.kind: found 'ranking', expected one of instruction, classification, "),
        (
            "kind: classification, source: {kind: jsonl",
            "kind: classification, source: {kind: conll",
            20,
            "examples.0.source.kind: found 'conll', expected one of ",
        ),
        (
            "topics.jsonl]}",
            "topics.jsonl], labl_field: x}",
            20,
            "examples.0.source.labl_field: unknown key. Did you mean label_field? Known keys: ",
        ),
        (
            "examples: topics, steps: 4, optimizer: {learning_rate: 1.0e-3}",
            "examples: topics, steps: 4, learning_rate: 1.0e-3",
            23,
            "finetune.0: learning_rate: moved to optimizer",
        ),
        ("heldout: {share: 0.3}", "heldout: {share: 0.3, sed: 1}", 36, "heldout.sed: unknown key. Did you mean seed?"),
        ("context: 32}\nmodel", "context: 64}\nmodel", None, "shards.context 64 is longer than the model's positions (model.context 32)"),
        ("heads: 2", "heads: 3", 9, "heads 3 "),
        ("vocab_size: 320", "vocab_size: 200", 7, "vocab_size 200"),
        (
            "batch_tokens: 256",
            "batch_tokens: 256\n  batch_schedule: [{from_step: 2, batch_tokens: 500}]",
            None,
            "pretrain.batch_schedule: 500 tokens from step 2 on are no multiple of batch_tokens 256",
        ),
        ("batch_tokens: 256", "batch_tokens: 100", None, "pretrain.batch_tokens 100 is no multiple of shards.context 32; the nearest: 96"),
        ("  threads: 1\nexamples", "  workers: 9\nexamples", None, "pretrain.workers 9 are more than the 8 rows of a batch"),
        ("examples: topics, steps", "examples: topic, steps", None, "finetune topics: examples 'topic' is none of: topics, answers"),
        ("{name: answers, kind", "{name: topics, kind", None, "examples: the name 'topics' is used twice"),
        ("name: tiny\ningest", "name: tiny/small\ningest", 2, "name: found 'tiny/small'; string should match pattern"),
        ("shards: {context: 32}", "shards: {context: 32", 9, "not YAML: "),
        ("tokenizer:", "name: twice\ntokenizer:", 7, "name stands twice (first in line 2). Keep one."),
        (
            "examples: topics, steps: 4",
            "examples: topics, revision: 1, steps: 4",
            23,
            "finetune.0.revision: counted by Wordmill itself, not by files. Fix: delete the line.",
        ),
        (
            "kind: classification, source: {",
            "kind: classification, revision: 2, source: {",
            20,
            "examples.0.revision: counted by Wordmill itself",
        ),
        ("heads: 2", "heads: &h [*h]", 9, "model.heads.0: holds itself, by an alias. Fix: write the value out where the alias is."),
    ],
)
def test_fault_in_a_recipe_is_named_with_its_line(
    command: Command, edited: Callable[[str, str], Path], tmp_path: Path, before: str, after: str, line: int | None, message: str
) -> None:
    copy = edited(before, after)
    said = command("run", str(copy), "--workspace", str(tmp_path / "workspace")).refusal()
    assert said.startswith(f"error: {copy}" + (f":{line}: " if line else ": "))
    assert message in said
    assert not (tmp_path / "workspace").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.layers", "--set model.layers: expected KEY=VALUE, such as --set model.layers=4"),
        ("=4", "--set =4: expected KEY=VALUE"),
        ("finetune.7.steps=3", "--set finetune.7.steps=3: finetune.7: no such entry; there are 2 (topics, answers)."),
        ("finetune.x.steps=3", "--set finetune.x.steps=3: finetune.x: no such entry; there are 2 (topics, answers)."),
        ("finetune.5={}", "--set finetune.5={}: finetune has 2 entries, from 0; found 5."),
        ("pretrain.steps.more=3", "--set pretrain.steps.more=3: pretrain.steps is a single value, it has no keys."),
        ("model.layers=[", "--set model.layers=[: the value is not YAML"),
        ("model.layer=4", "--set model.layer=4: model.layer: unknown key. Did you mean layers?"),
        ("evaluate.revision=3", "--set evaluate.revision=3: evaluate.revision: counted by Wordmill itself"),
        (f"model.layers={'[' * 3000}", "--set model.layers=[[["),
        ("pretrain.seed=-1", "--set pretrain.seed=-1: pretrain.seed: found -1; input should be greater than or equal to 0."),
    ],
)
def test_fault_in_an_override_is_named(command: Command, recipe: Path, override: str, message: str) -> None:
    assert command("plan", str(recipe), "--set", override).refusal().startswith(f"error: {message}")


def test_every_fault_of_a_recipe_is_told_at_once(command: Command, recipe: Path) -> None:
    said = command("plan", str(recipe), "--set", "model.layer=4", "--set", "deduplicate.thresh=4").refusal()
    assert "Did you mean layers?" in said
    assert "Did you mean threshold?" in said


def test_missing_recipe_suggests_a_near_one(command: Command, recipe: Path) -> None:
    said = command("plan", str(recipe.with_name("tinny.yaml"))).refusal()
    assert said == f"error: {recipe.with_name('tinny.yaml')}: no such recipe. Did you mean {recipe}?\n"


def test_recipe_of_the_project_in_another_folder_is_among_those_told() -> None:
    with pytest.raises(UserError, match=r"no such recipe\. There are: .*configs/corpus/mixed\.yaml"):
        read_recipe("nowhere/at-all.yaml", [])


def test_missing_suite_is_called_a_suite(command: Command, tmp_path: Path) -> None:
    said = command("evaluate", "model", "--suite", "configs/suites/quck.yaml", "--workspace", str(tmp_path / "workspace")).refusal()
    assert said == "error: configs/suites/quck.yaml: no such suite. Did you mean configs/suites/quick.yaml?\n"


def test_model_that_nobody_registered_leaves_no_database(command: Command, tmp_path: Path) -> None:
    for reference in ("models:/nobody@champion", "0" * 32):
        said = command("generate", reference, "hello", "--workspace", str(tmp_path / "workspace")).refusal()
        assert f"MODEL {reference}" in said.replace("'", "")
    assert list(tmp_path.iterdir()) == []


def test_empty_recipe_is_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    assert "empty.yaml: found nothing, expected sections" in command("plan", str(tmp_path / "empty.yaml")).refusal()


def test_recipe_without_source_or_model_is_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / "idle.yaml").write_text("name: idle\n")
    assert (
        "found neither ingest (to pretrain) nor champion or base (to fine-tune)" in command("plan", str(tmp_path / "idle.yaml")).refusal()
    )


def test_missing_source_file_is_named(command: Command, recipe: Path, tmp_path: Path) -> None:
    missing = tmp_path / "absent.jsonl"
    said = command("plan", str(recipe), "--set", f"ingest.sources.0.paths=[{missing}]").refusal()
    assert "stories" in said
    assert str(missing) in said


def test_folder_without_a_matching_file_is_named(command: Command, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "hollow").mkdir()
    said = command("plan", str(recipe), "--set", f"ingest.sources.1.paths=[{tmp_path / 'hollow'}]").refusal()
    assert "notes" in said
    assert str(tmp_path / "hollow") in said


def test_corpus_that_cleaning_empties_names_the_rule_to_loosen(mill: "Mill", recipe: Path, workspace: Path) -> None:
    said = mill.run(recipe, workspace, "clean.select.rules=[{column: chars, min: 100000}]").refusal()
    assert "min_chars (100000) dropped 53 of them" in said
    assert "clean.select.off=[min_chars]" in said


def test_source_that_vanished_is_refused_by_a_run_in_one_message(mill: "Mill", recipe: Path, workspace: Path) -> None:
    said = mill.run(recipe, workspace, "ingest.sources.0.paths=[/absent/stories.jsonl]", "examples=[]", "finetune=[]").refusal()
    assert "/absent/stories.jsonl" in said


def test_workspace_of_another_format_is_refused(command: Command, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "workspace.json").write_text('{"format": 99}')
    said = command("run", str(recipe), "--workspace", str(tmp_path)).refusal()
    assert f"{tmp_path / 'workspace.json'}: format 99, expected 1" in said


def test_file_in_place_of_the_workspace_is_refused(command: Command, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("")
    said = command("run", str(recipe), "--workspace", str(tmp_path / "occupied")).refusal()
    assert f"workspace {tmp_path / 'occupied'}" in said


@pytest.mark.parametrize("arguments", [("plan", "RECIPE"), ("verify",)])
def test_manifest_of_another_format_is_refused(
    command: Command, recipe: Path, workspace: Path, built: "Built", arguments: tuple[str, ...]
) -> None:
    manifest = workspace / "annotate" / built.stage("annotate")["fingerprint"] / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 99}))
    called = [str(recipe) if part == "RECIPE" else part for part in arguments]
    assert f"{manifest}: written by another version of Wordmill" in command(*called, "--workspace", str(workspace)).refusal()


def test_mlflow_that_does_not_answer_is_named(
    command: Command, recipe: Path, tmp_path: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port}")
    said = command("run", str(recipe), "--workspace", str(tmp_path)).refusal()
    assert f"MLflow at http://127.0.0.1:{closed_port} does not answer" in said


def test_prefect_that_does_not_answer_is_named(mill: "Mill", recipe: Path, tmp_path: Path, closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}/api"
    said = mill("run", str(recipe), "--workspace", str(tmp_path), PREFECT_API_URL=url).refusal()
    assert f"Prefect at {url} does not answer" in said


@pytest.mark.parametrize("service", ["prefect", "mlflow", "worker"])
def test_taken_port_is_named_with_the_option_that_chooses_another(command: Command, tmp_path: Path, taken_port: int, service: str) -> None:
    ports = dict.fromkeys(("prefect", "mlflow", "worker"), "0") | {service: str(taken_port)}
    options = [part for name, port in ports.items() for part in (f"--{name}-port", port)]
    said = command("up", "--workspace", str(tmp_path), *options).refusal()
    assert f"port {taken_port}, for {service}, is taken" in said
    assert f"wordmill up --{service}-port " in said


@pytest.mark.parametrize(
    ("model", "tried"),
    [
        ("nothing-here", "no folder nothing-here"),
        ("0123abcd", "no model with fingerprint 0123abcd"),
        ("0" * 32, "no run of that id"),
        ("models:/absent@champion", "nothing is registered as 'absent'"),
    ],
)
def test_unknown_model_is_refused_with_what_was_tried(command: Command, built: "Built", model: str, tried: str) -> None:
    said = command("generate", model, "The", "--workspace", str(built.workspace)).refusal()
    assert tried in said
    assert "wordmill run" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("suite: own\nrevision: 2\n", ":2: revision: counted by Wordmill itself, not by files. Fix: delete the line."),
        ("suite: own\ntasks: &t [*t]\n", ":2: tasks.0: holds itself, by an alias."),
        ("suite: own\ntasks: " + "[" * 3000 + "]" * 3000, ": brackets or sections lie too deep in one another to be read."),
        (
            "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in pairwise("abcdef")),
            "more than 100,000 values with those that aliases stand for. Fix: write fewer",
        ),
    ],
    ids=["revision", "endless", "deep", "multiplied"],
)
def test_suite_that_cannot_be_meant_is_refused(command: Command, tmp_path: Path, text: str, message: str) -> None:
    suite = tmp_path / "own.yaml"
    suite.write_text(text)
    said = command("evaluate", "anything", "--suite", str(suite), "--workspace", str(tmp_path / "workspace")).refusal()
    assert said.startswith(f"error: {suite}")
    assert message in said


def test_suite_with_an_unknown_key_is_refused(command: Command, built: "Built", tmp_path: Path) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text("suite: small\nmax_document: 3\n")
    said = command("evaluate", str(built.folder("pretrain")), "--suite", str(suite), "--workspace", str(tmp_path)).refusal()
    assert f"{suite}:2: max_document: unknown key. Did you mean max_documents?" in said


@pytest.mark.parametrize("arguments", [("run",), ("runn", "x.yaml"), ("plan", "x.yaml", "--sett", "a=1")])
def test_wrong_command_line_shows_the_usage(command: Command, arguments: tuple[str, ...]) -> None:
    done = command(*arguments)
    assert done.code == 2
    assert done.err.startswith("Usage: ")
