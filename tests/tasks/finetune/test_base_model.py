"""Fine-tuning GPT-2 and BERT folders that transformers made."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

from model.huggingface.huggingface import load_folder
from model.inference.sampling import Sampling
from model.nn.models import LanguageModel
from tasks.artifacts import Examples, PretrainedModel, Tokenizer, Workspace, describe
from tasks.errors import UserError
from tasks.evaluate.evaluate import EvaluateConfig, evaluate
from tasks.export.export import export_model
from tasks.finetune.base_model import BaseConfig, base_digests, take_base
from tasks.finetune.config import FinetuneConfig
from tasks.finetune.finetune import finetune
from tasks.inference.folder_settings import read_json, told_ends
from tasks.inference.generation import continue_text
from tasks.inference.saved_models import load
from tasks.ledger import StageOutcome
from tasks.tokenizer.encoding import CHAT_TOKENS, add_chat_tokens, load_tokenizer, special_ids, text_ids
from tests.tasks.foreign import END, write_bert, write_gpt2
from tests.tasks.launch_here import here

pytestmark = pytest.mark.usefixtures("one_thread")

FRUIT, TOOLS = ["apple", "pear", "plum"], ["hammer", "saw", "drill"]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> PretrainedModel:
    return taken(write_gpt2(tmp_path_factory.mktemp("gpt2") / "theirs"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> PretrainedModel:
    return taken(write_bert(tmp_path_factory.mktemp("bert") / "theirs"))


def taken(folder: Path) -> PretrainedModel:
    out = folder.parent / "base"
    out.mkdir()
    take_base(BaseConfig(folder=str(folder)), out)
    return PretrainedModel(str(out), "ba5e")


def examples_of(folder: Path, rows: list[dict[str, object]], labels: list[str], heldout: int) -> Examples:
    rows = [{**row, "id": f"example-{number}", "group": f"group-{number}"} for number, row in enumerate(rows)]
    pq.write_table(pa.Table.from_pylist(rows[heldout:]), folder / "train.parquet")
    pq.write_table(pa.Table.from_pylist(rows[:heldout]), folder / "heldout.parquet")
    (folder / "labels.json").write_text(json.dumps(labels))
    return Examples(str(folder), "e4a3")


def things(count: int) -> list[dict[str, object]]:
    words = [("fruit", FRUIT), ("tool", TOOLS), ("fruit", FRUIT)]
    return [{"text": f"a {words[i % 3][1][i // 3 % 3]} is here", "label": words[i % 3][0]} for i in range(count)]


def tuned(config: FinetuneConfig, base: PretrainedModel, examples: Examples, out: Path) -> PretrainedModel:
    out.mkdir()
    tokenizer = Tokenizer(base.folder, base.fingerprint)
    outcome = finetune(config, base, tokenizer, (examples,), out, here)
    return PretrainedModel(str(out), "f17e", figures=outcome.figures, notes=outcome.notes)


def accuracy(model: PretrainedModel, examples: Examples, out: Path) -> float:
    evaluate(EvaluateConfig(resamples=100), model, None, examples, out)
    rows = pq.read_table(out / "scores.parquet").to_pylist()
    return next(row["value"] for row in rows if (row["model"], row["metric"]) == ("model", "accuracy"))


def test_folder_is_taken_as_it_is_and_known_by_its_content(tmp_path: Path) -> None:
    folder = write_gpt2(tmp_path / "theirs")
    (folder / "consolidated.safetensors").write_bytes(b"the same weights in another form")
    base = taken(folder)
    assert not (base.path / "model" / "consolidated.safetensors").exists()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        assert (base.path / "model" / name).read_bytes() == (folder / name).read_bytes()
    before = base_digests(BaseConfig(folder=str(folder)))
    (tmp_path / "moved").mkdir()
    folder.rename(tmp_path / "moved" / "elsewhere")
    moved = BaseConfig(folder=str(tmp_path / "moved" / "elsewhere"))
    assert base_digests(moved) == before
    (tmp_path / "moved" / "elsewhere" / "tokenizer_config.json").write_text("{}")
    assert base_digests(moved) != before


def test_special_tokens_are_the_tokenizers_own(gpt2: PretrainedModel, bert: PretrainedModel) -> None:
    first, second = load_tokenizer(gpt2.path), load_tokenizer(bert.path)
    end = first.token_to_id(END)
    assert (text_ids(first, "test").bos, text_ids(first, "test").eos, text_ids(first, "test").pad) == (end, end, end)
    names = ("[CLS]", "[SEP]", "[PAD]")
    ids = text_ids(second, "test")
    assert (ids.bos, ids.eos, ids.pad) == tuple(second.token_to_id(name) for name in names)


def test_missing_tokens_of_a_conversation_are_added_behind_all_others(gpt2: PretrainedModel) -> None:
    tokenizer = load_tokenizer(gpt2.path)
    size = tokenizer.get_vocab_size()
    with pytest.raises(UserError, match=r"place: the tokenizer lacks <\|user\|>, <\|assistant\|>, <\|end\|>"):
        special_ids(tokenizer, "place")
    assert add_chat_tokens(tokenizer) == list(CHAT_TOKENS)
    special = special_ids(tokenizer, "place")
    assert [special.user, special.assistant, special.end] == [size, size + 1, size + 2]
    assert add_chat_tokens(tokenizer) == []


@pytest.mark.parametrize("lora", [None, {"rank": 4, "alpha": 8, "targets": ["trunk.*"]}])
def test_gpt2_learns_instructions_with_new_tokens(gpt2: PretrainedModel, lora: dict[str, object] | None, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"prompt": f"is {word} a fruit?", "response": "yes"} for word in FRUIT]
    examples = examples_of(tmp_path, rows * 4, [], heldout=2)
    config = FinetuneConfig.model_validate(
        {
            "name": "asks",
            "examples": "asks",
            "steps": 60,
            "optimizer": {"learning_rate": 1e-2},
            "batch_rows": 8,
            "lora": lora,
        }
    )
    model = tuned(config, gpt2, examples, tmp_path / "model")
    assert model.notes["tokens_added"] == ", ".join(CHAT_TOKENS)
    loaded, tokenizer = load(model.path / "model")
    before = load_folder(gpt2.path / "model")
    assert loaded.trunk.vocab_size == tokenizer.get_vocab_size() == before.trunk.vocab_size + 3
    assert model.figures["loss"] < 0.5
    theirs = transformers.AutoModelForCausalLM.from_pretrained(model.path / "model").eval()
    opened = transformers.AutoTokenizer.from_pretrained(model.path / "model")
    ids = [opened.convert_tokens_to_ids(token) for token in (END, "<|user|>")]
    ids += opened("is plum a fruit?", add_special_tokens=False)["input_ids"]
    ids.append(opened.convert_tokens_to_ids("<|assistant|>"))
    with torch.no_grad():
        for _ in range(8):
            ids.append(int(theirs(torch.tensor([ids])).logits[0, -1].argmax()))
    assert "<|assistant|>yes<|end|>" in opened.decode(ids)


@pytest.mark.parametrize("lora", [None, {"rank": 4, "alpha": 8, "targets": ["trunk.*"]}])
def test_tuned_folder_and_its_export_answer_in_transformers_as_here(lora: dict[str, object] | None, tmp_path: Path) -> None:
    folder = write_gpt2(tmp_path / "theirs")
    told = json.loads((folder / "tokenizer_config.json").read_text())
    other = "{% for message in messages %}### {{ message['content'] }}{% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps({**told, "tokenizer_class": "LlamaTokenizer", "chat_template": other}))
    (folder / "chat_template.jinja").write_text(other)
    ends = [0, load_tokenizer(folder).token_to_id("!")]
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.3, "do_sample": True, "eos_token_id": ends}))
    rows: list[dict[str, object]] = [{"prompt": f"is {word} a fruit?", "response": " yes"} for word in FRUIT]
    examples = examples_of(tmp_path, rows * 4, [], heldout=2)
    settings = {"name": "asks", "examples": "asks", "steps": 60, "optimizer": {"learning_rate": 1e-2}, "batch_rows": 8, "lora": lora}
    model = tuned(FinetuneConfig.model_validate(settings), taken(folder), examples, tmp_path / "model").path / "model"
    export_model(model, tmp_path / "out", "float32", False, Workspace(tmp_path / "workspace"))
    ours, tokenizer = load(model)
    wanted = continue_text(ours, tokenizer, "is plum a fruit?", 1, Sampling(12, temperature=0, stop_ids=told_ends(model)), is_chat=True)
    assert wanted == [" yes"]
    turn_end = tokenizer.token_to_id("<|end|>")
    stored = [] if lora is None else [tmp_path / "model" / "adapter"]
    for place in (model, tmp_path / "out", *stored):
        opened = transformers.AutoTokenizer.from_pretrained(place)
        asked = opened.apply_chat_template(
            [{"role": "user", "content": "is plum a fruit?"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        theirs = transformers.AutoModelForCausalLM.from_pretrained(model if place in stored else place)
        theirs.generation_config = transformers.GenerationConfig.from_pretrained(place)
        assert theirs.generation_config.temperature == 0.3
        assert theirs.generation_config.eos_token_id == [*ends, turn_end]
        written = theirs.generate(**asked, do_sample=False, max_new_tokens=12)[0, asked["input_ids"].shape[1] :].tolist()
        assert written[-1] == turn_end
        assert opened.decode(written, skip_special_tokens=True) == wanted[0]
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert read_json(model / name) == read_json(tmp_path / "out" / name), name


def test_merged_adapter_keeps_the_settings_of_generation(tmp_path: Path) -> None:
    folder = write_gpt2(tmp_path / "theirs")
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.3, "eos_token_id": [0, 5]}))
    their_adapter(folder, tmp_path / "adapter")
    (tmp_path / "base").mkdir()
    take_base(BaseConfig(folder=str(folder), adapter=str(tmp_path / "adapter")), tmp_path / "base")
    kept = json.loads((tmp_path / "base" / "model" / "generation_config.json").read_text())
    assert kept == {"temperature": 0.3, "eos_token_id": [0, 5]}


def test_gpt2_learns_classes_and_transformers_finds_the_same(gpt2: PretrainedModel, tmp_path: Path) -> None:
    examples = examples_of(tmp_path, things(60), ["fruit", "tool"], heldout=12)
    config = FinetuneConfig(name="things", examples="things", epochs=8, optimizer={"learning_rate": 5e-3}, batch_rows=8)
    model = tuned(config, gpt2, examples, tmp_path / "model")
    assert accuracy(model, examples, tmp_path) > 0.9
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(model.path / "model").eval()
    opened = transformers.AutoTokenizer.from_pretrained(model.path / "model")
    for word, label in (("plum", "fruit"), ("saw", "tool")):
        with torch.no_grad():
            best = theirs(**opened(f"a {word} is here", return_tensors="pt")).logits.argmax()
        assert theirs.config.id2label[int(best)] == label


@pytest.mark.parametrize("lora", [None, {"rank": 4, "alpha": 8, "targets": ["trunk.*"]}])
def test_bert_learns_classes_and_transformers_finds_the_same(bert: PretrainedModel, lora: dict[str, object] | None, tmp_path: Path) -> None:
    examples = examples_of(tmp_path, things(60), ["fruit", "tool"], heldout=12)
    config = FinetuneConfig.model_validate(
        {
            "name": "t",
            "examples": "t",
            "steps": 150,
            "optimizer": {"learning_rate": 5e-3},
            "batch_rows": 8,
            "lora": lora,
        }
    )
    model = tuned(config, bert, examples, tmp_path / "model")
    assert accuracy(model, examples, tmp_path) > 0.9
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(model.path / "model").eval()
    opened = transformers.AutoTokenizer.from_pretrained(model.path / "model")
    with torch.no_grad():
        best = theirs(**opened("A SAW is here", return_tensors="pt")).logits.argmax()
    assert theirs.config.id2label[int(best)] == "tool"


def test_bert_learns_the_labels_of_words(bert: PretrainedModel, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = []
    for i in range(60):
        tokens = ["a", FRUIT[i % 3], "here", TOOLS[i // 3 % 3]]
        labels = ["O", "FRUIT", "O", "TOOL"]
        order = [(i + k) % 4 for k in range(4)]
        rows.append({"tokens": [tokens[k] for k in order], "labels": [labels[k] for k in order]})
    examples = examples_of(tmp_path, rows, ["FRUIT", "O", "TOOL"], heldout=12)
    config = FinetuneConfig(name="kinds", examples="kinds", epochs=8, optimizer={"learning_rate": 5e-3}, batch_rows=8)
    assert accuracy(tuned(config, bert, examples, tmp_path / "model"), examples, tmp_path) > 0.9


def test_masked_language_model_takes_no_instructions(bert: PretrainedModel, tmp_path: Path) -> None:
    examples = examples_of(tmp_path, [{"prompt": "a", "response": "b"}], [], heldout=0)
    message = "finetune asks: instruction examples need a language model or an encoder-decoder, but the base is a MaskedLanguageModel"
    with pytest.raises(UserError, match=message):
        tuned(FinetuneConfig(name="asks", examples="asks"), bert, examples, tmp_path / "model")


@pytest.mark.parametrize("kind", [transformers.BertModel, transformers.BertForPreTraining])
def test_trunk_and_pooler_of_a_bert_stay_under_a_new_head(kind: type[transformers.PreTrainedModel], tmp_path: Path) -> None:
    base = taken(write_bert(tmp_path / "bare", kind))
    examples = examples_of(tmp_path, things(12), ["fruit", "tool"], heldout=0)
    config = FinetuneConfig(name="things", examples="things", steps=2, freeze=("trunk.*", "head.pooler.*"))
    model = tuned(config, base, examples, tmp_path / "model")
    theirs = transformers.BertModel.from_pretrained(base.path / "model").state_dict()
    after = transformers.AutoModelForSequenceClassification.from_pretrained(model.path / "model").bert.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in theirs.items())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", None, "base.folder .*: no config.json"),
        ("model.safetensors", None, "base.folder .*: no model.safetensors"),
        ("tokenizer.json", None, "base.folder .*: no tokenizer.json"),
        ("model.safetensors", "cut", "base.folder: .*model.safetensors: not a whole safetensors file"),
        ("config.json", '{"architectures": ["T5Model"], "model_type": "t5"}', "base.folder: .*model_type is .?t5"),
    ],
)
def test_folder_that_cannot_be_used_is_refused(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    folder = write_gpt2(tmp_path / "theirs")
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(text)
    with pytest.raises(UserError, match=message):
        taken(folder)


def test_pickled_weights_are_taken_where_allowed_and_go_on_as_safetensors(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "theirs")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="pytorch_model.bin is pickled.*base.allow_pickle: true"):
        base_digests(BaseConfig(folder=str(folder)))
    config = BaseConfig(folder=str(folder), allow_pickle=True)
    assert "pytorch_model.bin" in base_digests(config)
    (tmp_path / "base").mkdir()
    take_base(config, tmp_path / "base")
    assert not list((tmp_path / "base").rglob("*.bin"))
    taken_tensors = load_file(tmp_path / "base" / "model" / "model.safetensors")
    assert all(torch.equal(taken_tensors[name], tensor) for name, tensor in tensors.items())


def test_pickle_beside_other_safetensors_is_not_read_unasked(tmp_path: Path) -> None:
    folder = write_gpt2(tmp_path / "theirs")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    with pytest.raises(UserError, match="pytorch_model.bin: pickled weights are not read"):
        taken(folder)


def their_adapter(folder: Path, out: Path) -> PeftModel:
    """An adapter as PEFT saves it, with random weights."""
    base = transformers.AutoModelForCausalLM.from_pretrained(folder)
    theirs = get_peft_model(base, LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False))
    theirs.save_pretrained(str(out))
    return theirs.eval()


def test_adapter_that_peft_made_is_merged_into_the_base(tmp_path: Path) -> None:
    folder = write_gpt2(tmp_path / "theirs")
    theirs = their_adapter(folder, tmp_path / "adapter")
    config = BaseConfig(folder=str(folder), adapter=str(tmp_path / "adapter"))
    assert base_digests(config) != base_digests(BaseConfig(folder=str(folder)))
    (tmp_path / "base").mkdir()
    take_base(config, tmp_path / "base")
    ours = load_folder(tmp_path / "base" / "model")
    assert isinstance(ours, LanguageModel)
    ids = torch.arange(12).view(2, 6)
    with torch.no_grad():
        assert torch.allclose(ours(ids), theirs(input_ids=ids).logits, atol=1e-5)


def test_adapter_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    gpt2, bert = write_gpt2(tmp_path / "gpt2"), write_bert(tmp_path / "bert")
    their_adapter(gpt2, tmp_path / "adapter")
    (tmp_path / "base").mkdir()
    with pytest.raises(UserError, match="base.adapter: .*the model has nothing that these belong to: transformer.h.0"):
        take_base(BaseConfig(folder=str(bert), adapter=str(tmp_path / "adapter")), tmp_path / "base")
    with pytest.raises(UserError, match="base.adapter: .* has no adapter_config.json"):
        base_digests(BaseConfig(folder=str(gpt2), adapter=str(gpt2)))


def test_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    folder = write_gpt2(tmp_path / "theirs")
    text = (folder / "tokenizer.json").read_text().replace(END, "<|nothing|>")
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(UserError, match=r"base\.folder: .*bos_token is .*, expected a token of tokenizer\.json"):
        taken(folder)


def test_tokenizer_that_was_saved_cutting_and_padding_is_taken_without_both(tmp_path: Path) -> None:
    folder = write_gpt2(tmp_path / "theirs")
    tokenizer = load_tokenizer(folder)
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=16)
    tokenizer.save(str(folder / "tokenizer.json"))
    base = taken(folder)
    for path in (base.path / "tokenizer.json", base.path / "model" / "tokenizer.json"):
        told = json.loads(path.read_text())
        assert (told["truncation"], told["padding"]) == (None, None)


def test_artifact_of_a_workspace_is_a_base_with_the_memory_that_stands_beside_it(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace").open()
    built = workspace.begin("pretrain", "a1", keep=False)
    write_gpt2(built / "model")
    made = workspace.publish(describe("pretrain", "a1", {}, {}, built, StageOutcome(), 0.0))
    config = BaseConfig(folder=str(made))
    assert [name for name in base_digests(config) if name.startswith("memory/")] == []
    remembered = workspace.begin("memory", "b2", keep=False)
    (remembered / "memory").mkdir()
    pq.write_table(pa.table({"text": ["old text"]}), remembered / "memory" / "text.parquet")
    workspace.publish(describe("memory", "b2", {}, {"model": "a1"}, remembered, StageOutcome(), 0.0))
    assert "memory/text.parquet" in base_digests(config)
    out = tmp_path / "out"
    out.mkdir()
    take_base(config, out)
    assert pq.read_table(out / "memory" / "text.parquet")["text"].to_pylist() == ["old text"]
    assert (out / "model" / "config.json").is_file()
