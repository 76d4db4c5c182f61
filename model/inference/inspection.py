"""Interpretability: where a model attends, what each token cost it, which tokens moved a prediction. Arrays, no drawing.

T tokens, H heads, C channels, V vocabulary, S source tokens.
"""

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from model.nn.attention import Attention, CrossAttention, View
from model.nn.models import LanguageModel, MaskedLanguageModel, Model, Seq2SeqModel

Floats = NDArray[np.float32]
Predictor = LanguageModel | MaskedLanguageModel | Seq2SeqModel
Look = (
    Callable[[nn.Module, tuple[Tensor, View]], None] | Callable[[nn.Module, tuple[Tensor, Tensor, Tensor, Tensor | None]], None]
)  # at what an attention is called with
ROWS = 32  # masked copies of a text in one pass


@dataclass(frozen=True)
class TokenLosses:
    """What the tokens of a text cost a model, and which it held likely at each position, likeliest first."""

    nats: Floats  # [T]: -ln p(token); NaN where nothing stands before it to predict it from
    top_ids: NDArray[np.int64]  # [T, top]; 0 at such a position
    top_probabilities: Floats  # [T, top]; NaN at such a position


def attention_maps(model: Model, ids: Sequence[int]) -> list[Floats]:
    """For each layer [H, T, T]: how much of its attention each token (row) gives to each token (column); rows sum to one.

    A text of an encoder-decoder is its source: the maps are the encoder's. A recurrent model has none.
    """
    found: list[Tensor] = []

    def look(layer: nn.Module, arguments: tuple[Tensor, View]) -> None:
        assert isinstance(layer, Attention)
        found.append(layer.weights(*arguments)[0])

    row = _row(model, ids)
    watched = [module for module in model.trunk.modules() if isinstance(module, Attention)]
    with _still(model), torch.no_grad(), _hooked(watched, look):
        if isinstance(model, Seq2SeqModel):
            model.trunk.encode(row, _length(row))
        else:
            model.trunk(row)
    return [weights.float().cpu().numpy() for weights in found]


def cross_attention_maps(model: Seq2SeqModel, source: Sequence[int], ids: Sequence[int]) -> list[Floats]:
    """For each layer of the decoder [H, T, S]: how much each token of the target `ids` looks at each of the source."""
    found: list[Tensor] = []

    def look(layer: nn.Module, arguments: tuple[Tensor, Tensor, Tensor, Tensor | None]) -> None:
        assert isinstance(layer, CrossAttention)
        x, keys, _, _ = arguments
        queries = layer.query(x).unflatten(-1, (layer.heads, -1)).transpose(1, 2)  # (1, H, T, D)
        scores = (queries @ keys.transpose(2, 3)).float() / math.sqrt(queries.shape[-1])
        found.append(scores.softmax(dim=-1)[0])

    read, row = _row(model, source), _row(model, ids)
    watched = [module for module in model.trunk.modules() if isinstance(module, CrossAttention)]
    with _still(model), torch.no_grad(), _hooked(watched, look):
        model(read, _length(read), row)
    return [weights.cpu().numpy() for weights in found]


def token_losses(
    model: Predictor, ids: Sequence[int], top: int, mask_id: int | None = None, source: Sequence[int] | None = None
) -> TokenLosses:
    """Nats of each token and the `top` likeliest ones at its position.

    A language model predicts a token from those before it, an encoder-decoder from the `source` too; the first is given.
    A masked one predicts each from all others, behind `mask_id`, one at a time; their sum is the pseudo-log-likelihood of
    arXiv 1910.14659. Raises ValueError for ids outside of the vocabulary and for a mask or source that the model lacks.
    """
    row = _row(model, ids)
    if not 1 <= top <= model.trunk.vocab_size:
        raise ValueError(f"top {top}: expected 1 to {model.trunk.vocab_size}, the size of the vocabulary")
    with _still(model), torch.no_grad():
        if isinstance(model, MaskedLanguageModel):
            scores = _masked_scores(model, row, mask_id)
            return _losses(scores, row[0], top)
        scores = _next_scores(model, row, source)
    told = _losses(scores[:-1], row[0, 1:], top)
    return TokenLosses(
        np.concatenate((np.full(1, np.nan, np.float32), told.nats)),
        np.concatenate((np.zeros((1, top), np.int64), told.top_ids)),
        np.concatenate((np.full((1, top), np.nan, np.float32), told.top_probabilities)),
    )


def attribution(
    model: Predictor, ids: Sequence[int], position: int, mask_id: int | None = None, source: Sequence[int] | None = None
) -> Floats:
    """How much each token that the model read moved its prediction at `position`: gradient times input.

    a_i = sum over channels c of e_ic * d ln p(token at `position`) / d e_ic, where e_i is the word embedding of the i-th
    token read: to first order, what ln p would lose were e_i zero. Source: arXiv 1412.6815, 1605.01713; what it can and
    cannot show: arXiv 1711.06104. Of a language model [position], one figure for each token before; `position` may be
    T, one behind the text: then the likeliest token is the one explained. Of a masked one [T], the token at `position`
    masked. Of an encoder-decoder [S + position], the source's tokens first. A recurrent model's gradients end where its
    `carry_tokens` cut them: tokens before have 0.
    """
    row = _row(model, ids)
    tokens = row.shape[1]
    is_masked = isinstance(model, MaskedLanguageModel)
    first, last = (0, tokens - 1) if is_masked else (1, tokens)
    if not first <= position <= last:
        raise ValueError(f"position {position}: expected {first} to {last} in a text of {tokens} tokens")
    with _still(model), torch.enable_grad(), _leaves(model.trunk.embedding) as read:
        if is_masked:
            masked = row.clone()
            masked[0, position] = _checked_mask(model, mask_id)
            scores = model(masked)[0, position]
        else:
            scores = _next_scores(model, row[:, :position], source)[-1]
        target = scores.argmax() if position == tokens else row[0, position]
        explained = scores.float().log_softmax(dim=-1)[target]
        gradients = torch.autograd.grad(explained, read)
    products = [(gradient * leaf).sum(dim=-1)[0] for gradient, leaf in zip(gradients, read, strict=True)]
    return torch.cat(products).detach().float().cpu().numpy()


def _row(model: Model, ids: Sequence[int]) -> Tensor:
    """[1, T] on the model's device."""
    size = model.trunk.vocab_size
    if not ids:
        raise ValueError("the text is empty: give at least one token, such as the one that begins a text")
    if min(ids) < 0 or max(ids) >= size:
        raise ValueError(f"token ids from {min(ids)} to {max(ids)}, expected 0 to {size - 1}: use the model's tokenizer")
    return torch.tensor([list(ids)], device=model.trunk.embedding.weight.device)


def _length(row: Tensor) -> Tensor:
    return torch.tensor([row.shape[1]], device=row.device)


def _next_scores(model: LanguageModel | Seq2SeqModel, row: Tensor, source: Sequence[int] | None) -> Tensor:
    """Logits [T, V] of what follows each token."""
    if isinstance(model, LanguageModel):
        if source is not None:
            raise ValueError("a language model has no source: leave it out")
        return model(row)[0]
    if source is None:
        raise ValueError("an encoder-decoder needs the source that it read")
    read = _row(model, source)
    return model(read, _length(read), row)[0]


def _masked_scores(model: MaskedLanguageModel, row: Tensor, mask_id: int | None) -> Tensor:
    """Logits [T, V] of each token from all others."""
    copies = row.repeat(row.shape[1], 1)
    copies.fill_diagonal_(_checked_mask(model, mask_id))
    positions = torch.arange(row.shape[1], device=row.device)
    parts = zip(copies.split(ROWS), positions.split(ROWS), strict=True)
    return torch.cat([model(part)[torch.arange(len(part), device=row.device), at] for part, at in parts])


def _checked_mask(model: MaskedLanguageModel, mask_id: int | None) -> int:
    if mask_id is None or not 0 <= mask_id < model.trunk.vocab_size:
        raise ValueError(f"mask_id {mask_id}: a masked language model needs the id of its mask token")
    return mask_id


def _losses(scores: Tensor, ids: Tensor, top: int) -> TokenLosses:
    """Of logits [T, V] and the ids [T] that stand there."""
    logs = scores.float().log_softmax(dim=-1)
    likeliest, top_ids = logs.topk(top, dim=-1)
    nats = F.nll_loss(logs, ids, reduction="none")
    return TokenLosses(nats.cpu().numpy(), top_ids.cpu().numpy(), likeliest.exp().cpu().numpy())


@contextmanager
def _still(model: Model) -> Generator[None]:
    """Without dropout; the mode is put back. cuDNN's cells give no gradients so: torch's own do."""
    was_training = model.training
    model.eval()
    try:
        with torch.backends.cudnn.flags(enabled=not model.trunk.config.is_recurrent):
            yield
    finally:
        model.train(was_training)


@contextmanager
def _hooked(layers: Sequence[nn.Module], look: Look) -> Generator[None]:
    handles = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _leaves(embedding: nn.Embedding) -> Generator[list[Tensor]]:
    """What the embedding gives, call by call, cut off behind it so that gradients end there and reach no weight."""
    found: list[Tensor] = []

    def cut(_: nn.Module, __: tuple[Tensor], output: Tensor) -> Tensor:
        found.append(output.detach().requires_grad_())
        return found[-1]

    handle = embedding.register_forward_hook(cut)
    try:
        yield found
    finally:
        handle.remove()
