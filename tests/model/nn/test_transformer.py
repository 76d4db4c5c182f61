import dataclasses
import math

import pytest
import torch

from model.config.model_config import ModelConfig
from model.nn.models import LanguageModel, SequenceClassifier

GPT2 = ModelConfig(family="gpt2", layers=2, width=32, heads=4, context=16)
LLAMA = ModelConfig(family="llama", layers=2, width=32, heads=4, kv_heads=2, context=16)
MODERN = dataclasses.replace(
    LLAMA, window=4, global_every=2, qk_norm=True, local_rope_theta=100.0, logit_cap=5.0, activation="relu2", head_dim=12
)
VOCAB = 61


@pytest.fixture(params=[GPT2, LLAMA, MODERN], ids=["gpt2", "llama", "modern"])
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return request.param


def random_ids(rows: int, tokens: int) -> torch.Tensor:
    return torch.randint(VOCAB, (rows, tokens), generator=torch.Generator().manual_seed(rows * 100 + tokens))


def test_later_tokens_do_not_change_earlier_logits(config: ModelConfig):
    model = LanguageModel(config, VOCAB).eval()
    ids = random_ids(2, 12)
    changed = ids.clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % VOCAB
    torch.testing.assert_close(model(ids)[:, :7], model(changed)[:, :7], atol=1e-6, rtol=0)
    assert not torch.equal(model(ids)[:, 7:], model(changed)[:, 7:])


def test_untrained_loss_is_that_of_guessing():
    config = ModelConfig(layers=4, width=64, heads=4, context=32)
    model = LanguageModel(config, 2048).eval()
    ids = torch.randint(2048, (8, 32))
    targets = torch.randint(2048, (8, 32))
    loss = torch.nn.functional.cross_entropy(model(ids).flatten(0, 1), targets.flatten())
    assert loss.item() == pytest.approx(math.log(2048), abs=0.1)


def test_cached_chunks_give_the_hidden_states_of_the_whole(config: ModelConfig):
    trunk = LanguageModel(config, VOCAB).eval().trunk
    ids = random_ids(3, 16)
    cache = trunk.new_cache(3)
    chunks = [trunk(ids[:, start:stop], cache=cache) for start, stop in ((0, 5), (5, 6), (6, 9), (9, 16))]
    torch.testing.assert_close(torch.cat(chunks, dim=1), trunk(ids), atol=1e-5, rtol=1e-5)


def test_sequence_past_the_context_is_refused(config: ModelConfig):
    model = LanguageModel(config, VOCAB)
    with pytest.raises(ValueError, match="17 tokens does not fit the model's context of 16"):
        model(random_ids(1, 17))


def test_residual_outputs_start_smaller(config: ModelConfig):
    wide = dataclasses.replace(config, width=256, layers=8)
    block = LanguageModel(wide, VOCAB).trunk.stack.blocks[0]
    assert block.attention.output.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
    assert block.attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_padding_does_not_change_a_class(config: ModelConfig):
    classifier = SequenceClassifier(config, VOCAB, 3).eval()
    ids = random_ids(2, 6)
    padded = torch.nn.functional.pad(ids, (0, 4), value=9)
    lengths = torch.tensor([6, 6])
    torch.testing.assert_close(classifier(ids, lengths), classifier(padded, lengths))
