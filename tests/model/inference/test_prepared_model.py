"""Models made ready to write, against the models they were made from."""

import pytest
import torch

from model.config.model_config import ModelConfig
from model.inference.generate import complete, generate, translate
from model.inference.prepared_model import for_inference
from model.inference.sampling import Sampling
from model.nn.models import LanguageModel, Seq2SeqModel

VOCAB = 61
SHAPES = [
    ModelConfig("gpt2", layers=2, width=32, heads=4, context=32, initial_std=0.3),
    ModelConfig(layers=2, width=32, heads=4, kv_heads=2, context=32, qk_norm=True, logit_cap=5.0, initial_std=0.3),
    ModelConfig(layers=2, width=32, heads=4, context=32, tie_embeddings=False, window=4, initial_std=0.3),
    ModelConfig("gru", layers=2, width=32, context=32, initial_std=0.3),
]
GREEDY = Sampling(max_tokens=12, temperature=0)


@pytest.fixture(params=SHAPES, ids=["gpt2", "llama", "untied", "gru"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    torch.manual_seed(7)
    return LanguageModel(request.param, VOCAB)


@pytest.mark.parametrize("rows", [1, 3])
def test_float32_gives_the_same_logits(model: LanguageModel, rows: int) -> None:
    ids = torch.randint(0, VOCAB, (rows, 9), generator=torch.Generator().manual_seed(1))
    ready = for_inference(model, torch.float32, rows)
    with torch.no_grad():
        torch.testing.assert_close(ready(ids), model.eval()(ids), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 3])
def test_float32_writes_the_same_tokens(model: LanguageModel, rows: int) -> None:
    prompts = [[5, 6, 7, 8], [9], [10, 11]][:rows]
    expected = [complete(model.eval(), prompt, 1, GREEDY)[0] for prompt in prompts]
    columns = zip(*list(generate(for_inference(model, torch.float32, rows), prompts, GREEDY)), strict=True)
    assert [[token.id for token in column if token is not None] for column in columns] == expected


@pytest.mark.parametrize("rows", [1, 3])
def test_bfloat16_is_near(model: LanguageModel, rows: int) -> None:
    ids = torch.randint(0, VOCAB, (rows, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found, exact = for_inference(model, torch.bfloat16, rows)(ids).float(), model.eval()(ids)
    assert (found - exact).abs().mean() < 0.03 * exact.abs().mean() + 0.03


def test_cache_of_unequal_rows_serves_bfloat16(model: LanguageModel) -> None:
    ready = for_inference(model, torch.bfloat16, 2)
    columns = list(zip(*list(generate(ready, [[5, 6, 7], [8]], GREEDY)), strict=True))
    assert [sum(token is not None for token in column) for column in columns] == [12, 12]


def test_encoder_decoder_writes_the_same_tokens() -> None:
    torch.manual_seed(7)
    model = Seq2SeqModel(ModelConfig("seq2seq", layers=2, width=32, heads=4, context=32), VOCAB).eval()
    sources = [[5, 6, 7, 8], [9, 10]]
    expected = list(translate(model, sources, 0, GREEDY))
    assert list(translate(for_inference(model, torch.float32, 2), sources, 0, GREEDY)) == expected


def test_model_that_it_was_made_from_still_learns(model: LanguageModel) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for_inference(model, torch.bfloat16, 1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    model(torch.tensor([[1, 2, 3]])).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.training
