"""Character encodings: the declared charset when it is true, else the one under which the text looks most like text.

Nothing depends on more than the bytes and the declaration.
"""

import codecs
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tasks.reading.plausibility import plausibility

SAMPLE_BYTES = 1 << 17  # of lines that are not ASCII, looked at to choose among charsets
CERTAIN_UTF8_MARGIN = 0.3  # UTF-8 has a strict form: others must be better by this to win over it
PLAUSIBLE = 0.0  # least score of a text; the mean of wrong readings is below
MAX_CONTROLS = 0.02  # share of characters; above it the bytes are no text
MAX_REPLACED = 0.1  # share of characters that stand for bytes without a meaning; above it the bytes are no text

BOMS = (  # the longer first: the mark of UTF-32 begins like that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (b"\x84\x31\x95\x33", "gb18030"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# In the order that decides between equal scores. GB18030 holds GBK and GB2312; cp1252 stands for Latin-1, as on the web.
CANDIDATES = ("gb18030", "big5", "cp932", "cp949", "euc_jp", "utf-16-le", "utf-16-be", "cp1251", "cp1252")
LEGACY = tuple(codec for codec in CANDIDATES if not codec.startswith("utf"))
STATEFUL = ("utf-16", "utf-32", "utf-7", "iso2022", "hz")  # families in which a byte alone, such as a line end, says nothing
MIN_UTF8_SHARE = 0.15  # of the bytes beyond ASCII; lines of one or two Han characters in GBK are UTF-8 by chance more rarely
ABOVE_ASCII = bytes(range(128, 256))
READ_AS = {  # what a label means in practice: the larger set of the same bytes
    "ascii": "utf-8",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "hz": "hz",
    "big5hkscs": "big5hkscs",
    "big5": "big5hkscs",
    "cp950": "big5hkscs",
    "shift_jis": "cp932",
    "shift_jis_2004": "cp932",
    "euc_kr": "cp949",
    "iso8859-1": "cp1252",
    "utf-16": "utf-16-le",
    "utf-32": "utf-32-le",
    "utf-8-sig": "utf-8",
}
LABELS = {"x-gbk": "gbk", "x-sjis": "shift_jis", "x-euc-jp": "euc_jp", "windows-31j": "cp932", "unicode": "utf-16"}
SHOWN_AS = {
    "big5hkscs": "big5",
    "cp932": "shift_jis",
    "cp949": "euc-kr",
    "euc_jp": "euc-jp",
    "cp1251": "windows-1251",
    "cp1252": "windows-1252",
}

CONTROLS = re.compile("[\x01-\x07\x0b\x0e-\x1a\x1c-\x1f]+")


@dataclass(frozen=True)
class Decoded:
    """Text, the charset it was read as, and what had to be mended.

    `repairs` in fixed order: `bom` (a mark left out of UTF-8), `wrong_charset` (the declaration was false), `mixed_encodings`
    (lines in a second charset), `surrogate` (halves joined or replaced), `replaced` (bytes without a meaning became U+FFFD).
    `is_text` is False for what no charset makes text of.
    """

    text: str
    charset: str = "utf-8"
    repairs: tuple[str, ...] = ()
    is_text: bool = True


class Reading(NamedTuple):
    """What bytes give under one charset."""

    codec: str
    score: float
    is_strict: bool


def decode(raw: bytes, declared: str | None = None) -> Decoded:
    """The text of `raw`, which is whole: it begins and ends where a text does."""
    marked = next(((mark, name) for mark, name in BOMS if raw.startswith(mark)), None)
    if marked is not None and (found := _decode_marked(raw, *marked, declared)) is not None:
        return found
    if b"\0" not in raw and b"\x1b" not in raw:
        if raw.isascii():
            return Decoded(raw.decode("ascii"))
        if declared is None and (text := _strict(raw, "utf-8")) is not None:
            return Decoded(text)
    return _decode_guessed(raw, known_codec(declared) if declared else None, declared)


def known_codec(label: str) -> str | None:
    """Python's name of the charset that a label stands for in practice; None for one that nobody knows."""
    name = label.strip().strip("\"'").lower()
    try:
        codec = codecs.lookup(LABELS.get(name, name))
    except (LookupError, ValueError):
        return None
    return READ_AS.get(codec.name, codec.name) if codec._is_text_encoding else None


def charset_name(codec: str) -> str:
    """The name of a charset as it is recorded."""
    return SHOWN_AS.get(codec, codec.replace("_", "-"))


def detect(raw: bytes) -> str | None:
    """The codec of the beginning of a file, which may be cut anywhere; None when it is plain ASCII so far."""
    marked = next((name for mark, name in BOMS if raw.startswith(mark)), None)
    if marked is not None:
        return marked
    if raw.isascii() and b"\0" not in raw and b"\x1b" not in raw:
        return None
    if b"\0" in raw and (wide := _wide_codec(raw)) is not None:
        return wide
    if _has_utf8_lines(raw):
        return "utf-8"
    if _escaped_japanese(raw[: raw.rfind(b"\n") + 1] or raw) is not None:
        return "iso2022_jp"
    whole = raw[: raw.rfind(b"\n") + 1] or raw[: len(raw) - len(raw) % 4 - (4 if len(raw) > 64 else 0)] or raw
    try:
        codecs.getincrementaldecoder("utf-8")().decode(raw)
    except UnicodeDecodeError:
        return _best(whole).codec
    return "utf-8"


def strip_mark(head: bytes) -> tuple[bytes, str | None]:
    """The bytes behind a byte order mark and the charset it stands for."""
    for mark, codec in BOMS:
        if head.startswith(mark):
            return head[len(mark) :], codec
    return head, None


def mend_surrogates(text: str) -> str:
    """Halves that meet are joined, others become U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def has_surrogates(text: str) -> bool:
    """Whether the text cannot be stored as it is."""
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def is_rather_utf8(raw: bytes, codec: str) -> bool:
    """Whether bytes that are no plain ASCII are UTF-8, though the text around them is in another charset."""
    text = _strict(raw, "utf-8")
    if text is None:
        return False
    other = _strict(raw, codec)
    return other is None or plausibility(text) + CERTAIN_UTF8_MARGIN > plausibility(other)


def _decode_marked(raw: bytes, mark: bytes, codec: str, declared: str | None) -> Decoded | None:
    """What follows a byte order mark; None when it is no mark but the first bytes of something else."""
    body = raw[len(mark) :]
    lied = declared is not None and known_codec(declared) != codec and not (known_codec(declared) or "").startswith("utf")
    repairs = (*(("bom",) if codec == "utf-8" else ()), *(("wrong_charset",) if lied else ()))
    text = _strict(body, codec)
    if text is not None:
        return Decoded(text, charset_name(codec), repairs)
    if codec == "utf-8":
        rest = _decode_guessed(body, "utf-8", None)
        return Decoded(rest.text, rest.charset, tuple(dict.fromkeys((*repairs, *rest.repairs))), rest.is_text)
    text = body.decode(codec, "replace")
    if _share(text, "\ufffd") > MAX_REPLACED:
        return None
    return Decoded(text, charset_name(codec), (*repairs, "replaced"))


def _decode_guessed(raw: bytes, codec: str | None, declared: str | None) -> Decoded:
    """By the declared codec when it fits, else by the best of the candidates, else line by line."""
    if codec is not None and (text := _strict(raw, codec)) is not None and _fits(raw, text, codec):
        return _checked(text, codec, ())
    lied = ("wrong_charset",) if declared is not None else ()
    if b"\0" in raw and (wide := _wide_codec(raw)) is not None:
        return _checked(raw.decode(wide, "replace"), wide, lied)
    if (text := _escaped_japanese(raw)) is not None:
        return _checked(text, "iso2022_jp", lied)
    if (text := _strict(raw, "utf-8")) is not None:
        return _checked(text, "utf-8", () if raw.isascii() else lied)
    if _has_only_surrogates(raw):
        return _checked(raw.decode("utf-8", "surrogatepass"), "utf-8", lied)
    best = Reading("utf-8", 0.0, is_strict=False) if _has_utf8_lines(raw) else _best(raw)
    if best.codec == codec:
        lied = ()
    text = _strict(raw, best.codec)
    if text is not None:
        return _checked(text, best.codec, lied)
    return _decode_lines(raw, best.codec, lied)


def _fits(raw: bytes, text: str, codec: str) -> bool:
    """Whether the declared codec, which has no objection, also makes sense of the bytes."""
    if raw.isascii() or codec == "utf-8":
        return not (b"\0" in raw and _wide_codec(raw) is not None) and _escaped_japanese(raw) in (None, text)
    score = plausibility(_text_sample(text))
    sample = _byte_sample(raw)
    if _strict(raw, "utf-8") is not None and plausibility(sample.decode("utf-8", "replace")) >= score:
        return False
    return score >= PLAUSIBLE or score + CERTAIN_UTF8_MARGIN >= _best(raw).score


def _escaped_japanese(raw: bytes) -> str | None:
    """ISO-2022-JP, which is ASCII with escapes; None for all else."""
    return _strict(raw, "iso2022_jp") if b"\x1b$" in raw and raw.isascii() else None


def _decode_lines(raw: bytes, codec: str, lied: tuple[str, ...]) -> Decoded:
    """Lines that the codec cannot read are read by the best codec for them together, if any fits."""
    lines = raw.splitlines(keepends=True) if not codec.startswith("utf-16") else [raw]
    bad = [line for line in lines if _strict(line, codec) is None]
    second = _best(b"".join(bad))
    reads_bad = second.codec != codec and second.is_strict and second.score >= PLAUSIBLE
    repairs: list[str] = list(lied)
    texts: list[str] = []
    for line in lines:
        text = _strict(line, codec)
        if text is None and reads_bad and (text := _strict(line, second.codec)) is not None:
            repairs.append("mixed_encodings")
        if text is None:
            text, repair = _mended(line, codec)
            repairs.append(repair)
        texts.append(text)
    ordered = tuple(name for name in ("wrong_charset", "mixed_encodings", "surrogate", "replaced") if name in repairs)
    return _checked("".join(texts), codec, ordered)


def _mended(raw: bytes, codec: str) -> tuple[str, str]:
    """The line with U+FFFD for what has no meaning; surrogates stored as three bytes each are joined."""
    if codec == "utf-8":
        joined = mend_surrogates(raw.decode("utf-8", "surrogatepass")) if _has_only_surrogates(raw) else None
        if joined is not None:
            return joined, "surrogate"
    return raw.decode(codec, "replace"), "replaced"


def _has_only_surrogates(raw: bytes) -> bool:
    try:
        raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _checked(text: str, codec: str, repairs: tuple[str, ...]) -> Decoded:
    """The result, flagged as no text when too much of it is controls or replaced bytes."""
    if has_surrogates(text):
        text, repairs = mend_surrogates(text), (*repairs, "surrogate")
    replaced = "\ufffd" in text and (_share(text, "\ufffd") > MAX_REPLACED) and "replaced" in repairs
    return Decoded(text, charset_name(codec), repairs, not replaced and _control_share(text) <= MAX_CONTROLS)


def _control_share(text: str) -> float:
    controls = len(text) - len(CONTROLS.sub("", text)) if CONTROLS.search(text) else 0
    return (controls + max(0, text.count("\0") - 8)) / max(1, len(text))


def _share(text: str, character: str) -> float:
    return text.count(character) / max(1, len(text))


def _strict(raw: bytes, codec: str) -> str | None:
    if codec.startswith(("utf-16", "utf-32")) and len(raw) % (2 if codec.startswith("utf-16") else 4):
        return None
    try:
        return raw.decode(codec)
    except UnicodeError:
        return None


def _wide_codec(raw: bytes) -> str | None:
    """UTF-32 or UTF-16 without a mark, by where the zero bytes lie."""
    head = np.frombuffer(raw[: SAMPLE_BYTES - SAMPLE_BYTES % 4], dtype=np.uint8)
    quads = head[: len(head) - len(head) % 4].reshape(-1, 4) == 0
    zeros = quads.mean(axis=0) if len(quads) else np.zeros(4)
    for codec, high in (("utf-32-le", (3, 2)), ("utf-32-be", (0, 1))):
        if zeros[high[0]] > 0.99 and 0.9 < zeros[high[1]] and zeros[3 - high[0]] < 0.5 and len(raw) % 4 == 0:
            return codec
    pairs = head[: len(head) - len(head) % 2].reshape(-1, 2) == 0
    even, odd = pairs.mean(axis=0) if len(pairs) else (0.0, 0.0)
    codec = "utf-16-le" if odd > even else "utf-16-be"
    if max(even, odd) > 0 and min(even, odd) <= 0.1 * max(even, odd) and len(raw) % 2 == 0:
        text = raw[:SAMPLE_BYTES].decode(codec, "replace")
        if _share(text, "\ufffd") < 0.01 and _control_share(text) < MAX_CONTROLS and plausibility(text) >= PLAUSIBLE:
            return codec
    return None


def _best(raw: bytes) -> Reading:
    """The candidate under which the bytes look most like text; UTF-8 with some bytes replaced is one of them."""
    sample = _byte_sample(raw)
    readings = [_reading(sample, "utf-8", CERTAIN_UTF8_MARGIN)]
    readings += [_reading(sample, codec, 0.0) for codec in CANDIDATES if not codec.startswith("utf-16") or _even(raw)]
    best = max(readings, key=lambda reading: reading.score)  # the first of equals
    return best if best.score >= PLAUSIBLE else readings[0]


def _has_utf8_lines(raw: bytes) -> bool:
    """Whether a good part of what is not ASCII stands in lines that are UTF-8 and make sense as such."""
    lines = [line for line in _byte_sample(raw).splitlines(keepends=True) if not line.isascii()]
    good = b"".join(line for line in lines if _strict(line, "utf-8") is not None)
    if _wide_bytes(good) < MIN_UTF8_SHARE * _wide_bytes(b"".join(lines)) or not good:
        return False
    return _reading(good, "utf-8", CERTAIN_UTF8_MARGIN).score >= max(_reading(good, codec, 0.0).score for codec in LEGACY)


def _wide_bytes(raw: bytes) -> int:
    return len(raw) - len(raw.translate(None, ABOVE_ASCII))


def _even(raw: bytes) -> bool:
    return len(raw) % 2 == 0


def _reading(sample: bytes, codec: str, bonus: float) -> Reading:
    codec = READ_AS.get(codec, codec)
    text = _strict(sample, codec)
    strict = text is not None
    if text is None:
        text = sample.decode(codec, "replace")
    return Reading(codec, plausibility(text) + bonus * (1 if strict or codec != "utf-8" else 0.5), strict)


def _byte_sample(raw: bytes) -> bytes:
    """The lines that are not ASCII, up to a limit."""
    if len(raw) <= SAMPLE_BYTES:
        return raw
    kept: list[bytes] = []
    size = 0
    for line in raw.splitlines(keepends=True):
        if not line.isascii():
            kept.append(line)
            size += len(line)
        if size > SAMPLE_BYTES:
            break
    sample = b"".join(kept)
    return sample if len(sample) <= 4 * SAMPLE_BYTES else sample[: 2 * SAMPLE_BYTES]


def _text_sample(text: str) -> str:
    return text if len(text) <= SAMPLE_BYTES else text[:SAMPLE_BYTES]
