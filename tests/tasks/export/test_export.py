"""Export: folders that transformers opens, with a certificate; and what is refused."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
import yaml
from safetensors.torch import load_file, save_file

from model.config.lora_config import LoraConfig
from model.config.model_config import ModelConfig
from model.config.rope_scaling import RopeScaling
from model.huggingface.huggingface import save_folder
from model.huggingface.lora_files import save_adapter
from model.inference.sampling import Sampling
from model.nn.lora import adapters, apply_lora, merge
from model.nn.models import LanguageModel, MaskedLanguageModel, Model, MultipleChoice, Seq2SeqModel, SequenceClassifier, TokenClassifier
from tasks.artifacts import Workspace, describe
from tasks.errors import UserError
from tasks.export import export as export_module
from tasks.export.certificate import Check, Evidence, compare, fixed_prompts
from tasks.export.export import Dtype, Exported, UnequalError, certify
from tasks.inference.generation import continue_text
from tasks.inference.saved_models import load
from tasks.ledger import Ledger, StageOutcome
from tasks.tokenizer.encoding import vocabulary_size
from tasks.tokenizer.tokenizer import complete, learn_merges, new_tokenizer, tokenizer_settings
from tests.tasks.foreign import write_bert, write_gpt2
from tests.tasks.tokenizer.tokenizer_forms import form

GPT2 = ModelConfig("gpt2", layers=2, width=32, heads=4, context=48)
LLAMA = ModelConfig(layers=2, width=32, heads=4, kv_heads=2, context=48, tie_embeddings=False)
LLAMA_3 = ModelConfig(layers=2, width=32, heads=4, context=48, rope_scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 12))
BERT = ModelConfig("bert", layers=2, width=32, heads=4, context=48)
MODERN = ModelConfig("modernbert", layers=3, width=32, heads=4, context=48, window=8, pooling="mean")
SEQ2SEQ = ModelConfig("seq2seq", layers=2, width=32, heads=4, context=48)


def export_model(source: Path, target: Path, dtype: Dtype, allow_pickle: bool) -> Exported:
    """From a folder beside a workspace that does not know it."""
    return export_module.export_model(source, target, dtype, allow_pickle, Workspace(target.parent / "workspace"))


def tokenizer_size() -> int:
    return vocabulary_size(made_tokenizer())


def made_tokenizer():
    tokenizer = new_tokenizer()
    learn_merges(tokenizer, iter(["the mill turns by the river, and the river turns the mill"]), 280)
    complete(tokenizer)
    return tokenizer


def save(folder: Path, model: Model, extra: dict[str, object] | None = None) -> Path:
    """A model's folder as a training leaves it, with large random weights, so that no error hides."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    save_folder(folder, model.eval(), {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, **(extra or {})})
    made_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_settings()))
    return folder


def found(checks: tuple[Check, ...] | list[Check], name: str) -> float | None:
    return next(check.found for check in checks if check.name == name)


@pytest.fixture
def adapted(tmp_path: Path) -> Path:
    """The model of a fine-tuning by adapters, as its artifact holds it: merged, with adapter/ beside and its base elsewhere."""
    torch.manual_seed(0)
    base = save(tmp_path / "base", LanguageModel(LLAMA, tokenizer_size()))
    model, _ = load(base)
    lora = LoraConfig(rank=2)
    apply_lora(model, lora)
    with torch.no_grad():
        for _, layer in adapters(model):
            layer.lora_b += 0.1 * torch.randn(layer.lora_b.shape)
    workspace, digest = Workspace(tmp_path / "workspace").open(), "0123456789abcdef"
    built = workspace.begin("finetune", digest, keep=False)
    save_adapter(built / "adapter", model, lora, str(base))
    merge(model)
    save_folder(built / "model", model, {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(base / name, built / "model" / name)
    outcome = StageOutcome(Ledger(rows_out=1), (), {"loss": 0.5})
    return workspace.publish(describe("finetune", digest, {}, {"base": "f" * 16}, built, outcome, 1.0)) / "model"


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return save(tmp_path / "source", LanguageModel(LLAMA, tokenizer_size()))


@pytest.mark.parametrize(
    ("make", "opens"),
    [
        (lambda size: LanguageModel(GPT2, size), transformers.AutoModelForCausalLM),
        (lambda size: LanguageModel(LLAMA, size), transformers.AutoModelForCausalLM),
        (lambda size: LanguageModel(LLAMA_3, size), transformers.AutoModelForCausalLM),
        (lambda size: MaskedLanguageModel(BERT, size), transformers.AutoModelForMaskedLM),
        (lambda size: MaskedLanguageModel(MODERN, size), transformers.AutoModelForMaskedLM),
        (lambda size: Seq2SeqModel(SEQ2SEQ, size), transformers.AutoModelForSeq2SeqLM),
        (lambda size: SequenceClassifier(LLAMA, size, 3), transformers.AutoModelForSequenceClassification),
        (lambda size: SequenceClassifier(BERT, size, 2, "multi"), transformers.AutoModelForSequenceClassification),
        (lambda size: SequenceClassifier(MODERN, size, 2), transformers.AutoModelForSequenceClassification),
        (lambda size: TokenClassifier(MODERN, size, 3), transformers.AutoModelForTokenClassification),
        (lambda size: MultipleChoice(BERT, size), transformers.AutoModelForMultipleChoice),
    ],
    ids=[
        "gpt2",
        "llama",
        "llama3",
        "bert",
        "modernbert",
        "seq2seq",
        "classifier",
        "labels",
        "mean",
        "tokens",
        "choice",
    ],
)
def test_every_kind_of_model_comes_back_bit_for_bit_and_opens_in_transformers(make, opens: type, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = save(tmp_path / "source", make(tokenizer_size()))
    exported = export_model(source, tmp_path / "out", "float32", allow_pickle=False)
    assert found(exported.checks, "loaded anew: logits") == 0.0
    assert all(check.is_fine for check in exported.checks)
    names = [check.name for check in exported.checks if check.found is not None]
    writes = opens in (transformers.AutoModelForCausalLM, transformers.AutoModelForSeq2SeqLM)
    assert ("transformers: written tokens" in names) == ("loaded anew: written text" in names) == writes
    opens.from_pretrained(tmp_path / "out")
    assert (tmp_path / "out" / "generation_config.json").exists() == writes
    assert not list(tmp_path.glob("*.partial"))
    assert not list(tmp_path.glob(".out*"))


def test_wordmill_and_transformers_write_the_same_text_from_an_export(llama: Path, tmp_path: Path) -> None:
    export_model(llama, tmp_path / "out", "float32", allow_pickle=False)
    model, tokenizer = load(tmp_path / "out")
    ours = continue_text(model, tokenizer, "the mill", 1, Sampling(20, temperature=0))
    opened = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    inputs = opened("the mill", return_tensors="pt")
    written = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").generate(**inputs, max_new_tokens=20, do_sample=False)
    assert opened.model_max_length == LLAMA.context
    text = opened.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert text.rstrip("\ufffd") == ours[0]


def test_rounded_weights_are_half_as_large_and_compared_after_rounding(llama: Path, tmp_path: Path) -> None:
    exported = export_model(llama, tmp_path / "out", "bfloat16", allow_pickle=False)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (llama, tmp_path / "out")]
    assert sizes[1] < 0.6 * sizes[0]
    assert found(exported.checks, "loaded anew: logits") == 0.0
    assert exported.manifest.figures["rounding to bfloat16: logits"] > 0


def test_padding_of_the_vocabulary_is_sliced_off(tmp_path: Path) -> None:
    torch.manual_seed(0)
    size = tokenizer_size()
    source = save(tmp_path / "source", LanguageModel(LLAMA, size + 24))
    export_model(source, tmp_path / "out", "float32", allow_pickle=False)
    model, _ = load(tmp_path / "out")
    assert model.trunk.vocab_size == size
    assert "24 rows of padding were sliced off" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("write", [write_gpt2, write_bert], ids=["gpt2", "bert"])
def test_folder_that_transformers_wrote_is_exported(write, tmp_path: Path) -> None:
    exported = export_model(write(tmp_path / "source"), tmp_path / "out", "float32", allow_pickle=False)
    assert all(check.is_fine for check in exported.checks)
    assert "file config.json" in exported.manifest.inputs


@pytest.mark.parametrize("name", ["llama", "llama, old", "mistral", "gpt2", "our bytes"])
def test_folder_whose_class_makes_another_tokenizer_is_exported_with_the_ids_of_its_own(name: str, tmp_path: Path) -> None:
    tokenizer = form(name)
    source = save(tmp_path / "source", LanguageModel(LLAMA, vocabulary_size(tokenizer)))
    tokenizer.save(str(source / "tokenizer.json"))
    told = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "clean_up_tokenization_spaces": True, "legacy": False}
    (source / "tokenizer_config.json").write_text(json.dumps(told))
    export_model(source, tmp_path / "out", "float32", allow_pickle=False)
    opened = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in (" two  words .", "John reads", "a\n"):
        assert opened(text)["input_ids"] == tokenizer.encode(text).ids


def test_pickled_weights_are_read_only_when_allowed(tmp_path: Path) -> None:
    source = write_gpt2(tmp_path / "source")
    model = transformers.AutoModelForCausalLM.from_pretrained(source)
    (source / "model.safetensors").unlink()
    torch.save(model.state_dict(), source / "pytorch_model.bin")
    with pytest.raises(UserError, match="a pickle can run code"):
        export_model(source, tmp_path / "out", "float32", allow_pickle=False)
    export_model(source, tmp_path / "out", "float32", allow_pickle=True)
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert not (tmp_path / "out" / "pytorch_model.bin").exists()


def test_manifest_holds_every_file_and_what_the_certificate_found(llama: Path, tmp_path: Path) -> None:
    exported = export_model(llama, tmp_path / "out", "float32", allow_pickle=False)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    for entry in manifest["files"]:
        digest = hashlib.sha256((tmp_path / "out" / entry["path"]).read_bytes()).hexdigest()
        assert digest == entry["sha256"], entry["path"]
    names = {entry["path"] for entry in manifest["files"]}
    assert names >= {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "README.md",
        "tokenizer_config.json",
        "certificate.json",
    }
    assert manifest["figures"]["loaded anew: logits"] == 0.0
    assert manifest["notes"]["certificate"] == "passed"
    told = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert [check["name"] for check in told["checks"]] == [check.name for check in exported.checks]


def test_card_opens_with_what_the_hub_reads_and_its_four_lines_run(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export_model(llama, tmp_path / "out", "float32", allow_pickle=False)
    _, front, _ = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["wordmill"],
    }
    assert run_card(tmp_path / "out", monkeypatch, capsys).startswith("<|bos|>The mill")


def run_card(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What the four lines of a card print."""
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) == 4
    monkeypatch.chdir(folder)
    capsys.readouterr()
    exec(code, {})
    return capsys.readouterr().out


def test_four_lines_of_a_chat_model_ask_a_question(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (llama / "task.json").write_text(json.dumps({"name": "answers", "kind": "instruction", "labels": []}))
    export_model(llama, tmp_path / "out", "float32", allow_pickle=False)
    said = run_card(tmp_path / "out", monkeypatch, capsys)
    assert said.startswith("<|bos|><|user|>What is a mill?<|assistant|>")


def test_four_lines_of_a_choosing_model_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    source = save(tmp_path / "source", MultipleChoice(BERT, tokenizer_size()))
    export_model(source, tmp_path / "out", "float32", allow_pickle=False)
    assert run_card(tmp_path / "out", monkeypatch, capsys).startswith("tensor([[")


def test_license_of_the_source_is_kept(llama: Path, tmp_path: Path) -> None:
    (llama / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    export_model(llama, tmp_path / "out", "float32", allow_pickle=False)
    assert "license: mit" in (tmp_path / "out" / "README.md").read_text()


def altered(source: Path) -> Callable[..., object]:
    """`load`, but for what was written of `source`: a row of its embedding has moved."""

    def load_altered(folder: Path, allow_pickle: bool = False):
        model, tokenizer = load(folder, allow_pickle)
        if folder != source:
            with torch.no_grad():
                model.trunk.embedding.weight[5] += 1e-3
        return model, tokenizer

    return load_altered


def test_round_trip_is_certified_without_the_other_library(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert certify(llama) == (True, "written and loaded anew, the same on 9 prompts")
    monkeypatch.setattr(export_module, "load", altered(llama))
    is_fine, found = certify(llama)
    assert not is_fine
    assert "loaded anew: weights: trunk.embedding.weight" in found


def test_model_without_its_tokenizer_has_no_certificate(llama: Path) -> None:
    (llama / "tokenizer.json").unlink()
    is_fine, found = certify(llama)
    assert not is_fine
    assert "tokenizer.json" in found


def test_folder_that_differs_is_not_published(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "load", altered(llama))
    with pytest.raises(UnequalError, match=r"loaded anew: weights: trunk.embedding.weight"):
        export_model(llama, tmp_path / "out", "float32", allow_pickle=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_adapter_beside_its_base_says_what_the_merged_model_says(adapted: Path, tmp_path: Path) -> None:
    exported = export_model(adapted, tmp_path / "out", "float32", allow_pickle=False)
    difference = found(exported.checks, "adapter, merged and not")
    assert difference is not None
    assert 0 < difference < 1e-4


def test_model_that_is_not_what_its_adapter_makes_is_not_published(adapted: Path, tmp_path: Path) -> None:
    path = adapted.parent / "adapter" / "adapter_model.safetensors"
    save_file({name: 1.01 * tensor for name, tensor in load_file(path).items()}, path)
    with pytest.raises(UnequalError, match="adapter, merged and not: most at prompt"):
        export_model(adapted, tmp_path / "out", "float32", allow_pickle=False)
    assert not (tmp_path / "out").exists()


def test_adapter_whose_base_is_gone_is_told_as_not_checked(adapted: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "base")
    exported = export_model(adapted, tmp_path / "out", "float32", allow_pickle=False)
    assert found(exported.checks, "adapter, merged and not") is None
    assert "its base is no longer at" in exported.manifest.notes["adapter, merged and not"]


def _without_weights(base: Path, adapter: Path) -> None:
    (base / "model.safetensors").unlink()


def _cut_weights(base: Path, adapter: Path) -> None:
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])


def _wider(base: Path, adapter: Path) -> None:
    save_folder(base, LanguageModel(replace(LLAMA, width=2 * LLAMA.width), tokenizer_size()), {})


def _other_family(base: Path, adapter: Path) -> None:
    save_folder(base, LanguageModel(ModelConfig("gpt2", layers=2, width=32, heads=4, context=24), tokenizer_size()), {})


def _without_adapter(base: Path, adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()


def _cut_adapter(base: Path, adapter: Path) -> None:
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])


def _cut_settings(base: Path, adapter: Path) -> None:
    settings = adapter / "adapter_config.json"
    settings.write_text(settings.read_text()[:20])


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (_without_weights, r"base: no model.safetensors"),
        (_cut_weights, r"base/model.safetensors: not a whole safetensors file"),
        (_wider, r"base: trunk.\S+ has shape \[\d+(, \d+)?\], expected \[\d+(, \d+)?\]"),
        (_other_family, r"base: a trunk of family gpt2, expected llama"),
        (_without_adapter, r"adapter: not an adapter's folder, expected adapter_config.json and adapter_model.safetensors"),
        (_cut_adapter, r"adapter: not an adapter's folder"),
        (_cut_settings, r"adapter_config.json: not JSON"),
    ],
)
def test_broken_adapter_or_base_is_refused_by_name(harm: Callable[[Path, Path], None], told: str, adapted: Path, tmp_path: Path) -> None:
    harm(tmp_path / "base", adapted.parent / "adapter")
    with pytest.raises(UserError, match=rf"(?s){told}.*\. Fix: "):
        export_model(adapted, tmp_path / "out", "float32", allow_pickle=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("is_copy", [False, True], ids=["artifact", "copy"])
def test_artifact_is_known_by_its_folder_or_its_weights(is_copy: bool, adapted: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(adapted, tmp_path / "downloaded")) if is_copy else adapted
    exported = export_model(source, tmp_path / "out", "float32", allow_pickle=False)
    assert exported.manifest.inputs == {"model": "0123456789abcdef"}
    assert "| finetune | `0123456789abcdef` |" in (tmp_path / "out" / "README.md").read_text()


def test_without_transformers_the_certificate_says_so(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "is_installed", lambda: False)
    exported = export_model(llama, tmp_path / "out", "float32", allow_pickle=False)
    assert found(exported.checks, "transformers") is None
    assert exported.manifest.notes["transformers"] == "not checked: transformers is not installed"


def test_full_target_is_refused_and_an_empty_one_is_used(llama: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine.txt").write_text("keep me")
    with pytest.raises(UserError, match=r"not empty \(it holds mine.txt\). Fix: name a new folder"):
        export_model(llama, target, "float32", allow_pickle=False)
    assert (target / "mine.txt").read_text() == "keep me"
    (target / "mine.txt").unlink()
    export_model(llama, target, "float32", allow_pickle=False)
    with pytest.raises(UserError, match="a file, expected a new or empty folder"):
        export_model(llama, target / "config.json", "float32", allow_pickle=False)


def test_target_that_cannot_be_made_is_refused(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Not a directory. Fix: name a folder"):
        export_model(llama, llama / "config.json" / "out", "float32", allow_pickle=False)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (ModelConfig("lstm", layers=1, width=32, context=48), "transformers has no lstm language model"),
        (ModelConfig(layers=1, width=32, heads=4, context=48, logit_cap=20.0), "it caps the logits"),
    ],
    ids=["lstm", "cap"],
)
def test_model_that_transformers_cannot_compute_is_refused_with_the_reason(config: ModelConfig, reason: str, tmp_path: Path) -> None:
    source = save(tmp_path / "source", LanguageModel(config, tokenizer_size()))
    with pytest.raises(UserError, match=rf"{reason}.*wordmill generate and evaluate go on using it"):
        export_model(source, tmp_path / "out", "float32", allow_pickle=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("rows", [100, 9_000])
def test_tokenizer_of_another_model_is_refused(rows: int, tmp_path: Path) -> None:
    source = save(tmp_path / "source", LanguageModel(ModelConfig(layers=1, width=16, heads=2, context=16), rows))
    with pytest.raises(UserError, match=rf"tokenizer.json has {tokenizer_size()} tokens, but the weights are for {rows}"):
        export_model(source, tmp_path / "out", "float32", allow_pickle=False)


def test_ids_of_the_source_that_lie_outside_of_the_vocabulary_are_replaced(llama: Path, tmp_path: Path) -> None:
    config = json.loads((llama / "config.json").read_text()) | {"bos_token_id": 50_256, "eos_token_id": [1, 50_256]}
    (llama / "config.json").write_text(json.dumps(config))
    (llama / "generation_config.json").write_text(json.dumps({"temperature": 0.6, "do_sample": True, "eos_token_id": 1}))
    export_model(llama, tmp_path / "out", "float32", allow_pickle=False)
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert (generation["bos_token_id"], generation["eos_token_id"], generation["temperature"]) == (0, 1, 0.6)


def test_prompts_are_the_same_each_time_and_leave_room() -> None:
    tokenizer = made_tokenizer()
    prompts = fixed_prompts(tokenizer, 280, 48, pad=2)
    assert prompts == fixed_prompts(tokenizer, 280, 48, pad=2)
    assert max(map(len, prompts)) <= 24
    assert all(0 <= number < 280 and number != 2 for prompt in prompts for number in prompt)


def test_difference_is_told_by_its_position() -> None:
    one = Evidence((torch.zeros(1, 3, 4),), ((1, 2, 3),), ("abc",), ((1,),))
    two = Evidence((torch.full((1, 3, 4), 2e-6),), ((1, 9),), ("ac",), ((1,),))
    exact, close = (compare("x", one, two, is_exact)[0] for is_exact in (True, False))
    assert (exact.is_fine, close.is_fine) == (False, True)
    _, tokens, text, tokenizer = compare("x", one, two, is_exact=True)
    assert (tokens.found, text.found, tokenizer.found) == (2, 2, 0)
    assert tokens.told == "first at prompt 1: (1, 9), expected (1, 2, 3)"
    nan = Evidence((torch.full((1, 3, 4), torch.nan),), ((1, 2, 3),), ("abc",), ((1,),))
    assert not compare("x", one, nan, is_exact=False)[0].is_fine
