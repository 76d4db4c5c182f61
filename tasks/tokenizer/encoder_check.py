"""Encoder check: whether the fast encoder gives a tokenizer's exact ids, proved from the file where it can be, and tried."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from tasks.settings import Json
from tasks.tokenizer.encoding import FAST_PATH, SPECIAL_TOKENS, Encoder, encode_slowly, vocabulary_size
from tasks.tokenizer.tiktoken_form import byte_form, doubts, fast_encoding

if TYPE_CHECKING:
    import tokenizers

SLOW_PATH = "tokenizers"


@dataclass(frozen=True)
class EncoderCheck:
    """Content of encoding.json."""

    path: str  # FAST_PATH or SLOW_PATH
    why: str
    checked_documents: int  # hostile texts included
    checked_bytes: int

    def content(self) -> dict[str, Json]:
        """As encoding.json has it."""
        return {
            "path": self.path,
            "why": self.why,
            "checked_documents": self.checked_documents,
            "checked_bytes": self.checked_bytes,
        }


def check_encoder(tokenizer: "tokenizers.Tokenizer", texts: Iterable[str]) -> tuple[Encoder, EncoderCheck]:
    """The encoder to use, and what was found; `texts` are tried behind the hostile ones."""
    size = vocabulary_size(tokenizer)
    slow = Encoder(tokenizer, None, size)
    form = byte_form(tokenizer)
    reason = form if isinstance(form, str) else doubts(tokenizer, form)
    if reason is not None or isinstance(form, str):
        return slow, EncoderCheck(SLOW_PATH, str(reason), 0, 0)
    fast = Encoder(tokenizer, fast_encoding(form), size)
    documents, tried = 0, 0
    for text in chain(hostile_texts(list(form.specials)), texts):
        documents, tried = documents + 1, tried + len(text.encode())
        expected, (found,) = encode_slowly(tokenizer, text), fast.encode([text])
        if expected.tolist() != found.tolist():
            why = f"other ids than those of {SLOW_PATH} for the text that begins {text[:60]!r}"
            return slow, EncoderCheck(SLOW_PATH, why, documents, tried)
    return fast, EncoderCheck(FAST_PATH, "identical ids", documents, tried)


def hostile_texts(specials: Sequence[str] = SPECIAL_TOKENS) -> Iterator[str]:
    """Text on which encoders have been known to differ, stumble or run for minutes; 2 MB in all."""
    every = "".join(specials)
    yield from ("", " ", "\n", "\x00", "a\x00b\x00\x00", "\r\n\r\n \r\n\t\r", every, f" {every} x{every}y", "<|", "|>")
    yield "".join(map(chr, range(256)))  # every byte value as Latin-1
    yield "".join(chr(code) + "a " for code in range(0x250, 0x3000, 7))
    yield "👩‍👩‍👧‍👦👩🏽‍💻🏳️‍🌈🇨🇳🇩🇪 ✊🏿❤️‍🔥"
    yield "Z" + "\u0301\u0316\u0489" * 300 + "a" + "\u0300" * 50 + " \u0301 \u20dd"  # towers of marks, lone marks
    yield "狐狸fox狐狸3只fox12345只狐狸①②〇Ⅷ㈱ABC全角１２３，。！？「」…——" * 20
    yield "\ue000\uf8ff\U000f0000\U0010fffd\U0010ffff\ufffe\ufeff\ufffd"  # private use, not characters
    yield "a\u2028b\u2029c\u0085d\u00a0e\u3000f\u200bg\u2060h\u180ei \u2028 \u3000\u3000x"
    yield "it's I'LL don'T we'reNOT 's's 'sx 'ſ 'll'll'ved 'KD 'ɓ ʼn's"
    yield "שלום عربي\u064b हिन्दी ไทยภาษาไทย ខ្មែរ 한국어 日本語カタカナ ǅ ß ﬁ İ ı K Å \U0001d400\U00020000\U000323af"
    yield "\t\t  if x:\n\t\t\treturn\t\n\n\n   \n  y = {'a': [1, 22, 333, 4444]}  # --------------- \n" * 20
    yield "https://example.com/a?b=c&d=%20#e user@example.com 1,234,567.89 1e-10 0xDEADBEEF ==== !!!!???? ......"
    yield from (sign * 20_000 for sign in (".", "1", "山", "é", "\n", "\r\n", "\t", "\u0301", "ก", "👍"))
    yield from ((" " * count + end) for count in (63, 64, 65, 129, 20_000) for end in ("", "x", "\n", "山", "9", "."))
    yield "\n" + " " * 1_000 + "\n" + " " * 65 + "x\n" + " " * 64 + "y"
    yield "a" * 1_000_000
    yield "ACGT" * 20_000 + "qzJ" * 1_000
