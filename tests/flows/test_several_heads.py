"""A fine-tuning on several sets of examples: planned, run to the end, and each head scored, registered and asked."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.tasks.foreign import write_gpt2

if TYPE_CHECKING:
    from tests.flows.conftest import Done, Mill

Command = Callable[..., "Done"]
BOTH = "{name: both, examples: [topics, answers], steps: 6, optimizer: {learning_rate: 1.0e-3}, log_every: 1, batch_rows: 4, threads: 1}"
STAGES = [
    "finetune: both",
    "head: both, topics",
    "head: both, answers",
    "evaluate: both, topics",
    "memory: both, topics",
    "evaluate: both, answers",
    "memory: both, answers",
    "gate: both, topics",
    "gate: both, answers",
    "report",
]
FOREIGN = """
name: foreign
heldout: {share: 0.3}
base: {folder: BASE}
examples:
  - {name: topics, kind: classification, source: {kind: jsonl, paths: [INPUT/topics.jsonl]}}
  - {name: answers, kind: instruction, source: {kind: jsonl, paths: [INPUT/answers.jsonl]}}
finetune:
  - FINETUNE
"""


def test_each_head_is_scored_registered_and_asked(mill: "Mill", command: Command, recipe: Path, workspace: Path) -> None:
    document = mill.run(recipe, workspace, f"finetune=[{BOTH}]").document()
    ran = [stage["stage"] for stage in document["stages"] if stage["status"] == "ran"]
    assert ran == [*STAGES, "register: both, topics", "register: both, answers"]
    subjects = {row["subject"]: row["task"] for row in document["scores"] if row["model"] == "model"}
    assert subjects["both, topics"] == "classification"
    assert "both, answers" in subjects
    names = [entry["uri"] for entry in document["registered"]]
    assert names[1:] == ["models:/tiny-both-topics@champion", "models:/tiny-both-answers@champion"]
    page = Path(document["report"]).read_text(encoding="utf-8")
    assert "both, topics" in page
    for name in names[1:]:
        said = command("generate", name, "The mill", "--workspace", str(workspace))
        assert said.code == 0, said.err
    traced = command("trace", names[1], "--step", "1", "--workspace", str(workspace))
    assert traced.code == 0, traced.err


def test_plan_of_a_foreign_base_names_the_heads(command: Command, recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "foreign.yaml"
    text = FOREIGN.replace("BASE", str(write_gpt2(tmp_path / "gpt2"))).replace("INPUT", str(recipe.parent))
    path.write_text(text.replace("FINETUNE", BOTH))
    done = command("plan", str(path), "--workspace", str(tmp_path / "workspace"), "--json")
    labels = [row["label"] for row in done.document()["stages"]]
    assert labels == ["base", "examples: topics", "examples: answers", *STAGES, "register: both, topics", "register: both, answers"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("finetune.0.examples=[topics, moods]", "finetune topics: examples 'moods' is none of: topics, answers"),
        ("finetune.0.examples=[topics, topics]", "finetune.0: examples: 'topics' stands there twice"),
        ("finetune.0.examples=7", "finetune.0.examples: examples is 7, expected a name, or a list of names"),
        ("finetune.0.weights={topics: 2}", "finetune.0: weights share turns out among several sets of examples"),
        (f"finetune=[{BOTH}, {{name: both-topics, examples: topics}}]", "two models would be called 'both-topics'"),
    ],
)
def test_fault_is_named(command: Command, recipe: Path, override: str, message: str) -> None:
    assert message in command("plan", str(recipe), "--set", override).refusal()


def test_weights_below_one_turn_are_refused(command: Command, recipe: Path) -> None:
    weighed = BOTH.replace("steps: 6", "weights: {topics: 0, answers: 1}")
    message = command("plan", str(recipe), "--set", f"finetune=[{weighed}]").refusal()
    assert "finetune.0.weights.topics: found 0; input should be greater than or equal to 1" in message


def test_encoder_decoder_is_refused_before_anything_runs(command: Command, recipe: Path) -> None:
    changes = [
        "model={family: seq2seq, layers: 1, width: 32, heads: 2, context: 32}",
        "pretrain.objective={kind: restore}",
    ]
    changes += ["tokenizer.reserve=['<|sep|>']", f"finetune=[{BOTH}]"]
    message = command("plan", str(recipe), *(part for change in changes for part in ("--set", change))).refusal()
    assert "finetune both: several heads need one trunk, but model.family is seq2seq" in message
