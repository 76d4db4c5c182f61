"""Objective scores: how well a model does on held-out documents what it was pretrained to do."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.config.objective_config import ObjectiveConfig
from tasks.bootstrap import Estimate, ratio
from tasks.errors import UserError
from tasks.evaluate.language_scores import Floats, Score, Subject
from tasks.evaluate.suite import EvaluateConfig, heldout_texts, training_texts
from tasks.inference.objective_file import base_metric
from tasks.tokenizer.encoding import encode_documents, text_ids
from tasks.tokenizer.objective_symbols import longest_asked, objective_symbols
from tasks.tokenizer.word_table import word_table

if TYPE_CHECKING:
    from model.objectives.objectives import Corruption, PretrainableModel


def score_objective(config: EvaluateConfig, subject: Subject, objective: ObjectiveConfig, corpus: Path | None) -> list[Score]:
    """Nats per target on held-out documents, with noise that the suite's seed fixes; beside a unigram model.

    Any objective but causal, which bits per byte judge.
    """
    from model.nn.models import LanguageModel, MaskedLanguageModel, Seq2SeqModel
    from model.objectives.objectives import Corruption
    from tasks.evaluate.metrics import count_tokens, unigram_nats

    model, tokenizer = subject.model, subject.tokenizer
    if not isinstance(model, LanguageModel | MaskedLanguageModel | Seq2SeqModel):
        raise UserError(f"evaluate: objective_loss needs a pretrained model, found a {type(model).__name__}.")
    texts = heldout_texts(config, corpus)
    if not texts:
        raise UserError("evaluate: no held-out documents. Fix: keep some for validation, or leave out objective_loss.")
    shape, vocab_size = model.trunk.config, model.trunk.vocab_size
    size = longest_asked(tokenizer, objective, shape)
    symbols = objective_symbols(tokenizer, objective, shape, size, vocab_size)
    words = None if objective.unit == "token" else word_table(tokenizer)
    special = text_ids(tokenizer, "evaluate")
    rows = [[special.bos, *ids, special.eos] for ids in encode_documents(tokenizer, [text.text for text in texts])]
    learned = encode_documents(tokenizer, list(training_texts(config, corpus)))
    frequency = unigram_nats(count_tokens(learned, vocab_size))
    corruption = Corruption(objective, shape, symbols, words, masks_documents=False)
    found = np.array([_document(model, corruption, ids, size, n, config.seed, frequency) for n, ids in enumerate(rows)])
    return [
        Score(name, "objective_loss", base_metric(objective), _mean(found[:, column], found[:, 2], config))
        for column, name in enumerate(("model", "unigram"))
    ]


def _document(
    model: "PretrainableModel", corruption: "Corruption", ids: Sequence[int], size: int, number: int, seed: int, frequency: Floats
) -> tuple[float, float, float]:
    """(nats of the model, nats of the unigram model, targets) of one document, read in parts of `size` tokens."""
    import torch

    from model.config.heads import IGNORED
    from model.data.batches import Batch
    from model.objectives.noise import row_keys

    nats, plain, count = 0.0, 0.0, 0
    device = model.trunk.embedding.weight.device
    for start in range(0, len(ids), size):
        part = torch.tensor([ids[start : start + size]])
        keys = row_keys(np.array([start]), seed, number)
        batch = corruption.apply(Batch(part, part, torch.tensor([part.shape[1]])), keys)
        targets = batch.targets[batch.targets != IGNORED].numpy()
        if len(targets):
            with torch.inference_mode():
                nats += float(model.loss(batch.to(device)).nats)
            plain += float(frequency[targets].sum())
            count += len(targets)
    return nats, plain, count


def _mean(nats: Floats, counts: Floats, config: EvaluateConfig) -> Estimate:
    return ratio(nats, counts, config.resamples, config.seed)
