"""Byte-pair encoding: the alphabet of byte-level tokenizers, the merges behind a ranking, and learning them with `rustbpe`."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

TEXTS_AT_ONCE = 256  # that `rustbpe` holds; each is at most vocabulary.CUT_CHARS long
COUNTED_TOKENS = 2**20  # ids counted at a time


def byte_letters() -> list[str]:
    """The printable letter that stands for each byte in a byte-level tokenizer.json (GPT-2's alphabet)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    letters = {byte: chr(byte) for byte in shown} | {byte: chr(256 + number) for number, byte in enumerate(hidden)}
    return [letters[byte] for byte in range(256)]


def spell(token: bytes, letters: Sequence[str]) -> str:
    """A token as tokenizer.json spells it."""
    return "".join(letters[byte] for byte in token)


def merges_of(products: Sequence[bytes]) -> list[tuple[bytes, bytes] | None]:
    """The two parts each of `products` (tokens of two bytes and more, in order of rank) is merged from.

    Found by merging its own bytes with what ranks before it. None where that does not end in two parts: then no byte-pair
    training made this ranking.
    """
    ranks = {token: rank for rank, token in enumerate(products)}
    return [_last_merge(token, rank, ranks) for rank, token in enumerate(products)]


def _last_merge(token: bytes, limit: int, ranks: dict[bytes, int]) -> tuple[bytes, bytes] | None:
    parts = [token[at : at + 1] for at in range(len(token))]
    while len(parts) > 2:
        found = [ranks.get(left + right, limit) for left, right in pairwise(parts)]
        best = min(found)
        if best >= limit:
            return None
        at = found.index(best)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]


def learn_products(pattern: str, texts: Callable[[], Iterator[str]], most: int, least_count: int) -> list[tuple[bytes, bytes]]:
    """At most `most` merges, in order, over the pretokens of `texts`; none that occurs fewer than `least_count` times.

    Equal texts give equal merges, whatever the number of threads: counts are sums, ties go to the lower pair of ids.
    0.6 of the CPU-seconds and half the memory of the trainer in `tokenizers`, at equal bytes a token
    (benchmarks/RESULTS.md, `train-tokenizer`). `texts` is read twice where pairs get rare.
    """
    from rustbpe.rustbpe import Tokenizer

    trainer = Tokenizer()
    trainer.train_from_iterator(texts(), 256 + most, buffer_size=TEXTS_AT_ONCE, pattern=pattern)
    tokens = [bytes(token) for token, _ in trainer.get_mergeable_ranks()]
    found = merges_of(tokens[256:])
    merges = [pair for pair in found if pair is not None]
    assert len(merges) == len(found) == len(set(tokens)) - 256
    kept = frequent_merges(pattern, tokens, merges, texts(), least_count) if merges else 0
    return merges[:kept]


def frequent_merges(
    pattern: str, tokens: Sequence[bytes], merges: Sequence[tuple[bytes, bytes]], texts: Iterator[str], least_count: int
) -> int:
    """How many of `merges` to keep: those before the first that is applied fewer than `least_count` times to `texts`.

    Counts only fall from merge to merge, so the reading stops as soon as the last has been seen often enough.
    """
    import tiktoken

    ranks = {token: rank for rank, token in enumerate(tokens)}
    encoding = tiktoken.Encoding("counting", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    uses, pending, last = np.zeros(len(tokens), np.int64), list[NDArray[np.uint32]](), len(tokens) - 1
    for text in texts:
        pending.append(np.array(encoding.encode_ordinary(text), dtype=np.uint32))
        if sum(map(len, pending)) >= COUNTED_TOKENS or len(pending) >= TEXTS_AT_ONCE:
            uses, pending = uses + np.bincount(np.concatenate(pending), minlength=len(tokens)), []
            if uses[last] >= least_count:
                return len(merges)
    if pending:
        uses += np.bincount(np.concatenate(pending), minlength=len(tokens))
    for rank in range(last, 255, -1):  # a merge is applied wherever its token stands, or was merged on
        left, right = merges[rank - 256]
        uses[ranks[left]] += uses[rank]
        uses[ranks[right]] += uses[rank]
    rare = np.flatnonzero(uses[256:] < least_count)
    return int(rare[0]) if len(rare) else len(merges)
