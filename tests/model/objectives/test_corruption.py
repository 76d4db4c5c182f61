"""Noise alone, on rows of made-up documents: what changes, what never does, and that nothing is lost."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.config.heads import IGNORED
from model.config.model_config import ModelConfig
from model.config.objective_config import ObjectiveConfig
from model.data.batches import Batch
from model.objectives.corruption import NONE, Symbols, hide_spans, hide_units, mask, number_units, shuffle
from model.objectives.noise import row_keys, uniforms
from model.objectives.objectives import CorruptedBatches, Corruption
from model.objectives.whole_words import WordTable, longest_match

VOCAB = 300
BOS, EOS, PAD, MASK, SEP = range(5)
SENTINELS = tuple(range(5, 40))
FIRST = 40  # of the tokens that stand for text
SYMBOLS = Symbols(BOS, EOS, PAD, np.arange(VOCAB) < FIRST, MASK, SEP, SENTINELS)
DECODER, ENCODER = ModelConfig(context=512), ModelConfig("bert", context=512)
SEQ2SEQ = ModelConfig("seq2seq", context=512)
WORDS = WordTable(np.arange(VOCAB) % 3 == 0, np.ones(VOCAB, np.bool_), np.arange(VOCAB) % 7 == 0)
KINDS: list[tuple[str, ModelConfig]] = [
    ("masked", ENCODER),
    ("restore", DECODER),
    ("restore", SEQ2SEQ),
    ("spans", DECODER),
    ("spans", SEQ2SEQ),
]
Ids = NDArray[np.int64]


class MadeRows:
    """Rows of packed documents of random lengths, padded; those of one step differ from those of the next."""

    def __init__(self, seed: int, batch_rows: int = 6, width: int = 40, parts: int = 1) -> None:
        self.seed, self.batch_rows, self.width, self.parts = seed, batch_rows, width, parts

    def rows_at(self, step: int) -> Ids:
        return np.arange(step * self.batch_rows, (step + 1) * self.batch_rows)

    def batch(self, step: int, start: int, stop: int) -> Batch:
        return self._read(self.rows_at(step)[start:stop], self.parts)

    def evaluation(self, batches: int) -> Iterator[Batch]:
        for step in range(batches):
            yield self._read(self.rows_at(step), 1)

    def _read(self, numbers: Ids, parts: int) -> Batch:
        ids = torch.from_numpy(np.stack([made_row(self.seed + int(n), self.width) for n in numbers]))
        ids = ids.reshape(-1, self.width // parts)
        lengths = (ids != PAD).sum(dim=1)
        return Batch(ids, ids, lengths)


def made_row(seed: int, width: int) -> Ids:
    random = np.random.default_rng(seed)
    row = np.full(width, PAD)
    at = 0
    while width - at >= 3 and random.random() < 0.95:
        size = int(random.integers(1, width - at - 1))
        row[at : at + size + 2] = [BOS, *random.integers(FIRST, VOCAB, size), EOS]
        at += size + 2
    if at == 0:
        row[:3] = [BOS, FIRST, EOS]
    return row


def corruption(kind: str, model: ModelConfig, unit: str = "token", **settings: float) -> Corruption:
    config = ObjectiveConfig(kind, unit=unit, **settings)  # type: ignore[arg-type]
    return Corruption(config, model, SYMBOLS, None if unit == "token" else WORDS)


seeds = st.integers(0, 10_000)
few = settings(deadline=None, max_examples=25)


@pytest.mark.parametrize(("kind", "model"), KINDS)
@given(seed=seeds, data=st.data())
@few
def test_slices_of_a_step_are_what_one_process_reads(kind: str, model: ModelConfig, seed: int, data: st.DataObject):
    parts = data.draw(st.sampled_from([1, 2]))
    batches = CorruptedBatches(MadeRows(seed, parts=parts), corruption(kind, model, "word"), seed)
    step = data.draw(st.integers(0, 50))
    whole = batches.batch(step, 0, 6)
    world = data.draw(st.sampled_from([1, 2, 3, 6]))
    slices = [batches.batch(step, rank * 6 // world, (rank + 1) * 6 // world) for rank in range(world)]
    for field, padding in ((("ids"), PAD), ("targets", IGNORED), ("decoder_ids", PAD)):
        arrays = [getattr(part, field) for part in slices]
        if arrays[0] is not None:
            joined = [row for array in arrays for row in array.numpy()]
            assert [trimmed(row, padding) for row in joined] == [trimmed(row, padding) for row in getattr(whole, field).numpy()]
    assert torch.equal(torch.cat([part.lengths for part in slices]), whole.lengths)


def trimmed(row: Ids, padding: int) -> list[int]:
    filled = np.flatnonzero(row != padding)
    return row[: filled[-1] + 1].tolist() if len(filled) else []


@pytest.mark.parametrize(("kind", "model"), KINDS)
def test_steps_seeds_and_evaluation_have_noise_of_their_own(kind: str, model: ModelConfig):
    class Same(MadeRows):
        def rows_at(self, step: int) -> Ids:
            return np.arange(self.batch_rows)

    def told(batch: Batch) -> bytes:
        return batch.ids.numpy().tobytes() + batch.targets.numpy().tobytes()

    batches = CorruptedBatches(Same(1), corruption(kind, model), 1)
    again = CorruptedBatches(Same(1), corruption(kind, model), 1)
    other = CorruptedBatches(Same(1), corruption(kind, model), 2)
    held = next(batches.evaluation(1))
    assert told(batches.batch(3, 0, 6)) == told(again.batch(3, 0, 6))
    assert told(held) == told(next(again.evaluation(1)))
    found = [told(one) for one in (batches.batch(3, 0, 6), batches.batch(4, 0, 6), other.batch(3, 0, 6), held)]
    assert len(set(found)) == 4


def test_evaluation_gives_a_row_the_same_noise_whatever_the_batches():
    large, small = (CorruptedBatches(MadeRows(1, rows), corruption("masked", ENCODER), 1) for rows in (6, 3))
    whole = next(large.evaluation(1))
    parts = list(small.evaluation(2))
    assert torch.equal(torch.cat([part.ids for part in parts]), whole.ids)


@given(seed=seeds, rate=st.floats(0.01, 0.9), is_words=st.booleans())
@few
def test_masks_cover_the_share_of_the_text_and_nothing_else(seed: int, rate: float, is_words: bool):
    plain = MadeRows(seed).batch(0, 0, 6)
    ids = plain.ids.numpy()
    made = corruption("masked", ENCODER, "word" if is_words else "token", rate=rate).apply(plain, row_keys(np.arange(6), 1))
    targets, inputs = made.targets.numpy(), made.ids.numpy()
    is_text, is_hidden = ids >= FIRST, targets != IGNORED
    assert not (is_hidden & ~is_text).any()
    assert (targets[is_hidden] == ids[is_hidden]).all()
    assert (inputs[~is_hidden] == ids[~is_hidden]).all()
    assert ((inputs[is_hidden] >= FIRST) | (inputs[is_hidden] == MASK)).all()
    wanted = np.maximum(np.rint(is_text.sum(axis=1) * rate), 1)
    assert (is_hidden.sum(axis=1) >= wanted).all()
    if not is_words:
        assert (is_hidden.sum(axis=1) == wanted).all()


def test_hidden_tokens_become_mask_other_token_or_stay_by_their_shares():
    ids = np.random.default_rng(0).integers(FIRST, VOCAB, (40, 500))
    inputs, _ = mask(ids, np.ones(ids.shape, np.bool_), ObjectiveConfig("masked"), row_keys(np.arange(40), 1), SYMBOLS)
    assert (inputs == MASK).mean() == pytest.approx(0.8, abs=0.01)
    assert ((inputs != MASK) & (inputs != ids)).mean() == pytest.approx(0.1, abs=0.01)
    others = inputs[(inputs != MASK) & (inputs != ids)]
    assert np.unique(others).tolist() == list(range(FIRST, VOCAB))  # any token of text, and no special one


@given(seed=seeds)
@few
def test_words_are_hidden_whole(seed: int):
    ids = MadeRows(seed).batch(0, 0, 6).ids.numpy()
    units = number_units(WORDS.starts(ids, "word"), ids >= FIRST)
    hidden = hide_units(units, 0.3, row_keys(np.arange(6), seed))
    for row, flags in zip(units, hidden, strict=True):
        assert not set(row[flags]) & set(row[~flags])


@given(sizes=st.lists(st.integers(0, 200), min_size=1, max_size=8), rate=st.floats(0.02, 0.9), mean=st.floats(1, 9), seed=seeds)
@few
def test_spans_are_as_many_and_hide_as_much_as_t5s(sizes: list[int], rate: float, mean: float, seed: int):
    width = max(*sizes, 1)
    units = np.where(np.arange(width) < np.array(sizes)[:, None], np.arange(width), NONE)
    config = ObjectiveConfig("spans", rate=rate, span_length=mean)
    hidden = hide_spans(units, config, row_keys(np.arange(len(sizes)), seed))
    for size, flags in zip(sizes, hidden, strict=True):
        assert not flags[size:].any()
        if size > 1:  # as in T5's code: at least one hidden and one kept, and as many runs of each around the circle
            count = min(max(round(size * rate), 1), size - 1)
            spans = min(max(round(count / mean), 1), count, size - count)
            assert flags.sum() == count
            assert (flags[:size] & ~np.roll(flags[:size], 1)).sum() == spans
        assert flags.sum() > 0 or size == 0


def test_every_position_is_hidden_as_often_as_another():
    units = np.tile(np.arange(30), (20_000, 1))
    hidden = hide_spans(units, ObjectiveConfig("spans"), row_keys(np.arange(20_000), 1))
    assert hidden.mean(axis=0) == pytest.approx(np.full(30, 4 / 30), abs=0.015)


@given(seed=seeds, rate=st.floats(0.1, 1.0), unit=st.sampled_from(["token", "word", "sentence"]))
@few
def test_shuffling_moves_whole_units_within_their_document_alone(seed: int, rate: float, unit: str):
    ids = MadeRows(seed).batch(0, 0, 6).ids.numpy()
    units = number_units(WORDS.starts(ids, unit), ids >= FIRST)  # type: ignore[arg-type]
    tagged = np.where(ids >= FIRST, np.arange(ids.size).reshape(ids.shape) + FIRST, ids)  # so that tokens can be followed
    shuffled = shuffle(tagged, units, ObjectiveConfig("restore", rate=rate, unit=unit), row_keys(np.arange(6), seed))  # type: ignore[arg-type]
    assert (shuffled[ids < FIRST] == ids[ids < FIRST]).all()
    for before, after, row in zip(tagged, shuffled, units, strict=True):
        for first, last in zip(np.flatnonzero(before == BOS), np.flatnonzero(before == EOS), strict=True):
            assert sorted(before[first:last]) == sorted(after[first:last])
        unit_of = dict(zip(before.tolist(), row.tolist(), strict=True))
        order = [unit_of[token] for token in after.tolist() if token >= FIRST]
        assert sum(a != b for a, b in pairwise(order)) == max(0, len(set(order)) - 1)


def test_share_of_the_spans_moves():
    ids = np.tile(np.arange(FIRST, FIRST + 200), (50, 1))
    units = np.tile(np.arange(200), (50, 1))
    config = ObjectiveConfig("restore", rate=0.2, span_length=1)
    moved = shuffle(ids, units, config, row_keys(np.arange(50), 1)) != ids
    assert moved.mean() == pytest.approx(0.2, abs=0.02)


@given(seed=seeds)
@few
def test_decoder_restores_each_document_behind_its_shuffled_form(seed: int):
    plain = MadeRows(seed).batch(0, 0, 6)
    made = corruption("restore", DECODER).apply(plain, row_keys(np.arange(6), seed))
    for before, ids, targets, length in zip(*arrays(plain.ids, made.ids, made.targets, made.lengths), strict=True):
        assert length == 2 * (before != PAD).sum() == (ids != PAD).sum()
        assert targets[targets != IGNORED].tolist() == before[(before != BOS) & (before != PAD)].tolist()
        for first in np.flatnonzero(ids == BOS):
            middle = first + int(np.flatnonzero(ids[first:] == SEP)[0])
            noisy, clean = ids[first + 1 : middle], ids[middle + 1 : 2 * middle - first]
            assert sorted(noisy) == sorted(clean)
            assert targets[middle : 2 * middle - first - 1].tolist() == clean.tolist()
            assert (targets[first:middle] == IGNORED).all()


@given(seed=seeds, is_decoder=st.booleans())
@few
def test_answers_put_where_the_sentinels_stand_give_the_text_back(seed: int, is_decoder: bool):
    plain = MadeRows(seed).batch(0, 0, 6)
    made = corruption("spans", DECODER if is_decoder else SEQ2SEQ).apply(plain, row_keys(np.arange(6), seed))
    for before, ids, targets in zip(*arrays(plain.ids, made.ids, made.targets), strict=True):
        answer = targets[targets != IGNORED].tolist()
        assert answer[-1] == EOS
        spans: list[list[int]] = []
        for token in answer:
            if token in SENTINELS:
                spans.append([])
            elif token != EOS:
                spans[-1].append(token)
        remaining = iter(spans)
        text = list[int]()
        for token in source_of(ids.tolist()):
            text += next(remaining) if token in SENTINELS else [token]
        assert text == before[before != PAD].tolist()


def source_of(ids: list[int]) -> list[int]:
    """Without padding, and without what stands between <|sep|> and the <|eos|> behind it."""
    found, is_answer = list[int](), False
    for token in ids:
        is_answer |= token == SEP
        if not is_answer and token != PAD:
            found.append(token)
        is_answer &= token != EOS
    return found


def arrays(*tensors: torch.Tensor) -> list[Ids]:
    return [tensor.numpy() for tensor in tensors]


def test_decoder_of_a_seq2seq_model_reads_the_target_one_behind():
    made = corruption("restore", SEQ2SEQ).apply(MadeRows(3).batch(0, 0, 6), row_keys(np.arange(6), 1))
    assert made.decoder_ids is not None
    assert (made.decoder_ids[:, 0] == BOS).all()
    is_told = made.targets[:, 1:] != IGNORED
    assert torch.equal(made.decoder_ids[:, 1:][is_told], made.targets[:, :-1][is_told])


def test_spans_without_a_sentinel_left_stay_in_the_text():
    symbols = Symbols(BOS, EOS, PAD, SYMBOLS.is_special, None, SEP, SENTINELS[:1])
    config = ObjectiveConfig("spans", rate=0.5, span_length=1)
    plain = MadeRows(5).batch(0, 0, 6)
    made = Corruption(config, SEQ2SEQ, symbols).apply(plain, row_keys(np.arange(6), 1))
    assert (made.targets == SENTINELS[0]).sum(dim=1).tolist() == [1] * 6
    assert (made.ids == SENTINELS[0]).sum(dim=1).tolist() == [1] * 6


def test_documents_of_a_decoders_rows_are_a_text_with_its_answer():
    config = ObjectiveConfig("restore")
    made = Corruption(config, DECODER, SYMBOLS, masks_documents=True).apply(MadeRows(2).batch(0, 0, 6), row_keys(np.arange(6), 1))
    assert made.documents is not None
    starts = (made.documents.positions == 0) & (made.ids != PAD)
    assert torch.equal(starts, made.ids == BOS)


def test_chance_is_even_and_depends_on_every_part_of_its_key():
    found = uniforms(row_keys(np.arange(200), 1, 2), 500, 0)
    assert np.histogram(found, 10, (0, 1))[0] == pytest.approx(np.full(10, 10_000), rel=0.05)
    assert abs(np.corrcoef(found[:-1].ravel(), found[1:].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(found[:, :-1].ravel(), found[:, 1:].ravel())[0, 1]) < 0.02
    others = [uniforms(row_keys(np.arange(200), 1, 3), 500, 0), uniforms(row_keys(np.arange(200), 1, 2), 500, 1)]
    assert all(not (found == other).any() for other in others)


def han_table(tokens: list[str | bytes], segment: Callable[[str], list[str]]) -> WordTable:
    spellings = tuple(token.encode() if isinstance(token, str) else token for token in tokens)
    nothing = np.zeros(len(tokens), np.bool_)
    return WordTable(nothing, nothing, nothing, spellings, segment)


def test_chinese_words_are_those_of_the_segmenter_whatever_the_tokens():
    table = han_table(["", "南", "京市", "长", "江".encode()[:2], "江".encode()[2:], "大桥"], longest_match(frozenset(["南京市", "长江"])))
    ids = np.array([[0, 1, 2, 3, 4, 5, 6, 0, 3, 6]])
    assert table.starts(ids, "word").tolist() == [[True, True, False, True, False, False, True, True, True, True]]


def test_row_that_cuts_a_character_keeps_its_tokens_apart():
    table = han_table(["江".encode()[2:], "南", "京"], longest_match(frozenset(["南京"])))
    assert table.starts(np.array([[0, 1, 2]]), "word").tolist() == [[True, True, True]]


def test_longest_word_of_the_dictionary_wins_from_the_left():
    cut = longest_match(frozenset(["研究", "研究生", "生命", "起源"]))
    assert cut("研究生命起源") == ["研究生", "命", "起源"]
    assert cut("") == []


def test_words_never_reach_across_a_row_or_a_special_token():
    ids = np.array([[FIRST, BOS, 42, 45, EOS, 45], [45, 45, 46, 45, 45, 46]])
    units = number_units(WORDS.starts(ids, "word"), ids >= FIRST)
    assert units.tolist() == [[0, NONE, 1, 1, NONE, 2], [0, 0, 1, 1, 1, 2]]
