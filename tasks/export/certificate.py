"""Round-trip certificate: what a model says before and after, on fixed prompts, number by number and letter by letter.

T tokens, V vocabulary, K classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from tasks.inference.folder_settings import SpecialTokens
from tasks.tokenizer.encoding import decode_text, encode_documents

if TYPE_CHECKING:
    import tokenizers
    import torch

    from model.nn.models import Model

TEXTS = (
    "The mill stands by the river. It turns day and night, and",
    "def add(a: int, b: int) -> int:\n    return a + b\n\n\nclass Mill:",
    "磨坊在河边，水轮日夜转动。",
    "Straße, café, naïve: £5, 3.14 😀",
    "  two  spaces\tand a tab\r\n\r\n",
)
RANDOM_LENGTHS = (96, 33, 7, 2)  # tokens of prompts of random ids
WRITTEN = 24  # tokens that are written behind each prompt
CLOSE = 1e-5  # of the largest logit: what another order of float32 sums may change
TARGET = 5  # tokens of a target that an encoder-decoder is shown


@dataclass(frozen=True)
class Evidence:
    """What a model and its tokenizer do with the prompts."""

    logits: tuple["torch.Tensor", ...]  # of each prompt, float32
    written: tuple[tuple[int, ...], ...]  # greedily, by models that write
    texts: tuple[str, ...]  # what is written, decoded
    encoded: tuple[tuple[int, ...], ...]  # ids of TEXTS


@dataclass(frozen=True)
class Check:
    """One comparison: how much differed, and how much may."""

    name: str
    what: str  # that was compared
    found: float | None  # None: not checked
    allowed: float
    told: str = ""  # why it was not checked, or where the first difference lies

    @property
    def is_fine(self) -> bool:
        """Whether nothing speaks against it."""
        return self.found is None or self.found <= self.allowed


def fixed_prompts(tokenizer: "tokenizers.Tokenizer", size: int, context: int, pad: int) -> list[list[int]]:
    """Ids of TEXTS and random ids below `size`, with room behind them; the same on every machine. None holds padding."""
    import numpy as np

    room = max(1, context - min(WRITTEN, context // 2))
    allowed = np.setdiff1d(np.arange(size), [pad]) if size > 1 else np.zeros(1, np.int64)
    rows = [[number for number in ids if number != pad] for ids in encode_documents(tokenizer, TEXTS)]
    draws = np.random.Generator(np.random.PCG64(20_17)).random((len(RANDOM_LENGTHS), max(RANDOM_LENGTHS)))
    for length, row in zip(RANDOM_LENGTHS, draws, strict=True):
        rows.append([int(allowed[int(draw * len(allowed))]) for draw in row[:length]])
    return [row[:room] for row in rows if row]


def gather(model: "Model", tokenizer: "tokenizers.Tokenizer", prompts: Sequence[Sequence[int]], special_tokens: SpecialTokens) -> Evidence:
    """By our own code."""
    logits = tuple(read_logits(model, prompt, special_tokens) for prompt in prompts)
    written = write_greedily(model, prompts, special_tokens)
    return Evidence(
        logits,
        written,
        tuple(decode_text(tokenizer, ids) for ids in written),
        tuple(tuple(ids) for ids in encode_documents(tokenizer, TEXTS)),
    )


def read_logits(model: "Model", prompt: Sequence[int], special_tokens: SpecialTokens) -> "torch.Tensor":
    """[1, T, V], or [1, K] of a row's classes."""
    import torch

    from model.nn.models import LanguageModel, MultipleChoice, MultiTask, Seq2SeqModel

    row, length = torch.tensor([list(prompt)]), torch.tensor([len(prompt)])
    assert not isinstance(model, MultiTask)
    with torch.no_grad():
        if isinstance(model, LanguageModel):
            return model(row).float()
        if isinstance(model, Seq2SeqModel):
            return model(row, length, torch.tensor([shown_target(prompt, special_tokens)])).float()
        if isinstance(model, MultipleChoice):
            return model(choices(row), length.expand(1, 2)).float()
        return model(row, length).float()


def choices(row: "torch.Tensor") -> "torch.Tensor":
    """Two texts to choose from, [1, 2, T]: the prompt and its mirror."""
    import torch

    return torch.stack((row, row.flip(1)), dim=1)


def shown_target(prompt: Sequence[int], special_tokens: SpecialTokens) -> list[int]:
    """What an encoder-decoder is shown as written so far."""
    return [special_tokens.start, *prompt[:TARGET]]


def write_greedily(model: "Model", prompts: Sequence[Sequence[int]], special_tokens: SpecialTokens) -> tuple[tuple[int, ...], ...]:
    """The likeliest tokens behind each prompt, one prompt at a time; nothing from models that do not write."""
    from model.inference.generate import complete, translate
    from model.inference.sampling import Sampling
    from model.nn.models import LanguageModel, Seq2SeqModel

    written = min(WRITTEN, model.trunk.config.context // 2)
    sampling = Sampling(max_tokens=written, temperature=0.0, stop_ids=special_tokens.ends)
    if isinstance(model, LanguageModel):
        return tuple(tuple(complete(model, prompt, 1, sampling)[0]) for prompt in prompts)
    if isinstance(model, Seq2SeqModel):
        found: list[tuple[int, ...]] = []
        for prompt in prompts:
            steps = translate(model, [prompt], special_tokens.start, sampling)
            found.append(tuple(token.id for step in steps if (token := step[0]) is not None))
        return tuple(found)
    return ()


def compare(name: str, before: Evidence, after: Evidence, is_exact: bool) -> list[Check]:
    """Every difference. `is_exact`: not one bit of a logit may differ, else CLOSE of the largest."""
    checks = [compare_logits(f"{name}: logits", before.logits, after.logits, is_exact)]
    if before.written:
        tokens = sum(map(len, before.written))
        checks.append(_compare_rows(f"{name}: written tokens", f"{tokens} tokens, greedily", before.written, after.written))
        checks.append(_compare_rows(f"{name}: written text", f"{len(before.texts)} texts", before.texts, after.texts))
    checks.append(_compare_rows(f"{name}: tokenizer", f"{sum(map(len, before.encoded))} tokens", before.encoded, after.encoded))
    return checks


def compare_weights(name: str, before: "Model", after: "Model") -> Check:
    """Counts the tensors that are not the same, bit for bit."""
    ours, theirs = before.state_dict(), after.state_dict()
    unlike = [key for key in (*ours, *(theirs.keys() - ours.keys())) if not _same(ours.get(key), theirs.get(key))]
    return Check(f"{name}: weights", f"{len(ours)} tensors", float(len(unlike)), 0.0, ", ".join(unlike[:4]))


def _same(one: "torch.Tensor | None", two: "torch.Tensor | None") -> bool:
    return one is not None and two is not None and one.shape == two.shape and bool((one == two).all())


def compare_logits(name: str, before: Sequence["torch.Tensor"], after: Sequence["torch.Tensor"], is_exact: bool) -> Check:
    """The largest difference over all prompts."""
    positions = sum(part.shape[1] if part.dim() == 3 else 1 for part in before)
    what = f"{len(before)} prompts, {positions} predictions"
    shapes = [(tuple(one.shape), tuple(two.shape)) for one, two in zip(before, after, strict=True)]
    unlike = next((pair for pair in shapes if pair[0] != pair[1]), None)
    if unlike is not None:
        return Check(name, what, math.inf, 0.0, f"shape {list(unlike[1])}, expected {list(unlike[0])}")
    largest = max(float(part.abs().max()) for part in before)
    differences = [float((one - two).abs().max()) for one, two in zip(before, after, strict=True)]
    found = max(math.inf if math.isnan(difference) else difference for difference in differences)
    worst = differences.index(found) if found in differences else 0
    return Check(name, what, found, 0.0 if is_exact else CLOSE * max(1.0, largest), f"most at prompt {worst + 1}" if found else "")


def _compare_rows(name: str, what: str, before: Sequence[Sequence[object]], after: Sequence[Sequence[object]]) -> Check:
    """Counts the positions that differ."""
    differing = 0
    told = ""
    for number, (one, two) in enumerate(zip(before, after, strict=True), 1):
        here = sum(left != right for left, right in zip_longest(one, two))
        if here and not told:
            told = f"first at prompt {number}: {two!r:.80}, expected {one!r:.80}"
        differing += here
    return Check(name, what, float(differing), 0.0, told)
