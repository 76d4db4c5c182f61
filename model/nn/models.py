"""Models: a trunk with a head, or several. B rows, S source tokens, T tokens, C channels, V vocabulary, K classes."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model.config.heads import HeadSpec, Problem
from model.config.layout_config import Recomputed, check_recomputed
from model.config.model_config import ModelConfig
from model.config.training_config import PLAIN, LossConfig
from model.data.batches import Batch
from model.nn.heads import LanguageHead, MaskedHead, SequenceHead, TokenHead, build_head
from model.nn.loss import LossSum, plain_cross_entropy
from model.nn.recurrent import Recurrent
from model.nn.transformer import Block, EncoderDecoder, Transformer

Trunk = Transformer | Recurrent


def build_trunk(config: ModelConfig, vocab_size: int) -> Trunk:
    """The trunk of every family but seq2seq, which has two stacks: ValueError."""
    return Recurrent(config, vocab_size) if config.is_recurrent else Transformer(config, vocab_size)


def _run(trunk: Trunk, batch: Batch) -> Tensor:
    return trunk(batch.ids, batch.documents, batch.lengths, batch.token_types)


def _score_choices(trunk: Trunk, head: SequenceHead, ids: Tensor, lengths: Tensor, token_types: Tensor | None) -> Tensor:
    """ids and token_types [B, N, T], lengths [B, N] -> logits [B, N]: each choice is a row of its own."""
    flat = lengths.flatten()
    kinds = None if token_types is None else token_types.flatten(0, 1)
    return head(trunk(ids.flatten(0, 1), None, flat, kinds), flat).view(lengths.shape)


class LanguageModel(nn.Module):
    """Predicts the next token."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        if not config.is_causal:
            raise ValueError(f"family {config.family} sees what comes next: train it on masked tokens, or take llama")
        self.spec = HeadSpec("language")
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

    def loss(self, batch: Batch, terms: LossConfig = PLAIN) -> LossSum:
        """Nats of each next token: targets [B, T] are already shifted."""
        return self.head.loss(_run(self.trunk, batch), self.trunk.embedding.weight, batch.targets, terms)


class MaskedLanguageModel(nn.Module):
    """Predicts the tokens behind masks from both sides."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        if config.is_causal:
            raise ValueError(f"family {config.family} sees only what came before: set family to bert or modernbert")
        self.spec = HeadSpec("masked")
        self.trunk = Transformer(config, vocab_size)
        self.head = MaskedHead(config, vocab_size)

    def forward(self, ids: Tensor, lengths: Tensor | None = None, token_types: Tensor | None = None) -> Tensor:
        """ids [B, T] int64 -> logits [B, T, V]; the logits at t are of the token at t."""
        return self.head(self.trunk(ids, None, lengths, token_types), self.trunk.embedding.weight)

    def loss(self, batch: Batch, terms: LossConfig = PLAIN) -> LossSum:
        """Nats of the masked tokens: targets [B, T], not shifted."""
        return self.head.loss(_run(self.trunk, batch), self.trunk.embedding.weight, batch.targets, terms)


class Seq2SeqModel(nn.Module):
    """Writes a target after reading a source."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.spec = HeadSpec("seq2seq")
        self.trunk = EncoderDecoder(config, vocab_size)
        self.head = LanguageHead(config, vocab_size)

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden [..., C] -> [..., V], before the softmax."""
        return self.head(hidden, self.trunk.embedding.weight)

    def forward(self, ids: Tensor, lengths: Tensor, decoder_ids: Tensor) -> Tensor:
        """Source ids [B, S], lengths [B], target so far [B, T] -> logits [B, T, V] of what comes next."""
        return self.logits(self.trunk(ids, lengths, decoder_ids))

    def loss(self, batch: Batch, terms: LossConfig = PLAIN) -> LossSum:
        """Nats of the target: ids are the source, targets [B, T] belong to decoder_ids, already shifted."""
        if batch.decoder_ids is None:
            raise ValueError("a seq2seq model needs decoder_ids: take an objective in its encoder-decoder form")
        hidden = self.trunk(batch.ids, batch.lengths, batch.decoder_ids)
        return self.head.loss(hidden, self.trunk.embedding.weight, batch.targets, terms)


class SequenceClassifier(nn.Module):
    """One class, several labels or a figure per row."""

    def __init__(self, config: ModelConfig, vocab_size: int, classes: int, problem: Problem = "single") -> None:
        super().__init__()
        self.spec = HeadSpec("sequence", classes, problem)
        self.trunk = build_trunk(config, vocab_size)
        self.head = SequenceHead(config, classes, problem)

    def forward(self, ids: Tensor, lengths: Tensor, token_types: Tensor | None = None) -> Tensor:
        """ids [B, T] int64, padded on the right; lengths [B] int64, at least 1 -> logits [B, K]."""
        return self.head(self.trunk(ids, None, lengths, token_types), lengths)

    def loss(self, batch: Batch, terms: LossConfig = PLAIN) -> LossSum:
        """See `SequenceHead.loss`."""
        return self.head.loss(self(batch.ids, batch.lengths, batch.token_types), batch.targets, terms)


class TokenClassifier(nn.Module):
    """One class per token."""

    def __init__(self, config: ModelConfig, vocab_size: int, classes: int) -> None:
        super().__init__()
        self.spec = HeadSpec("tokens", classes)
        self.trunk = build_trunk(config, vocab_size)
        self.head = TokenHead(config, classes)

    def forward(self, ids: Tensor, lengths: Tensor | None = None, token_types: Tensor | None = None) -> Tensor:
        """ids [B, T] int64, padded on the right -> logits [B, T, K]."""
        return self.head(self.trunk(ids, None, lengths, token_types))

    def loss(self, batch: Batch, terms: LossConfig = PLAIN) -> LossSum:
        """Nats of each token's class: targets [B, T], not shifted."""
        return plain_cross_entropy(self(batch.ids, batch.lengths, batch.token_types), batch.targets, terms)


class MultipleChoice(nn.Module):
    """Which of a row's N texts is right: each gets one score."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.spec = HeadSpec("choice")
        self.trunk = build_trunk(config, vocab_size)
        self.head = SequenceHead(config, 1)

    def forward(self, ids: Tensor, lengths: Tensor, token_types: Tensor | None = None) -> Tensor:
        """ids [B, N, T] int64, lengths [B, N] -> logits [B, N]."""
        return _score_choices(self.trunk, self.head, ids, lengths, token_types)

    def loss(self, batch: Batch, terms: LossConfig = PLAIN) -> LossSum:
        """Nats of the right choice: targets [B]."""
        return plain_cross_entropy(self(batch.ids, batch.lengths, batch.token_types), batch.targets, terms)


class MultiTask(nn.Module):
    """Several heads on one trunk; a batch names the one that it trains."""

    def __init__(self, config: ModelConfig, vocab_size: int, heads: Mapping[str, HeadSpec]) -> None:
        super().__init__()
        if not heads:
            raise ValueError("a multi-task model needs at least one head")
        self.trunk = build_trunk(config, vocab_size)
        self.specs = dict(heads)
        self.heads = nn.ModuleDict()
        self.modules_of: dict[str, str] = {}  # task -> its head's name in `heads`
        for name, spec in heads.items():
            module = re.sub(r"\W", "_", name)
            while module in self.heads or module in dir(self.heads):  # which has methods: items, keys, type, …
                module += "_"
            self.heads[module] = build_head(config, vocab_size, spec)
            self.modules_of[name] = module

    def head_for(self, task: str) -> nn.Module:
        """The head of a task. Raises ValueError for a name that no head has."""
        if task not in self.specs:
            raise ValueError(f"task {task!r}: the model's heads are {', '.join(self.specs)}")
        return self.heads[self.modules_of[task]]

    def forward(self, task: str, batch: Batch) -> Tensor:
        """Logits of one head. Raises ValueError for a name that no head has."""
        head = self.head_for(task)
        if self.specs[task].kind == "choice" and isinstance(head, SequenceHead):
            return _score_choices(self.trunk, head, batch.ids, batch.lengths, batch.token_types)
        hidden = _run(self.trunk, batch)
        if isinstance(head, LanguageHead | MaskedHead):
            return head(hidden, self.trunk.embedding.weight)
        return head(hidden, batch.lengths) if isinstance(head, SequenceHead) else head(hidden)

    def loss(self, batch: Batch, terms: LossConfig = PLAIN) -> LossSum:
        """The loss of the head that the batch names."""
        head = self.head_for(batch.task)
        if isinstance(head, LanguageHead | MaskedHead):
            return head.loss(_run(self.trunk, batch), self.trunk.embedding.weight, batch.targets, terms)
        logits = self(batch.task, batch)
        return (
            head.loss(logits, batch.targets, terms) if isinstance(head, SequenceHead) else plain_cross_entropy(logits, batch.targets, terms)
        )


OneHead = (
    LanguageModel | MaskedLanguageModel | Seq2SeqModel | SequenceClassifier | TokenClassifier | MultipleChoice
)  # each knows its head as `spec`
Model = OneHead | MultiTask


def with_one_head(model: MultiTask, task: str) -> OneHead:
    """The ordinary model of one task, its trunk and head those of `model`. Raises ValueError for a name that no head has."""
    head, spec = model.head_for(task), model.specs[task]
    with torch.device("meta"):  # a frame: what it holds is replaced at once
        single = model_with(model.trunk.config, model.trunk.vocab_size, spec)
    single.set_submodule("trunk", model.trunk)
    single.set_submodule("head", head)
    return single.train(model.training)


def model_with(config: ModelConfig, vocab_size: int, spec: HeadSpec) -> OneHead:
    """The model of one head, which it keeps as `spec`. Raises ValueError for a family that has none such."""
    match spec.kind:
        case "language":
            return LanguageModel(config, vocab_size)
        case "masked":
            return MaskedLanguageModel(config, vocab_size)
        case "seq2seq":
            return Seq2SeqModel(config, vocab_size)
        case "sequence":
            return SequenceClassifier(config, vocab_size, spec.classes, spec.problem)
        case "tokens":
            return TokenClassifier(config, vocab_size, spec.classes)
        case "choice":
            return MultipleChoice(config, vocab_size)


def set_compute_dtype(model: Model, dtype: torch.dtype) -> None:
    """The dtype of activations and matrix products; weights stay what they are. Recurrent cells keep their own."""
    model.trunk.compute_dtype = dtype


def set_recomputed(model: Model, kind: Recomputed) -> None:
    """What every block computes again for its backward pass: model/nn/recompute.py. ValueError for recurrent families, which have none."""
    check_recomputed(model.trunk.config, kind)
    for module in model.trunk.modules():
        if isinstance(module, Block):
            module.recomputed = kind
