"""Texts as they are written, on a tiny model and on tokens that are given."""

from collections.abc import Iterator, Sequence

import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config.model_config import ModelConfig
from model.inference.generate import complete
from model.inference.sampling import Sampling
from model.nn.models import LanguageModel, Seq2SeqModel, SequenceClassifier
from tasks.errors import UserError
from tasks.inference.generation import Chunk, GrowingText, continue_text, end_of, search_translation, stream_text, translate_text
from tasks.inference.saved_models import start_id
from tasks.tokenizer.encoding import decode_text, encode_documents, special_ids, stop_ids
from tasks.tokenizer.tokenizer import complete as complete_tokenizer
from tasks.tokenizer.tokenizer import learn_merges, new_tokenizer
from tasks.tokenizer.word_encoding import WordEncoder
from tests.tasks.tokenizer.tokenizer_forms import FORMS, form

TINY = ModelConfig(layers=1, width=16, heads=2, context=16)
GREEDY = Sampling(max_tokens=12, temperature=0)


@pytest.fixture(scope="module")
def tokenizer() -> tokenizers.Tokenizer:
    made = new_tokenizer()
    learn_merges(made, iter(["rain falls on stone, stone by stone"] * 3), 280)
    complete_tokenizer(made)
    return made


@pytest.fixture(scope="module")
def model(tokenizer: tokenizers.Tokenizer) -> LanguageModel:
    torch.manual_seed(3)
    return LanguageModel(TINY, tokenizer.get_vocab_size()).eval()


def tokens_of(chunks: Iterator[Chunk], count: int) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(count)]
    for chunk in chunks:
        if chunk.token is not None:
            rows[chunk.row].append(chunk.token.id)
    return rows


def grown(tokenizer: tokenizers.Tokenizer, ids: Sequence[int], stops: Sequence[str]) -> list[str]:
    text = GrowingText(tokenizer, frozenset(), stops)
    chunks: list[str] = []
    for token in ids:
        chunks.append(text.add(token))
        if text.is_over:
            break
    return [*chunks, text.finish()]


@settings(deadline=None, max_examples=150)
@given(st.text(max_size=30))
def test_chunks_make_up_the_text_and_split_no_character(tokenizer: tokenizers.Tokenizer, text: str) -> None:
    (ids,) = encode_documents(tokenizer, [text])
    chunks = grown(tokenizer, ids, [])
    assert "".join(chunks) == decode_text(tokenizer, ids).rstrip("\ufffd")
    assert all("\ufffd" not in chunk or "\ufffd" in text for chunk in chunks)


@settings(deadline=None, max_examples=150)
@given(st.text("ab n", max_size=20), st.lists(st.text("ab n", min_size=1, max_size=3), min_size=1, max_size=3))
def test_text_ends_before_the_first_stop_string(tokenizer: tokenizers.Tokenizer, text: str, stops: list[str]) -> None:
    ids = [token for letter in text for token in encode_documents(tokenizer, [letter])[0]]  # stops across borders
    chunks = grown(tokenizer, ids, stops)
    ends = [text.index(stop) + len(stop) for stop in stops if stop in text]
    first = min(ends, default=None)
    begun = [text.find(stop) for stop in stops if first is not None and 0 <= text.find(stop) <= first - len(stop)]
    assert "".join(chunks) == (text if first is None else text[: min(begun)])


def test_broken_last_character_is_left_out(tokenizer: tokenizers.Tokenizer) -> None:
    (ids,) = encode_documents(tokenizer, ["on 磨"])
    assert "".join(grown(tokenizer, ids[:-1], [])) == "on "


def test_same_seed_continues_alike_and_another_differently(model: LanguageModel, tokenizer: tokenizers.Tokenizer) -> None:
    first, again, other = (continue_text(model, tokenizer, "rain", 2, Sampling(max_tokens=12, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert first[0] != first[1]


def test_empty_prompt_begins_a_text(model: LanguageModel, tokenizer: tokenizers.Tokenizer) -> None:
    (text,) = continue_text(model, tokenizer, "", 1, Sampling(max_tokens=12))
    assert text
    assert "<|" not in text


@pytest.mark.parametrize("words", [0, 3, 5, 40])
def test_text_goes_on_past_the_context(model: LanguageModel, tokenizer: tokenizers.Tokenizer, words: int) -> None:
    never = LanguageModel(TINY, tokenizer.get_vocab_size()).eval()
    never.load_state_dict(model.state_dict())
    rows = tokens_of(stream_text(never, tokenizer, "stone " * words, 3, Sampling(max_tokens=50)), 3)
    ends = stop_ids(tokenizer)
    assert all(len(row) == 50 or row[-1] in ends for row in rows)
    assert max(map(len, rows)) > 16


@pytest.mark.parametrize(("words", "warnings"), [(0, 0), (40, 1)])
def test_prompt_longer_than_the_context_is_told_of_once(
    model: LanguageModel, tokenizer: tokenizers.Tokenizer, words: int, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    tokens_of(stream_text(model, tokenizer, "stone " * words, 2, Sampling(max_tokens=50)), 2)
    assert sum("a context of 16" in record.getMessage() for record in caplog.records) == warnings


def test_first_round_is_the_models_own_text(model: LanguageModel, tokenizer: tokenizers.Tokenizer) -> None:
    (row,) = tokens_of(stream_text(model, tokenizer, "rain", 1, GREEDY), 1)
    prompt = [start_id(tokenizer), *encode_documents(tokenizer, ["rain"])[0]]
    room = min(12, 16 - len(prompt))
    assert row[:room] == complete(model, prompt, 1, Sampling(room, temperature=0))[0][:room]


def test_stop_string_ends_one_text_and_not_the_others(model: LanguageModel, tokenizer: tokenizers.Tokenizer) -> None:
    sampling = Sampling(max_tokens=40, seed=5)
    plain = continue_text(model, tokenizer, "rain", 4, sampling)
    stop = plain[0][3:5]
    stopped = continue_text(model, tokenizer, "rain", 4, sampling, [stop])
    assert stopped[0] == plain[0][: plain[0].index(stop)]
    for text, whole in zip(stopped, plain, strict=True):
        assert stop not in text
        assert whole.startswith(text) or stop in whole


def test_chunks_carry_log_probabilities_on_request(model: LanguageModel, tokenizer: tokenizers.Tokenizer) -> None:
    chunks = list(stream_text(model, tokenizer, "rain", 1, GREEDY, alternatives=2))
    tokens = [chunk.token for chunk in chunks if chunk.token is not None]
    assert all(token.log_probability == token.alternatives[0][1] for token in tokens)  # greedy: the likeliest
    assert all(len(token.alternatives) == 2 for token in tokens)


@pytest.mark.parametrize(("count", "stops", "message"), [(0, (), "count 0: expected 1"), (1, ("",), "an empty string")])
def test_impossible_request_is_refused_at_once(
    model: LanguageModel, tokenizer: tokenizers.Tokenizer, count: int, stops: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        stream_text(model, tokenizer, "rain", count, GREEDY, stops)


def test_classifier_refuses_to_write(tokenizer: tokenizers.Tokenizer) -> None:
    model = SequenceClassifier(TINY, tokenizer.get_vocab_size(), 2)
    with pytest.raises(UserError, match="a SequenceClassifier: it cannot generate text"):
        stream_text(model, tokenizer, "rain", 1, GREEDY)


def test_one_beam_that_stops_like_greedy_text_is_that_text(tokenizer: tokenizers.Tokenizer) -> None:
    from model.inference.beam_search import Beams

    torch.manual_seed(3)
    model = Seq2SeqModel(ModelConfig("seq2seq", layers=1, width=16, heads=2, context=16), tokenizer.get_vocab_size()).eval()
    start = start_id(tokenizer)
    greedy = translate_text(model, tokenizer, "rain", start, 2, Sampling(8, temperature=0))
    assert greedy[0] == greedy[1]
    ((text, score),) = search_translation(model, tokenizer, "rain", start, Beams(1, 8, stops_early=True))
    assert text == greedy[0]
    assert score < 0


def test_source_that_does_not_fit_is_refused(tokenizer: tokenizers.Tokenizer) -> None:
    model = Seq2SeqModel(ModelConfig("seq2seq", layers=1, width=16, heads=2, context=16), tokenizer.get_vocab_size()).eval()
    with pytest.raises(UserError, match="generate: source 0 has .* leaves room for 16"):
        translate_text(model, tokenizer, "stone " * 40, start_id(tokenizer), 1, GREEDY)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(
    ("prompt", "behind"),
    [("John", " reads a book."), ("the café", " menu"), ("a", "b"), ("f", "(x) = 12."), ("山", "水"), ("do", " n't go")],
)
def test_what_is_written_joins_on_to_the_prompt(name: str, prompt: str, behind: str) -> None:
    tokenizer = form(name)
    given_ids, written = WordEncoder(tokenizer).encode([prompt, behind])
    text = GrowingText(tokenizer, frozenset(), (), end_of(tokenizer, prompt, given_ids))
    grown = "".join(text.add(token) for token in written) + text.finish()
    known = [number for number in written if tokenizer.id_to_token(number) not in ("<|unk|>", "<unk>")]
    asked, whole = (tokenizer.decode(ids, skip_special_tokens=False) for ids in (given_ids, [*given_ids, *known]))
    assert asked + grown == whole


@pytest.mark.parametrize("name", ["our words", "our word pieces", "bert", "llama", "mistral", "llama, old", "sentencepiece unigram"])
@pytest.mark.parametrize(("prompt", "expected"), [("John", " reads"), ("John ", "reads"), ("John\n", "reads"), ("", "reads")])
def test_first_word_has_the_space_that_the_prompt_lacks(name: str, prompt: str, expected: str) -> None:
    tokenizer = form(name)
    (given_ids,) = encode_documents(tokenizer, [prompt])
    (read,) = WordEncoder(tokenizer).encode(["John", " reads"])[1:]
    text = GrowingText(tokenizer, frozenset(), (), end_of(tokenizer, prompt, given_ids))
    grown = "".join(text.add(token) for token in read) + text.finish()
    keeps_spaces = decode_text(tokenizer, given_ids) == prompt  # then one more space is the model's own
    assert grown == (f" {expected.strip()}" if prompt and keeps_spaces else expected)


def test_text_joins_on_to_a_word_that_is_not_known() -> None:
    tokenizer = form("our words")
    unknown, read = WordEncoder(tokenizer).encode(["Zebra", " reads"])
    text = GrowingText(tokenizer, frozenset(), (), end_of(tokenizer, "Zebra", unknown))
    assert text.add(tokenizer.token_to_id("<|mask|>")) + text.add(read[0]) == " reads"


def test_text_that_a_decoder_cleans_up_loses_no_letter_on_the_way() -> None:
    tokenizer = form("bert")
    tokenizer.add_tokens(["do", "not", "n't", "'", "s", "it"])
    ids = [tokenizer.token_to_id(token) for token in ("it", "'", "s", "do", "not", "do", "n't", ".", "it")]
    text = GrowingText(tokenizer, frozenset(), (), end_of(tokenizer, "it", ids[:1]))
    chunks = [text.add(token) for token in ids[1:]]
    assert "it" + "".join(chunks) + text.finish() == decode_text(tokenizer, ids)


def test_question_that_is_too_long_keeps_what_stands_before_it(tokenizer: tokenizers.Tokenizer) -> None:
    model, seen = LanguageModel(TINY, tokenizer.get_vocab_size()).eval(), list[list[int]]()
    model.trunk.embedding.register_forward_pre_hook(lambda _, given_ids: seen.append(given_ids[0][0].tolist()))
    continue_text(model, tokenizer, "rain " * 40, 1, Sampling(max_tokens=4, temperature=0), is_chat=True)
    special = special_ids(tokenizer, "test")
    assert seen[0][:2] == [special.bos, special.user]
    assert seen[0][-1] == special.assistant
    assert len(seen[0]) == TINY.context - 4
