"""Pretraining objectives at work: the head that each needs, and batches whose noise is a function of where they stand."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from model.config.heads import IGNORED
from model.config.model_config import ModelConfig
from model.config.objective_config import ObjectiveConfig, check_pair
from model.data.batches import PAD_MULTIPLE, Batch, Batches
from model.data.packed_documents import find_documents
from model.nn.models import LanguageModel, MaskedLanguageModel, Seq2SeqModel
from model.objectives.answer_rows import ANSWER, NO_TEXT, SOURCE, AnswerRows, Part, lay_out, number_texts, restoration, span_questions
from model.objectives.corruption import Symbols, hide_spans, hide_units, mask, movable, number_units, shuffle
from model.objectives.noise import Keys, row_keys
from model.objectives.whole_words import WordTable

PretrainableModel = LanguageModel | MaskedLanguageModel | Seq2SeqModel

EVALUATION = -1  # instead of the step, in the key of a row's noise


def new_model(config: ModelConfig, vocab_size: int, objective: ObjectiveConfig) -> PretrainableModel:
    """A model with the head that the objective needs. Raises ValueError, with the fix, where they do not go together."""
    check_pair(config, objective)
    if objective.kind == "masked":
        return MaskedLanguageModel(config, vocab_size)
    return Seq2SeqModel(config, vocab_size) if config.family == "seq2seq" else LanguageModel(config, vocab_size)


class Corruption:
    """Makes plain rows into what an objective asks for: any but causal. The noise of a row is a function of its key.

    On one core 25,000 rows of 512 tokens a second for masks and 7,500 for the others; words of Chinese text that a
    segmenter tells take longer than all else: 1,400 with jieba, 1,000 with a dictionary.
    """

    def __init__(
        self, config: ObjectiveConfig, model: ModelConfig, symbols: Symbols, words: WordTable | None = None, masks_documents: bool = False
    ) -> None:
        """`words`: for units other than tokens. `masks_documents`: attention stops where a document's answer ends.

        Raises ValueError for a model that cannot learn the objective, and for symbols or words that it lacks.
        """
        check_pair(model, config)
        self.config, self.model, self.symbols = config, model, symbols
        self.words, self.masks_documents = words, masks_documents
        self.is_decoder = model.family != "seq2seq"  # reads each document with its answer behind it, in one row
        if config.unit != "token" and words is None:
            raise ValueError(f"unit {config.unit}: needs a table of where {config.unit}s begin")
        needed = {
            "masked": symbols.mask is not None,
            "restore": not self.is_decoder or symbols.separator is not None,
            "spans": bool(symbols.sentinels) and (not self.is_decoder or symbols.separator is not None),
        }
        if not needed[config.kind]:
            raise ValueError(f"objective {config.kind}: its special tokens are not among the symbols")

    def apply(self, plain: Batch, keys: Keys) -> Batch:
        """The batch for `model.loss`, of ids [B, T] and lengths [B], with one key [B] a row.

        Masked rows keep their documents; others get theirs anew, padded to the longest and cut at the context.
        """
        ids, lengths = plain.ids.numpy(), plain.lengths.numpy()
        is_movable = movable(ids, lengths, self.symbols)
        starts = np.ones_like(is_movable) if self.words is None else self.words.starts(ids, self.config.unit)
        units = number_units(starts, is_movable)
        if self.config.kind == "masked":
            is_hidden = hide_units(units, self.config.share, keys)
            inputs, targets = mask(ids, is_hidden, self.config, keys, self.symbols)
            return dataclasses.replace(plain, ids=torch.from_numpy(inputs), targets=torch.from_numpy(targets))
        is_text = np.arange(ids.shape[1]) < lengths[:, None]
        texts = number_texts(ids, self.symbols.eos) if self.is_decoder else np.zeros_like(ids)
        if self.config.kind == "restore":
            shuffled = shuffle(ids, units, self.config, keys)
            parts = restoration(ids, shuffled, texts, is_text, self.symbols)
        else:
            parts = span_questions(ids, hide_spans(units, self.config, keys), texts, is_text, self.symbols)
        return self._one_behind_the_other(parts, len(ids)) if self.is_decoder else self._side_by_side(parts, len(ids))

    def _one_behind_the_other(self, parts: list[Part], count: int) -> Batch:
        laid = self._laid(parts, count)
        documents = None
        if self.masks_documents:
            documents = find_documents(np.diff(laid.texts, axis=1, prepend=NO_TEXT - 1) != 0)
        ids, targets, lengths = map(torch.from_numpy, (laid.ids, laid.targets, laid.lengths))
        return Batch(ids, targets, lengths, documents)

    def _side_by_side(self, parts: list[Part], count: int) -> Batch:
        source = self._laid([part for part in parts if part.part == SOURCE], count)
        answer = self._laid([part for part in parts if part.part == ANSWER], count)
        is_answer = np.arange(answer.ids.shape[1]) < answer.lengths[:, None]
        targets = np.where(is_answer, answer.ids, IGNORED)
        decoder_ids = np.where(is_answer, np.roll(answer.ids, 1, axis=1), self.symbols.pad)
        decoder_ids[:, 0] = self.symbols.bos
        ids, asked, lengths, told = map(torch.from_numpy, (source.ids, targets, source.lengths, decoder_ids))
        return Batch(ids, asked, lengths, decoder_ids=told)

    def _laid(self, parts: list[Part], count: int) -> AnswerRows:
        return lay_out(parts, count, self.symbols.pad, PAD_MULTIPLE, self.model.context)


class CorruptedBatches:
    """The rows of other batches, corrupted; whatever stopped a run or shares its rows, they are the same.

    The noise of a row is a function of the seed, the step and its position in the global batch; in evaluation of the seed and
    the row's number.
    """

    def __init__(self, inner: Batches, corruption: Corruption, seed: int) -> None:
        self.inner, self.corruption, self.seed = inner, corruption, seed
        self.batch_rows = inner.batch_rows

    def rows_at(self, step: int) -> NDArray[np.int64]:
        """Row numbers of the global batch of `step`: [batch_rows]."""
        return self.inner.rows_at(step)

    def batch(self, step: int, start: int, stop: int) -> Batch:
        """Rows [start, stop) of the global batch of `step`; padding is that of the longest of them."""
        plain = self.inner.batch(step, start, stop)
        parts = len(plain.ids) // (stop - start)  # sequences of a row, under a curriculum
        return self.corruption.apply(plain, row_keys(np.arange(start * parts, stop * parts), self.seed, step))

    def evaluation(self, batches: int) -> Iterator[Batch]:
        """The first `batches` batches in the order of the rows; the last may be shorter, and ends the data."""
        first = 0
        for plain in self.inner.evaluation(batches):
            numbers = np.arange(first, first + len(plain.ids))
            yield self.corruption.apply(plain, row_keys(numbers, self.seed, EVALUATION))
            first += len(plain.ids)
