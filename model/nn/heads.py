"""Model heads: what a model predicts, and what a miss costs. B rows, T tokens, C channels, V vocabulary, K classes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config.heads import HeadSpec, Problem
from model.config.model_config import ENCODERS, Activation, ModelConfig
from model.config.training_config import PLAIN, LossConfig
from model.nn.layers import Linear, activate, build_norm, initialize
from model.nn.loss import LossSum, linear_cross_entropy, plain_cross_entropy


class LanguageHead(nn.Module):
    """The next token. A tied head is the embedding itself: it has no weight of its own."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.cap = config.logit_cap
        self.weight: Tensor | None  # [V, C]
        self.register_parameter("weight", None if config.tie_embeddings else nn.Parameter(torch.empty(vocab_size, config.width)))
        if self.weight is not None:
            nn.init.normal_(self.weight, std=config.weight_std)

    def matrix(self, embedding: Tensor) -> Tensor:
        """[V, C]: its own, or the embedding's."""
        return embedding if self.weight is None else self.weight

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """hidden [..., C] -> logits [..., V]."""
        logits = F.linear(hidden, self.matrix(embedding).to(hidden.dtype))
        return self.cap * torch.tanh(logits / self.cap) if self.cap else logits

    def loss(self, hidden: Tensor, embedding: Tensor, targets: Tensor, terms: LossConfig = PLAIN) -> LossSum:
        """Nats of targets [...] int64."""
        return linear_cross_entropy(hidden, self.matrix(embedding), targets, cap=self.cap, terms=terms)


class MaskedHead(nn.Module):
    """The token behind a mask: dense, activation, norm, then the embedding and a bias."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.activation: Activation = config.mlp_activation
        self.transform = Linear(config.width, config.width, bias=config.family == "bert")
        self.transform_norm = build_norm(config)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        initialize(self, config)

    def transformed(self, hidden: Tensor) -> Tensor:
        """[..., C] -> [..., C]."""
        return self.transform_norm(activate(self.transform(hidden), self.activation))

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """hidden [..., C] -> logits [..., V]."""
        x = self.transformed(hidden)
        return F.linear(x, embedding.to(x.dtype), self.bias.to(x.dtype))

    def loss(self, hidden: Tensor, embedding: Tensor, targets: Tensor, terms: LossConfig = PLAIN) -> LossSum:
        """Nats of targets [...] int64; positions that are not scored are left out before the head."""
        is_scored = targets >= 0
        logits = self(hidden[is_scored], embedding)
        return plain_cross_entropy(logits, targets[is_scored], terms)


class SequenceHead(nn.Module):
    """A row's class, classes or figure: from its first token in an encoder, or the mean of all where the config says so.

    Else from its last, which has seen all.
    """

    def __init__(self, config: ModelConfig, classes: int, problem: Problem = "single") -> None:
        super().__init__()
        if problem == "regression" and classes != 1:
            raise ValueError(f"a regression head has one output, not {classes}")
        self.problem: Problem = problem
        self.reads_first, self.reads_mean = config.family in ENCODERS, config.pooling == "mean"
        self.dropout = config.dropout
        self.activation: Activation = config.mlp_activation
        self.pooler = Linear(config.width, config.width) if config.family == "bert" else None
        is_modern = config.family == "modernbert"
        self.transform = Linear(config.width, config.width, bias=False) if is_modern else None
        self.transform_norm = build_norm(config) if is_modern else None
        self.score = Linear(config.width, classes, bias=self.reads_first)
        initialize(self, config)

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """hidden [B, T, C], lengths [B] int64, at least 1 -> logits [B, K]."""
        x = self._read(hidden, lengths)
        if self.pooler is not None:
            x = torch.tanh(self.pooler(x))
        if self.transform is not None and self.transform_norm is not None:
            x = self.transform_norm(activate(self.transform(x), self.activation))
        if self.reads_first:
            x = F.dropout(x, self.dropout, self.training)
        return self.score(x)

    def _read(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """[B, T, C] -> [B, C]."""
        if self.reads_mean:
            is_token = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
            return (hidden * is_token.unsqueeze(-1)).sum(dim=1) / lengths.unsqueeze(-1)
        position = torch.zeros_like(lengths) if self.reads_first else lengths - 1
        return hidden[torch.arange(len(hidden), device=hidden.device), position]

    def loss(self, logits: Tensor, targets: Tensor, terms: LossConfig = PLAIN) -> LossSum:
        """Nats of classes [B]; of labels [B, K], each by itself; or squared differences from figures [B]."""
        if self.problem == "single":
            return plain_cross_entropy(logits, targets, terms)
        if not terms.is_plain:
            raise ValueError(f"loss.z and loss.label_smoothing are for one class of several, not for a {self.problem} head: leave them out")
        count = torch.tensor(targets.numel(), device=targets.device)
        if self.problem == "multi":
            return LossSum(F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="sum"), count)
        return LossSum(F.mse_loss(logits.float().squeeze(-1), targets, reduction="sum"), count)


class TokenHead(nn.Module):
    """One class per token."""

    def __init__(self, config: ModelConfig, classes: int) -> None:
        super().__init__()
        is_modern = config.family == "modernbert"
        self.activation: Activation = config.mlp_activation
        self.dropout = config.dropout
        self.transform = Linear(config.width, config.width, bias=False) if is_modern else None
        self.transform_norm = build_norm(config) if is_modern else None
        self.score = Linear(config.width, classes)
        initialize(self, config)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden [B, T, C] -> logits [B, T, K]."""
        if self.transform is not None and self.transform_norm is not None:
            hidden = self.transform_norm(activate(self.transform(hidden), self.activation))
        return self.score(F.dropout(hidden, self.dropout, self.training))


def build_head(config: ModelConfig, vocab_size: int, spec: HeadSpec) -> nn.Module:
    """The head that a spec asks for. Raises ValueError for one that does not fit the family."""
    if spec.kind == "sequence":
        return SequenceHead(config, spec.classes, spec.problem)
    if spec.kind == "choice":
        return SequenceHead(config, 1)
    if spec.kind == "tokens":
        return TokenHead(config, spec.classes)
    if (spec.kind == "language") != config.is_causal:
        raise ValueError(f"a {spec.kind} head does not fit family {config.family}")
    return LanguageHead(config, vocab_size) if spec.kind == "language" else MaskedHead(config, vocab_size)
