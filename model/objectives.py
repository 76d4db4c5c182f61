"""What a model is trained to do: functions from a model and a batch to a loss that can be added up."""

from collections.abc import Callable
from typing import TypeVar

from model.batches import Batch
from model.heads import LanguageModel, Model, SequenceClassifier, TokenClassifier
from model.loss import LossSum

M = TypeVar("M", bound=Model)
Objective = Callable[[M, Batch], LossSum]


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
