"""A fine-tuning recipe that starts from a folder which transformers made."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.tasks.foreign import write_gpt2

if TYPE_CHECKING:
    from tests.flows.conftest import Done, Mill

Command = Callable[..., "Done"]
RECIPE = """
name: foreign
heldout: {share: 0.3}
base: {folder: BASE}
examples:
  - {name: answers, kind: instruction, source: {kind: jsonl, paths: [INPUT/answers.jsonl]}}
finetune:
  - {name: answers, examples: answers, steps: 40, optimizer: {learning_rate: 1.0e-2}, batch_rows: 8, threads: 1, lora: {rank: 4, alpha: 8}}
evaluate: {suite: tiny, max_examples: 4, max_responses: 2, response_tokens: 4, sample_tokens: 4, prompts: ["is pear a fruit?"],
           resamples: 100, threads: 1}
register: {name: foreign}
"""


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """The recipe, beside its examples and the folder it starts from."""
    write_gpt2(tmp_path / "gpt2")
    rows = [f'{{"prompt": "is {word} a fruit? {n}", "response": "yes"}}\n' for n in range(8) for word in ("apple", "pear", "plum")]
    (tmp_path / "answers.jsonl").write_text("".join(rows))
    recipe = tmp_path / "foreign.yaml"
    recipe.write_text(RECIPE.replace("BASE", str(tmp_path / "gpt2")).replace("INPUT", str(tmp_path)))
    return recipe


def test_model_from_elsewhere_is_tuned_registered_and_answers(mill: "Mill", command: Command, foreign: Path, tmp_path: Path) -> None:
    done = mill.run(foreign, tmp_path / "workspace")
    document = done.document()
    stages = {stage["stage"]: stage for stage in document["stages"]}
    assert list(stages) == [
        "base",
        "examples: answers",
        "finetune: answers",
        "evaluate: answers",
        "memory: answers",
        "gate: answers",
        "report",
        "register: answers",
    ]
    assert "finetune answers: what learned\npart " in done.err
    (registered,) = document["registered"]
    assert (registered["uri"], registered["promoted"], registered["verdict"]) == ("models:/foreign/1", "false", "cannot tell")
    assert registered["why"] == "answers has 4 items to judge on, the gate needs 20 (gate.min_items)"
    tuned = tmp_path / "workspace" / "finetune" / stages["finetune: answers"]["fingerprint"]
    assert (tuned / "adapter" / "adapter_model.safetensors").is_file()
    said = command("generate", str(tuned), "is plum a fruit? 3", "--temperature", "0", "--workspace", str(tmp_path / "workspace"))
    assert said.out == "yes\n"


def test_examples_that_no_tuning_names_are_left_out_with_a_word(command: Command, foreign: Path, tmp_path: Path) -> None:
    spare = "  - {name: spare, kind: classification, source: {kind: jsonl, paths: [ABSENT.jsonl]}}\nfinetune:"
    foreign.write_text(foreign.read_text().replace("finetune:", spare, 1))
    done = command("plan", str(foreign), "--workspace", str(tmp_path / "workspace"))
    assert (done.code, "examples: spare" in done.out) == (0, False)
    assert "examples spare: no fine-tuning uses them; they are left out" in done.out


def test_folder_that_moved_is_the_same_base_and_one_that_changed_is_another(command: Command, foreign: Path, tmp_path: Path) -> None:
    def fingerprint(*overrides: str) -> str:
        done = command("plan", str(foreign), "--workspace", str(tmp_path / "workspace"), "--json", *overrides)
        return next(row["fingerprint"] for row in done.document()["stages"] if row["label"] == "base")

    before = fingerprint()
    (tmp_path / "gpt2").rename(tmp_path / "moved")
    moved = ("--set", f"base.folder={tmp_path / 'moved'}")
    assert fingerprint(*moved) == before
    (tmp_path / "moved" / "generation_config.json").write_text("{}")
    assert fingerprint(*moved) != before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("base.folder=/nowhere", "base.folder /nowhere: no such folder"),
        ("champion.uri=models:/mill@champion", "a fine-tuning starts from champion or from base: give one of the two"),
        ("base=null", "a fine-tuning starts from champion or from base: give one of the two"),
        ("finetune.0.freeze=trunk", "finetune.0: lora freezes all but its adapters and a new head"),
        ("finetune.0.lora.alpa=3", "finetune.0.lora.alpa: unknown key. Did you mean alpha?"),
        ("finetune.0.lora.rank=0", "finetune.0.lora: rank 0: expected 1 or more"),
        ("finetune.0={name: a, examples: answers, freeze: head}", "freeze 'head': expected none, trunk, all but embeddings"),
    ],
)
def test_fault_of_a_fine_tuning_is_named(command: Command, foreign: Path, override: str, message: str) -> None:
    assert message in command("plan", str(foreign), "--set", override).refusal()
