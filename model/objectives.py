"""What a model is pretrained to do: the head that it needs, and batches whose noise is a function of where they stand."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from model.answer_rows import ANSWER, SOURCE, AnswerRows, Part, lay_out, number_texts, restoration, span_questions
from model.batches import PAD_MULTIPLE, Batch, Batches
from model.corruption import Symbols, hide_spans, hide_units, mask, movable, number_units, shuffle
from model.documents import find_documents
from model.heads import (
    LanguageModel,
    MaskedLanguageModel,
    Model,
    Seq2SeqModel,
    SequenceClassifier,
    TokenClassifier,
)
from model.loss import IGNORED, LossSum
from model.model_config import ModelConfig
from model.noise import Keys, row_keys
from model.objective_config import ObjectiveConfig, check_pair
from model.whole_words import WordTable

M = TypeVar("M", bound=Model)
Objective = Callable[[M, Batch], LossSum]
PretrainableModel = LanguageModel | MaskedLanguageModel | Seq2SeqModel

EVALUATION = -1  # in place of the step, in the key of a row's noise


def own_loss(model: M, batch: Batch) -> LossSum:
    """What the model's head was made for."""
    return model.loss(batch)


def causal_language_model(model: LanguageModel, batch: Batch) -> LossSum:
    """Nats of each next token: targets [B, T] are already shifted."""
    return model.loss(batch)


def sequence_classification(model: SequenceClassifier, batch: Batch) -> LossSum:
    """Nats of each row's class: targets [B]."""
    return model.loss(batch)


def token_classification(model: TokenClassifier, batch: Batch) -> LossSum:
    """Nats of each token's class: targets [B, T], not shifted."""
    return model.loss(batch)


def new_model(config: ModelConfig, vocab_size: int, objective: ObjectiveConfig) -> PretrainableModel:
    """A model with the head that the objective needs. Raises ValueError, with the fix, where they do not go together."""
    check_pair(config, objective)
    if objective.kind == "masked":
        return MaskedLanguageModel(config, vocab_size)
    return Seq2SeqModel(config, vocab_size) if config.family == "seq2seq" else LanguageModel(config, vocab_size)


class CorruptedBatches:
    """The rows of other batches, made into what the objective asks for: any but causal.

    The noise of a row is a function of the seed, the step and its place in the global batch; in evaluation of the seed and
    the row's number. On one core 25,000 rows of 512
    tokens a second for masks, 7,500 for the others; Chinese words by a segmenter cost more than all else: 1,000.
    """

    def __init__(
        self,
        inner: Batches,
        config: ObjectiveConfig,
        model: ModelConfig,
        symbols: Symbols,
        seed: int,
        words: WordTable | None = None,
        masks_documents: bool = False,
    ) -> None:
        """`words`: needed for units other than tokens. `masks_documents`: each document with its answer is one to attend.

        Raises ValueError for a model that cannot learn the objective.
        """
        check_pair(model, config)
        self.inner, self.config, self.model, self.symbols, self.seed = inner, config, model, symbols, seed
        self.words, self.masks_documents = words, masks_documents
        self.batch_rows = inner.batch_rows

    def rows_at(self, step: int) -> NDArray[np.int64]:
        """Row numbers of the global batch of `step`: [batch_rows]."""
        return self.inner.rows_at(step)

    def batch(self, step: int, start: int, stop: int) -> Batch:
        """Rows [start, stop) of the global batch of `step`; padding is that of the longest of them."""
        plain = self.inner.batch(step, start, stop)
        parts = len(plain.ids) // (stop - start)  # sequences of a row, under a curriculum
        return self._corrupt(plain, row_keys(np.arange(start * parts, stop * parts), self.seed, step))

    def evaluation(self, batches: int) -> Iterator[Batch]:
        """The first `batches` batches in the order of the rows; the last may be shorter, and ends the data."""
        first = 0
        for plain in self.inner.evaluation(batches):
            numbers = np.arange(first, first + len(plain.ids))
            yield self._corrupt(plain, row_keys(numbers, self.seed, EVALUATION))
            first += len(plain.ids)

    def _corrupt(self, plain: Batch, keys: Keys) -> Batch:
        ids, lengths = plain.ids.numpy(), plain.lengths.numpy()
        is_movable = movable(ids, lengths, self.symbols)
        starts = np.ones_like(is_movable) if self.words is None else self.words.starts(ids, self.config.unit)
        units = number_units(starts, is_movable)
        if self.config.kind == "masked":
            is_hidden = hide_units(units, self.config.share, keys)
            inputs, targets = mask(ids, is_hidden, self.config, keys, self.symbols)
            return dataclasses.replace(plain, ids=torch.from_numpy(inputs), targets=torch.from_numpy(targets))
        is_text = np.arange(ids.shape[1]) < lengths[:, None]
        is_split = self.model.family != "seq2seq"  # a decoder answers document by document
        texts = number_texts(ids, self.symbols.eos) if is_split else np.zeros_like(ids)
        if self.config.kind == "restore":
            shuffled = shuffle(ids, units, self.config, keys)
            parts = restoration(ids, shuffled, texts, is_text, self.symbols)
        else:
            parts = span_questions(ids, hide_spans(units, self.config, keys), texts, is_text, self.symbols)
        return self._one_row_each(parts, len(ids)) if is_split else self._source_and_answer(parts, len(ids))

    def _one_row_each(self, parts: list[Part], count: int) -> Batch:
        laid = self._laid(parts, count)
        documents = None
        if self.masks_documents:
            documents = find_documents(np.diff(laid.texts, axis=1, prepend=-2) != 0)
        return Batch(*map(torch.from_numpy, (laid.ids, laid.targets, laid.lengths)), documents)

    def _source_and_answer(self, parts: list[Part], count: int) -> Batch:
        source = self._laid([part for part in parts if part.part == SOURCE], count)
        answer = self._laid([part for part in parts if part.part == ANSWER], count)
        decoder_ids = np.roll(answer.ids, 1, axis=1)
        decoder_ids[:, 0] = self.symbols.bos
        targets = np.where(np.arange(answer.ids.shape[1]) < answer.lengths[:, None], answer.ids, IGNORED)
        ids, asked, lengths, told = map(torch.from_numpy, (source.ids, targets, source.lengths, decoder_ids))
        return Batch(ids, asked, lengths, decoder_ids=told)

    def _laid(self, parts: list[Part], count: int) -> AnswerRows:
        return lay_out(parts, count, self.symbols.pad, PAD_MULTIPLE, self.model.context)
