"""Source and target rows of an encoder-decoder: for learning, for being judged and for answering."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.tokenizer.encoding import BOS, TextIds, encode_documents, ends_of, text_ids

if TYPE_CHECKING:
    import tokenizers


@dataclass(frozen=True)
class PairRow:
    """One example."""

    ids: list[int]  # the source
    decoder_ids: list[int]  # the target so far, behind the token that begins targets
    targets: list[int]  # as long: what comes next, the end at last
    is_cut: bool


def told_start(folder: Path) -> int | None:
    """The token that a target begins with, by config.json."""
    told = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("decoder_start_token_id")
    return told if isinstance(told, int) else None


def source_ids(tokenizer: "tokenizers.Tokenizer", source: str) -> list[int]:
    """What an encoder reads: between our own tokens, else as the tokenizer's template has it, and the end in any case."""
    (plain,) = encode_documents(tokenizer, [source])
    around = _around(tokenizer)
    return tokenizer.encode(source).ids if around is None else [*around.before, *plain, around.behind]


def surround_sources(tokenizer: "tokenizers.Tokenizer") -> None:
    """Makes the tokenizer put around a text what `source_ids` puts there."""
    from tokenizers import processors

    around = _around(tokenizer)
    if around is None:
        return
    names = {number: str(tokenizer.id_to_token(number)) for number in (*around.before, around.behind)}
    single = " ".join([*(names[number] for number in around.before), "$A", names[around.behind]])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=f"{single} $B {names[around.behind]}", special_tokens=[(name, number) for number, name in names.items()]
    )


def pair_row(source: Sequence[int], response: Sequence[int], special: TextIds, context: int) -> PairRow:
    """`source` as `source_ids` has it; `special.bos` begins the target. Each keeps its first `context` tokens.

    A source that was cut keeps the token that ends it; a response that was cut has none.
    """
    is_long = len(source) > context
    ids = [*source[: context - 1], source[-1]] if is_long else list(source)
    wanted = [*response, special.eos]
    targets = wanted[:context]
    return PairRow(ids, [special.bos, *targets[:-1]], targets, is_long or len(wanted) > context)


def pair_rows(
    sources: Sequence[str], responses: Sequence[str], tokenizer: "tokenizers.Tokenizer", special: TextIds, context: int
) -> list[PairRow]:
    """A row for each source and its response."""
    read = [source_ids(tokenizer, source) for source in sources]
    written = encode_documents(tokenizer, responses)
    return [pair_row(source, response, special, context) for source, response in zip(read, written, strict=True)]


@dataclass(frozen=True)
class _Around:
    """What stands around a source."""

    before: tuple[int, ...]
    behind: int


def _around(tokenizer: "tokenizers.Tokenizer") -> _Around | None:
    """What we put around a text; None where the tokenizer has a template of its own that ends a text."""
    if tokenizer.token_to_id(BOS) is not None:
        text = text_ids(tokenizer, "MODEL")
        return _Around((text.bos,), text.eos)
    end = next(iter(ends_of(tokenizer, "MODEL")), None)
    return None if end is None or tokenizer.encode("a").ids[-1:] == [end] else _Around((), end)
