"""A vocabulary that grows or loses its padding leaves the other tokens alone."""

import pytest
import torch

from model.config.model_config import ModelConfig
from model.nn.models import LanguageModel, MaskedLanguageModel
from model.nn.vocabulary_size import cut_vocabulary, resize_vocabulary, start_new_tokens

GPT2 = ModelConfig("gpt2", layers=1, width=16, heads=2, context=16)
UNTIED = ModelConfig("llama", layers=1, width=16, heads=2, context=16, tie_embeddings=False)
BERT = ModelConfig("bert", layers=1, width=16, heads=2, context=16)
IDS = torch.arange(8)[None]


def logits(model: LanguageModel | MaskedLanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS)


@pytest.mark.parametrize("config", [GPT2, UNTIED, ModelConfig("lstm", layers=1, width=16), BERT])
def test_old_tokens_keep_their_logits_and_new_ones_are_near_the_mean(config: ModelConfig) -> None:
    torch.manual_seed(0)
    model = LanguageModel(config, 30) if config.is_causal else MaskedLanguageModel(config, 30)
    before = logits(model)
    resize_vocabulary(model, 33, seed=1)
    after = logits(model)
    assert after.shape == (1, 8, 33)
    assert torch.allclose(after[..., :30], before, atol=1e-6)
    assert torch.allclose(after[..., 30:], before.mean(-1, keepdim=True).expand(-1, -1, 3), atol=0.1)
    assert model.trunk.vocab_size == model.trunk.embedding.num_embeddings == 33


def test_new_rows_are_not_alike_and_follow_from_the_seed() -> None:
    rows = []
    for seed in (1, 1, 2):
        torch.manual_seed(0)
        model = LanguageModel(GPT2, 30)
        resize_vocabulary(model, 32, seed)
        rows.append(model.trunk.embedding.weight[30:])
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])
    assert not torch.equal(rows[0][0], rows[0][1])


def test_tied_head_stays_tied() -> None:
    model = LanguageModel(GPT2, 30)
    resize_vocabulary(model, 32, seed=1)
    assert model.head_weight is model.trunk.embedding.weight


def test_smaller_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="vocabulary 29 is smaller than the model's 30"):
        resize_vocabulary(LanguageModel(GPT2, 30), 29, seed=1)


@pytest.mark.parametrize("config", [GPT2, UNTIED, BERT])
def test_tokens_before_the_padding_keep_their_logits(config: ModelConfig) -> None:
    torch.manual_seed(0)
    model = LanguageModel(config, 40) if config.is_causal else MaskedLanguageModel(config, 40)
    before = logits(model)
    cut_vocabulary(model, 33)
    torch.testing.assert_close(logits(model), before[..., :33], atol=1e-6, rtol=1e-6)
    assert model.trunk.vocab_size == model.trunk.embedding.num_embeddings == 33


@pytest.mark.parametrize("size", [0, 31])
def test_vocabulary_is_not_cut_to_nothing_or_beyond_its_end(size: int) -> None:
    with pytest.raises(ValueError, match=f"vocabulary {size}: the model has 30 tokens"):
        cut_vocabulary(LanguageModel(GPT2, 30), size)


@pytest.mark.parametrize("config", [GPT2, UNTIED, BERT])
def test_new_token_starts_as_the_mean_of_those_that_spelled_it(config: ModelConfig) -> None:
    torch.manual_seed(0)
    model = LanguageModel(config, 30) if config.is_causal else MaskedLanguageModel(config, 30)
    before = logits(model)
    start_new_tokens(model, {30: (1, 2), 33: (4, 5, 6)}, seed=1)
    after, rows = logits(model), model.trunk.embedding.weight
    assert model.trunk.vocab_size == 34
    assert torch.equal(rows[30], (rows[1] + rows[2]) / 2)
    assert torch.allclose(after[..., :30], before, atol=1e-6)
    assert torch.allclose(after[..., 30], before[..., [1, 2]].mean(-1), atol=1e-5)
    assert torch.allclose(after[..., 33], before[..., [4, 5, 6]].mean(-1), atol=1e-5)


def test_rows_of_padding_are_taken_for_new_tokens_before_any_is_added() -> None:
    torch.manual_seed(0)
    model = LanguageModel(GPT2, 32)
    start_new_tokens(model, {30: (1, 2)}, seed=1)
    assert model.trunk.vocab_size == 32


def test_no_new_tokens_leave_the_model_as_it_is() -> None:
    torch.manual_seed(0)
    model = LanguageModel(GPT2, 30)
    before = model.trunk.embedding.weight
    start_new_tokens(model, {}, seed=1)
    assert model.trunk.embedding.weight is before
