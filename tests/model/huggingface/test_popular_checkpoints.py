"""Folders as popular checkpoints are written: their config.json key by key, with small sizes and ids, and their tensors' names."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from model.config.rope_scaling import RopeScaling
from model.huggingface.huggingface import load_folder, load_trunk, save_folder
from model.nn.models import LanguageModel, SequenceClassifier
from tests.model.huggingface.foreign_configs import random_model

transformers.utils.logging.disable_progress_bar()

VOCAB, CONTEXT, TOKENS = 61, 64, 40  # rows reach beyond the original contexts and the windows below
LENGTHS = torch.tensor([TOKENS, 17])
Config = dict[str, Any]
Tensors = dict[str, Tensor]

GPT2: Config = {
    "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1, "bos_token_id": 60,
    "embd_pdrop": 0.1, "eos_token_id": 60, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "model_type": "gpt2",
    "n_ctx": CONTEXT, "n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": CONTEXT, "resid_pdrop": 0.1,
    "summary_activation": None, "summary_first_dropout": 0.1, "summary_proj_to_labels": True,
    "summary_type": "cls_index", "summary_use_proj": True, "vocab_size": VOCAB,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
}  # fmt: skip
BERT: Config = {
    "architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1, "hidden_size": 32, "initializer_range": 0.02, "intermediate_size": 48,
    "layer_norm_eps": 1e-12, "max_position_embeddings": CONTEXT, "model_type": "bert", "num_attention_heads": 4,
    "num_hidden_layers": 2, "pad_token_id": 0, "type_vocab_size": 2, "vocab_size": VOCAB,
}  # fmt: skip
BERT_CHINESE: Config = BERT | {
    "directionality": "bidi", "pooler_fc_size": 32, "pooler_num_attention_heads": 4, "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 8, "pooler_type": "first_token_transform",
}  # fmt: skip
MODERNBERT: Config = {
    "architectures": ["ModernBertForMaskedLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 1,
    "classifier_activation": "gelu", "classifier_bias": False, "classifier_dropout": 0.0, "classifier_pooling": "mean",
    "cls_token_id": 1, "decoder_bias": True, "deterministic_flash_attn": False, "embedding_dropout": 0.0,
    "eos_token_id": 2, "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0, "gradient_checkpointing": False,
    "hidden_activation": "gelu", "hidden_size": 32, "initializer_cutoff_factor": 2.0, "initializer_range": 0.02,
    "intermediate_size": 48, "layer_norm_eps": 1e-05, "local_attention": 8, "local_rope_theta": 10000.0,
    "max_position_embeddings": CONTEXT, "mlp_bias": False, "mlp_dropout": 0.0, "model_type": "modernbert",
    "norm_bias": False, "norm_eps": 1e-05, "num_attention_heads": 4, "num_hidden_layers": 4, "pad_token_id": 3,
    "position_embedding_type": "absolute", "sep_token_id": 2, "tie_word_embeddings": True, "torch_dtype": "float32",
    "transformers_version": "4.47.0.dev0", "vocab_size": VOCAB,
}  # fmt: skip
LLAMA_2: Config = {  # which has no rope_theta, as TinyLlama
    "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 32,
    "initializer_range": 0.02, "intermediate_size": 56, "max_position_embeddings": CONTEXT, "model_type": "llama",
    "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 4, "pretraining_tp": 1,
    "rms_norm_eps": 1e-05, "rope_scaling": None, "tie_word_embeddings": False, "torch_dtype": "float16",
    "transformers_version": "4.31.0.dev0", "use_cache": True, "vocab_size": VOCAB,
}  # fmt: skip
LLAMA_3_2: Config = LLAMA_2 | {
    "attention_bias": False, "attention_dropout": 0.0, "eos_token_id": [2, 4, 5], "head_dim": 8, "mlp_bias": False,
    "num_key_value_heads": 2, "rope_theta": 500000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    "rope_scaling": {
        "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 16,
        "rope_type": "llama3",
    },
}  # fmt: skip
MISTRAL: Config = {
    "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
    "hidden_size": 32, "initializer_range": 0.02, "intermediate_size": 56, "max_position_embeddings": CONTEXT,
    "model_type": "mistral", "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2,
    "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 8, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "transformers_version": "4.34.0.dev0", "use_cache": True, "vocab_size": VOCAB,
}  # fmt: skip
QWEN2_5: Config = {
    "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 3, "eos_token_id": 3,
    "hidden_act": "silu", "hidden_size": 28, "initializer_range": 0.02, "intermediate_size": 56,
    "max_position_embeddings": CONTEXT, "max_window_layers": 2, "model_type": "qwen2", "num_attention_heads": 14,
    "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
    "sliding_window": 8, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "transformers_version": "4.40.1",
    "use_cache": True, "use_mrope": False, "use_sliding_window": False, "vocab_size": VOCAB,
}  # fmt: skip
QWEN3: Config = {
    "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 3,
    "eos_token_id": 5, "head_dim": 16, "hidden_act": "silu", "hidden_size": 32, "initializer_range": 0.02,
    "intermediate_size": 56, "max_position_embeddings": CONTEXT, "max_window_layers": 2, "model_type": "qwen3",
    "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
    "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": True,
    "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_cache": True, "use_sliding_window": False,
    "vocab_size": VOCAB,
}  # fmt: skip
SMOLLM2: Config = LLAMA_2 | {
    "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 0, "eos_token_id": 0, "hidden_size": 36,
    "initializer_range": 0.041666666666666664, "is_llama_config": True, "num_attention_heads": 9,
    "num_key_value_heads": 3, "rope_interleaved": False, "rope_theta": 100000, "tie_word_embeddings": True,
    "torch_dtype": "bfloat16", "transformers_version": "4.40.1",
}  # fmt: skip
DEEPSEEK_CODER: Config = LLAMA_2 | {
    "rms_norm_eps": 1e-06, "rope_scaling": {"factor": 4.0, "type": "linear"}, "rope_theta": 100000,
    "torch_dtype": "bfloat16", "transformers_version": "4.33.1",
}  # fmt: skip
YI: Config = LLAMA_2 | {"num_key_value_heads": 1, "pad_token_id": 0, "rope_theta": 5000000.0, "torch_dtype": "bfloat16"}
DISTILLED_QWEN: Config = QWEN2_5 | {"rope_theta": 10000, "tie_word_embeddings": False, "max_window_layers": 21}
FALCON_3: Config = LLAMA_2 | {"activation": "swiglu", "head_dim": 16, "num_key_value_heads": 2, "rope_theta": 1000042}
NEMO: Config = MISTRAL | {"head_dim": 12, "sliding_window": None, "rope_theta": 1000000.0}


def plain(tensors: Tensors) -> Tensors:
    return tensors


def first_gpt2(tensors: Tensors) -> Tensors:
    """No prefix, no head, and the causal mask beside each layer."""
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items() if name != "lm_head.weight"}
    mask = torch.ones(CONTEXT, CONTEXT).tril()[None, None]
    return bare | {f"h.{layer}.attn.bias": mask.clone() for layer in range(2)}


def distilled_gpt2(tensors: Tensors) -> Tensors:
    mask = torch.ones(CONTEXT, CONTEXT).tril()[None, None]
    masks = {f"transformer.h.{layer}.attn.bias": mask.clone() for layer in range(2)}
    return tensors | masks | {"lm_head.weight": tensors["transformer.wte.weight"].clone()}


def first_bert(tensors: Tensors) -> Tensors:
    """Of a BertForPreTraining: gamma and beta, a pooler, a head for the next sentence."""
    return {name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): tensor
            for name, tensor in tensors.items() if "decoder" not in name}  # fmt: skip


def copied_bert(tensors: Tensors) -> Tensors:
    """With its tied head written out, and the numbers of the positions."""
    return tensors | {
        "cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"].clone(),
        "cls.predictions.decoder.bias": tensors["cls.predictions.bias"].clone(),
        "bert.embeddings.position_ids": torch.arange(CONTEXT)[None],
    }


def with_frequencies(tensors: Tensors) -> Tensors:
    return tensors | {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": torch.ones(4) for layer in range(2)}


def with_tied_head(tensors: Tensors) -> Tensors:
    return tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}


CHECKPOINTS: dict[str, tuple[Config, Callable[[Tensors], Tensors]]] = {
    "openai-community/gpt2": (GPT2, first_gpt2),
    "distilbert/distilgpt2": (GPT2 | {"_num_labels": 1, "id2label": {"0": "LABEL_0"}}, distilled_gpt2),
    "google-bert/bert-base-uncased": (
        BERT | {"gradient_checkpointing": False, "position_embedding_type": "absolute", "use_cache": True},
        first_bert,
    ),
    "google-bert/bert-base-chinese": (BERT_CHINESE, first_bert),
    "hfl/chinese-roberta-wwm-ext": (
        BERT_CHINESE | {"bos_token_id": 0, "eos_token_id": 2, "output_past": True},
        copied_bert,
    ),
    "answerdotai/ModernBERT-base": (MODERNBERT, plain),
    "meta-llama/Llama-2-7b-hf": (LLAMA_2 | {"_name_or_path": "meta-llama/Llama-2-7b-hf"}, with_frequencies),
    "TinyLlama/TinyLlama-1.1B": (LLAMA_2 | {"num_key_value_heads": 2, "torch_dtype": "float32"}, plain),
    "meta-llama/Llama-3.2-1B-Instruct": (LLAMA_3_2, plain),
    "mistralai/Mistral-7B-v0.1": (MISTRAL, plain),
    "mistralai/Mistral-7B-v0.3": (MISTRAL | {"sliding_window": None, "rope_theta": 1000000.0}, plain),
    "mistralai/Mistral-Nemo-Base-2407": (NEMO, plain),
    "Qwen/Qwen2.5-0.5B": (QWEN2_5, plain),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": (DISTILLED_QWEN, plain),
    "Qwen/Qwen3-0.6B": (QWEN3, with_tied_head),
    "HuggingFaceTB/SmolLM2-135M": (SMOLLM2, plain),
    "deepseek-ai/deepseek-coder-1.3b-base": (DEEPSEEK_CODER, with_frequencies),
    "01-ai/Yi-6B": (YI, plain),
    "tiiuae/Falcon3-1B-Base": (FALCON_3, plain),
}


def write_checkpoint(folder: Path, config: Config, style: Callable[[Tensors], Tensors]) -> None:
    """Random weights in the dtype that the config names."""
    (folder / "config.json").write_text(json.dumps(config))
    read = transformers.AutoConfig.from_pretrained(folder)
    read.dtype = torch.float32
    stem = "BertForPreTraining" if config["model_type"] == "bert" else config["architectures"][0]
    tensors = random_model(getattr(transformers, stem), read, seed=5).state_dict()
    tied = {"lm_head.weight", "decoder.weight", "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    kept = {name: t for name, t in tensors.items() if name not in tied or not (read.tie_word_embeddings)}
    dtype = getattr(torch, config.get("torch_dtype", "float32"))
    styled = {name: t.to(dtype) if t.is_floating_point() else t for name, t in style(kept).items()}
    save_file(styled, folder / "model.safetensors", metadata={"format": "pt"})


def logits_of(model: torch.nn.Module, ids: Tensor, is_ours: bool) -> Tensor:
    """Of all positions that are no padding."""
    mask = torch.arange(TOKENS) < LENGTHS[:, None]
    with torch.no_grad():
        if is_ours:
            logits = model(ids) if isinstance(model, LanguageModel) else model(ids, LENGTHS)
        else:
            logits = model(input_ids=ids, attention_mask=mask.long()).logits
    return logits[mask]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_folders_as_the_popular_checkpoints_are_written_open_with_transformers_logits(name: str, tmp_path: Path):
    config, style = CHECKPOINTS[name]
    theirs, spelled_anew, back = tmp_path / "theirs", tmp_path / "anew", tmp_path / "back"
    theirs.mkdir()
    write_checkpoint(theirs, config, style)
    kind = getattr(transformers, config["architectures"][0])
    reference = kind.from_pretrained(theirs, dtype=torch.float32).eval()
    ids = torch.randint(6, VOCAB, (2, TOKENS), generator=torch.Generator().manual_seed(3))
    expected = logits_of(reference, ids, is_ours=False)
    ours = load_folder(theirs)
    torch.testing.assert_close(logits_of(ours, ids, is_ours=True), expected, atol=1e-5, rtol=0)
    assert load_trunk(theirs).config == ours.trunk.config
    reference.save_pretrained(spelled_anew)  # as transformers 5 spells it
    anew = load_folder(spelled_anew)
    assert anew.trunk.config == ours.trunk.config
    torch.testing.assert_close(logits_of(anew, ids, is_ours=True), expected, atol=1e-5, rtol=0)
    save_folder(back, ours, {key: value for key, value in config.items() if key.endswith("_token_id")})
    written, loading = kind.from_pretrained(back, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    torch.testing.assert_close(logits_of(written.eval(), ids, is_ours=False), expected, atol=1e-5, rtol=0)
    assert load_folder(back).trunk.config == ours.trunk.config


def test_options_of_popular_checkpoints_are_ours(tmp_path: Path):
    def read(name: str) -> Any:
        folder = tmp_path / name.replace("/", "+")
        folder.mkdir()
        write_checkpoint(folder, *CHECKPOINTS[name])
        return load_folder(folder).trunk.config

    llama = read("meta-llama/Llama-3.2-1B-Instruct")
    assert (llama.rope_scaling, llama.rope_theta) == (RopeScaling("llama3", 32.0, 1.0, 4.0, 16), 500000.0)
    deepseek = read("deepseek-ai/deepseek-coder-1.3b-base")
    assert (deepseek.rope_scaling, deepseek.rope_theta) == (RopeScaling("linear", 4.0), 100000.0)
    assert read("mistralai/Mistral-7B-v0.1").window_of(0) == 8
    assert read("Qwen/Qwen2.5-0.5B").window_of(0) == 0
    assert SequenceClassifier(read("answerdotai/ModernBERT-base"), VOCAB, 2).head.reads_mean
