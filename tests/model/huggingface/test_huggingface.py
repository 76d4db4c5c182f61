import json
import math
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from model.config.model_config import ModelConfig
from model.huggingface.huggingface import load_folder, read_folder, read_model_config, save_folder
from model.nn.models import LanguageModel, SequenceClassifier, TokenClassifier
from model.training.budget import flops_per_token, parameters

GPT2 = ModelConfig(family="gpt2", layers=2, width=32, heads=4, context=16, mlp_width=80)
LLAMA = ModelConfig(layers=2, width=32, heads=4, context=16, rope_theta=5000.0)
GROUPED = ModelConfig(layers=2, width=48, heads=6, kv_heads=2, context=16, tie_embeddings=False)
CONFIGS = pytest.mark.parametrize("config", [GPT2, LLAMA, GROUPED], ids=["gpt2", "llama", "grouped"])
VOCAB = 61
IDS = torch.randint(VOCAB, (3, 14), generator=torch.Generator().manual_seed(1))


def scramble(model: torch.nn.Module) -> None:
    """Large random weights, norms and biases included, so that no error hides."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@CONFIGS
def test_saved_language_model_gives_the_same_logits_in_transformers(config: ModelConfig, tmp_path: Path):
    model = LanguageModel(config, VOCAB).eval()
    scramble(model)
    save_folder(tmp_path, model, {"eos_token_id": 0, "bos_token_id": 0})
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert_close(model(IDS), theirs(IDS).logits)
    assert theirs.num_parameters() == parameters(config, VOCAB) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    "config",
    [
        transformers.GPT2Config(vocab_size=VOCAB, n_positions=16, n_embd=32, n_layer=2, n_head=4),
        transformers.LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=32,
            intermediate_size=72,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=16,
        ),
    ],
    ids=["gpt2", "llama"],
)
def test_model_saved_by_transformers_gives_the_same_logits_here(config: transformers.PretrainedConfig, tmp_path: Path):
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    scramble(theirs)
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    ours = load_folder(tmp_path)
    with torch.no_grad():
        assert_close(ours(IDS), theirs(IDS).logits)


@CONFIGS
def test_saved_sequence_classifier_gives_the_same_logits_in_transformers(config: ModelConfig, tmp_path: Path):
    model = SequenceClassifier(config, VOCAB, 3).eval()
    scramble(model)
    save_folder(tmp_path, model, {"id2label": {0: "a", 1: "b", 2: "c"}, "pad_token_id": 60})
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    lengths = torch.tensor([14, 5, 1])
    ids = torch.where(torch.arange(14) < lengths[:, None], IDS % 60, 60)
    with torch.no_grad():
        assert_close(model(ids, lengths), theirs(ids).logits)
    assert theirs.config.id2label == {0: "a", 1: "b", 2: "c"}


@CONFIGS
def test_saved_token_classifier_gives_the_same_logits_in_transformers(config: ModelConfig, tmp_path: Path):
    model = TokenClassifier(config, VOCAB, 3).eval()
    scramble(model)
    save_folder(tmp_path, model, {"id2label": {0: "a", 1: "b", 2: "c"}})
    theirs = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert_close(model(IDS), theirs(IDS).logits)


@CONFIGS
@pytest.mark.parametrize("kind", [LanguageModel, SequenceClassifier, TokenClassifier])
def test_saved_model_is_loaded_unchanged(config: ModelConfig, kind: type, tmp_path: Path):
    model = kind(config, VOCAB) if kind is LanguageModel else kind(config, VOCAB, 3)
    save_folder(tmp_path, model, {})
    loaded = load_folder(tmp_path)
    assert type(loaded) is kind
    expected = model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())
    described = read_folder(tmp_path)
    assert described.vocab_size == VOCAB
    assert described.labels == (() if kind is LanguageModel else ("LABEL_0", "LABEL_1", "LABEL_2"))
    assert read_model_config(tmp_path).hidden_width == config.hidden_width


def test_every_bad_tensor_is_named_in_one_message(tmp_path: Path):
    save_folder(tmp_path, LanguageModel(LLAMA, VOCAB), {})
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.self_attn.q_proj.weight"]
    tensors["model.norm.weight"] = torch.zeros(5)
    tensors["model.surprise"] = torch.zeros(5)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="the weights do not fit") as error:
        load_folder(tmp_path)
    assert "missing model.layers.1.self_attn.q_proj.weight" in str(error.value)
    assert "model.norm.weight has shape [5], expected [32]" in str(error.value)
    assert "unknown model.surprise" in str(error.value)


def test_bare_trunk_with_masks_is_read_as_a_language_model(tmp_path: Path):
    model = LanguageModel(GPT2, VOCAB).eval()
    save_folder(tmp_path, model, {})
    tensors = load_file(tmp_path / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    save_file({**bare, "h.0.attn.bias": torch.ones(1, 1, 16, 16)}, tmp_path / "model.safetensors")
    assert torch.equal(load_folder(tmp_path)(IDS), model(IDS))


def test_pickled_weights_are_refused_by_name(tmp_path: Path):
    save_folder(tmp_path, LanguageModel(LLAMA, VOCAB), {})
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin: pickled weights are not read"):
        load_folder(tmp_path)


def test_truncated_weights_are_refused_by_name(tmp_path: Path):
    save_folder(tmp_path, LanguageModel(LLAMA, VOCAB), {})
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors: not a whole safetensors file"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["T5Model"]}, "config.json: architectures names T5Model; known architectures: GPT2LMHeadModel"),
        ({"architectures": "LlamaForCausalLM"}, "architectures is 'LlamaForCausalLM', expected a list"),
        ({"auto_map": {"AutoModel": "modeling_odd.Odd"}}, "auto_map names modeling_odd.py: the folder brings its own code"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is"),
        ({"hidden_act": "mish"}, "hidden_act is 'mish', this code computes only silu"),
        (
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}},
            "config.json: rope_parameters: rope_type is 'yarn', this code computes only default, linear, llama3. Fix: ",
        ),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "config.json: rope_scaling: rope_type is 'dynamic'"),
        ({"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0]}}, "rope_scaling: rope_type is 'longrope'"),
        (
            {"rope_scaling": {"factor": 2.0}},
            "config.json: rope_scaling: unknown keys factor beside rope_type 'default', expected rope_type, .* Fix: remove",
        ),
        ({"rope_scaling": {"type": "linear", "factor": 4.0, "fast": 1}}, "rope_scaling: unknown keys fast beside"),
        ({"rope_scaling": {"type": "linear"}}, "config.json: rope_scaling: factor is None, expected a number"),
        ({"rope_scaling": {"type": "linear", "factor": 0.5}}, "rope_scaling: factor 0.5: expected a number at least 1"),
        ({"rope_scaling": "linear"}, "config.json: rope_scaling is 'linear', expected an object"),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}},
            "config.json: rope_scaling: high_freq_factor 4.0: expected a number above 4",
        ),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor is 0.5"),
        ({"num_hidden_layers": None}, "num_hidden_layers is None, expected a number"),
        ({"num_key_value_heads": 3}, "config.json: kv_heads 3 does not divide heads 4"),
    ],
)
def test_setting_that_is_not_computed_is_refused(changes: dict[str, object], message: str, tmp_path: Path):
    save_folder(tmp_path, LanguageModel(LLAMA, VOCAB), {})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ValueError, match=message):
        load_folder(tmp_path)


def test_labels_that_are_not_one_per_class_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="a different name for each class number 0 to 2"):
        save_folder(tmp_path, SequenceClassifier(LLAMA, VOCAB, 3), {"id2label": {0: "a", 1: "a", 2: "b"}})


def test_flops_are_those_of_the_published_table():
    gpt2 = ModelConfig(family="gpt2", layers=12, width=768, heads=12, context=1024)
    assert flops_per_token(gpt2, 50304) == pytest.approx(0.798e9, rel=1e-3)
    assert parameters(gpt2, 50257) == 124_439_808
    assert math.isclose(flops_per_token(gpt2, 50304, 2048) - flops_per_token(gpt2, 50304), 0.0566e9, rel_tol=1e-3)
