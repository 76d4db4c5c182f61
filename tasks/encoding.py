"""Text to token ids and back: the special tokens, and one way to encode that keeps their spellings in a text as text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import UserError

if TYPE_CHECKING:
    import tokenizers

BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"
USER, ASSISTANT, END = "<|user|>", "<|assistant|>", "<|end|>"
SPECIAL_TOKENS = (BOS, EOS, PAD, USER, ASSISTANT, END)


@dataclass(frozen=True)
class SpecialIds:
    """Ids of the special tokens in one tokenizer."""

    bos: int
    eos: int
    pad: int
    user: int
    assistant: int
    end: int


def load_tokenizer(folder: Path) -> "tokenizers.Tokenizer":
    """The tokenizer of a Hugging Face folder. UserError where there is none, or none that can be read."""
    import tokenizers

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UserError(
            f"{folder}: no tokenizer.json, expected a Hugging Face tokenizer. Fix: name the folder that holds it."
        )
    try:
        return tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the Rust side raises plain Exception
        raise UserError(f"{path}: not a tokenizer that this version can read ({error}). Fix: save it again.") from error


def special_ids(tokenizer: "tokenizers.Tokenizer", place: str) -> SpecialIds:
    """Ids of all special tokens. UserError, naming `place`, when the tokenizer lacks one."""
    ids = {token: number for token in SPECIAL_TOKENS if (number := tokenizer.token_to_id(token)) is not None}
    missing = [token for token in SPECIAL_TOKENS if token not in ids]
    if missing:
        raise UserError(
            f"{place}: the tokenizer lacks {', '.join(missing)}. Fix: take it into a workspace with tokenizer.existing, "
            "which adds them, and train with it."
        )
    return SpecialIds(ids[BOS], ids[EOS], ids[PAD], ids[USER], ids[ASSISTANT], ids[END])


def encode_documents(tokenizer: "tokenizers.Tokenizer", texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text alone, nothing added; a special token's spelling in a text stays text.

    Leaves `tokenizer` in that state (`encode_special_tokens`).
    """
    tokenizer.encode_special_tokens = True
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def decode_text(tokenizer: "tokenizers.Tokenizer", ids: Sequence[int]) -> str:
    """The text of `ids`; special tokens are left out."""
    return tokenizer.decode(list(ids), skip_special_tokens=True)
