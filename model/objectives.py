"""What a model is trained to do: functions from a model and a batch to a loss that can be added up."""

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from model.batches import Batch
from model.heads import LanguageModel, SequenceClassifier, TokenClassifier
from model.loss import LossSum, linear_cross_entropy, plain_cross_entropy

M = TypeVar("M", bound=nn.Module)
Objective = Callable[[M, Batch], LossSum]


def causal_language_model(model: LanguageModel, batch: Batch) -> LossSum:
    """Nats of each next token: targets [B, T] are already shifted."""
    return linear_cross_entropy(model.trunk(batch.ids), model.head_weight, batch.targets)


def sequence_classification(model: SequenceClassifier, batch: Batch) -> LossSum:
    """Nats of each row's class: targets [B]."""
    return plain_cross_entropy(model(batch.ids, batch.lengths), batch.targets)


def token_classification(model: TokenClassifier, batch: Batch) -> LossSum:
    """Nats of each token's class: targets [B, T], not shifted."""
    return plain_cross_entropy(model(batch.ids), batch.targets)
