"""`wordmill export` on what a run made."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import yaml

from tasks.export import export as export_module
from tasks.inference.saved_models import load

if TYPE_CHECKING:
    from tests.flows.conftest import Built, Done

Command = Callable[..., "Done"]


@pytest.mark.parametrize("name", ["fingerprint", "registry"])
def test_export_says_what_the_model_says_and_its_card_where_it_comes_from(
    command: Command, built: "Built", tmp_path: Path, name: str
) -> None:
    fingerprint = str(built.stage("pretrain")["fingerprint"])
    model = fingerprint[:8] if name == "fingerprint" else "models:/tiny@champion"
    out = tmp_path / "out"
    done = command("export", model, str(out), "--workspace", str(built.workspace), "--json").document()
    assert done["folder"] == str(out)
    assert all(check["fine"] for check in done["checks"])
    exact = next(check for check in done["checks"] if check["name"] == "loaded anew: logits")
    assert (exact["found"], exact["allowed"]) == (0.0, 0.0)
    said = [
        command("generate", one, "The mill", "--temperature", "0", "--max-tokens", "12", "--workspace", str(built.workspace))
        for one in (model, str(out))
    ]
    assert said[0].out == said[1].out != ""
    _, front, card = (out / "README.md").read_text().split("---\n", 2)
    assert set(yaml.safe_load(front)["language"]) == {"en", "zh"}
    for stage in ("ingest", "tokenizer", "pretrain"):
        assert f"| {stage} | `{built.stage(stage)['fingerprint']}` |" in card
    assert "| tiny | bits_per_byte | bits_per_byte | model |" in card
    assert "| stories | en |" in card
    assert json.loads((out / "manifest.json").read_text())["inputs"] == {"model": fingerprint}


def test_tuned_classifier_is_exported_with_its_labels(command: Command, built: "Built", tmp_path: Path) -> None:
    done = command("export", str(built.folder("finetune: topics")), str(tmp_path / "out"))
    assert done.code == 0, done.err
    assert "loaded anew: logits" in done.out
    assert "written" not in done.out.replace("wrote", "").split("transformers")[0]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert set(config["label2id"]) == {"chinese", "english"}
    assert json.loads((tmp_path / "out" / "task.json").read_text())["name"] == "topics"


def test_answers_of_an_exported_chat_model_end_at_their_end_token(command: Command, built: "Built", tmp_path: Path) -> None:
    assert command("export", str(built.folder("finetune: answers")), str(tmp_path / "out")).code == 0
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    _, tokenizer = load(tmp_path / "out")
    assert generation["eos_token_id"] == [tokenizer.token_to_id("<|eos|>"), tokenizer.token_to_id("<|end|>")]


def test_full_folder_is_refused(command: Command, built: "Built", tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("")
    refusal = command("export", str(built.folder("pretrain")), str(tmp_path)).refusal()
    assert "not empty (it holds mine.txt). Fix: name a new folder" in refusal


def test_difference_ends_with_code_1_a_table_and_nothing_at_the_folder(
    command: Command, built: "Built", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_altered(folder: Path, allow_pickle: bool = False):
        model, tokenizer = load(folder, allow_pickle)
        if folder.parent == tmp_path:
            with torch.no_grad():
                model.trunk.embedding.weight *= 2
        return model, tokenizer

    monkeypatch.setattr(export_module, "load", load_altered)
    done = command("export", str(built.folder("pretrain")), str(tmp_path / "out"))
    assert (done.code, done.out) == (1, "")
    assert re.search(r"loaded anew: weights +\d+ tensors +\d +0 +DIFFERS", done.err)
    assert "loaded anew: weights: trunk.embedding.weight" in done.err
    assert "Nothing is left at" in done.err
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []
