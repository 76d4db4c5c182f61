"""Several sets of examples: one trunk learns them in turns, and each head is a model of its own afterwards."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from peft import PeftModel
from pydantic import ValidationError

from model.data.batches import Batch
from model.huggingface.huggingface import load_folder
from model.nn.models import MultipleChoice, MultiTask
from tasks.artifacts import Examples, FinetunedModel, PretrainedModel, Tokenizer
from tasks.errors import UserError
from tasks.evaluate.evaluate import EvaluateConfig, evaluate
from tasks.finetune.base_model import BaseConfig, take_base
from tasks.finetune.config import FinetuneConfig
from tasks.finetune.finetune import finetune
from tasks.finetune.heads import Head, take_head
from tasks.inference.saved_models import load
from tasks.inference.task_file import ModelTask, read_task
from tests.tasks.foreign import write_bert, write_gpt2, write_marian
from tests.tasks.launch_here import here

pytestmark = pytest.mark.usefixtures("one_thread")

FRUIT, TOOLS = ["apple", "pear", "plum"], ["hammer", "saw", "drill"]
LORA = {"rank": 2, "alpha": 4, "dropout": 0.1}
Rows = list[dict[str, object]]


@pytest.fixture(scope="module", params=["gpt2", "bert"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PretrainedModel:
    return taken(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> PretrainedModel:
    return taken(tmp_path_factory.mktemp("gpt2"), "gpt2")


def taken(folder: Path, family: str) -> PretrainedModel:
    out = folder / "base"
    out.mkdir()
    write = {"gpt2": write_gpt2, "bert": write_bert, "marian": write_marian}[family]
    take_base(BaseConfig(folder=str(write(folder / "theirs"))), out)
    return PretrainedModel(str(out), "ba5e")


def rows_of(kind: str) -> Rows:
    rows: Rows = []
    for i in range(24):
        fruit, tool = FRUIT[i % 3], TOOLS[i // 3 % 3]
        word, label = (fruit, "fruit") if i % 2 else (tool, "tool")
        kinds: dict[str, dict[str, object]] = {
            "instruction": {"prompt": f"{i} {word}", "response": label},
            "classification": {"text": f"a {word} is here", "label": label},
            "multi_label": {"text": f"a {word} is here", "labels": [label] if i % 3 else ["fruit", "tool"]},
            "regression": {"text": f"a {word} is here", "value": float(i % 2)},
            "token_labels": {"tokens": [" a", f" {word}"], "labels": ["O", label]},
            "multiple_choice": {"question": "fruit", "choices": [fruit, tool], "answer": 0},
        }
        rows.append({"id": f"example-{i}", "group": f"group-{i}", **kinds[kind]})
    return rows


def written(kind: str, folder: Path, count: int = 24) -> Examples:
    labels = {
        "classification": ["fruit", "tool"],
        "multi_label": ["fruit", "tool"],
        "token_labels": ["O", "fruit", "tool"],
    }
    made = folder / f"examples-{kind}"
    made.mkdir()
    table = pa.Table.from_pylist(rows_of(kind))
    pq.write_table(table.slice(8, count), made / "train.parquet")
    pq.write_table(table.slice(0, 8), made / "heldout.parquet")
    (made / "labels.json").write_text(json.dumps(labels.get(kind, [])))
    return Examples(str(made), f"e4a3{kind}")


def tuned(base: PretrainedModel, kinds: list[str], folder: Path, out: str = "model", **settings: object) -> FinetunedModel:
    target = folder / out
    target.mkdir(exist_ok=True)
    given = {"name": "both", "examples": kinds, "batch_rows": 4, "steps": 12, "log_every": 1, **settings}
    examples = [folder / f"examples-{kind}" for kind in kinds]
    made = tuple(Examples(str(one), one.name) if one.exists() else written(kind, folder) for kind, one in zip(kinds, examples, strict=True))
    outcome = finetune(FinetuneConfig.model_validate(given), base, Tokenizer(base.folder, "facade"), made, target, here)
    return FinetunedModel(str(target), "f17e", figures=outcome.figures, notes=outcome.notes)


def head_of(model: FinetunedModel, name: str, folder: Path) -> FinetunedModel:
    out = folder / f"head-{name}"
    out.mkdir()
    take_head(Head(name), model, out)
    return FinetunedModel(str(out), "4ead")


def test_each_head_is_an_ordinary_model_that_says_what_the_model_of_all_heads_says(base: PretrainedModel, tmp_path: Path) -> None:
    kinds = ["classification", "multi_label", "regression", "token_labels", "multiple_choice"]
    kinds += ["instruction"] if "gpt2" in base.folder else []
    model = tuned(base, kinds, tmp_path)
    several = load_folder(model.path / "model")
    assert isinstance(several, MultiTask)
    theirs = {"token_labels": transformers.AutoModelForTokenClassification, "instruction": transformers.AutoModelForCausalLM}
    ids, lengths = torch.tensor([[4, 5, 6, 7]]), torch.tensor([4])
    for kind in kinds:
        folder = head_of(model, kind, tmp_path).path / "model"
        task = read_task(folder)
        assert task is not None
        assert (task.name, task.kind) == (f"both-{kind}", kind)
        with torch.no_grad():
            if kind == "multiple_choice":
                pair = Batch(torch.stack([ids, ids.flip(1)], 1), torch.tensor([0]), torch.tensor([[4, 4]]))
                ours = load_folder(folder)
                assert isinstance(ours, MultipleChoice)
                torch.testing.assert_close(several(kind, pair), ours(pair.ids, pair.lengths))
                continue
            said = several(kind, Batch(ids, ids, lengths))
            network = theirs.get(kind, transformers.AutoModelForSequenceClassification).from_pretrained(folder).eval()
            torch.testing.assert_close(said, network(input_ids=ids).logits, atol=1e-5, rtol=1e-4)


def test_all_tasks_are_learned_and_scored_by_their_heads(gpt2: PretrainedModel, tmp_path: Path) -> None:
    kinds = ["classification", "instruction"]
    model = tuned(gpt2, kinds, tmp_path, steps=160, optimizer={"learning_rate": 5e-3})
    assert model.notes["examples"] == "classification 12 in 80 steps, instruction 12 in 80 steps"
    curve = [json.loads(line) for line in (model.path / "curve.jsonl").read_text().splitlines()]
    assert curve[-1]["validation_loss"] is not None
    losses = [model.figures[f"validation_loss.{kind}"] for kind in kinds]
    assert min(losses) < curve[-1]["validation_loss"] < max(losses)
    assert "heads.classification" in (model.path / "learns.txt").read_text()
    found: dict[tuple[str, str], float] = {}
    for kind in kinds:
        head, out = head_of(model, kind, tmp_path), tmp_path / f"scores-{kind}"
        out.mkdir()
        examples = Examples(str(tmp_path / f"examples-{kind}"), "0")
        evaluate(EvaluateConfig(resamples=100, max_responses=4), head, None, examples, out)
        rows = pq.read_table(out / "scores.parquet").to_pylist()
        found |= {(kind, row["metric"]): row["value"] for row in rows if row["model"] == "model"}
    assert found["classification", "accuracy"] == 1
    assert found["instruction", "bits_per_byte"] < 1


def test_turns_are_in_proportion_to_the_examples_or_as_the_weights_say(gpt2: PretrainedModel, tmp_path: Path) -> None:
    written("classification", tmp_path, count=5)
    kinds = ["classification", "token_labels"]
    model = tuned(gpt2, kinds, tmp_path, steps=20)
    assert model.notes["examples"] == "classification 4 in 5 steps, token_labels 12 in 15 steps"
    model = tuned(gpt2, kinds, tmp_path, "weighed", steps=20, weights={"classification": 3, "token_labels": 1})
    assert model.notes["examples"] == "classification 4 in 15 steps, token_labels 12 in 5 steps"


def test_killed_training_of_several_heads_goes_on_to_the_same_weights(
    gpt2: PretrainedModel, tmp_path: Path, killed_at_a_checkpoint: Callable[[], AbstractContextManager[None]]
) -> None:
    kinds, settings = ["classification", "instruction"], {"steps": 8, "checkpoint_every": 3, "lora": LORA}
    whole = tuned(gpt2, kinds, tmp_path, **settings)

    with killed_at_a_checkpoint():
        tuned(gpt2, kinds, tmp_path, "killed", **settings)
    killed = tuned(gpt2, kinds, tmp_path, "killed", **settings)
    for name in ("model/model.safetensors", "adapter/instruction/adapter_model.safetensors"):
        assert (whole.path / name).read_bytes() == (killed.path / name).read_bytes()


def test_adapters_are_merged_in_every_head_and_apart_beside_each_in_the_form_of_peft(gpt2: PretrainedModel, tmp_path: Path) -> None:
    model = tuned(gpt2, ["classification", "multi_label"], tmp_path, optimizer={"learning_rate": 1e-2}, lora=LORA)
    ids = torch.tensor([[4, 5, 6, 7]])
    for kind in ("classification", "multi_label"):
        head = head_of(model, kind, tmp_path)
        opened = transformers.AutoModelForSequenceClassification
        plain = opened.from_pretrained(gpt2.path / "model", num_labels=2)
        theirs = PeftModel.from_pretrained(plain, str(head.path / "adapter")).eval()
        merged = opened.from_pretrained(head.path / "model").eval()
        with torch.no_grad():
            theirs.config.pad_token_id = merged.config.pad_token_id
            torch.testing.assert_close(theirs(ids).logits, merged(ids).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("freeze", "learned"), [("trunk", set()), ("all but top 1", {"stack.blocks.1", "stack.norm"})])
def test_trunk_is_frozen_as_under_one_head(gpt2: PretrainedModel, tmp_path: Path, freeze: str, learned: set[str]) -> None:
    model = tuned(gpt2, ["classification", "regression"], tmp_path, freeze=freeze)
    before, after = (load_folder(one.path / "model").trunk.state_dict() for one in (gpt2, model))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {part for part in learned if any(name.startswith(part) for name in changed)} == learned
    assert all(name.startswith(tuple(learned)) for name in changed)


def test_head_that_could_not_learn_is_refused(gpt2: PretrainedModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="freeze is trunk, which is all that heads.instruction has .*: nothing could learn"):
        tuned(gpt2, ["classification", "instruction"], tmp_path, freeze="trunk")


def test_names_that_no_module_may_have_are_no_trouble(gpt2: PretrainedModel, tmp_path: Path) -> None:
    for name in ("items", "de-en.small", "de_en.small"):
        written("classification", tmp_path).path.rename(tmp_path / f"examples-{name}")
    model = tuned(gpt2, ["items", "de-en.small", "de_en.small"], tmp_path, steps=3)
    folder = head_of(model, "de_en.small", tmp_path).path / "model"
    assert read_task(folder) == ModelTask("both-de_en.small", "classification", ("fruit", "tool"))


def test_task_without_a_turn_is_refused(gpt2: PretrainedModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="finetune both: of 1 steps none is for .* Fix: raise steps, or its share by weights"):
        tuned(gpt2, ["classification", "regression"], tmp_path, steps=1)


def test_several_heads_on_an_encoder_decoder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="an encoder-decoder has two stacks. Fix: give each of the examples instruction, "):
        tuned(taken(tmp_path, "marian"), ["instruction", "regression"], tmp_path)


def test_folder_of_several_heads_is_no_model_to_be_asked(gpt2: PretrainedModel, tmp_path: Path) -> None:
    model = tuned(gpt2, ["classification", "regression"], tmp_path, steps=2)
    with pytest.raises(UserError, match="several heads, classification, regression. Fix: give a model of one of them"):
        load(model.path / "model")


@pytest.mark.parametrize(
    ("examples", "weights", "message"),
    [
        (["a", "b", "a"], None, "examples: 'a' stands there twice"),
        (["a", "b"], {"a": 1, "c": 1}, "weights: 'c' is none of the examples: a, b"),
        (["a", "b"], {"a": 1}, "weights: 'b' has none; give each of the examples its turns"),
        (["a", "b"], {"a": 1, "b": 0}, "greater than or equal to 1"),
        (["a", "b"], {"a": 1, "b": -2}, "greater than or equal to 1"),
        (["a", "b"], {"a": 1, "b": 20_000}, "repeat only after 20,001 samples"),
        ("a", {"a": 1}, "examples is 'a' alone; leave weights out"),
        ([], None, "examples is \\[\\], expected a name, or a list of names"),
        ([1, 2], None, "expected a name, or a list of names"),
    ],
)
def test_faults_of_several_sets_are_named(examples: object, weights: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FinetuneConfig.model_validate({"name": "both", "examples": examples, "weights": weights})
