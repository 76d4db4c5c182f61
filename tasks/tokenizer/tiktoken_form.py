"""Tiktoken form of a tokenizer.json: bytes, ranks, one pattern, and whether the file says nothing else."""

import functools
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from tasks.tokenizer.byte_pairs import byte_letters, merges_of

if TYPE_CHECKING:
    import tiktoken
    import tokenizers

# The pattern of tokenizers' ByteLevel when it cuts by itself (GPT-2's).
BYTE_LEVEL = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CLASS = re.compile(r"\\[pP]\{\^?\w+\}|\\[sSdD]")
# What means the same in both regular expression engines, classes aside: escaped signs, groups that look ahead, letters.
PLAIN = re.compile(r"(?:\\[pP]\{\^?\w+\}|\\[sSdDrnt]|\\[^\w\s]|\(\?(?:[:=!>]|i:)|\((?!\?)|\[\^|[^\\^$(])*")
UNLIKE = re.compile(r"\[:|--|~~|\{,|\{[\d,]+\}\+|\{\d+\}\?")  # POSIX classes, set differences, quantifiers of quantifiers
# Letters, marks, digits and spaces are assigned here alone; what stands beyond is of one kind.
ASSIGNED = (range(0xD800), range(0xE000, 0x40000), range(0xE0000, 0xE0200), range(0x10FF00, 0x110000))


@dataclass(frozen=True)
class ByteForm:
    """A byte-level BPE tokenizer, as tiktoken takes it."""

    pattern: str
    ranks: dict[bytes, int]  # token -> id, special ones aside
    specials: dict[str, int]


def fast_encoding(form: ByteForm) -> "tiktoken.Encoding":
    """The tiktoken encoder."""
    import tiktoken

    return tiktoken.Encoding("tokenizer.json", pat_str=form.pattern, mergeable_ranks=form.ranks, special_tokens=form.specials)


def byte_form(tokenizer: "tokenizers.Tokenizer") -> ByteForm | str:
    """The tokenizer as bytes, ranks and one pattern; or the reason why it is more than that."""
    definition = json.loads(tokenizer.to_str())
    model, added = definition["model"], definition["added_tokens"]
    if model["type"] != "BPE":
        return f"its algorithm is {model['type']}"
    if definition["normalizer"] is not None:
        return "it normalises text"
    pattern = _single_pattern(definition["pre_tokenizer"])
    if pattern is None:
        return "its text is not cut by one regular expression and then taken as bytes"
    unlike = [token["content"] for token in added if not token["special"]]
    if unlike:
        return f"it looks for added tokens in a text, such as {unlike[0]!r}"
    if model["dropout"] or any(model[key] for key in ("byte_fallback", "continuing_subword_prefix", "end_of_word_suffix")):
        return "its merges depend on chance, or on where in a word they stand"
    specials = {token["content"]: token["id"] for token in added}
    values = {letter: byte for byte, letter in enumerate(byte_letters())}
    plain = {token: number for token, number in model["vocab"].items() if token not in specials}
    if any(letter not in values for token in plain for letter in token):
        return "its tokens are not bytes"
    return ByteForm(pattern, {bytes(values[c] for c in token): number for token, number in plain.items()}, specials)


class Cut(TypedDict):
    """A pre-tokenizer, as tokenizer.json has it; which keys it has depends on `type`."""

    type: str
    pretokenizers: "list[Cut]"  # of Sequence
    add_prefix_space: bool  # of ByteLevel
    use_regex: bool
    pattern: dict[str, str]  # of Split
    behavior: str
    invert: bool


def _single_pattern(cut: Cut | None) -> str | None:
    steps = [] if cut is None else cut["pretokenizers"] if cut["type"] == "Sequence" else [cut]
    if not steps or steps[-1]["type"] != "ByteLevel" or steps[-1]["add_prefix_space"]:
        return None
    *before, last = steps
    if last["use_regex"]:
        return None if before else BYTE_LEVEL
    if len(before) != 1 or before[0]["type"] != "Split":
        return None
    is_kept = (before[0]["behavior"], before[0]["invert"]) in (("Isolated", False), ("Removed", True))
    return before[0]["pattern"].get("Regex") if is_kept else None


def doubts(tokenizer: "tokenizers.Tokenizer", form: ByteForm) -> str | None:
    """Why equal ids could not be expected of tiktoken; None if they can: what samples cannot prove is proved here.

    tiktoken merges whichever neighbours stand together in the vocabulary, lowest id first. That is what `tokenizers` does
    if each token's own bytes merge to its recorded merge, and merges come in the order of the ids they make.
    """
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    values = {letter: byte for byte, letter in enumerate(byte_letters())}
    pairs = [tuple(bytes(values[c] for c in part) for part in merge) for merge in merges]
    made = [form.ranks[left + right] for left, right in pairs]
    if made != sorted(made):
        return "its merges do not come in the order of their tokens' ids"
    if any(bytes([byte]) not in form.ranks for byte in range(256)):
        return "it lacks some of the 256 bytes"
    products = sorted((token for token in form.ranks if len(token) > 1), key=form.ranks.__getitem__)
    recorded = set(pairs)
    strange = [token for token, pair in zip(products, merges_of(products), strict=True) if pair not in recorded]
    if strange or len({form.ranks[token] for token in products} - set(made)):
        return f"some tokens, such as {(strange or products)[0]!r}, are not merged from the bytes they stand for"
    return _pattern_doubts(form)


def _pattern_doubts(form: ByteForm) -> str | None:
    """Patterns are read by two engines (Oniguruma, fancy-regex): only what both read alike is let through."""
    if not PLAIN.fullmatch(form.pattern) or UNLIKE.search(form.pattern):
        return "its pattern holds signs that two regular expression engines may read differently"
    unlike = [name for name in sorted(set(CLASS.findall(form.pattern))) if not _is_read_alike(name)]
    if unlike:
        return f"two regular expression engines do not mean the same characters by {', '.join(unlike)}"
    if _matched(form.pattern, _assigned()) != _assigned():
        return "its pattern leaves out some characters"
    return None


@functools.cache
def _assigned() -> str:
    return "".join(chr(code) for span in ASSIGNED for code in span)


@functools.cache
def _is_read_alike(name: str) -> bool:
    """Whether both engines mean the same characters by a class such as `\\p{L}`."""
    import tokenizers
    from tokenizers import normalizers

    everything = _assigned()
    others = set(normalizers.Replace(tokenizers.Regex(f"(?:{name})+"), "").normalize_str(everything))
    return set(everything) - others == set(_matched(f"(?:{name})+", everything))


def _matched(pattern: str, text: str) -> str:
    """What of `text` tiktoken's engine finds with `pattern`."""
    form = ByteForm(pattern, {bytes([byte]): byte for byte in range(256)}, {})
    return bytes(fast_encoding(form).encode_ordinary(text)).decode()
