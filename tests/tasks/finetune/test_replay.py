"""What a model learned before is learned again among new rows: in the stated share, and as the same steps after a stop."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

from model.data.batches import ExampleBatches
from model.huggingface.huggingface import load_folder
from model.nn.models import LanguageModel, SequenceClassifier
from tasks.artifacts import Examples, FinetunedModel, PretrainedModel, Tokenizer
from tasks.finetune.base_model import BaseConfig, take_base
from tasks.finetune.config import FinetuneConfig
from tasks.finetune.finetune import finetune
from tasks.finetune.replay import replay_ratios, replay_turns, replay_weights, text_windows, with_replay
from tasks.memory import DOCUMENTS_SEEN
from tasks.tokenizer.encoding import TextIds
from tests.tasks.foreign import write_gpt2
from tests.tasks.launch_here import here

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = {"fruit": ["apple", "pear", "plum"], "tool": ["hammer", "saw", "drill"]}
Rows = list[dict[str, object]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> PretrainedModel:
    """A language model that remembers a text."""
    folder = tmp_path_factory.mktemp("base")
    out = folder / "base"
    out.mkdir()
    take_base(BaseConfig(folder=str(write_gpt2(folder / "theirs"))), out)
    (out / "memory").mkdir()
    text = "an apple and a saw are here " * 20
    row = {"id": "d", "source": "s", "language": "en", "bytes": len(text), "text": text}
    pq.write_table(pa.Table.from_pylist([row], DOCUMENTS_SEEN), out / "memory" / "text.parquet")
    return PretrainedModel(str(out), "ba5e")


def labelled(count: int, labels: tuple[str, ...] = ("fruit", "tool")) -> Rows:
    rows: Rows = []
    for number in range(count):
        label = labels[number % len(labels)]
        text = f"a {WORDS[label][number % 3]} is here"
        rows.append({"id": f"{label}-{number}", "group": f"group-{number}", "text": text, "label": label})
    return rows


def instructed(count: int) -> Rows:
    return [{"id": f"{n}", "group": f"{n}", "prompt": f"{n} apple", "response": "fruit"} for n in range(count)]


def written(folder: Path, train: Rows, replay: Rows | None = None, labels: tuple[str, ...] = ("fruit", "tool")) -> Examples:
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(train), folder / "train.parquet")
    if replay is not None:
        pq.write_table(pa.Table.from_pylist(replay, pa.Table.from_pylist(train).schema), folder / "replay.parquet")
    (folder / "labels.json").write_text(json.dumps(list(labels) if "label" in train[0] else []))
    return Examples(str(folder), folder.name)


def tuned(base: PretrainedModel, examples: Examples, out: Path, **settings: object) -> FinetunedModel:
    out.mkdir(exist_ok=True)
    given = {"name": "tuned", "examples": "task", "batch_rows": 4, "log_every": 1, **settings}
    outcome = finetune(FinetuneConfig.model_validate(given), base, Tokenizer(base.folder, "facade"), (examples,), out, here)
    return FinetunedModel(str(out), "f17e", figures=outcome.figures, notes=outcome.notes)


def test_epochs_count_new_rows_and_the_share_of_steps_is_replayed(base: PretrainedModel, tmp_path: Path) -> None:
    examples = written(tmp_path / "examples", labelled(40), labelled(30))
    plain = tuned(base, examples, tmp_path / "plain", epochs=1)
    mixed = tuned(base, examples, tmp_path / "mixed", epochs=1, replay=0.25)
    new = plain.figures["examples"] / 4
    assert plain.figures["steps"] == np.ceil(new)
    assert mixed.figures["steps"] == np.ceil(new / 0.75)
    assert mixed.figures["replayed_examples"] == 30
    assert "replay" not in plain.notes
    steps = int(mixed.figures["steps"])
    turns = replay_turns({"examples": 1 / 3}, steps)
    assert mixed.notes["replay"] == f"task: {turns['new']} steps on new rows, {turns['examples']} on 30 replayed rows of examples"
    assert abs(turns["examples"] - steps / 4) < 1


def test_a_class_that_only_replayed_rows_have_is_not_forgotten(base: PretrainedModel, tmp_path: Path) -> None:
    settings = {"epochs": 6, "optimizer": {"learning_rate": 3e-3}}
    known = tuned(base, written(tmp_path / "before", labelled(60)), tmp_path / "known", **settings)
    night = written(tmp_path / "night", labelled(30, ("fruit",)), labelled(30, ("tool",)))
    folder = tmp_path / "champion"
    champion = PretrainedModel(str(folder), "c4a3")
    folder.mkdir()
    (folder / "model").symlink_to(known.path / "model")
    (folder / "tokenizer.json").symlink_to(base.path / "tokenizer.json")
    (folder / "tokenizer_config.json").symlink_to(base.path / "tokenizer_config.json")
    forgets = tuned(champion, night, tmp_path / "forgets", **settings)
    keeps = tuned(champion, night, tmp_path / "keeps", replay=0.3, **settings)
    assert tools_recognized(keeps) == 1.0 > tools_recognized(forgets)


def tools_recognized(model: FinetunedModel) -> float:
    """Share of tools that are called so."""
    from tasks.tokenizer.encoding import load_tokenizer

    found, tokenizer = load_folder(model.path / "model").eval(), load_tokenizer(model.path / "model")
    assert isinstance(found, SequenceClassifier)
    right = 0
    for word in WORDS["tool"]:
        ids = torch.tensor([tokenizer.encode(f"a {word} is here").ids])
        with torch.no_grad():
            right += int(found(ids, torch.tensor([ids.shape[1]])).argmax() == 1)
    return right / len(WORDS["tool"])


def test_a_model_that_writes_replays_general_text_too_and_forgets_less_of_it(base: PretrainedModel, tmp_path: Path) -> None:
    examples = written(tmp_path / "examples", instructed(24), instructed(8))
    settings = {"epochs": 6, "optimizer": {"learning_rate": 3e-3}}
    plain = tuned(base, examples, tmp_path / "plain", **settings)
    mixed = tuned(base, examples, tmp_path / "mixed", replay=0.5, **settings)
    assert mixed.figures["replayed_text"] > 0
    assert "replayed rows of text" in mixed.notes["replay"]
    assert text_loss(mixed) < text_loss(plain)


def text_loss(model: FinetunedModel) -> float:
    """Nats a token of the text that the base remembers."""
    from tasks.tokenizer.encoding import load_tokenizer

    found = load_folder(model.path / "model").eval()
    assert isinstance(found, LanguageModel)
    ids = torch.tensor([load_tokenizer(model.path / "model").encode("an apple and a saw are here", add_special_tokens=False).ids])
    with torch.no_grad():
        return float(torch.nn.functional.cross_entropy(found(ids)[0, :-1], ids[0, 1:]))


def test_replay_without_anything_remembered_changes_nothing(base: PretrainedModel, tmp_path: Path) -> None:
    examples = written(tmp_path / "examples", labelled(24), [])
    plain = tuned(base, examples, tmp_path / "plain", epochs=1)
    asked = tuned(base, examples, tmp_path / "asked", epochs=1, replay=0.25)
    assert plain.figures["loss"] == asked.figures["loss"]
    assert asked.notes["replay"].startswith("nothing: ")


def test_a_killed_training_goes_on_with_the_same_new_and_replayed_rows(
    base: PretrainedModel, tmp_path: Path, killed_at_a_checkpoint: Callable[[], AbstractContextManager[None]]
) -> None:
    examples = written(tmp_path / "examples", instructed(24), instructed(8))
    settings = {"steps": 12, "replay": 0.4, "checkpoint_every": 5}
    whole = tuned(base, examples, tmp_path / "whole", **settings)

    with killed_at_a_checkpoint():
        tuned(base, examples, tmp_path / "killed", **settings)
    killed = tuned(base, examples, tmp_path / "killed", **settings)
    name = "model/model.safetensors"
    assert (whole.path / name).read_bytes() == (killed.path / name).read_bytes()


def test_batches_are_a_function_of_the_step() -> None:
    def batches(marker: int) -> ExampleBatches:
        table = pa.table({"ids": pa.array([[marker, n] for n in range(10)], pa.list_(pa.int32())), "label": pa.array([0] * 10, pa.int32())})
        return ExampleBatches(table, "class", 2, 1, 8, 0)

    mixed = with_replay(batches(1), {"examples": batches(2), "text": batches(3)}, {"examples": 0.5, "text": 0.5})
    markers = [int(mixed.batch(step, 0, 2).ids[0, 0]) for step in range(40)]
    assert [markers.count(marker) for marker in (1, 2, 3)] == [20, 10, 10]
    assert torch.equal(mixed.batch(17, 0, 2).ids, mixed.batch(17, 0, 2).ids)


def test_shares_of_what_is_replayed_are_equal_and_add_up() -> None:
    assert replay_weights(replay_ratios(0.25, {"examples": 500}, 500)) == {"new": 750, "examples": 250}
    assert replay_weights(replay_ratios(1 / 3, {"examples": 500, "text": 500}, 500)) == {"new": 668, "examples": 166, "text": 166}


def test_no_replayed_row_is_seen_more_often_than_a_new_one() -> None:
    ratios = replay_ratios(0.5, {"examples": 4, "text": 900}, 1_000)
    assert ratios == {"examples": 4 / 1_000, "text": 0.5}
    turns = replay_turns(ratios, 10_000)
    assert turns["examples"] / 4 <= turns["new"] / 1_000


@pytest.mark.parametrize("length", [1, 6, 7, 8, 14, 15, 40])
def test_each_token_of_a_text_is_a_target_once(length: int) -> None:
    windows = text_windows(list(range(10, 10 + length)), TextIds(1, 2, 0), 8)
    assert [token for window in windows for token in window[1:]] == [*range(10, 10 + length), 2]
    assert all(2 <= len(window) <= 9 for window in windows)


def test_a_text_without_tokens_gives_no_row() -> None:
    assert text_windows([], TextIds(1, 2, 0), 8) == []


@pytest.mark.parametrize("share", [-0.1, 0.95, 1.0])
def test_a_share_that_leaves_nothing_to_the_new_rows_is_refused(share: float) -> None:
    with pytest.raises(ValidationError):
        FinetuneConfig.model_validate({"name": "tuned", "examples": "task", "replay": share})
