"""A trunk with something to predict. B rows, T tokens, C channels, V vocabulary, K classes."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.model_config import ModelConfig
from model.transformer import Transformer


class LanguageModel(nn.Module):
    """Predicts the next token. A tied head is the embedding itself: one parameter, stored once."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.trunk = Transformer(config, vocab_size)
        self.head = None if config.tie_embeddings else nn.Linear(config.width, vocab_size, bias=False)
        if self.head is not None:
            nn.init.normal_(self.head.weight, std=config.initial_std)

    @property
    def head_weight(self) -> Tensor:
        """[V, C]."""
        return self.trunk.embedding.weight if self.head is None else self.head.weight

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden [..., C] -> [..., V], before the softmax."""
        return F.linear(hidden, self.head_weight)

    def forward(self, ids: Tensor) -> Tensor:
        """ids [B, T] int64 -> logits [B, T, V]; the logits at t predict the token at t + 1."""
        return self.logits(self.trunk(ids))


class SequenceClassifier(nn.Module):
    """One class per row, read from its last token: the only one that has seen the whole row."""

    def __init__(self, config: ModelConfig, vocab_size: int, classes: int) -> None:
        super().__init__()
        self.trunk = Transformer(config, vocab_size)
        self.score = nn.Linear(config.width, classes, bias=False)
        nn.init.normal_(self.score.weight, std=config.initial_std)

    def load_trunk(self, source: LanguageModel) -> None:
        """Copies the trunk of `source`; the score stays as it is. Raises ValueError when the shapes differ."""
        _copy_trunk(source.trunk, self.trunk)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """ids [B, T] int64, padded on the right; lengths [B] int64, at least 1 -> logits [B, K]."""
        hidden = self.trunk(ids)
        last = hidden[torch.arange(len(ids), device=ids.device), lengths - 1]  # (B, C)
        return self.score(last)


class TokenClassifier(nn.Module):
    """One class per token, from that token and those before it."""

    def __init__(self, config: ModelConfig, vocab_size: int, classes: int) -> None:
        super().__init__()
        self.trunk = Transformer(config, vocab_size)
        self.score = nn.Linear(config.width, classes)
        nn.init.normal_(self.score.weight, std=config.initial_std)
        nn.init.zeros_(self.score.bias)

    def load_trunk(self, source: LanguageModel) -> None:
        """Copies the trunk of `source`; the score stays as it is. Raises ValueError when the shapes differ."""
        _copy_trunk(source.trunk, self.trunk)

    def forward(self, ids: Tensor) -> Tensor:
        """ids [B, T] int64, padded on the right -> logits [B, T, K]."""
        return self.score(self.trunk(ids))


Model = LanguageModel | SequenceClassifier | TokenClassifier


def _copy_trunk(source: Transformer, target: Transformer) -> None:
    """Raises ValueError when the shapes differ; dropout, initialization and head may."""
    theirs = dataclasses.replace(
        source.config,
        dropout=target.config.dropout,
        initial_std=target.config.initial_std,
        tie_embeddings=target.config.tie_embeddings,
    )
    if theirs != target.config or source.vocab_size != target.vocab_size:
        raise ValueError(
            f"the trunks differ: {source.config} with vocabulary {source.vocab_size} does not fit "
            f"{target.config} with vocabulary {target.vocab_size}; build the classifier from the source's config"
        )
    target.load_state_dict(source.state_dict())
