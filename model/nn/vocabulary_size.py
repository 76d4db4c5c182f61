"""Vocabulary resizing: a model whose vocabulary grows, or loses its padding."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from model.nn.heads import LanguageHead, MaskedHead
from model.nn.models import Model

NOISE = 0.1  # of the deviation of the old rows: enough that no two new tokens are alike


def resize_vocabulary(model: Model, size: int, seed: int) -> None:
    """Appends rows to the embedding, and to an untied head, in place: the old tokens' logits stay as they are.

    A new row is the mean of the old ones and a little noise from `seed`, so that a new token is at first about as likely as
    an average one. Raises ValueError for a size below the present one.
    """
    old = model.trunk.vocab_size
    if size < old:
        raise ValueError(f"vocabulary {size} is smaller than the model's {old}: rows are only added")
    generator = torch.Generator().manual_seed(seed)
    weight = model.trunk.embedding.weight
    grown = nn.Embedding(size, weight.shape[1], device="meta")
    grown.weight = nn.Parameter(_extended(weight, size, generator), requires_grad=weight.requires_grad)
    model.trunk.embedding, model.trunk.vocab_size = grown, size
    for head in model.modules():
        if isinstance(head, LanguageHead) and isinstance(head.weight, nn.Parameter):  # untied
            head.weight = nn.Parameter(_extended(head.weight, size, generator))
        if isinstance(head, MaskedHead):
            head.bias = nn.Parameter(torch.cat([head.bias.detach(), head.bias.detach().mean().expand(size - old)]))


def start_new_tokens(model: Model, spelled: Mapping[int, Sequence[int]], seed: int) -> None:
    """Gives each new token (id -> the old ids that spelled it) the mean of their rows, in place: of the embedding and of the head.

    So the model reads a word that it knew in pieces as about what it was, and a new token is as likely as its parts on average. The
    vocabulary grows as far as need be; a token that nothing spelled starts as `resize_vocabulary` says. Source: Gee et al., "Fast
    Vocabulary Transfer" (EMNLP 2022, arXiv 2402.09977), which beats random rows and the mean of all.
    """
    if not spelled:
        return
    resize_vocabulary(model, max(model.trunk.vocab_size, max(spelled) + 1), seed)
    known = {new: torch.tensor(old) for new, old in spelled.items() if len(old)}
    for rows in _rows(model):
        for new, old in known.items():
            rows[new] = rows[old].mean(dim=0)


def _rows(model: Model) -> Iterator[Tensor]:
    """What the model has a row of for each token: the embedding, an untied head, a masked head's bias."""
    yield model.trunk.embedding.weight.detach()
    for head in model.modules():
        if isinstance(head, LanguageHead) and isinstance(head.weight, nn.Parameter):  # untied
            yield head.weight.detach()
        if isinstance(head, MaskedHead):
            yield head.bias.detach()


def cut_vocabulary(model: Model, size: int) -> None:
    """Keeps the first `size` rows of the embedding, and of an untied head, in place: the rest was padding."""
    old = model.trunk.vocab_size
    if not 1 <= size <= old:
        raise ValueError(f"vocabulary {size}: the model has {old} tokens, keep 1 or more of them")
    kept = nn.Embedding(size, model.trunk.embedding.embedding_dim, device="meta")
    kept.weight = nn.Parameter(model.trunk.embedding.weight.detach()[:size].clone())
    model.trunk.embedding, model.trunk.vocab_size = kept, size
    for head in model.modules():
        if isinstance(head, LanguageHead) and isinstance(head.weight, nn.Parameter):  # untied
            head.weight = nn.Parameter(head.weight.detach()[:size].clone())
        if isinstance(head, MaskedHead):
            head.bias = nn.Parameter(head.bias.detach()[:size].clone())


def _extended(rows: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """[V, C] -> [size, C]."""
    rows = rows.detach()
    noise = torch.randn(size - len(rows), rows.shape[1], generator=generator).to(rows)
    return torch.cat([rows, rows.mean(dim=0) + NOISE * rows.std(dim=0) * noise])
