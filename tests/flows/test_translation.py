"""A recipe that teaches a translator from elsewhere, up to the command line that asks it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tests.tasks.foreign import MARIAN_WORDS, write_marian

if TYPE_CHECKING:
    from tests.flows.conftest import Done, Mill

Command = Callable[..., "Done"]
RECIPE = """
name: translator
heldout: {share: 0.1}
base: {folder: INPUT/marian}
examples:
  - {name: swaps, kind: instruction, source: {kind: jsonl, paths: [INPUT/swaps.jsonl]}}
finetune:
  - {name: swaps, examples: swaps, steps: 250, optimizer: {learning_rate: 5.0e-3}, batch_rows: 16, threads: 1}
evaluate: {suite: tiny, tasks: [instruction, samples], max_examples: 4, max_responses: 2, response_tokens: 4, sample_tokens: 4,
           prompts: [rain], resamples: 100, threads: 1}
register: {name: translator}
"""


def test_translator_from_elsewhere_is_tuned_registered_and_answers(mill: "Mill", command: Command, tmp_path: Path) -> None:
    write_marian(tmp_path / "marian")
    rows = [f'{{"prompt": "{a} {b} {c}", "response": "{b}"}}\n' for a in MARIAN_WORDS for b in MARIAN_WORDS for c in MARIAN_WORDS]
    (tmp_path / "swaps.jsonl").write_text("".join(rows))
    recipe = tmp_path / "translator.yaml"
    recipe.write_text(RECIPE.replace("INPUT", str(tmp_path)))
    done = mill.run(recipe, tmp_path / "workspace")
    stages = {stage["stage"]: stage for stage in done.document()["stages"]}
    assert "register: swaps" in stages
    assert "Failed to validate" not in done.err
    assert "type hints" not in done.err
    tuned = tmp_path / "workspace" / "finetune" / stages["finetune: swaps"]["fingerprint"]
    for options in (("--temperature", "0"), ("--beams", "2")):
        said = command("generate", str(tuned), "mill rain mill", *options, "--workspace", str(tmp_path / "workspace"))
        assert said.out == "rain\n"
