"""Random tiny models of transformers and the same read here: equal logits, losses and gradients, there and back."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.data.batches import Batch
from model.huggingface.huggingface import load_folder, save_folder
from model.huggingface.huggingface_config import read_folder
from model.huggingface.tensor_names import stored_tensors
from model.nn.models import Model, Seq2SeqModel
from tests.model.huggingface.foreign_configs import (
    PAD,
    TOKENS,
    VOCAB,
    bert_configs,
    gpt2_configs,
    llama_configs,
    marian_configs,
    ministral_configs,
    mistral_configs,
    modernbert_configs,
    qwen2_configs,
    qwen3_configs,
    random_model,
)

transformers.utils.logging.disable_progress_bar()

ROWS = 3
HIGHEST_LOGIT_ERROR, HIGHEST_LOSS_ERROR, HIGHEST_GRADIENT_ERROR = 1e-5, 1e-6, 1e-5
LENGTHS = torch.tensor([TOKENS, 7, 2])
FEW = settings(max_examples=25, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate))


@dataclass(frozen=True)
class Case:
    """What both models read, in the words of transformers: `ids`, `attention_mask` and the like, `labels`."""

    inputs: dict[str, Tensor]
    labels: Tensor
    batch: Batch  # the same for us
    counts: Tensor  # bool, of the logits' shape but for the last: those that are no padding


def token_case(config: transformers.PretrainedConfig, seed: int, is_causal: bool, classes: int = VOCAB) -> Case:
    """Rows padded on the right, and a target per token, of which some are not scored."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(TOKENS) < LENGTHS[:, None]
    ids = torch.where(mask, torch.randint(PAD, (ROWS, TOKENS), generator=generator), PAD)
    if is_causal:
        labels = torch.where(mask, ids, -100)
    else:
        labels = torch.randint(classes, (ROWS, TOKENS), generator=generator)
        labels = torch.where(mask & (torch.rand(ROWS, TOKENS, generator=generator) < 0.5), labels, -100)
        labels[0, 0] = 1
    targets = torch.cat((labels[:, 1:], torch.full((ROWS, 1), -100)), dim=1) if is_causal else labels
    inputs = {"input_ids": ids, "attention_mask": mask.long()}
    kinds = token_types(config, ids.shape, generator)
    if kinds is not None:
        inputs["token_type_ids"] = kinds
    return Case(inputs, labels, Batch(ids, targets, LENGTHS, token_types=kinds), mask)


def token_types(config: transformers.PretrainedConfig, shape: torch.Size, generator: torch.Generator) -> Tensor | None:
    is_bert = config.model_type == "bert"
    return torch.randint(config.type_vocab_size, shape, generator=generator) if is_bert else None


def our_logits(ours: Model, batch: Batch) -> Tensor:
    if isinstance(ours, Seq2SeqModel):
        assert batch.decoder_ids is not None
        return ours(batch.ids, batch.lengths, batch.decoder_ids)
    if ours.trunk.config.is_causal and not hasattr(ours.head, "score"):
        return ours(batch.ids)
    return ours(batch.ids, batch.lengths, batch.token_types)


def highest(difference: Tensor) -> float:
    return difference.detach().abs().max().item()


def check_equality(theirs: torch.nn.Module, kind: Any, case: Case) -> None:
    """Their folder read here, and ours read there, with the same logits, loss and gradients."""
    with tempfile.TemporaryDirectory() as name:
        folder, back = Path(name) / "theirs", Path(name) / "ours"
        theirs.save_pretrained(folder)
        ours = load_folder(folder)
        described = read_folder(folder)
        tokens = {
            key: getattr(theirs.config, key)
            for key in ("pad_token_id", "decoder_start_token_id")
            if getattr(theirs.config, key, None) is not None
        }
        save_folder(back, ours, tokens)
        again, loading = kind.from_pretrained(back, output_loading_info=True)
        again = again.eval()
    output = theirs(**case.inputs, labels=case.labels)
    expected = output.logits.detach()[case.counts]
    assert highest(our_logits(ours, case.batch)[case.counts] - expected) <= HIGHEST_LOGIT_ERROR
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert highest(again(**case.inputs).logits[case.counts] - expected) <= HIGHEST_LOGIT_ERROR
    loss = ours.loss(case.batch)
    mean = loss.nats / loss.count
    assert abs(mean.item() - output.loss.item()) <= HIGHEST_LOSS_ERROR
    mean.backward()
    output.loss.backward()
    check_gradients(ours, theirs, described)


def check_gradients(ours: Model, theirs: torch.nn.Module, described: Any) -> None:
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    parameters = dict(ours.named_parameters())
    stored = stored_tensors(described, [(name, tuple(p.shape)) for name, p in parameters.items()])
    assert {tensor.ours for tensor in stored} == set(parameters)
    for tensor in stored:
        grad = parameters[tensor.ours].grad
        assert grad is not None, tensor.ours
        for name, part in zip(tensor.names, grad.split(tensor.sizes), strict=True):
            assert highest((part.T if tensor.transposed else part) - gradients[name]) <= HIGHEST_GRADIENT_ERROR, name


CAUSAL = [
    (gpt2_configs(), transformers.GPT2LMHeadModel),
    (llama_configs(), transformers.LlamaForCausalLM),
    (mistral_configs(), transformers.MistralForCausalLM),
    (ministral_configs(), transformers.MinistralForCausalLM),
    (qwen2_configs(), transformers.Qwen2ForCausalLM),
    (qwen3_configs(), transformers.Qwen3ForCausalLM),
]
ENCODERS = [(bert_configs(), "Bert"), (modernbert_configs(), "ModernBert")]


@pytest.mark.parametrize(("configs", "kind"), CAUSAL, ids=lambda value: getattr(value, "__name__", ""))
def test_causal_language_model_equals_transformers(configs: st.SearchStrategy[Any], kind: Any):
    @FEW
    @given(configs, st.integers(0, 2**31))
    def check(config: transformers.PretrainedConfig, seed: int) -> None:
        check_equality(random_model(kind, config, seed), kind, token_case(config, seed, is_causal=True))

    check()


@pytest.mark.parametrize(("configs", "stem"), ENCODERS, ids=["bert", "modernbert"])
def test_masked_language_model_equals_transformers(configs: st.SearchStrategy[Any], stem: str):
    kind = getattr(transformers, f"{stem}ForMaskedLM")

    @FEW
    @given(configs, st.integers(0, 2**31))
    def check(config: transformers.PretrainedConfig, seed: int) -> None:
        check_equality(random_model(kind, config, seed), kind, token_case(config, seed, is_causal=False))

    check()


@FEW
@given(marian_configs(), st.integers(0, 2**31))
def test_translation_model_equals_transformers(config: transformers.PretrainedConfig, seed: int):
    case = token_case(config, seed, is_causal=False)
    decoder_ids = torch.randint(PAD, (ROWS, 9), generator=torch.Generator().manual_seed(seed + 1))
    labels = torch.randint(PAD, (ROWS, 9), generator=torch.Generator().manual_seed(seed + 2))
    labels[1, 5:] = -100
    batch = Batch(case.batch.ids, labels, LENGTHS, decoder_ids=decoder_ids)
    inputs = {**case.inputs, "decoder_input_ids": decoder_ids}
    kind = transformers.MarianMTModel
    check_equality(random_model(kind, config, seed), kind, Case(inputs, labels, batch, labels > -200))


@pytest.mark.parametrize(
    ("configs", "kind"),
    [
        (gpt2_configs(), transformers.GPT2ForTokenClassification),
        (qwen3_configs(), transformers.Qwen3ForTokenClassification),
        (bert_configs(), transformers.BertForTokenClassification),
        (modernbert_configs(), transformers.ModernBertForTokenClassification),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_token_classifier_equals_transformers(configs: st.SearchStrategy[Any], kind: Any):
    @settings(FEW, max_examples=8)
    @given(configs, st.integers(0, 2**31))
    def check(config: transformers.PretrainedConfig, seed: int) -> None:
        case = token_case(config, seed, is_causal=False, classes=config.num_labels)
        check_equality(random_model(kind, config, seed), kind, case)

    check()


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification", "regression"])
@pytest.mark.parametrize(
    ("configs", "kind"),
    [
        (gpt2_configs(), transformers.GPT2ForSequenceClassification),
        (mistral_configs(), transformers.MistralForSequenceClassification),
        (bert_configs(), transformers.BertForSequenceClassification),
        (modernbert_configs(), transformers.ModernBertForSequenceClassification),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_sequence_classifier_equals_transformers(configs: st.SearchStrategy[Any], kind: Any, problem: str):
    @settings(FEW, max_examples=5)
    @given(configs, st.integers(0, 2**31))
    def check(config: transformers.PretrainedConfig, seed: int) -> None:
        config.problem_type = problem
        config.num_labels = 1 if problem == "regression" else 3
        case = token_case(config, seed, is_causal=False)
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(3, (ROWS,), generator=generator)
        if problem == "multi_label_classification":
            labels = torch.randint(2, (ROWS, 3), generator=generator).float()
        elif problem == "regression":
            labels = torch.randn(ROWS, generator=generator)
        batch = Batch(case.batch.ids, labels, LENGTHS, token_types=case.batch.token_types)
        check_equality(random_model(kind, config, seed), kind, Case(case.inputs, labels, batch, torch.ones(ROWS, dtype=torch.bool)))

    check()


@pytest.mark.parametrize(("configs", "stem"), ENCODERS, ids=["bert", "modernbert"])
def test_multiple_choice_equals_transformers(configs: st.SearchStrategy[Any], stem: str):
    kind = getattr(transformers, f"{stem}ForMultipleChoice")

    @settings(FEW, max_examples=8)
    @given(configs, st.integers(0, 2**31))
    def check(config: transformers.PretrainedConfig, seed: int) -> None:
        cases = [token_case(config, seed + choice, is_causal=False) for choice in range(2)]
        inputs = {name: torch.stack([case.inputs[name] for case in cases], dim=1) for name in cases[0].inputs}
        labels = torch.tensor([0, 1, 1])
        lengths = torch.stack((LENGTHS, LENGTHS), dim=1)
        batch = Batch(inputs["input_ids"], labels, lengths, token_types=inputs.get("token_type_ids"))
        theirs = random_model(kind, config, seed)
        check_equality(theirs, kind, Case(inputs, labels, batch, torch.ones(ROWS, dtype=torch.bool)))

    check()


def test_positions_far_into_a_row_equal_transformers():
    tokens = 1500
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(PAD, (1, tokens), generator=generator)
    config = transformers.MarianConfig(
        vocab_size=VOCAB,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=tokens,
        scale_embedding=True,
        dropout=0.0,
        pad_token_id=PAD,
        decoder_start_token_id=PAD,
        eos_token_id=0,
    )
    everything = torch.ones(1, tokens, dtype=torch.bool)
    batch = Batch(ids, ids, torch.tensor([tokens]), decoder_ids=ids)
    inputs = {"input_ids": ids, "decoder_input_ids": ids}
    kind = transformers.MarianMTModel
    check_equality(random_model(kind, config, 5), kind, Case(inputs, ids, batch, everything))
    keys = {"max_position_embeddings": tokens, "vocab_size": VOCAB, "hidden_size": 16, "intermediate_size": 16}
    llama = transformers.LlamaConfig(**keys, num_hidden_layers=1, num_attention_heads=2, pad_token_id=PAD)
    targets = torch.cat((ids[:, 1:], torch.full((1, 1), -100)), dim=1)
    case = Case({"input_ids": ids}, ids, Batch(ids, targets, torch.tensor([tokens])), everything)
    check_equality(random_model(transformers.LlamaForCausalLM, llama, 5), transformers.LlamaForCausalLM, case)
