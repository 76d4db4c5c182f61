"""Adapter files against PEFT: ours read by it, its own read here, with the same logits."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig as TheirConfig
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.config.lora_config import LoraConfig
from model.config.model_config import ModelConfig
from model.huggingface.huggingface import load_folder, save_folder
from model.huggingface.lora_files import load_adapter, save_adapter
from model.nn.lora import adapters, apply_lora, merge
from model.nn.models import LanguageModel, MaskedLanguageModel, Model, SequenceClassifier

VOCABULARY = 40
GPT2 = ModelConfig("gpt2", layers=2, width=16, heads=2, context=16)
LLAMA = ModelConfig("llama", layers=2, width=16, heads=4, kv_heads=2, context=16, mlp_width=32)
BERT = ModelConfig("bert", layers=2, width=16, heads=2, context=16)
IDS = torch.arange(12).view(2, 6)
EVERYWHERE = LoraConfig(rank=3, alpha=6, targets=("trunk.*",))


def build(config: ModelConfig) -> LanguageModel | MaskedLanguageModel:
    torch.manual_seed(0)
    return (LanguageModel if config.is_causal else MaskedLanguageModel)(config, VOCABULARY)


def shaken(model: nn.Module) -> None:
    """Adapters as if they had learned: no matrix is zero."""
    torch.manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora" in name:
            nn.init.normal_(parameter, std=0.2)


def logits(model: LanguageModel | MaskedLanguageModel) -> Tensor:
    with torch.no_grad():
        return model.eval()(IDS)


def theirs_of(folder: Path, config: ModelConfig) -> transformers.PreTrainedModel:
    kind = transformers.AutoModelForCausalLM if config.is_causal else transformers.AutoModelForMaskedLM
    return kind.from_pretrained(folder).eval()


@pytest.mark.parametrize("config", [GPT2, LLAMA, BERT])
@pytest.mark.parametrize("targets", [("trunk.*",), ("*.qkv", "!*.1.*"), ("*.mlp.output",)])
def test_peft_reads_our_adapter_to_the_same_logits(config: ModelConfig, targets: tuple[str, ...], tmp_path: Path) -> None:
    model = build(config)
    save_folder(tmp_path / "base", model, {})
    lora = LoraConfig(rank=3, alpha=6, targets=targets)
    apply_lora(model, lora)
    shaken(model)
    save_adapter(tmp_path / "adapter", model, lora, str(tmp_path / "base"))
    theirs = PeftModel.from_pretrained(theirs_of(tmp_path / "base", config), tmp_path / "adapter").eval()
    with torch.no_grad():
        assert torch.allclose(theirs(input_ids=IDS).logits, logits(model), atol=1e-5)


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (GPT2, TheirConfig(r=3, lora_alpha=6, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True)),
        (LLAMA, TheirConfig(r=3, lora_alpha=6, target_modules="all-linear")),
        (LLAMA, TheirConfig(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj"], use_rslora=True)),
        (LLAMA, TheirConfig(r=3, target_modules=["q_proj", "v_proj", "up_proj"], rank_pattern={"v_proj": 5}, alpha_pattern={"v_proj": 1})),
        (BERT, TheirConfig(r=3, lora_alpha=6, target_modules=["query", "value", "dense"])),
    ],
)
def test_peft_adapter_is_read_to_the_same_logits_and_merges(config: ModelConfig, settings: TheirConfig, tmp_path: Path) -> None:
    model = build(config)
    save_folder(tmp_path / "base", model, {})
    theirs = get_peft_model(theirs_of(tmp_path / "base", config), settings).eval()
    shaken(theirs)
    theirs.save_pretrained(str(tmp_path / "adapter"))
    if not config.is_causal:  # "dense" is in the head as well, where no adapters are here
        drop_head(tmp_path / "adapter")
        theirs = PeftModel.from_pretrained(theirs_of(tmp_path / "base", config), tmp_path / "adapter").eval()
    load_adapter(tmp_path / "adapter", model)
    with torch.no_grad():
        expected = theirs(input_ids=IDS).logits
    assert torch.allclose(logits(model), expected, atol=1e-5)
    merge(model)
    assert torch.allclose(logits(model), expected, atol=1e-5)


def drop_head(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if ".cls." not in name}
    save_file(kept, folder / "adapter_model.safetensors")


def test_separate_ranks_of_queries_keys_and_values_add_up(tmp_path: Path) -> None:
    model = build(LLAMA)
    save_folder(tmp_path / "base", model, {})
    settings = TheirConfig(r=2, lora_alpha=2, target_modules=["q_proj", "k_proj", "v_proj"])
    get_peft_model(theirs_of(tmp_path / "base", LLAMA), settings).save_pretrained(str(tmp_path / "adapter"))
    load_adapter(tmp_path / "adapter", model)
    assert [layer.rank for _, layer in adapters(model)] == [6, 6]
    again = build(LLAMA)
    save_adapter(tmp_path / "again", model, LoraConfig(rank=2, alpha=2), "base")
    load_adapter(tmp_path / "again", again)
    assert torch.equal(logits(again), logits(model))


def test_new_head_is_in_the_adapter(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SequenceClassifier(GPT2, VOCABULARY, 3)
    save_folder(tmp_path / "base", model, {"pad_token_id": 39})
    apply_lora(model, EVERYWHERE)
    model.head.requires_grad_(True)
    shaken(model)
    nn.init.normal_(model.head.score.weight)
    save_adapter(tmp_path / "adapter", model, EVERYWHERE, str(tmp_path / "base"))
    base = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    theirs = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        expected = model.eval()(IDS, torch.tensor([6, 6]))
        assert torch.allclose(theirs(input_ids=IDS).logits, expected, atol=1e-5)
    again = load_folder(tmp_path / "base")
    assert isinstance(again, SequenceClassifier)
    load_adapter(tmp_path / "adapter", again)
    with torch.no_grad():
        assert torch.equal(again(IDS, torch.tensor([6, 6])), expected)


def broken(tmp_path: Path, **settings: object) -> tuple[Path, Model]:
    """An adapter with some of its settings changed, and a model for it."""
    model = build(LLAMA)
    apply_lora(model, EVERYWHERE)
    save_adapter(tmp_path, model, EVERYWHERE, "base")
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return tmp_path, build(LLAMA)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_dora": True}, "adapter_config.json: use_dora is True, expected it unset"),
        ({"bias": "all"}, "adapter_config.json: bias is 'all', this code computes only 'none'"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights is 'pissa_niter_4'.* path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": "olora"}, "init_lora_weights is 'olora'"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights is 'loftq'"),
        ({"alora_invocation_tokens": [3, 4]}, r"alora_invocation_tokens is \[3, 4\], expected it unset.*Fix: train one without them"),
        ({"lora_bias": True}, "lora_bias is True, expected it unset"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication is"),
        ({"a_setting_of_tomorrow": "on"}, "a_setting_of_tomorrow is 'on', expected it unset"),
        ({"r": 4}, "has rank 3, expected 4 by r and rank_pattern"),
        ({"alpha_pattern": {"(": 2}}, r"alpha_pattern has '\(', expected a regular expression"),
        ({"lora_alpha": "much"}, "lora_alpha is 'much', expected a number"),
    ],
)
def test_settings_that_mean_another_computation_are_refused(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    folder, model = broken(tmp_path, **settings)
    with pytest.raises(ValueError, match=message):
        load_adapter(folder, model)


@pytest.mark.parametrize(
    "settings",
    [
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "orthogonal", "r": 4},
        {"init_lora_weights": False},
        {"layers_to_transform": [1], "target_modules": ["q_proj"]},
        {"exclude_modules": ["layers.1.mlp.up_proj"]},
        {"use_rslora": True, "rank_pattern": {"q_proj": 4}},
        {"alpha_pattern": {"q_proj": 1, "layers.1.self_attn.q_proj": 40}},
        {"alpha_pattern": {r"layers\.[01]\.mlp\..*_proj": 20, "up_proj": 1}, "rank_pattern": {"self_attn..*": 2, "v_proj": 5}},
        {"alpha_pattern": {"proj": 50, "self": 50}},
    ],
    ids=str,
)
def test_every_setting_that_is_read_merges_as_in_peft(settings: dict[str, Any], tmp_path: Path) -> None:
    model = build(LLAMA)
    save_folder(tmp_path / "base", model, {})
    chosen: dict[str, Any] = {"r": 3, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj", "up_proj", "down_proj"], **settings}
    theirs = get_peft_model(theirs_of(tmp_path / "base", LLAMA), TheirConfig(**chosen))
    shaken(theirs)
    theirs.save_pretrained(str(tmp_path / "adapter"))
    load_adapter(tmp_path / "adapter", model)
    merge(model)
    theirs = PeftModel.from_pretrained(theirs_of(tmp_path / "base", LLAMA), tmp_path / "adapter")  # PEFT sorts the patterns as it saves
    with torch.no_grad():
        expected = theirs.merge_and_unload().eval()(input_ids=IDS).logits
    assert torch.allclose(logits(model), expected, atol=1e-5)


@pytest.mark.parametrize("module", ["embed_tokens", "lm_head"])
def test_copy_of_a_tied_matrix_is_refused(module: str, tmp_path: Path) -> None:
    model = build(LLAMA)
    save_folder(tmp_path / "base", model, {})
    settings = TheirConfig(r=3, target_modules=["q_proj"], modules_to_save=[module])
    get_peft_model(theirs_of(tmp_path / "base", LLAMA), settings).save_pretrained(str(tmp_path / "adapter"))
    with pytest.raises(ValueError, match="modules_to_save is|nothing that these belong to: lm_head"):
        load_adapter(tmp_path / "adapter", model)


def test_eva_adapter_merges_as_in_peft(tmp_path: Path) -> None:
    model = build(LLAMA)
    save_folder(tmp_path / "base", model, {})
    chosen = TheirConfig(r=3, lora_alpha=6, target_modules=["q_proj", "up_proj"], rank_pattern={"layers.1.self_attn.q_proj": 5})
    theirs = get_peft_model(theirs_of(tmp_path / "base", LLAMA), chosen)
    shaken(theirs)
    theirs.save_pretrained(str(tmp_path / "adapter"))
    path = tmp_path / "adapter" / "adapter_config.json"
    told = {"init_lora_weights": "eva", "eva_config": {"rho": 2.0, "tau": 0.99}}  # whose start, from data, is in the tensors by now
    path.write_text(json.dumps({**json.loads(path.read_text()), **told}))
    load_adapter(tmp_path / "adapter", model)
    merge(model)
    theirs = PeftModel.from_pretrained(theirs_of(tmp_path / "base", LLAMA), tmp_path / "adapter")
    with torch.no_grad():
        expected = theirs.merge_and_unload().eval()(input_ids=IDS).logits
    assert torch.allclose(logits(model), expected, atol=1e-5)


QUERY = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        (f"{QUERY}.lora_B.weight", None, "lora_A.weight stands alone"),
        ("base_model.model.layers.7.x.lora_A.weight", torch.ones(1), "nothing that these belong to: layers.7.x"),
        (f"{QUERY}.lora_A.weight", torch.ones(3, 8), r"A \[3, 8\] and B \[16, 3\], expected \[3, 16\]"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, name: str, tensor: Tensor | None, message: str) -> None:
    folder, model = broken(tmp_path)
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors.pop(name, None)
    save_file(tensors if tensor is None else {**tensors, name: tensor}, folder / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=message):
        load_adapter(folder, model)


def test_folder_without_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not an adapter's folder, expected adapter_config.json"):
        load_adapter(tmp_path, build(LLAMA))
