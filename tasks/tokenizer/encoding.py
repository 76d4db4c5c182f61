"""Text encoding: token ids and back, the special tokens, and encoding that keeps their spellings in a text as text."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.errors import UserError
from tasks.tokenizer.tiktoken_form import byte_form, fast_encoding
from tasks.tokenizer.told_tokens import ask_folder, told_tokens

if TYPE_CHECKING:
    import tiktoken
    import tokenizers

BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"
USER, ASSISTANT, END = "<|user|>", "<|assistant|>", "<|end|>"
CHAT_TOKENS = (USER, ASSISTANT, END)
SPECIAL_TOKENS = (BOS, EOS, PAD, *CHAT_TOKENS)
# What begins, ends and pads a text, or masks a token, where its folder names nothing: ours, then as BERT, Llama 3, DeepSeek, Yi,
# Llama 2, Gemma and GPT-2 spell it.
START_TOKENS = (BOS, "[CLS]", "<|begin_of_text|>", "<｜begin▁of▁sentence｜>", "<|startoftext|>", "<s>", "<bos>", "<|endoftext|>")
END_TOKENS = (EOS, "[SEP]", "<|end_of_text|>", "<｜end▁of▁sentence｜>", "</s>", "<eos>", "<|endoftext|>")
PAD_TOKENS = (PAD, "[PAD]", "<|finetune_right_pad_id|>", "<pad>")
MASK_TOKENS = ("<|mask|>", "[MASK]", "<mask>")
UNKNOWN = "<|unk|>"  # of tokenizers that cannot spell every text
FAST_PATH = "tiktoken"


@dataclass(frozen=True)
class TextIds:
    """What stands around a text, in one tokenizer. Where there is no token to pad with, `pad` is `eos`."""

    bos: int
    eos: int
    pad: int


@dataclass(frozen=True)
class SpecialIds(TextIds):
    """Ids of all special tokens in one tokenizer, those of a conversation included."""

    user: int
    assistant: int
    end: int


@dataclass(frozen=True)
class Encoder:
    """Text to ids by the fastest path that gives this tokenizer's exact ids.

    Fast is tiktoken, 4.6 to 7.4 times as fast as `tokenizers.encode_batch` (benchmarks/RESULTS.md, `encode-en`,
    `encode-zh`); a text whose white space overflows its regular expression goes the slow way, alone.
    """

    tokenizer: "tokenizers.Tokenizer"
    fast: "tiktoken.Encoding | None"
    vocab_size: int  # the highest id and one

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        """Ids of each text alone, read-only, nothing added; a special token's spelling stays text. One thread.

        UserError for a text that neither path can take: millions of white space characters in a row, to a tokenizer
        from outside whose pattern sets them no bound.
        """
        return [self._encode_fast(text) for text in texts]

    def _encode_fast(self, text: str) -> NDArray[np.uint32]:
        if self.fast is not None:
            try:
                return self.fast.encode_to_numpy(text, disallowed_special=())
            except ValueError:  # the stack of its regular expressions is bounded
                pass
        return encode_slowly(self.tokenizer, text)


def open_encoder(folder: Path) -> Encoder:
    """The encoder of a Hugging Face folder: fast if `encoding.json` beside it says that the ids were found identical."""
    tokenizer, checked = load_tokenizer(folder), folder / "encoding.json"
    is_fast = checked.is_file() and json.loads(checked.read_text(encoding="utf-8"))["path"] == FAST_PATH
    form = byte_form(tokenizer) if is_fast else ""
    return Encoder(tokenizer, None if isinstance(form, str) else fast_encoding(form), vocabulary_size(tokenizer))


def vocabulary_size(tokenizer: "tokenizers.Tokenizer") -> int:
    """The highest id and one; more than the number of tokens where ids are left out."""
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def encode_slowly(tokenizer: "tokenizers.Tokenizer", text: str) -> NDArray[np.uint32]:
    """Ids of one text by `tokenizers` itself."""
    tokenizer.encode_special_tokens = True
    try:
        (encoding,) = tokenizer.encode_batch_fast([text], add_special_tokens=False)
    except BaseException as error:  # a panic of the Rust side, which no importable class stands for
        if type(error).__name__ != "PanicException":
            raise
        raise UserError(
            f"a text of {len(text):,} characters that begins {text.strip()[:40]!r}: the tokenizer gives up ({error}). "
            "Fix: clean it of its long runs of white space, or train a tokenizer, whose pieces are bounded."
        ) from error
    return np.array(encoding.ids, dtype=np.uint32)


def load_tokenizer(folder: Path) -> "tokenizers.Tokenizer":
    """The tokenizer of a Hugging Face folder, which neither cuts nor pads. UserError where there is none, or none that can be read."""
    import tokenizers

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{folder}: no tokenizer.json, expected a Hugging Face tokenizer. Fix: name the folder that holds it.")
    try:
        tokenizer = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the Rust side raises plain Exception
        raise UserError(f"{path}: not a tokenizer that this version can read ({error}). Fix: save it again.") from error
    tokenizer.no_truncation()  # whoever saved the file may have had both on, for batches of their own
    tokenizer.no_padding()
    ask_folder(folder, tokenizer)
    return tokenizer


def write_without_batches(tokenizer: "tokenizers.Tokenizer", path: Path) -> None:
    """Writes over a copy of the tokenizer's own file that cuts or pads; any other stays as it is, byte for byte."""
    told = json.loads(path.read_text(encoding="utf-8"))
    if told.get("truncation") is not None or told.get("padding") is not None:
        path.write_text(tokenizer.to_str(pretty=True), encoding="utf-8")


def first_id(tokenizer: "tokenizers.Tokenizer", tokens: Sequence[str]) -> int | None:
    """Id of the first of `tokens` that the tokenizer has."""
    ids = (tokenizer.token_to_id(token) for token in tokens)
    return next((number for number in ids if number is not None), None)


def start_of(tokenizer: "tokenizers.Tokenizer", place: str) -> int | None:
    """What begins a text: by the tokenizer's folder, else the first of START_TOKENS. UserError where the folder names an unknown one."""
    told = told_tokens(tokenizer)
    if told.unknown_start:
        raise UserError(f"{place}: {told.unknown_start}. Fix: name the token that begins a text as bos_token in tokenizer_config.json.")
    return first_id(tokenizer, START_TOKENS) if told.start is None else told.start


def ends_of(tokenizer: "tokenizers.Tokenizer", place: str) -> tuple[int, ...]:
    """What ends a text, the one to write first: by the tokenizer's folder, else of END_TOKENS. UserError as `start_of` raises it."""
    told = told_tokens(tokenizer)
    if told.unknown_end:
        raise UserError(f"{place}: {told.unknown_end}. Fix: name the token that ends a text as eos_token in tokenizer_config.json.")
    return told.ends or tuple(number for token in END_TOKENS if (number := tokenizer.token_to_id(token)) is not None)


def pad_of(tokenizer: "tokenizers.Tokenizer") -> int | None:
    """What fills up a batch: by the tokenizer's folder, else the first of PAD_TOKENS; None where there is none."""
    told = told_tokens(tokenizer).pad
    return first_id(tokenizer, PAD_TOKENS) if told is None else told


def mask_of(tokenizer: "tokenizers.Tokenizer") -> int | None:
    """What stands for a hidden token: by the tokenizer's folder, else the first of MASK_TOKENS; None where there is none."""
    told = told_tokens(tokenizer).mask
    return first_id(tokenizer, MASK_TOKENS) if told is None else told


def stop_ids(tokenizer: "tokenizers.Tokenizer") -> frozenset[int]:
    """The tokens that end a text, or the turn of a conversation."""
    turn = tokenizer.token_to_id(END)
    return frozenset(ends_of(tokenizer, "MODEL")) | (frozenset() if turn is None else {turn})


def text_ids(tokenizer: "tokenizers.Tokenizer", place: str, start: int | None = None) -> TextIds:
    """The tokenizer's own tokens for beginning, end and padding. UserError, naming `place`, when it lacks one.

    `start`: what a model's texts begin with by its own settings, as an encoder-decoder's targets do.
    """
    bos, eos = start_of(tokenizer, place) if start is None else start, next(iter(ends_of(tokenizer, place)), None)
    if bos is None or eos is None:
        role, known = ("begin", START_TOKENS) if bos is None else ("end", END_TOKENS)
        raise UserError(
            f"{place}: the tokenizer has no token to {role} a text with, expected one of {', '.join(known)}. "
            "Fix: add one of them to tokenizer.json, or name the token in tokenizer_config.json."
        )
    pad = pad_of(tokenizer)
    return TextIds(bos, eos, eos if pad is None else pad)


def special_ids(tokenizer: "tokenizers.Tokenizer", place: str) -> SpecialIds:
    """Ids of all special tokens. UserError, naming `place`, when the tokenizer lacks one."""
    ids = {token: number for token in CHAT_TOKENS if (number := tokenizer.token_to_id(token)) is not None}
    missing = [token for token in CHAT_TOKENS if token not in ids]
    if missing:
        raise UserError(
            f"{place}: the tokenizer lacks {', '.join(missing)}. Fix: take it into a workspace with tokenizer.existing, "
            "which adds them, and train with it; or fine-tune its model on instructions, which adds them too."
        )
    text = text_ids(tokenizer, place)
    return SpecialIds(text.bos, text.eos, text.pad, ids[USER], ids[ASSISTANT], ids[END])


def add_chat_tokens(tokenizer: "tokenizers.Tokenizer") -> list[str]:
    """Adds the tokens of a conversation that the tokenizer lacks, behind all others; returns them."""
    missing = [token for token in CHAT_TOKENS if tokenizer.token_to_id(token) is None]
    tokenizer.add_special_tokens(missing)
    return missing


def encode_documents(tokenizer: "tokenizers.Tokenizer", texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text alone, nothing added; a special token's spelling in a text stays text. For few texts: see Encoder.

    Leaves `tokenizer` in that state (`encode_special_tokens`).
    """
    tokenizer.encode_special_tokens = True
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def encode_behind_token(tokenizer: "tokenizers.Tokenizer", texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text as it stands behind a special token, in a conversation: that is what its rendered template is encoded to."""
    return encode_documents(behind_token(tokenizer), texts)


def behind_token(tokenizer: "tokenizers.Tokenizer") -> "tokenizers.Tokenizer":
    """A tokenizer of texts that stand behind a special token; the given one where that makes no difference.

    Their ids are those of the text alone, but for what newer SentencePiece forms put before the first word of a whole text.
    """
    import tokenizers

    definition = json.loads(tokenizer.to_str())
    cut = definition["pre_tokenizer"] or {}
    once = [step for step in (cut, *cut.get("pretokenizers", ())) if step.get("prepend_scheme") == "first"]
    for step in once:
        step["prepend_scheme"] = "never"
    return tokenizers.Tokenizer.from_str(json.dumps(definition)) if once else tokenizer


def decode_text(tokenizer: "tokenizers.Tokenizer", ids: Sequence[int]) -> str:
    """The text of `ids`; special tokens are left out."""
    return tokenizer.decode(list(ids), skip_special_tokens=True)
