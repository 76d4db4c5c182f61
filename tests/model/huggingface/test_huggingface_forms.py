"""Which form a folder takes, what it keeps, and what else than our own folders is read."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.config.heads import HeadSpec
from model.config.model_config import ModelConfig
from model.config.rope_scaling import RopeScaling
from model.huggingface.huggingface import foreign_architecture, foreign_obstacle, load_folder, load_trunk, save_folder
from model.nn.lora import LoraConfig, apply_lora
from model.nn.models import (
    LanguageModel,
    MaskedLanguageModel,
    Model,
    MultipleChoice,
    MultiTask,
    Seq2SeqModel,
    SequenceClassifier,
    TokenClassifier,
)

VOCAB = 61
IDS = torch.randint(VOCAB, (3, 14), generator=torch.Generator().manual_seed(1))
LENGTHS = torch.tensor([14, 5, 1])


LINEAR = RopeScaling("linear", 4.0)
LLAMA3 = RopeScaling("llama3", 8.0, 1.0, 4.0, original_context=8)


def config_of(family: str, **options: object) -> ModelConfig:
    return ModelConfig(family, **{"layers": 3, "width": 32, "heads": 4, "context": 16, **options})


def scramble(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize(
    ("config", "architecture"),
    [
        (config_of("gpt2"), "GPT2LMHeadModel"),
        (config_of("gpt2", activation="relu2"), "GPT2LMHeadModel"),
        (config_of("llama", kv_heads=2), "LlamaForCausalLM"),
        (config_of("llama", activation="geglu", bias="all"), "LlamaForCausalLM"),
        (config_of("llama", width=34, head_dim=8), "MistralForCausalLM"),
        (config_of("llama", window=4), "MistralForCausalLM"),
        (config_of("llama", window=4, local_rope_theta=50.0), "MistralForCausalLM"),
        (config_of("llama", window=4, global_every=2), "MinistralForCausalLM"),
        (config_of("llama", bias="qkv"), "Qwen2ForCausalLM"),
        (config_of("llama", bias="qkv", window=4, global_every=2), "Qwen2ForCausalLM"),
        (config_of("llama", qk_norm=True, head_dim=10), "Qwen3ForCausalLM"),
        (config_of("llama", qk_norm=True, bias="all", window=4), "Qwen3ForCausalLM"),
        (config_of("llama", rope_scaling=LINEAR), "LlamaForCausalLM"),
        (config_of("llama", bias="qkv", rope_scaling=LLAMA3), "Qwen2ForCausalLM"),
    ],
)
def test_plainest_architecture_that_computes_the_config_is_written(config: ModelConfig, architecture: str, tmp_path: Path):
    model = LanguageModel(config, VOCAB).eval()
    scramble(model)
    assert foreign_architecture(model) == architecture
    assert foreign_obstacle(model) is None
    save_folder(tmp_path, model, {"pad_token_id": 0})
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert type(theirs).__name__ == architecture
    with torch.no_grad():
        torch.testing.assert_close(theirs(IDS).logits, model(IDS), atol=1e-5, rtol=0)
    assert torch.equal(load_folder(tmp_path)(IDS), model(IDS))


OWN: list[tuple[Model, str]] = [
    (LanguageModel(config_of("gpt2", window=4), VOCAB), "GPT-2 has no attention window"),
    (LanguageModel(config_of("gpt2", activation="swiglu"), VOCAB), "GPT-2 has no gated activation such as swiglu"),
    (LanguageModel(config_of("llama", logit_cap=5.0, rope_scaling=LLAMA3), VOCAB), "it caps the logits"),
    (LanguageModel(config_of("llama", activation="relu2"), VOCAB), "Llama's MLP is gated, and relu2 is not"),
    (LanguageModel(config_of("llama", qk_norm=True, bias="qkv", tie_embeddings=False), VOCAB), "bias qkv, qk_norm True"),
    (
        LanguageModel(config_of("llama", window=4, global_every=2, local_rope_theta=99.0), VOCAB),
        "local and global layers have rotary positions of different base",
    ),
    (LanguageModel(config_of("rnn", activation="relu"), VOCAB), "transformers has no rnn language model"),
    (LanguageModel(config_of("lstm", carry_tokens=5), VOCAB), "transformers has no lstm language model"),
    (SequenceClassifier(config_of("gru"), VOCAB, 3), "transformers has no gru language model"),
    (MultipleChoice(config_of("llama"), VOCAB), "transformers has no choice head on a llama trunk"),
    (TokenClassifier(config_of("bert", activation="geglu"), VOCAB, 3), "BERT has no gated activation such as geglu"),
    (MaskedLanguageModel(config_of("modernbert", activation="gelu"), VOCAB), "ModernBERT's MLP is gated, and gelu is not"),
    (Seq2SeqModel(config_of("seq2seq", positions="learned"), VOCAB), "Marian's positions are sinusoidal, not learned"),
    (Seq2SeqModel(config_of("seq2seq", norm_epsilon=1e-6), VOCAB), "Marian's norm_epsilon is 1e-05, not 1e-06"),
    (
        MultiTask(
            config_of("bert"),
            VOCAB,
            {"guess": HeadSpec("masked"), "topic": HeadSpec("sequence", 4, "multi"), "names": HeadSpec("tokens", 5)},
        ),
        "transformers has no multi task head on a bert trunk",
    ),
]


@pytest.mark.parametrize(("model", "reason"), OWN, ids=[reason[:25] for _, reason in OWN])
def test_model_that_transformers_cannot_compute_is_saved_in_our_own_form(model: Model, reason: str, tmp_path: Path):
    assert foreign_architecture(model) is None
    assert reason in str(foreign_obstacle(model))
    save_folder(tmp_path, model, {"eos_token_id": 1})
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["model_type"] == "wordmill"
    assert written["architectures"] == [f"Wordmill{type(model).__name__}"]
    assert set(load_file(tmp_path / "model.safetensors")) == set(model.state_dict())
    again = load_folder(tmp_path)
    assert type(again) is type(model)
    assert again.trunk.config == model.trunk.config
    assert_equal_states(again, model)
    trunk = load_trunk(tmp_path)
    assert_equal_states(trunk, model.trunk)
    assert (trunk.config, trunk.vocab_size) == (model.trunk.config, VOCAB)


def assert_equal_states(ours: nn.Module, expected: nn.Module) -> None:
    state = expected.state_dict()
    assert set(ours.state_dict()) == set(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.state_dict().items())


FOREIGN: list[Model] = [
    LanguageModel(config_of("gpt2"), VOCAB),
    LanguageModel(config_of("llama", tie_embeddings=False, window=4, global_every=3), VOCAB),
    LanguageModel(config_of("llama", rope_scaling=LLAMA3), VOCAB),
    MaskedLanguageModel(config_of("bert", token_types=3), VOCAB),
    MaskedLanguageModel(config_of("modernbert"), VOCAB),
    MaskedLanguageModel(config_of("modernbert", window=6, global_every=0, local_rope_theta=77.0), VOCAB),
    MaskedLanguageModel(config_of("modernbert", window=0, activation="swiglu"), VOCAB),
    Seq2SeqModel(config_of("seq2seq", decoder_layers=2), VOCAB),
    SequenceClassifier(config_of("bert"), VOCAB, 1, "regression"),
    SequenceClassifier(config_of("modernbert"), VOCAB, 1, "single"),
    MultipleChoice(config_of("modernbert", pooling="mean", rope_scaling=LINEAR), VOCAB),
    SequenceClassifier(config_of("llama"), VOCAB, 3, "multi"),
    TokenClassifier(config_of("modernbert"), VOCAB, 3),
    MultipleChoice(config_of("bert"), VOCAB),
]


@pytest.mark.parametrize("model", FOREIGN, ids=[f"{m.trunk.config.family}-{type(m).__name__}" for m in FOREIGN])
def test_model_comes_back_unchanged_from_hugging_face_form(model: Model, tmp_path: Path):
    scramble(model)
    save_folder(tmp_path, model, {})
    again = load_folder(tmp_path)
    assert type(again) is type(model)
    assert_equal_states(again, model)
    assert_equal_states(load_trunk(tmp_path), model.trunk)
    ours, theirs = again.trunk.config, model.trunk.config
    assert [ours.window_of(layer) for layer in range(3)] == [theirs.window_of(layer) for layer in range(3)]
    assert [ours.theta_of(layer) for layer in range(3)] == [theirs.theta_of(layer) for layer in range(3)]
    assert (ours.rope_scaling, ours.pooling) == (theirs.rope_scaling, theirs.pooling)
    if isinstance(model, SequenceClassifier) and isinstance(again, SequenceClassifier):
        assert again.head.problem == model.head.problem


@pytest.mark.parametrize(
    ("keys", "every", "thetas"),
    [
        ({"global_attn_every_n_layers": 2, "global_rope_theta": 160000.0, "local_rope_theta": 10000.0}, 2, (160000.0, 1e4)),
        ({"global_attn_every_n_layers": 3, "global_rope_theta": 5000.0, "local_rope_theta": None}, 3, (5000.0, 5000.0)),
        ({}, 3, (160000.0, 10000.0)),
    ],
)
def test_modernbert_of_transformers_4_is_read(keys: dict[str, object], every: int, thetas: tuple[float, float], tmp_path: Path):
    model = MaskedLanguageModel(config_of("modernbert", window=8), VOCAB)
    save_folder(tmp_path, model, {})
    values = json.loads((tmp_path / "config.json").read_text())
    for name in ("layer_types", "rope_parameters", "global_attn_every_n_layers", "global_rope_theta", "local_rope_theta"):
        del values[name]
    (tmp_path / "config.json").write_text(json.dumps(values | keys))
    config = load_folder(tmp_path).trunk.config
    assert config.global_layer_every == every
    assert (config.theta_of(0), config.theta_of(1)) == thetas
    assert (config.window_of(0), config.window_of(1)) == (0, 8)


def test_llama_of_transformers_4_is_read(tmp_path: Path):
    save_folder(tmp_path, LanguageModel(config_of("llama", rope_theta=5000.0), VOCAB), {})
    values = json.loads((tmp_path / "config.json").read_text())
    del values["rope_parameters"], values["head_dim"]
    (tmp_path / "config.json").write_text(json.dumps(values | {"rope_scaling": None}))
    assert load_folder(tmp_path).trunk.config.rope_theta == 5000.0


def save_bert(kind: type, folder: Path) -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40, max_position_embeddings=16
    )
    theirs = kind(config).eval()
    scramble(theirs)
    theirs.save_pretrained(folder)
    return theirs


def test_bert_made_for_pretraining_is_read_as_a_masked_language_model(tmp_path: Path):
    theirs = save_bert(transformers.BertForPreTraining, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(load_folder(tmp_path)(IDS), theirs(IDS).prediction_logits, atol=1e-5, rtol=0)


def test_first_bert_files_with_gamma_beta_and_copies_are_read(tmp_path: Path):
    theirs = save_bert(transformers.BertForPreTraining, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in tensors.items()
    }
    old["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
    old["bert.embeddings.position_ids"] = torch.arange(16)[None]
    save_file(old, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with torch.no_grad():
        torch.testing.assert_close(load_folder(tmp_path)(IDS), theirs(IDS).prediction_logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [transformers.BertModel, transformers.BertForNextSentencePrediction])
def test_trunk_without_a_head_that_we_have_is_read_for_a_new_one(kind: type, tmp_path: Path):
    theirs = save_bert(kind, tmp_path)
    trunk = load_trunk(tmp_path)
    base = theirs if kind is transformers.BertModel else theirs.bert
    mask = (torch.arange(14) < LENGTHS[:, None]).long()
    with torch.no_grad():
        ours = trunk(IDS, None, LENGTHS, None)
        expected = base(IDS, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(ours[mask.bool()], expected[mask.bool()], atol=1e-5, rtol=0)


def test_bare_bert_without_a_head_is_refused_by_the_names_of_its_tensors(tmp_path: Path):
    save_bert(transformers.BertModel, tmp_path)
    with pytest.raises(ValueError, match=r"missing cls\.predictions\.bias"):
        load_folder(tmp_path)


def test_padding_of_the_vocabulary_is_sliced_off(tmp_path: Path):
    for number, model in enumerate(
        (
            LanguageModel(config_of("llama", tie_embeddings=False), VOCAB),
            MaskedLanguageModel(config_of("modernbert"), VOCAB),
            LanguageModel(config_of("gru"), VOCAB),
        )
    ):
        scramble(model)
        save_folder(tmp_path / str(number), model, {}, vocab_size=50)
        again = load_folder(tmp_path / str(number))
        assert again.trunk.vocab_size == 50
        with torch.no_grad():
            torch.testing.assert_close(again(IDS % 50), model(IDS % 50)[..., :50], atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="vocab_size 62: the model has 61 tokens"):
        save_folder(tmp_path, model, {}, vocab_size=62)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_weights_are_read_into_float32(dtype: str, tmp_path: Path):
    model = LanguageModel(config_of("llama"), VOCAB)
    save_folder(tmp_path, model, {}, dtype="bfloat16")
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    tensors = load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    halves = {name: tensor.to(getattr(torch, dtype)) for name, tensor in tensors.items()}
    save_file(halves, tmp_path / "model.safetensors", metadata={"format": "pt"})
    for name, tensor in load_folder(tmp_path).state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.allclose(tensor, model.state_dict()[name], atol=1e-3)


def test_model_with_adapters_is_not_saved_before_they_are_merged(tmp_path: Path):
    model = LanguageModel(config_of("llama"), VOCAB)
    apply_lora(model, LoraConfig())
    with pytest.raises(ValueError, match="the model has adapters: merge them before saving it"):
        save_folder(tmp_path, model, {})


def test_marian_folder_generates_in_transformers_what_we_would(tmp_path: Path):
    model = Seq2SeqModel(config_of("seq2seq"), VOCAB).eval()
    scramble(model)
    save_folder(tmp_path, model, {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 2})
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    mask = (torch.arange(14) < LENGTHS[:, None]).long()
    written = theirs.generate(IDS, attention_mask=mask, max_new_tokens=8, do_sample=False, num_beams=1)
    ids = torch.full((3, 1), 2)
    with torch.no_grad():
        for _ in range(written.shape[1] - 1):
            ids = torch.cat((ids, model(IDS, LENGTHS, ids)[:, -1:].argmax(dim=-1)), dim=1)
    assert rows_up_to_end(ids) == rows_up_to_end(written)


def rows_up_to_end(ids: Tensor) -> list[list[int]]:
    return [[*row[: row.index(1)], 1] if 1 in row else row for row in ids.tolist()]
