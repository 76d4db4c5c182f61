"""Looking inside a model: maps against transformers', attributions against finite differences, nats against the loss."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from model.config.model_config import ModelConfig
from model.data.batches import Batch
from model.huggingface.huggingface import load_folder
from model.inference.inspection import Predictor, attention_maps, attribution, cross_attention_maps, token_losses
from model.nn.models import LanguageModel, MaskedLanguageModel, Seq2SeqModel

VOCAB, MASK = 61, 3
IDS = [1, 17, 5, 42, 5, 9, 33, 60, 12, 7]
SOURCE = [11, 4, 58, 2]
CONFIGS = {
    "gpt2": ModelConfig("gpt2", layers=2, width=16, heads=2, context=16, dropout=0.3),
    "llama": ModelConfig(layers=2, width=16, heads=4, kv_heads=2, context=16, window=4, global_every=2, logit_cap=3.0),
    "lstm": ModelConfig("lstm", layers=2, width=16, context=16),
    "bert": ModelConfig("bert", layers=2, width=16, heads=2, context=16),
    "modernbert": ModelConfig("modernbert", layers=4, width=16, heads=2, context=16, window=4),
    "seq2seq": ModelConfig("seq2seq", layers=2, width=16, heads=2, context=16),
}


def build(family: str) -> Predictor:
    """Large random weights in double precision, in eval mode."""
    torch.manual_seed(5)
    config = CONFIGS[family]
    kind = LanguageModel if config.is_causal else MaskedLanguageModel
    model = Seq2SeqModel(config, VOCAB) if family == "seq2seq" else kind(config, VOCAB)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    return model.double().eval()


@pytest.fixture(params=list(CONFIGS))
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(family: str) -> Predictor:
    return build(family)


def beside(model: Predictor) -> dict[str, object]:
    """What such a model needs besides a text."""
    if isinstance(model, MaskedLanguageModel):
        return {"mask_id": MASK}
    return {"source": SOURCE} if isinstance(model, Seq2SeqModel) else {}


THEIRS = {
    "gpt2": transformers.GPT2Config(vocab_size=VOCAB, n_positions=16, n_embd=32, n_layer=3, n_head=4),
    "llama": transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=16,
    ),
    "bert": transformers.BertConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=16,
    ),
    "modernbert": transformers.ModernBertConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
        max_position_embeddings=16, local_attention=4, global_attn_every_n_layers=3, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, cls_token_id=1, sep_token_id=2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(THEIRS))
def test_attention_maps_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    kind = transformers.AutoModelForCausalLM if name in ("gpt2", "llama") else transformers.AutoModelForMaskedLM
    theirs = kind.from_config(THEIRS[name], attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
        theirs.save_pretrained(tmp_path)
        expected = theirs(torch.tensor([IDS]), output_attentions=True).attentions
    maps = attention_maps(load_folder(tmp_path), IDS)
    assert len(maps) == len(expected)
    for ours, wanted in zip(maps, expected, strict=True):
        np.testing.assert_allclose(ours, wanted[0].numpy(), atol=1e-5)


def test_each_query_spends_all_of_its_attention(model: Predictor, family: str) -> None:
    maps = attention_maps(model, IDS)
    assert len(maps) == (0 if family == "lstm" else CONFIGS[family].layers)
    for weights in maps:
        assert weights.shape == (CONFIGS[family].heads, len(IDS), len(IDS))
        np.testing.assert_allclose(weights.sum(axis=-1), 1.0, atol=1e-6)


def test_local_layer_looks_no_further_than_its_window() -> None:
    everywhere, local = attention_maps(build("llama"), IDS)
    assert np.all(np.tril(local, -4) == 0)
    assert np.tril(everywhere, -4).max() > 0


def test_decoder_looks_at_every_token_of_its_source() -> None:
    model = build("seq2seq")
    assert isinstance(model, Seq2SeqModel)
    maps = cross_attention_maps(model, SOURCE, IDS)
    assert [weights.shape for weights in maps] == [(2, len(IDS), len(SOURCE))] * 2
    for weights in maps:
        np.testing.assert_allclose(weights.sum(axis=-1), 1.0, atol=1e-6)


@pytest.mark.parametrize("name", ["gpt2", "llama", "lstm", "seq2seq"])
def test_nats_of_the_tokens_add_up_to_the_loss(name: str) -> None:
    model = build(name)
    told = token_losses(model, IDS, 5, **beside(model))
    ids, row = torch.tensor([SOURCE if name == "seq2seq" else IDS[:-1]]), torch.tensor([IDS])
    batch = Batch(
        ids=ids, targets=row[:, 1:], lengths=torch.tensor([ids.shape[1]]),
        decoder_ids=row[:, :-1] if name == "seq2seq" else None,
    )  # fmt: skip
    with torch.no_grad():
        loss = model.loss(batch)
    assert math.isnan(told.nats[0])
    assert told.nats[1:].sum() == pytest.approx(float(loss.nats), abs=1e-4)


def test_masked_token_is_predicted_from_all_others() -> None:
    model = build("bert")
    told = token_losses(model, IDS, 4, mask_id=MASK)
    for at, token in enumerate(IDS):
        row = torch.tensor([IDS])
        row[0, at] = MASK
        with torch.no_grad():
            logs = model(row)[0, at].float().log_softmax(-1)
        assert told.nats[at] == pytest.approx(-float(logs[token]), abs=1e-5)
        assert told.top_ids[at].tolist() == logs.topk(4).indices.tolist()


def test_alternatives_are_the_likeliest_tokens_with_their_probabilities(model: Predictor) -> None:
    told = token_losses(model, IDS, VOCAB, **beside(model))
    np.testing.assert_allclose(told.top_probabilities[1:].sum(axis=-1), 1.0, atol=1e-5)
    assert np.all(np.diff(told.top_probabilities[1:], axis=-1) <= 0)
    own = (told.top_ids == np.array(IDS)[:, None])[1:]
    np.testing.assert_allclose(-np.log(told.top_probabilities[1:][own]), told.nats[1:], atol=1e-4)


def test_attribution_is_the_slope_by_finite_differences(model: Predictor) -> None:
    position, step, embedding = 6, 1e-5, model.trunk.embedding
    found = attribution(model, IDS, position, **beside(model))

    def scaled(which: int, factor: float) -> float:
        """ln p of the token when the `which`-th vector that was looked up is `factor` times what it is."""
        seen = 0

        def scale(_: torch.nn.Module, __: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
            nonlocal seen
            output = output.clone()
            if seen <= which < seen + output.shape[1]:
                output[0, which - seen] *= factor
            seen += output.shape[1]
            return output

        handle = embedding.register_forward_hook(scale)
        row = torch.tensor([IDS])
        with torch.no_grad():
            if isinstance(model, MaskedLanguageModel):
                row[0, position] = MASK
                logits = model(row)[0, position]
            elif isinstance(model, Seq2SeqModel):
                logits = model(torch.tensor([SOURCE]), torch.tensor([len(SOURCE)]), row[:, :position])[0, -1]
            else:
                logits = model(row[:, :position])[0, -1]
        handle.remove()
        return float(logits.log_softmax(-1)[IDS[position]])

    slopes = [(scaled(at, 1 + step) - scaled(at, 1 - step)) / (2 * step) for at in range(len(found))]
    np.testing.assert_allclose(found, slopes, rtol=1e-3, atol=1e-4)
    read = len(IDS) if isinstance(model, MaskedLanguageModel) else position
    assert len(found) == read + (len(SOURCE) if isinstance(model, Seq2SeqModel) else 0)


def test_attribution_behind_the_text_explains_the_likeliest_token() -> None:
    model = build("gpt2")
    likeliest = int(model(torch.tensor([IDS]))[0, -1].argmax())
    behind = attribution(model, IDS, len(IDS))
    np.testing.assert_array_equal(behind, attribution(model, [*IDS, likeliest], len(IDS)))


def test_looking_changes_neither_gradients_nor_mode_and_sees_no_dropout() -> None:
    model = build("gpt2").train()
    told = [attribution(model, IDS, 4) for _ in range(2)]
    np.testing.assert_array_equal(*told)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("gpt2", ([], 2), "the text is empty"),
        ("gpt2", ([1, VOCAB], 2), "expected 0 to 60: use the model's tokenizer"),
        ("gpt2", (IDS, 0), "top 0: expected 1 to 61"),
        ("gpt2", (IDS, 2, None, SOURCE), "has no source"),
        ("bert", (IDS, 2), "mask_id None: a masked language model needs the id of its mask token"),
        ("seq2seq", (IDS, 2), "needs the source"),
        ("gpt2", (IDS * 2, 2), "does not fit the model's context of 16"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(name: str, arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        token_losses(build(name), *arguments)


@pytest.mark.parametrize(("name", "position"), [("gpt2", 0), ("gpt2", 11), ("bert", 10), ("bert", -1)])
def test_position_without_a_prediction_is_refused(name: str, position: int) -> None:
    with pytest.raises(ValueError, match=f"position {position}: expected"):
        attribution(build(name), IDS, position, mask_id=MASK)
