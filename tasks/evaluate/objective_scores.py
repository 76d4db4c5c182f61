"""Objective scores: how well a model does on held-out documents what it was pretrained to do."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from model.config.objective_config import ObjectiveConfig
from tasks.errors import UserError
from tasks.evaluate.judged import Judged, Subject, figures_of, ratio_columns, text_items
from tasks.evaluate.suite import EvaluateConfig, HeldoutText
from tasks.inference.objective_file import base_metric
from tasks.items import Floats
from tasks.scores import OWN
from tasks.tokenizer.encoding import encode_documents, text_ids
from tasks.tokenizer.objective_symbols import longest_asked, objective_symbols
from tasks.tokenizer.word_table import word_table

if TYPE_CHECKING:
    from model.objectives.objectives import Corruption, PretrainableModel


def score_objective(
    config: EvaluateConfig, subject: Subject, objective: ObjectiveConfig, texts: Sequence[HeldoutText], learned: Iterable[str]
) -> Judged:
    """Nats per target on held-out documents, with noise that the suite's seed fixes; beside a unigram model of what was `learned`.

    Any objective but causal, which bits per byte judge.
    """
    from model.nn.models import LanguageModel, MaskedLanguageModel, Seq2SeqModel
    from model.objectives.objectives import Corruption
    from tasks.evaluate.metrics import count_tokens, unigram_nats

    model, tokenizer = subject.model, subject.tokenizer
    if not isinstance(model, LanguageModel | MaskedLanguageModel | Seq2SeqModel):
        raise UserError(f"evaluate: objective_loss needs a pretrained model, found a {type(model).__name__}.")
    if not texts:
        raise UserError("evaluate: no held-out documents. Fix: keep some for validation, or leave out objective_loss.")
    shape, vocab_size = model.trunk.config, model.trunk.vocab_size
    size = longest_asked(tokenizer, objective, shape)
    symbols = objective_symbols(tokenizer, objective, shape, size, vocab_size)
    words = None if objective.unit == "token" else word_table(tokenizer)
    special = text_ids(tokenizer, "evaluate")
    rows = [[special.bos, *ids, special.eos] for ids in encode_documents(tokenizer, [text.text for text in texts])]
    frequency = unigram_nats(count_tokens(encode_documents(tokenizer, list(learned)), vocab_size))
    corruption = Corruption(objective, shape, symbols, words, masks_documents=False)
    found = np.array([_document(model, corruption, ids, size, n, config.seed, frequency) for n, ids in enumerate(rows)])
    items = text_items("objective_loss", texts)
    return Judged(
        items,
        tuple(
            figures_of(name, base_metric(objective), "ratio", items, ratio_columns(found[:, column], found[:, 2]))
            for column, name in enumerate((OWN, "unigram"))
        ),
    )


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
