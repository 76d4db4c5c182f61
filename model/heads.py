"""A trunk with something to predict. Heads own their loss. B rows, T tokens, C channels, V vocabulary, K classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.batches import Batch
from model.layers import Linear, activate, build_norm, initialize
from model.loss import LossSum, linear_cross_entropy, plain_cross_entropy
from model.model_config import ENCODERS, Activation, ModelConfig
from model.recurrent import Recurrent
from model.transformer import EncoderDecoder, Transformer

Problem = Literal["single", "multi", "regression"]


class LanguageHead(nn.Module):
    """The next token. A tied head is the embedding itself: it has no weight of its own."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.cap = config.logit_cap
        self.weight: Tensor | None  # [V, C]
        self.register_parameter(
            "weight", None if config.tie_embeddings else nn.Parameter(torch.empty(vocab_size, config.width))
        )
        if self.weight is not None:
            nn.init.normal_(self.weight, std=config.weight_std)

    def matrix(self, embedding: Tensor) -> Tensor:
        """[V, C]: its own, or the embedding's."""
        return embedding if self.weight is None else self.weight

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """hidden [..., C] -> logits [..., V]."""
        logits = F.linear(hidden, self.matrix(embedding).to(hidden.dtype))
        return self.cap * torch.tanh(logits / self.cap) if self.cap else logits

    def loss(self, hidden: Tensor, embedding: Tensor, targets: Tensor) -> LossSum:
        """Nats of targets [...] int64."""
        return linear_cross_entropy(hidden, self.matrix(embedding), targets, cap=self.cap)


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

    def loss(self, hidden: Tensor, embedding: Tensor, targets: Tensor) -> LossSum:
        """Nats of targets [...] int64; positions that are not scored are left out before the head."""
        is_scored = targets >= 0
        logits = self(hidden[is_scored], embedding)
        return plain_cross_entropy(logits, targets[is_scored])


class SequenceHead(nn.Module):
    """A row's class, classes or figure: from its first token in an encoder, else from its last, which has seen all."""

    def __init__(self, config: ModelConfig, classes: int, problem: Problem = "single") -> None:
        super().__init__()
        if problem == "regression" and classes != 1:
            raise ValueError(f"a regression head has one output, not {classes}")
        self.problem: Problem = problem
        self.reads_first = config.family in ENCODERS
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
        place = torch.zeros_like(lengths) if self.reads_first else lengths - 1
        x = hidden[torch.arange(len(hidden), device=hidden.device), place]  # (B, C)
        if self.pooler is not None:
            x = torch.tanh(self.pooler(x))
        if self.transform is not None and self.transform_norm is not None:
            x = self.transform_norm(activate(self.transform(x), self.activation))
        if self.reads_first:
            x = F.dropout(x, self.dropout, self.training)
        return self.score(x)

    def loss(self, logits: Tensor, targets: Tensor) -> LossSum:
        """Nats of classes [B]; of labels [B, K], each by itself; or squared differences from figures [B]."""
        if self.problem == "single":
            return plain_cross_entropy(logits, targets)
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


Trunk = Transformer | Recurrent


def build_trunk(config: ModelConfig, vocab_size: int) -> Trunk:
    """The trunk of every family but seq2seq, which has two stacks: ValueError."""
    return Recurrent(config, vocab_size) if config.is_recurrent else Transformer(config, vocab_size)


def _run(trunk: Trunk, batch: Batch) -> Tensor:
    return trunk(batch.ids, batch.documents, batch.lengths, batch.token_types)


class LanguageModel(nn.Module):
    """Predicts the next token."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        if not config.is_causal:
            raise ValueError(f"family {config.family} sees what comes next: train it on masked tokens, or take llama")
        self.trunk = build_trunk(config, vocab_size)
        self.head = LanguageHead(config, vocab_size)

    @property
    def head_weight(self) -> Tensor:
        """[V, C]."""
        return self.head.matrix(self.trunk.embedding.weight)

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden [..., C] -> [..., V], before the softmax."""
        return self.head(hidden, self.trunk.embedding.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """ids [B, T] int64 -> logits [B, T, V]; the logits at t predict the token at t + 1."""
        return self.logits(self.trunk(ids))

    def loss(self, batch: Batch) -> LossSum:
        """Nats of each next token: targets [B, T] are already shifted."""
        return self.head.loss(_run(self.trunk, batch), self.trunk.embedding.weight, batch.targets)


class MaskedLanguageModel(nn.Module):
    """Predicts the tokens behind masks from both sides."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        if config.is_causal:
            raise ValueError(f"family {config.family} sees only what came before: set family to bert or modernbert")
        self.trunk = Transformer(config, vocab_size)
        self.head = MaskedHead(config, vocab_size)

    def forward(self, ids: Tensor, lengths: Tensor | None = None, token_types: Tensor | None = None) -> Tensor:
        """ids [B, T] int64 -> logits [B, T, V]; the logits at t are of the token at t."""
        return self.head(self.trunk(ids, None, lengths, token_types), self.trunk.embedding.weight)

    def loss(self, batch: Batch) -> LossSum:
        """Nats of the masked tokens: targets [B, T], not shifted."""
        return self.head.loss(_run(self.trunk, batch), self.trunk.embedding.weight, batch.targets)


class Seq2SeqModel(nn.Module):
    """Writes a target after reading a source."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.trunk = EncoderDecoder(config, vocab_size)
        self.head = LanguageHead(config, vocab_size)

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden [..., C] -> [..., V], before the softmax."""
        return self.head(hidden, self.trunk.embedding.weight)

    def forward(self, ids: Tensor, lengths: Tensor, decoder_ids: Tensor) -> Tensor:
        """Source ids [B, S], lengths [B], target so far [B, T] -> logits [B, T, V] of what comes next."""
        return self.logits(self.trunk(ids, lengths, decoder_ids))

    def loss(self, batch: Batch) -> LossSum:
        """Nats of the target: ids are the source, targets [B, T] belong to decoder_ids, already shifted."""
        if batch.decoder_ids is None:
            raise ValueError("a seq2seq model needs decoder_ids: take an objective in its encoder-decoder form")
        hidden = self.trunk(batch.ids, batch.lengths, batch.decoder_ids)
        return self.head.loss(hidden, self.trunk.embedding.weight, batch.targets)


class SequenceClassifier(nn.Module):
    """One class, several labels or a figure per row."""

    def __init__(self, config: ModelConfig, vocab_size: int, classes: int, problem: Problem = "single") -> None:
        super().__init__()
        self.trunk = build_trunk(config, vocab_size)
        self.head = SequenceHead(config, classes, problem)

    def forward(self, ids: Tensor, lengths: Tensor, token_types: Tensor | None = None) -> Tensor:
        """ids [B, T] int64, padded on the right; lengths [B] int64, at least 1 -> logits [B, K]."""
        return self.head(self.trunk(ids, None, lengths, token_types), lengths)

    def loss(self, batch: Batch) -> LossSum:
        """See `SequenceHead.loss`."""
        return self.head.loss(self(batch.ids, batch.lengths, batch.token_types), batch.targets)


class TokenClassifier(nn.Module):
    """One class per token."""

    def __init__(self, config: ModelConfig, vocab_size: int, classes: int) -> None:
        super().__init__()
        self.trunk = build_trunk(config, vocab_size)
        self.head = TokenHead(config, classes)

    def forward(self, ids: Tensor, lengths: Tensor | None = None, token_types: Tensor | None = None) -> Tensor:
        """ids [B, T] int64, padded on the right -> logits [B, T, K]."""
        return self.head(self.trunk(ids, None, lengths, token_types))

    def loss(self, batch: Batch) -> LossSum:
        """Nats of each token's class: targets [B, T], not shifted."""
        return plain_cross_entropy(self(batch.ids, batch.lengths, batch.token_types), batch.targets)


class MultipleChoice(nn.Module):
    """Which of a row's N texts is right: each gets one score."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.trunk = build_trunk(config, vocab_size)
        self.head = SequenceHead(config, 1)

    def forward(self, ids: Tensor, lengths: Tensor, token_types: Tensor | None = None) -> Tensor:
        """ids [B, N, T] int64, lengths [B, N] -> logits [B, N]."""
        kinds = None if token_types is None else token_types.flatten(0, 1)
        flat = lengths.flatten()
        return self.head(self.trunk(ids.flatten(0, 1), None, flat, kinds), flat).view(lengths.shape)

    def loss(self, batch: Batch) -> LossSum:
        """Nats of the right choice: targets [B]."""
        return plain_cross_entropy(self(batch.ids, batch.lengths, batch.token_types), batch.targets)


@dataclass(frozen=True)
class HeadSpec:
    """One head of several: what it predicts, and in how many classes."""

    kind: Literal["language", "masked", "sequence", "tokens"]
    classes: int = 1
    problem: Problem = "single"


class MultiTask(nn.Module):
    """Several heads on one trunk; a batch names the one that it trains."""

    def __init__(self, config: ModelConfig, vocab_size: int, heads: Mapping[str, HeadSpec]) -> None:
        super().__init__()
        if not heads:
            raise ValueError("a multi-task model needs at least one head")
        self.trunk = build_trunk(config, vocab_size)
        for name in heads:
            if not name.isidentifier():
                raise ValueError(f"head {name!r}: a name is made of letters, digits and _")
        self.specs = dict(heads)
        self.heads = nn.ModuleDict({name: _build_head(config, vocab_size, spec) for name, spec in heads.items()})

    def forward(self, task: str, batch: Batch) -> Tensor:
        """Logits of one head. Raises ValueError for a name that no head has."""
        if task not in self.specs:
            raise ValueError(f"task {task!r}: the model's heads are {', '.join(self.specs)}")
        hidden, head = _run(self.trunk, batch), self.heads[task]
        if isinstance(head, LanguageHead | MaskedHead):
            return head(hidden, self.trunk.embedding.weight)
        return head(hidden, batch.lengths) if isinstance(head, SequenceHead) else head(hidden)

    def loss(self, batch: Batch) -> LossSum:
        """The loss of the head that the batch names."""
        head = self.heads[batch.task] if batch.task in self.specs else None
        if isinstance(head, LanguageHead | MaskedHead):
            return head.loss(_run(self.trunk, batch), self.trunk.embedding.weight, batch.targets)
        logits = self(batch.task, batch)
        return (
            head.loss(logits, batch.targets)
            if isinstance(head, SequenceHead)
            else plain_cross_entropy(logits, batch.targets)
        )


def _build_head(config: ModelConfig, vocab_size: int, spec: HeadSpec) -> nn.Module:
    if spec.kind == "sequence":
        return SequenceHead(config, spec.classes, spec.problem)
    if spec.kind == "tokens":
        return TokenHead(config, spec.classes)
    if (spec.kind == "language") != config.is_causal:
        raise ValueError(f"a {spec.kind} head does not fit family {config.family}")
    return LanguageHead(config, vocab_size) if spec.kind == "language" else MaskedHead(config, vocab_size)


Model = (
    LanguageModel
    | MaskedLanguageModel
    | Seq2SeqModel
    | SequenceClassifier
    | TokenClassifier
    | MultipleChoice
    | MultiTask
)


def set_compute_dtype(model: Model, dtype: torch.dtype) -> None:
    """The dtype of activations and matrix products; weights stay what they are. Recurrent cells keep their own."""
    model.trunk.compute_dtype = dtype
