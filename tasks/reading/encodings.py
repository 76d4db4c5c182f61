"""Bytes to text: the declared charset when it is true, else the one under which the text looks most like text.

Candidates are judged by a score in [-3, 1]: the mean plausibility of the characters that are not ASCII. Frequent Han
characters, kana and accented letters inside words speak for a charset; rare characters, private use and controls against.
Nothing depends on more than the bytes and the declaration.
"""

import codecs
import functools
import re
import unicodedata
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

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
MIN_UTF8_SHARE = (
    0.15  # of the bytes beyond ASCII; lines of one or two Han characters in GBK are UTF-8 by chance more rarely
)
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
SHOWN_AS = {"big5hkscs": "big5", "cp932": "shift_jis", "cp949": "euc-kr", "euc_jp": "euc-jp", "cp1252": "windows-1252"}
SHOWN_AS |= {"cp1251": "windows-1251", "iso8859-1": "latin-1"}

FREQUENT_HAN = (  # the most frequent characters of running text, simplified and traditional: about half of it
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事"
    "成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此"
    "已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代"
    "内信表化老给世位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安"
    "少报才结反受目太量再感建务做接必场件计管期市直德资命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却界达光"
    "放强即像难且权思王象完设式色路记南品住告类求据程北边死张该交规万取拉格望觉术领共确传师观清今切院让识候带导争运笑飞"
    "這個們來為國說時會對過發後經麼學現當沒動還進樣從實軍無與長機業將兩間問應戰頭體見話關點產與給員處義幾條氣題爾變總電數"
    "報結務場計資許統區隊決馬書則聽卻達強難權設記類據邊張該規萬覺術領確傳師觀讓識帶導爭運飛兒東聲論門愛親語請誰"
    "曰其乃矣耶哉吾汝余兮彼焉者也食言曾卿公子日本人今時分行見来会学生国年"
)
FREQUENT_HANGUL = (
    "이다는을의에가고하지로한를은도서사기인리나어자대시그들것해수아있라정일부만제전여보스구상장주원조안성니요게과면으년습와"
    "적까오내용우저말신거비할동선세때였공모생국소연통민유경던"
)
RARE_LATIN = "ÿþðÞÐªºµ"  # bytes that mostly mean something else
PUNCTUATION = "、。，．：；？！“”‘’「」『』《》〈〉（）【】—…·～〔〕"

CONTROLS = re.compile("[\x01-\x07\x0b\x0e-\x1a\x1c-\x1f]+")

Codes = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Decoded:
    """Text, the charset it was read as, and what had to be mended.

    `repairs` in fixed order: `bom` (a mark left out), `wrong_charset` (the declaration was false), `mixed_encodings`
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


def plausibility(text: str) -> float:
    """Mean weight of the characters that are not ASCII, in [-3, 1]; 0.5 for plain ASCII without controls."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    weights, flags = _tables()
    clipped = np.minimum(codes, 0x2FFFF)
    weight = weights[clipped].astype(np.float32)
    kind = flags[clipped]
    ascii_letter = kind == _ASCII_LETTER
    before, behind = np.zeros((2, len(codes)), dtype=np.bool_)
    before[1:], behind[:-1] = ascii_letter[:-1], ascii_letter[1:]
    weight[(kind == _LATIN) & (before | behind)] = 0.7
    cyrillic = kind == _CYRILLIC
    alone = cyrillic.copy()
    alone[1:] &= ~cyrillic[:-1]
    alone[:-1] &= ~cyrillic[1:]
    weight[alone | (cyrillic & (before | behind))] = -0.6
    letter = ascii_letter | (kind == _LATIN)
    before[1:], behind[:-1] = letter[:-1], letter[1:]
    weight[(kind == _WIDE_LETTER) & before & behind] = -0.6  # a rare thing: Han between Latin letters
    counted = (kind != _PLAIN) & ~ascii_letter
    return float(weight[counted].mean()) if counted.any() else 0.5


def _decode_marked(raw: bytes, mark: bytes, codec: str, declared: str | None) -> Decoded | None:
    """What follows a byte order mark; None when it is no mark but the first bytes of something else."""
    body = raw[len(mark) :]
    lied = (
        declared is not None and known_codec(declared) != codec and not (known_codec(declared) or "").startswith("utf")
    )
    repairs = ("bom", "wrong_charset") if lied else ("bom",)
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
    if b"\x1b" in raw and (text := _strict(raw, "iso2022_jp_2")) is not None and not text.isascii():
        return _checked(text, "iso2022_jp_2", lied)
    if (text := _strict(raw, "utf-8")) is not None:
        return _checked(text, "utf-8", () if raw.isascii() else lied)
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
        return not (b"\0" in raw and _wide_codec(raw) is not None)
    score = plausibility(_text_sample(text))
    sample = _byte_sample(raw)
    if _strict(raw, "utf-8") is not None and plausibility(sample.decode("utf-8", "replace")) >= score:
        return False
    return score >= PLAUSIBLE or score + CERTAIN_UTF8_MARGIN >= _best(raw).score


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
    """The result, marked as no text when too much of it is controls or replaced bytes."""
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
        if zeros[high[0]] > 0.99 and zeros[high[1]] > 0.9 and len(raw) % 4 == 0:
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
    return _reading(good, "utf-8", CERTAIN_UTF8_MARGIN).score >= max(
        _reading(good, codec, 0.0).score for codec in LEGACY
    )


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


_PLAIN, _ASCII_LETTER, _LATIN, _CYRILLIC, _WIDE_LETTER, _OTHER = range(6)


@functools.cache
def _tables() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Weight and kind of each character of the first three planes."""
    weights = np.full(0x30000, -0.6, dtype=np.float32)
    flags = np.full(0x30000, _OTHER, dtype=np.uint8)
    for low, high, weight, flag in _RANGES:
        weights[low : high + 1] = weight
        flags[low : high + 1] = flag
    for codec, rows, weight in (
        ("gb2312", (0xB0, 0xD7), 0.2),
        ("big5", (0xA4, 0xC6), 0.15),
        ("euc_jp", (0xB0, 0xCF), 0.1),
    ):
        for high in range(rows[0], rows[1] + 1):
            for low in range(0x40, 0xFF):
                text = _strict(bytes((high, low)), codec)
                if text is not None and len(text) == 1 and weights[ord(text)] < weight:
                    weights[ord(text)] = weight
    for character in FREQUENT_HAN + FREQUENT_HANGUL + PUNCTUATION:
        weights[ord(character)] = 1.0
    for code in range(0x250):
        if code >= 0x80 and unicodedata.category(chr(code)).startswith("L"):
            flags[code] = _OTHER if chr(code) in RARE_LATIN else _LATIN
    for character in "–—‘’“”…€«»°§·£©®™•¿¡":
        weights[ord(character)] = max(weights[ord(character)], 0.5)
    for character in "\xa0\xad":
        weights[ord(character)] = 0.2
    for code in (*range(0, 9), *range(14, 27), 11, 28, 29, 30, 31, 0x7F, *range(0x80, 0xA0)):
        weights[code], flags[code] = -3.0, _OTHER
    weights[0xFFFD] = -3.0
    return weights, flags


_RANGES = (  # first, last, weight, kind; later ones win
    (0x00, 0x7F, 0.0, _PLAIN),
    (0x41, 0x5A, 0.0, _ASCII_LETTER),
    (0x61, 0x7A, 0.0, _ASCII_LETTER),
    (0xA0, 0x24F, -0.5, _OTHER),
    (0x370, 0x3FF, 0.2, _OTHER),
    (0x400, 0x40F, -0.2, _CYRILLIC),
    (0x410, 0x42F, 0.1, _CYRILLIC),
    (0x430, 0x44F, 0.45, _CYRILLIC),
    (0x450, 0x52F, -0.2, _CYRILLIC),
    (0x590, 0x6FF, 0.4, _OTHER),
    (0x900, 0xE7F, 0.3, _OTHER),
    (0x2010, 0x203B, 0.3, _OTHER),
    (0x2500, 0x25FF, -0.3, _OTHER),
    (0x3000, 0x3000, 0.8, _OTHER),
    (0x3001, 0x3020, 0.5, _OTHER),
    (0x3041, 0x3096, 0.85, _WIDE_LETTER),
    (0x30A1, 0x30FE, 0.6, _WIDE_LETTER),
    (0x3400, 0x4DBF, -0.8, _WIDE_LETTER),
    (0x4E00, 0x9FFF, -0.5, _WIDE_LETTER),
    (0xAC00, 0xD7A3, 0.1, _WIDE_LETTER),
    (0xE000, 0xF8FF, -2.0, _OTHER),
    (0xFF01, 0xFF0F, 0.6, _OTHER),
    (0xFF10, 0xFF19, 0.6, _OTHER),
    (0xFF1A, 0xFF20, 0.6, _OTHER),
    (0xFF21, 0xFF5E, 0.2, _OTHER),
    (0xFF61, 0xFF9F, -0.5, _WIDE_LETTER),
    (0x1F300, 0x1FAFF, 0.5, _OTHER),
    (0x20000, 0x2FFFF, -1.0, _WIDE_LETTER),
)
