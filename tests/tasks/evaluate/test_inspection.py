"""What evaluation writes of a model at work."""

import json
import math
from pathlib import Path

import pytest
import tokenizers
import torch

from model.config.model_config import ModelConfig
from model.inference.inspection import attention_maps, attribution, token_losses
from model.nn.models import LanguageModel, MaskedLanguageModel
from tasks.evaluate.inspection import (
    ALTERNATIVES,
    HEADS,
    LAYERS,
    TEXTS,
    TOKENS,
    look_at_prompts,
    look_at_samples,
    read_insides,
    token_text,
    write_insides,
)
from tasks.evaluate.judged import Subject
from tasks.inference.saved_models import start_id
from tasks.tokenizer.encoding import encode_documents
from tasks.tokenizer.tokenizer import complete, learn_merges, new_tokenizer

PROMPT, TEXT = "rain falls", " on stone 石头 and on more stone"


@pytest.fixture(scope="module")
def tokenizer() -> tokenizers.Tokenizer:
    made = new_tokenizer()
    learn_merges(made, iter([PROMPT + TEXT]), 275)
    complete(made)
    made.add_special_tokens(["<|mask|>"])
    return made


def speaker(config: ModelConfig, tokenizer: tokenizers.Tokenizer) -> LanguageModel:
    torch.manual_seed(2)
    return LanguageModel(config, tokenizer.get_vocab_size()).eval()


@pytest.fixture(scope="module")
def model(tokenizer: tokenizers.Tokenizer) -> LanguageModel:
    return speaker(ModelConfig(layers=11, width=16, heads=8, context=64), tokenizer)


def test_view_holds_what_the_model_says(model: LanguageModel, tokenizer: tokenizers.Tokenizer) -> None:
    (view,) = look_at_samples(Subject(model, tokenizer), model, [(PROMPT, TEXT)], is_chat=False)
    prompt, text = encode_documents(tokenizer, [PROMPT, TEXT])
    ids = [start_id(tokenizer), *prompt, *text][:TOKENS]
    assert (view.given, view.explained, len(view.tokens)) == (1 + len(prompt), len(ids) - 1, len(ids))
    losses = token_losses(model, ids, ALTERNATIVES)
    assert view.tokens[0].nats is None
    assert [token.nats for token in view.tokens[1:]] == [round(float(nats), 3) for nats in losses.nats[1:]]
    assert [share for _, share in view.tokens[5].alternatives] == pytest.approx(losses.top_probabilities[5], abs=1e-4)
    moved = attribution(model, ids, len(ids) - 1)
    assert [token.moved for token in view.tokens[:-1]] == pytest.approx(moved, abs=1e-4)
    assert view.tokens[-1].moved is None
    mean = attention_maps(model, ids)[-1].mean(axis=0)
    assert view.layers[-1].maps[0].thousandths[3][1] == round(1000 * float(mean[3, 1]))


def test_heads_that_are_shown_lie_farthest_from_the_mean(model: LanguageModel, tokenizer: tokenizers.Tokenizer) -> None:
    (view,) = look_at_samples(Subject(model, tokenizer), model, [(PROMPT, "")], is_chat=False)
    weights = attention_maps(model, [start_id(tokenizer), *encode_documents(tokenizer, [PROMPT])[0]])[0]
    distances = [float(abs(head - weights.mean(axis=0)).sum()) for head in weights]
    farthest = sorted(range(8), key=lambda head: -distances[head])[:HEADS]
    assert [view.head for view in view.layers[0].maps] == [None, *sorted(farthest)]


def test_what_is_written_is_bounded_and_read_back(model: LanguageModel, tokenizer: tokenizers.Tokenizer, tmp_path: Path) -> None:
    views = look_at_samples(Subject(model, tokenizer), model, [(PROMPT, TEXT * 9)] * 7, is_chat=False)
    assert (len(views), len(views[0].tokens), len(views[0].layers)) == (TEXTS, TOKENS, LAYERS)
    assert [views[0].layers[0].layer, views[0].layers[-1].layer, views[0].layers_in_all] == [0, 10, 11]
    write_insides(views, tmp_path / "inspection.json")
    assert read_insides(tmp_path / "inspection.json") == tuple(views)
    assert (tmp_path / "inspection.json").stat().st_size < 1_000_000
    assert "NaN" not in json.dumps(json.loads((tmp_path / "inspection.json").read_text()))


def test_recurrent_model_has_losses_and_no_maps(tokenizer: tokenizers.Tokenizer) -> None:
    model = speaker(ModelConfig("gru", layers=1, width=16, context=64), tokenizer)
    (view,) = look_at_samples(Subject(model, tokenizer), model, [("", TEXT)], is_chat=False)
    assert (view.layers, view.layers_in_all, view.given) == ((), 0, 1)
    assert all(token.nats for token in view.tokens[1:])


def test_sample_is_shown_up_to_bytes_that_are_no_character(model: LanguageModel, tokenizer: tokenizers.Tokenizer) -> None:
    (view,) = look_at_samples(Subject(model, tokenizer), model, [("rain", " on\ufffd\ufffd stone")], is_chat=False)
    assert "".join(token.text for token in view.tokens) == "<|bos|>rain on"


def test_question_to_a_tuned_model_stands_between_its_special_tokens(model: LanguageModel, tokenizer: tokenizers.Tokenizer) -> None:
    (view,) = look_at_samples(Subject(model, tokenizer), model, [("rain", "stone")], is_chat=True)
    texts = [token.text for token in view.tokens]
    assert texts[:2] == ["<|bos|>", "<|user|>"]
    assert texts[view.given - 1] == "<|assistant|>"


def test_masked_model_guesses_each_token_and_its_costliest_is_explained(tokenizer: tokenizers.Tokenizer) -> None:
    torch.manual_seed(2)
    config = ModelConfig("bert", layers=1, width=16, heads=2, context=64)
    model = MaskedLanguageModel(config, tokenizer.get_vocab_size()).eval()
    (view,) = look_at_prompts(Subject(model, tokenizer), model, ["", PROMPT])
    nats = [token.nats or math.nan for token in view.tokens]
    assert max(nats) == nats[view.explained]
    assert all(token.moved is not None for token in view.tokens)
    plain = new_tokenizer()
    complete(plain)
    assert look_at_prompts(Subject(model, plain), model, [PROMPT]) == []


def test_bytes_of_half_a_character_and_padding_are_spelled_out(tokenizer: tokenizers.Tokenizer) -> None:
    ids = encode_documents(tokenizer, ["木a"])[0]
    assert [token_text(tokenizer, number) for number in ids] == ["⟨E6⟩", "⟨9C⟩", "⟨A8⟩", "a"]
    assert token_text(tokenizer, 99_999) == "⟨99999⟩"
