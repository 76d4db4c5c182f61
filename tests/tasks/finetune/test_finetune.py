import json
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mlflow.pyfunc.model import PythonModelContext
from peft import PeftModel
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from model.config.heads import IGNORED
from model.config.layout_config import LayoutConfig
from model.config.lora_config import LoraConfig
from model.config.model_config import ModelConfig
from model.distributed import device
from model.huggingface.huggingface import load_folder, save_folder
from model.nn.models import LanguageModel, SequenceClassifier
from model.nn.recompute import recomputed
from tasks.artifacts import Examples, FinetunedModel, PretrainedModel, Tokenizer
from tasks.cluster import Training
from tasks.errors import UserError
from tasks.evaluate.evaluate import EvaluateConfig, evaluate
from tasks.examples.kinds.instruction import instruction_row
from tasks.examples.kinds.token_labels import WordRow, word_windows
from tasks.examples.rows import encode_examples, read_examples
from tasks.examples.text_rows import text_row
from tasks.examples.text_words import spaced
from tasks.finetune.base_model import BaseConfig, take_base
from tasks.finetune.config import FinetuneConfig
from tasks.finetune.example_sets import validation_mask
from tasks.finetune.finetune import finetune, training_steps
from tasks.inference.labelling import word_labeller
from tasks.inference.saved_models import load
from tasks.inference.serving import ServedModel
from tasks.inference.task_file import ModelTask, read_task
from tasks.tokenizer.encoding import SPECIAL_TOKENS, SpecialIds, TextIds, encode_documents, load_tokenizer, special_ids
from tasks.tokenizer.tokenizer import complete, learn_merges, new_tokenizer, tokenizer_settings
from tests.tasks.foreign import write_bert
from tests.tasks.launch_here import here
from tests.tasks.launch_on_two import on_two

pytestmark = pytest.mark.usefixtures("one_thread")

SPECIAL = SpecialIds(*range(len(SPECIAL_TOKENS)))
FRUIT, TOOLS = ["apple", "pear", "plum", "cherry"], ["hammer", "saw", "drill", "wrench"]
SMALL = ModelConfig(layers=1, width=32, heads=2, context=32)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    trained = new_tokenizer()
    learn_merges(trained, iter([f"a {word} here" for word in FRUIT + TOOLS] * 5), 320)
    complete(trained)
    trained.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_settings()))
    return Tokenizer(str(folder), "facade")


@pytest.fixture(scope="module")
def base(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> PretrainedModel:
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    save_folder(folder / "model", LanguageModel(SMALL, load_tokenizer(tokenizer.path).get_vocab_size()), {})
    return PretrainedModel(str(folder), "ba5e")


def write_examples(folder: Path, rows: list[dict[str, object]], labels: list[str], heldout: int) -> Examples:
    for number, row in enumerate(rows):
        row.update(id=f"example-{number}", group=f"group-{number}")
    pq.write_table(pa.Table.from_pylist(rows[heldout:]), folder / "train.parquet")
    pq.write_table(pa.Table.from_pylist(rows[:heldout]), folder / "heldout.parquet")
    (folder / "labels.json").write_text(json.dumps(labels))
    return Examples(str(folder), "e4a3")


def classification_rows(count: int) -> list[dict[str, object]]:
    random = np.random.default_rng(3)
    sides = [("fruit", FRUIT), ("tool", TOOLS), ("fruit", FRUIT)]  # two of three: the majority is no coin toss
    return [{"text": f"a {random.choice(sides[i % 3][1])} here", "label": sides[i % 3][0]} for i in range(count)]


def run(config: FinetuneConfig, base: PretrainedModel, tokenizer: Tokenizer, examples: Examples, out: Path) -> FinetunedModel:
    out.mkdir()
    outcome = finetune(config, base, tokenizer, (examples,), out, here)
    return FinetunedModel(str(out), "f17e", figures=outcome.figures, notes=outcome.notes)


def scores_of(folder: Path) -> dict[tuple[str, str], float]:
    return {(row["model"], row["metric"]): row["value"] for row in pq.read_table(folder / "scores.parquet").to_pylist()}


def test_classifier_learns_a_separable_task_and_beats_the_majority(base: PretrainedModel, tokenizer: Tokenizer, tmp_path: Path) -> None:
    examples = write_examples(tmp_path, classification_rows(120), ["fruit", "tool"], heldout=30)
    config = FinetuneConfig(name="things", examples="things", epochs=5, optimizer={"learning_rate": 3e-3}, batch_rows=8)
    model = run(config, base, tokenizer, examples, tmp_path / "model")
    assert read_task(model.path / "model") == ModelTask("things", "classification", ("fruit", "tool"))
    assert model.figures["steps"] == training_steps(config, int(model.figures["examples"]))
    evaluate(EvaluateConfig(), model, None, examples, tmp_path)
    scores = scores_of(tmp_path)
    assert scores["majority", "accuracy"] == pytest.approx(2 / 3)
    assert scores["model", "accuracy"] > 0.95 > scores["majority", "macro_f1"]
    curve = [json.loads(line) for line in (model.path / "curve.jsonl").read_text().splitlines()]
    assert curve[-1]["validation_loss"] is not None


def test_transformers_classifies_a_text_like_we_do(base: PretrainedModel, tokenizer: Tokenizer, tmp_path: Path) -> None:
    examples = write_examples(tmp_path, classification_rows(60), ["fruit", "tool"], heldout=10)
    config = FinetuneConfig(name="things", examples="things", steps=5, batch_rows=8)
    folder = run(config, base, tokenizer, examples, tmp_path / "model").path / "model"
    theirs = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    given = AutoTokenizer.from_pretrained(folder)("a plum here", return_tensors="pt")
    ids = given["input_ids"]
    special = special_ids(load_tokenizer(folder), "test")
    assert ids[0].tolist() == [special.bos, *encode_documents(load_tokenizer(folder), ["a plum here"])[0], special.eos]
    ours = load_folder(folder)
    assert isinstance(ours, SequenceClassifier)
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=given["attention_mask"]).logits
        assert torch.allclose(ours(ids, torch.tensor([ids.shape[1]])), expected, atol=1e-5)
    assert theirs.config.id2label == {0: "fruit", 1: "tool"}


def test_token_labels_are_learned_and_scored_by_token(base: PretrainedModel, tokenizer: Tokenizer, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    rows: list[dict[str, object]] = []
    for _ in range(100):
        words = [
            (" a", "O"),
            (f" {random.choice(FRUIT)}", "FRUIT"),
            (" here", "O"),
            (f" {random.choice(TOOLS)}", "TOOL"),
        ]
        picked = [words[i] for i in random.permutation(4)]
        rows.append({"tokens": [w for w, _ in picked], "labels": [label for _, label in picked]})
    examples = write_examples(tmp_path, rows, ["FRUIT", "O", "TOOL"], heldout=20)
    config = FinetuneConfig(name="kinds", examples="kinds", epochs=8, optimizer={"learning_rate": 5e-3, "warmup_steps": 0}, batch_rows=8)
    model = run(config, base, tokenizer, examples, tmp_path / "model")
    evaluate(EvaluateConfig(), model, None, examples, tmp_path)
    scores = scores_of(tmp_path)
    assert scores["majority", "accuracy"] == 0.5
    assert scores["model", "accuracy"] > 0.8


def test_labeller_is_as_right_in_generate_and_served_as_it_was_judged(tmp_path: Path) -> None:
    random, start = np.random.default_rng(3), tmp_path / "base"
    start.mkdir()
    take_base(BaseConfig(folder=str(write_bert(tmp_path / "theirs"))), start)
    rows: list[dict[str, object]] = []
    for number in range(90):
        words = [("a", "O"), (str(random.choice(FRUIT)), "FRUIT"), ("\u200b", "O"), ("is", "O"), (f"{random.choice(TOOLS)}!", "TOOL")]
        random.shuffle(words)
        chosen = words[: 5 - number % 3]
        rows.append({"tokens": spaced([word for word, _ in chosen]), "labels": [label for _, label in chosen]})
    examples = write_examples(tmp_path, rows, ["FRUIT", "O", "TOOL"], heldout=30)
    config = FinetuneConfig(name="words", examples="words", steps=60, optimizer={"learning_rate": 3e-3}, batch_rows=8)
    model = run(config, PretrainedModel(str(start), "ba5e"), Tokenizer(str(start), "ba5e"), examples, tmp_path / "model")
    lost = sum("\u200b" in "".join(row["tokens"]) for row in rows[30:])  # type: ignore[arg-type]
    assert model.notes["labels_lost"].startswith(f"{lost} labels are of words that the tokenizer leaves nothing of")
    evaluate(EvaluateConfig(), model, None, examples, tmp_path)
    folder, held = model.path / "model", rows[:30]
    labeller = word_labeller(*load(folder), folder, read_task(folder))
    assert labeller is not None
    prompts = [" ".join(word.strip() for word in row["tokens"]) for row in held]  # type: ignore[attr-defined]
    served = ServedModel()
    served.load_context(PythonModelContext({"model": str(folder)}, {}))
    answers = served.predict(PythonModelContext({}, {}), pandas.DataFrame({"prompt": prompts}))["text"].tolist()
    assert answers == [labeller.label_names(prompt) for prompt in prompts]
    pairs = [pair for row, answer in zip(held, answers, strict=True) for pair in zip(row["labels"], answer.split(), strict=True)]  # type: ignore[call-overload]
    accuracy = scores_of(tmp_path)["model", "accuracy"]
    assert accuracy == pytest.approx(sum(wanted == found for wanted, found in pairs) / len(pairs))
    assert accuracy > 0.75


def test_instructions_are_learned_and_scored(base: PretrainedModel, tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": f"{number} {word}", "response": "fruit" if word in FRUIT else "tool"} for number in range(15) for word in FRUIT + TOOLS
    ]
    examples = write_examples(tmp_path, rows, [], heldout=16)
    config = FinetuneConfig(name="asks", examples="asks", steps=100, optimizer={"learning_rate": 5e-3, "warmup_steps": 0}, batch_rows=8)
    model = run(config, base, tokenizer, examples, tmp_path / "model")
    evaluate(EvaluateConfig(prompts=["1 saw"]), model, None, examples, tmp_path)
    scores = scores_of(tmp_path)
    assert scores["model", "bits_per_byte"] < scores["unigram", "bits_per_byte"]
    assert scores["model", "exact_match"] > scores["majority", "exact_match"] == 0.5
    assert scores["model", "rouge_l"] > scores["majority", "rouge_l"]
    (sample,) = json.loads((tmp_path / "samples.json").read_text())
    assert sample["prompt"] == "1 saw"
    assert sample["text"] in ("tool", "fruit")  # asked as a question, it answers


def test_frozen_trunk_stays_as_it_was(base: PretrainedModel, tokenizer: Tokenizer, tmp_path: Path) -> None:
    examples = write_examples(tmp_path, classification_rows(40), ["fruit", "tool"], heldout=10)
    config = FinetuneConfig(name="things", examples="things", steps=4, freeze=("trunk",), optimizer={"learning_rate": 0.1})
    model = run(config, base, tokenizer, examples, tmp_path / "model")
    before, after = load_folder(base.path / "model"), load_folder(model.path / "model")
    assert all(torch.equal(a, b) for a, b in zip(before.trunk.parameters(), after.trunk.parameters(), strict=True))


def test_killed_training_goes_on_to_the_same_weights(base: PretrainedModel, tokenizer: Tokenizer, tmp_path: Path) -> None:
    examples = write_examples(tmp_path, classification_rows(40), ["fruit", "tool"], heldout=10)
    config = FinetuneConfig(name="things", examples="things", steps=8, checkpoint_every=4)
    whole = run(config, base, tokenizer, examples, tmp_path / "whole")
    out = tmp_path / "killed"
    run(config, base, tokenizer, examples, out)
    shutil.rmtree(out / "model")  # as if it had been killed behind its last checkpoint
    finetune(config, base, tokenizer, (examples,), out, here)
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (whole.path, out)]
    assert weights[0] == weights[1]


LORA = LoraConfig(rank=2, alpha=4, dropout=0.2)


def test_killed_training_of_adapters_goes_on_to_the_same_weights(
    base: PretrainedModel, tokenizer: Tokenizer, tmp_path: Path, killed_at_a_checkpoint: Callable[[], AbstractContextManager[None]]
) -> None:
    examples = write_examples(tmp_path, classification_rows(40), ["fruit", "tool"], heldout=10)
    config = FinetuneConfig(name="things", examples="things", steps=8, checkpoint_every=4, log_every=1, lora=LORA)
    whole = run(config, base, tokenizer, examples, tmp_path / "whole")
    out = tmp_path / "killed"

    with killed_at_a_checkpoint():
        run(config, base, tokenizer, examples, out)
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-00000004"]
    finetune(config, base, tokenizer, (examples,), out, here)
    for name in ("model/model.safetensors", "adapter/adapter_model.safetensors"):
        assert (whole.path / name).read_bytes() == (out / name).read_bytes()


def test_adapters_are_merged_in_the_model_and_apart_in_the_form_of_peft(
    base: PretrainedModel, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    rows: list[dict[str, object]] = [{"prompt": word, "response": "fruit"} for word in FRUIT]
    examples = write_examples(tmp_path, rows * 3, [], heldout=2)
    config = FinetuneConfig(name="asks", examples="asks", steps=10, optimizer={"learning_rate": 1e-2}, lora=LORA)
    model = run(config, base, tokenizer, examples, tmp_path / "model")
    assert model.figures["parameters_trained"] == 2 * ((32 + 96) + (32 + 32))
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.path / "model"), str(model.path / "adapter")).eval()
    before, after = load_folder(base.path / "model"), load_folder(model.path / "model")
    assert isinstance(after, LanguageModel)
    ids = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.allclose(theirs(input_ids=ids).logits, after(ids), atol=1e-5)
    changed = {name for name, tensor in after.state_dict().items() if not torch.equal(tensor, before.state_dict()[name])}
    assert changed == {f"trunk.stack.blocks.0.attention.{name}.weight" for name in ("qkv", "output")}


@pytest.mark.parametrize("what", [{"lora": {"rank": 2}}, {"freeze": ["trunk.*", "!*.mlp.*"]}])
def test_frozen_weights_in_bfloat16_leave_the_base_as_it_was_and_what_is_learned(
    base: PretrainedModel, tokenizer: Tokenizer, tmp_path: Path, what: dict[str, object]
) -> None:
    examples = write_examples(tmp_path, [{"prompt": word, "response": "fruit"} for word in FRUIT] * 3, [], heldout=2)
    told = {"name": "asks", "examples": "asks", "steps": 6, "precision": "bfloat16", **what}
    models = [
        run(FinetuneConfig.model_validate({**told, "frozen_weights": kind}), base, tokenizer, examples, tmp_path / kind)
        for kind in ("float32", "bfloat16")
    ]
    before, plain, half = (load_folder(folder / "model").state_dict() for folder in (base.path, *(model.path for model in models)))
    assert all(torch.equal(half[name], plain[name]) for name in plain)
    inside = "mlp" if "freeze" in what else "attention"
    assert {name for name in before if not torch.equal(before[name], half[name])} <= {name for name in before if inside in name}
    kept = load_file(models[1].path / "checkpoints" / "step-00000006" / "model.safetensors")
    assert kept["trunk.embedding.weight"].dtype == torch.bfloat16


def test_frozen_weights_in_bfloat16_are_refused_where_products_are_not(
    base: PretrainedModel, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "choose_precision", lambda *given: torch.float32)
    examples = write_examples(tmp_path, [{"prompt": "a", "response": "b"}], [], heldout=0)
    config = FinetuneConfig.model_validate({"name": "asks", "examples": "asks", "lora": {}, "frozen_weights": "bfloat16"})
    with pytest.raises(UserError, match="precision auto is float32 on this device"):
        run(config, base, tokenizer, examples, tmp_path / "model")


def test_patterns_over_names_decide_what_learns_and_the_table_tells(
    base: PretrainedModel, tokenizer: Tokenizer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    examples = write_examples(tmp_path, classification_rows(40), ["fruit", "tool"], heldout=10)
    patterns = ["trunk.*", "!*.mlp.*"]
    config = FinetuneConfig.model_validate({"name": "things", "examples": "things", "steps": 2, "freeze": patterns})
    with caplog.at_level("INFO", logger="tasks.finetune.tuned_model"):
        model = run(config, base, tokenizer, examples, tmp_path / "model")
    before, after = (load_folder(base.path / "model").trunk.state_dict(), load_folder(model.path / "model").trunk.state_dict())
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"stack.blocks.0.mlp.gate_up.weight", "stack.blocks.0.mlp.output.weight"}
    assert "finetune things: what learns" in caplog.text
    assert re.search(r"trunk.stack.blocks.0 +13,376  9,216\n", caplog.text)


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        ("all but top 3", "finetune things: freeze: top 3 of a model of 1 layers; expected 1 to 1"),
        (["trunk.block.*"], "freeze pattern 'trunk.block.*' matches nothing; names near it: trunk.stack."),
    ],
)
def test_patterns_that_fit_no_parameter_are_refused(
    base: PretrainedModel, tokenizer: Tokenizer, tmp_path: Path, freeze: object, message: str
) -> None:
    examples = write_examples(tmp_path, classification_rows(12), ["fruit", "tool"], heldout=2)
    config = FinetuneConfig.model_validate({"name": "things", "examples": "things", "freeze": freeze})
    with pytest.raises(UserError, match=re.escape(message)):
        run(config, base, tokenizer, examples, tmp_path / "model")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze": "head"}, "freeze 'head': expected none, trunk, all but embeddings, all but top N"),
        ({"freeze": [""]}, "should have at least 1 character"),
        ({"lora": {"rank": 0}}, "rank 0: expected 1 or more"),
        ({"lora": {"ranks": 4}}, "Unexpected keyword argument"),
        ({"frozen_weights": "bfloat16"}, "nothing is frozen; set freeze or lora"),
        ({"frozen_weights": "bfloat16", "lora": {}, "precision": "float32"}, "set precision to bfloat16 or auto"),
        ({"lora": {}, "freeze": "trunk"}, "lora freezes all but its adapters and a new head"),
    ],
)
def test_settings_of_what_learns_are_checked_with_the_recipe(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FinetuneConfig.model_validate({"name": "x", "examples": "x", **settings})


def test_frozen_trunk_of_a_tied_language_model_is_refused(base: PretrainedModel, tokenizer: Tokenizer, tmp_path: Path) -> None:
    examples = write_examples(tmp_path, [{"prompt": "a", "response": "b"}] * 1, [], heldout=0)
    config = FinetuneConfig(name="asks", examples="asks", freeze=("trunk",))
    with pytest.raises(UserError, match="nothing could learn. Fix: set freeze to none"):
        run(config, base, tokenizer, examples, tmp_path / "model")


def test_instructions_on_a_classifier_are_refused(base: PretrainedModel, tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = tmp_path / "classifier"
    save_folder(folder / "model", SequenceClassifier(SMALL, load_tokenizer(tokenizer.path).get_vocab_size(), 2), {})
    examples = write_examples(tmp_path, [{"prompt": "a", "response": "b"}] * 1, [], heldout=0)
    with pytest.raises(
        UserError, match="instruction examples need a language model or an encoder-decoder, but the base is a SequenceClassifier"
    ):
        run(FinetuneConfig(name="asks", examples="asks"), PretrainedModel(str(folder), "0"), tokenizer, examples, tmp_path / "m")


def test_epochs_and_steps_together_are_refused() -> None:
    with pytest.raises(ValidationError, match="epochs 2 and steps 5 both set the length"):
        FinetuneConfig(name="x", examples="x", epochs=2, steps=5)


def test_only_response_and_end_are_scored(tokenizer: Tokenizer, tmp_path: Path) -> None:
    examples = write_examples(tmp_path, [{"prompt": "a plum <|end|>", "response": "here <|eos|>"}], [], heldout=0)
    encoder = load_tokenizer(tokenizer.path)
    special = special_ids(encoder, "test")
    table = encode_examples(read_examples(examples.path, "train"), encoder, replace(SMALL, context=64)).table
    ids, targets = table["ids"][0].as_py(), table["targets"][0].as_py()
    prompt, response = encode_documents(encoder, ["a plum <|end|>", "here <|eos|>"])
    assert ids == [special.bos, special.user, *prompt, special.assistant, *response, special.end]
    assert targets == [IGNORED] * (len(prompt) + 3) + [*response, special.end]


@given(st.integers(0, 60), st.integers(1, 60), st.integers(8, 40))
def test_instruction_row_fits_and_keeps_the_nearest_parts(prompt: int, response: int, context: int) -> None:
    given_ids, wanted = [100 + i for i in range(prompt)], [200 + i for i in range(response)]
    ids, targets = instruction_row(given_ids, wanted, SPECIAL, context)
    assert len(ids) == len(targets) <= context + 1
    assert ids[:2] == [SPECIAL.bos, SPECIAL.user]
    kept = [token for token in targets if token != IGNORED]
    assert kept
    assert kept[: len(wanted)] == wanted[: len(kept)]
    assert (kept[-1] == SPECIAL.end) == (len(kept) == response + 1)
    if prompt + response + 4 <= context + 1:
        assert ids == [SPECIAL.bos, SPECIAL.user, *given_ids, SPECIAL.assistant, *wanted, SPECIAL.end]
    kept_prompt = [token for token in ids if 100 <= token < 200]
    assert kept_prompt == given_ids[len(given_ids) - len(kept_prompt) :]


def test_word_begins_with_its_first_token() -> None:
    assert word_windows([[7, 8, 9], [10]], SPECIAL, SMALL) == [WordRow([SPECIAL.bos, 7, 8, 9, 10], {0: 1, 1: 4}, False)]


def test_words_of_an_encoder_stand_between_start_and_end_even_where_they_are_cut() -> None:
    bos, eos = SPECIAL.bos, SPECIAL.eos
    shape = ModelConfig("bert", layers=1, width=32, heads=2, context=6)
    assert word_windows([[7, 8], [10]], SPECIAL, shape) == [WordRow([bos, 7, 8, 10, eos], {0: 1, 1: 3}, False)]
    first, second = word_windows([[7], [8], [9], [10], [11]], SPECIAL, shape)
    assert first == WordRow([bos, 7, 8, 9, 10, eos], {0: 1, 1: 2, 2: 3, 3: 4}, True)
    assert second == WordRow([bos, 9, 10, 11, eos], {4: 3}, False)


def test_word_without_tokens_moves_no_other() -> None:
    assert word_windows([[], [7, 8], [], [9]], SPECIAL, SMALL) == [WordRow([SPECIAL.bos, 7, 8, 9], {1: 1, 3: 3}, False)]


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(3, 12), st.sampled_from(["llama", "bert"]))
def test_every_word_with_tokens_is_labelled_once_in_a_row_that_fits(
    sizes: list[int], context: int, family: Literal["llama", "bert"]
) -> None:
    words = [[100 + number] * size for number, size in enumerate(sizes)]
    rows = word_windows(words, SPECIAL, ModelConfig(family, layers=1, width=32, heads=2, context=context))
    assert [word for row in rows for word in row.firsts] == [word for word, size in enumerate(sizes) if size]
    for row in rows:
        assert len(row.ids) <= context
        assert all(row.ids[first] == 100 + word for word, first in row.firsts.items())


def test_context_without_room_for_a_word_labels_none() -> None:
    shape = ModelConfig("bert", layers=1, width=32, heads=2, context=2)
    assert word_windows([[7], [8]], SPECIAL, shape) == [WordRow([SPECIAL.bos, SPECIAL.eos], {}, True)]


def test_text_has_no_end_token_where_that_is_what_pads() -> None:
    shared = TextIds(bos=0, eos=1, pad=1)
    assert text_row([5, 6, 7], SPECIAL, 8) == [SPECIAL.bos, 5, 6, 7, SPECIAL.eos]
    assert text_row([5, 6, 7], SPECIAL, 4) == [SPECIAL.bos, 5, 6, SPECIAL.eos]
    assert text_row([5, 6, 7], shared, 8) == [0, 5, 6, 7]
    assert text_row([5, 6, 7], shared, 3) == [0, 5, 6]


@given(st.lists(st.sampled_from([f"g{i}" for i in range(30)]), max_size=60), st.integers(0, 5))
def test_validation_takes_whole_groups_and_leaves_some(groups: list[str], seed: int) -> None:
    held = validation_mask(groups, seed)
    kept = {group for group, is_held in zip(groups, held, strict=True) if not is_held}
    gone = {group for group, is_held in zip(groups, held, strict=True) if is_held}
    assert not kept & gone
    assert bool(kept) == bool(groups)
    assert bool(gone) == (len(set(groups)) > 1)


def test_adapters_learn_on_two_processes_that_share_the_base(base: PretrainedModel, tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"prompt": word, "response": "fruit"} for word in FRUIT]
    examples = write_examples(tmp_path, rows * 3, [], heldout=2)
    found = []
    for name, launch, layout in (("one", here, {}), ("two", on_two, {"workers": 2, "layout": {"shards": True}})):
        config = FinetuneConfig(
            name="asks", examples="asks", steps=4, precision="float32", lora=LoraConfig(rank=2, alpha=4), evaluate_every=2, **layout
        )
        (tmp_path / name).mkdir()
        outcome = finetune(config, base, tokenizer, (examples,), tmp_path / name, launch)
        found.append((outcome, load_folder(tmp_path / name / "model").state_dict()))
        assert (tmp_path / name / "adapter" / "adapter_model.safetensors").is_file()
    (alone, weights), (shared, theirs) = found
    assert shared.figures["parameters_trained"] == alone.figures["parameters_trained"]
    assert shared.figures["validation_loss"] == pytest.approx(alone.figures["validation_loss"], rel=1e-5)
    for name, weight in weights.items():
        assert torch.allclose(theirs[name], weight, atol=1e-5), name


def test_layers_are_computed_again_where_the_layout_says_so(
    base: PretrainedModel, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[str] = []
    monkeypatch.setattr("model.nn.transformer.recomputed", lambda block, x, kind: kinds.append(kind) or recomputed(block, x, kind))
    examples = write_examples(tmp_path, classification_rows(12), ["fruit", "tool"], heldout=2)
    found: dict[str, float] = {}
    for kind in ("none", "selective", "full"):
        config = FinetuneConfig(
            name="kinds", examples="kinds", steps=3, precision="float32", layout=LayoutConfig(activation_checkpointing=kind)
        )
        found[kind] = run(config, base, tokenizer, examples, tmp_path / kind).figures["validation_loss"]
        assert kind in kinds
    assert found["none"] == found["selective"] == found["full"]


def test_recurrent_base_is_refused_before_a_worker_starts_where_layers_are_to_be_computed_again(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_folder(tmp_path / "model", LanguageModel(ModelConfig("lstm", layers=1, width=16, context=16), 320), {})
    config = FinetuneConfig(name="kinds", examples="kinds", layout=LayoutConfig(activation_checkpointing="full"))

    def launch(training: Training) -> None:
        pytest.fail("a worker was started")

    with pytest.raises(UserError, match=r"finetune kinds: layout\.activation_checkpointing full: the layers of lstm are one kernel"):
        finetune(config, PretrainedModel(str(tmp_path), "ba5e"), tokenizer, (Examples(str(tmp_path), "e4a3"),), tmp_path, launch)
