"""Character encodings: the declared charset when it is true, else the one under which the text looks most like text, else none.

Nothing depends on more than the bytes and the declaration. Unicode and the charsets of East Asia are told by the form of the
bytes and the frequency of characters, the single-byte ones by chardet's pairs of letters of 49 languages.
"""

import codecs
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

import chardet
import numpy as np
import webencodings
from webencodings.labels import LABELS as WEB_LABELS

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
EAST_ASIAN = ("gb18030", "big5hkscs", "cp932", "cp949", "euc_jp")
CANDIDATES = (*EAST_ASIAN, "utf-16-le", "utf-16-be")
WESTERN = "cp1252"
WEB_SINGLE = (  # single-byte charsets of the WHATWG standard in which whole languages are written
    *(f"cp{number}" for number in (874, 1250, 1251, 1252, 1253, 1254, 1255, 1256, 1257, 1258)),
    *(f"iso8859-{number}" for number in (1, 2, 5, 6, 7, 8, 13, 15)),
    *("koi8-r", "koi8-u", "cp866"),
)
OLD_SINGLE = (  # of Mac and DOS; never taken when one of the web does as well
    *("mac-roman", "mac-cyrillic", "mac-greek", "mac-turkish"),
    *("cp437", "cp737", "cp775", "cp850", "cp852", "cp857"),
)
ASKED = (*WEB_SINGLE, *OLD_SINGLE, "gb18030", "big5hkscs", "cp932", "cp949", "euc_jis_2004")
LEGACY = (*EAST_ASIAN, "cp1251", WESTERN)
LATIN = (  # charsets for languages whose words are written with letters of ASCII too
    *(f"cp{number}" for number in (437, 775, 850, 852, 857, 1250, 1252, 1254, 1257, 1258)),
    *(f"iso8859-{number}" for number in (1, 2, 13, 15)),
    *("mac-roman", "mac-turkish"),
)
FOREIGN = re.compile(rb"[\xc0-\xff]{3,}")  # a word in Cyrillic, Greek, Hebrew or Arabic; no Latin word has three such letters in a row
MAX_FOREIGN = 0.5  # of the bytes beyond ASCII, for a Latin charset
TIE = 0.98  # of the best reading's likelihood: readings above it are as good, and when they differ nobody can tell
LEAST_LIKELY = 0.03  # a reading below it is no language's, but for the few quotes and accents of English text
CLEARLY_EAST_ASIAN = 0.4  # score from which damaged text in a charset of East Asia beats unlikely letters
UNLIKELY = 0.15  # likelihood of letters, for that
CLEARLY_LIKELIER = 2.0  # times: the reading by which another that was declared is overruled
LIKELIER = 1.25  # the same for windows-1252, that servers declare for all they have
OVERRULING_BYTES = 10  # beyond ASCII: fewer overrule no declaration that makes some sense
MIN_UTF8_SEQUENCES = 0.5  # of the bytes beyond ASCII, for damaged UTF-8
MAX_DAMAGE = 0.01  # share of characters that a declared charset may have to replace
C1 = re.compile("[\x80-\x84\x86-\x9f]")  # in no text: the bytes mean something else (0x85 is a line end of some systems)
RARE_WESTERN = re.compile(rb"[\xd0\xde\xf0\xfe\xdd\xfd]")  # Icelandic letters, in whose place Turkish has its own
# Signs that stand inside no word, the boxes of DOS among them; guillemets do, where they part the steps of a path.
IN_NO_WORD = re.compile("(?<=[^\\W\\d_])[¡-©¬®-³µ¶¸¹¼-¿†‡ˆ‰‹›“”„‚•˜™≈≠∞≤≥∂∑∏∫√∆◊⁄₧⌐\uf8ff─-▟](?=[^\\W\\d_])")
MAX_BROKEN = 0.1  # of the characters beyond ASCII: no right reading has more of these signs inside words
MARKUP = re.compile(rb"<(script|style)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)|<[a-zA-Z/!?][^<>]*>", re.DOTALL | re.IGNORECASE)
STATEFUL = ("utf-16", "utf-32", "utf-7", "iso2022", "hz")  # families in which a byte alone, such as a line end, says nothing
MIN_UTF8_SHARE = 0.15  # of the bytes beyond ASCII; lines of one or two Han characters in GBK are UTF-8 by chance more rarely
ABOVE_ASCII = bytes(range(128, 256))
NEVER_ALONE = bytes(range(128)) + b"\xff"  # in no charset a text's only character beyond ASCII: damage
READ_AS = {  # what a label means in practice: the larger set of the same bytes
    "ascii": "utf-8",
    "iso8859-8-i": "iso8859-8",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
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
LABELS = {"unicode": "utf-16", "x-user-defined": WESTERN}
NEVER_WEB = ("ascii", "us-ascii")  # for the web cp1252; here what says so and is not is found by its looks
SHOWN_AS = {
    "cp866": "ibm866",
    "cp874": "windows-874",
    "mac-roman": "macintosh",
    "mac-cyrillic": "x-mac-cyrillic",
    **{f"iso8859-{number}": f"iso-8859-{number}" for number in range(2, 17)},
    **{f"cp{number}": f"windows-{number}" for number in range(1250, 1259)},
    "big5hkscs": "big5",
    "cp932": "shift_jis",
    "cp949": "euc-kr",
    "euc_jp": "euc-jp",
}

ASCII = re.compile("[\\x00-\\x7f]+")
CONTROLS = re.compile("[\x01-\x07\x0b\x0e-\x1a\x1c-\x1f]+")


@dataclass(frozen=True)
class Decoded:
    """Text, the charset it was read as, and what had to be mended.

    `repairs` in fixed order: `bom` (a mark left out of UTF-8), `wrong_charset` (the declaration was false), `mixed_encodings`
    (lines in a second charset), `surrogate` (halves joined or replaced), `replaced` (bytes without a meaning became U+FFFD).
    `fault` says why it must not be kept: no charset makes text of it, or its looks do not tell which one does.
    """

    text: str
    charset: str = "utf-8"
    repairs: tuple[str, ...] = ()
    fault: Literal["not_text", "unknown_charset"] | None = None

    @property
    def is_text(self) -> bool:
        """Whether it can be kept."""
        return self.fault is None


class Reading(NamedTuple):
    """What bytes give under one charset; no codec when several do and differ."""

    codec: str | None
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
    if name not in NEVER_WEB and (web := WEB_LABELS.get(name)) not in (None, "replacement"):
        name = webencodings.PYTHON_NAMES.get(web, web)
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
        return "utf-8" if _has_only_surrogates(whole) else _best(whole).codec
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
        return Decoded(rest.text, rest.charset, tuple(dict.fromkeys((*repairs, *rest.repairs))), rest.fault)
    text = body.decode(codec, "replace")
    if _share(text, "\ufffd") > MAX_REPLACED:
        return None
    return Decoded(text, charset_name(codec), (*repairs, "replaced"))


def _decode_guessed(raw: bytes, codec: str | None, declared: str | None) -> Decoded:
    """By the declared codec when it fits, else by the best of the candidates, else line by line."""
    if codec is not None and (text := _strict(raw, codec)) is not None and _fits(raw, text, codec):
        return _checked(text, codec, ())
    if codec is not None and (text := _damaged(raw, codec)) is not None and _fits(raw, text, codec):
        return _checked(text, codec, ("replaced",))
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
    if best.codec is None:
        text = raw.decode("utf-8", "replace")
        return Decoded(text, repairs=lied, fault="not_text" if _control_share(text) > MAX_CONTROLS else "unknown_charset")
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
    if codec not in WEB_SINGLE:
        return score >= PLAUSIBLE or (best := _best(raw)).codec in (None, codec) or score + CERTAIN_UTF8_MARGIN >= best.score
    wide = _wide_bytes(sample)
    if C1.search(text) is None and (score >= PLAUSIBLE) and wide < OVERRULING_BYTES:
        return True
    best = _best(raw)
    if best.codec in (None, codec):
        return score >= PLAUSIBLE or best.codec == codec
    if best.codec not in WEB_SINGLE:
        return score >= PLAUSIBLE and score + CERTAIN_UTF8_MARGIN >= best.score
    likely = _likelihoods(sample)
    own = max((chance for name, chance in likely if _strict(sample, name) == _strict(sample, codec)), default=0.0)
    return own * (LIKELIER if codec == WESTERN else CLEARLY_LIKELIER) >= likely[0][1]


def _damaged(raw: bytes, codec: str) -> str | None:
    """The text with U+FFFD for a few bytes that a single-byte charset has no character for."""
    if codec not in WEB_SINGLE or not raw:
        return None
    text = raw.decode(codec, "replace")
    return text if 0 < _share(text, "\ufffd") <= MAX_DAMAGE else None


def _escaped_japanese(raw: bytes) -> str | None:
    """ISO-2022-JP, which is ASCII with escapes; None for all else."""
    return _strict(raw, "iso2022_jp") if b"\x1b$" in raw and raw.isascii() else None


def _decode_lines(raw: bytes, codec: str, lied: tuple[str, ...]) -> Decoded:
    """Lines that the codec cannot read are read by the best codec for them together, if any fits."""
    lines = raw.splitlines(keepends=True) if not codec.startswith("utf-16") else [raw]
    bad = [line for line in lines if _strict(line, codec) is None]
    second = _best(b"".join(bad))
    other = second.codec if second.codec != codec and second.is_strict and second.score >= PLAUSIBLE else None
    repairs: list[str] = list(lied)
    texts: list[str] = []
    for line in lines:
        text = _strict(line, codec)
        if text is None and other is not None and (text := _strict(line, other)) is not None:
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
    is_text = not replaced and _control_share(text) <= MAX_CONTROLS
    return Decoded(text, charset_name(codec), repairs, None if is_text else "not_text")


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
    """The reading under which the bytes look most like text; UTF-8 with some bytes replaced is one of them."""
    sample = _byte_sample(raw)
    readings = [_reading(sample, codec, 0.0) for codec in CANDIDATES if not codec.startswith("utf-16") or _even(raw)]
    if _has_utf8_sequences(sample):
        readings.insert(0, _reading(sample, "utf-8", CERTAIN_UTF8_MARGIN))
    best = max(readings, key=lambda reading: reading.score)  # the first of equals
    if best.codec not in EAST_ASIAN and best.score >= PLAUSIBLE:
        return best
    if not sample.translate(None, NEVER_ALONE):
        return Reading("utf-8", 0.0, is_strict=False)
    likely = _likelihoods(sample)
    if likely and likely[0][0] in (*EAST_ASIAN, "euc_jis_2004"):
        return best if best.score >= PLAUSIBLE else Reading(None, 0.0, is_strict=False)
    if best.score >= CLEARLY_EAST_ASIAN and (not likely or likely[0][1] < UNLIKELY):
        return best
    if (codec := _chosen(sample, likely)) is not None:
        return Reading(codec, max(PLAUSIBLE, _reading(sample, codec, 0.0).score), is_strict=True)
    if best.score >= CLEARLY_EAST_ASIAN:
        return best
    is_damaged = _has_utf8_sequences(sample) or (
        (not likely or likely[0][1] < LEAST_LIKELY) and _wide_bytes(sample) <= max(1, MAX_DAMAGE * len(sample))
    )
    return Reading("utf-8" if is_damaged else None, 0.0, is_strict=False)


def _likelihoods(sample: bytes) -> list[tuple[str, float]]:
    """How likely the letters are in any language, by charset, the likeliest first; markup is no language."""
    bare = MARKUP.sub(b" ", sample) if b"<" in sample else sample
    sample = sample if bare.isascii() else bare
    found = chardet.detect_all(sample, ignore_threshold=True, compat_names=False, include_encodings=ASKED, max_bytes=len(sample) or 1)
    is_latin = sum(map(len, FOREIGN.findall(sample))) <= MAX_FOREIGN * _wide_bytes(sample)
    named = [
        (entry["encoding"], entry["confidence"])
        for entry in found
        if entry["encoding"] is not None and (is_latin or READ_AS.get(entry["encoding"], entry["encoding"]) not in LATIN)
    ]
    return [(codec, chance) for codec, chance in named if (text := _strict(sample, codec)) is not None and _has_whole_words(text)]


def _has_whole_words(text: str) -> bool:
    if C1.search(text):
        return False
    return len(IN_NO_WORD.findall(text)) <= MAX_BROKEN * len(ASCII.sub("", text))


def _chosen(sample: bytes, likely: list[tuple[str, float]]) -> str | None:
    """The codec of the likeliest reading; None when another that is as likely differs, or none is."""
    if not likely:
        return None
    close = [(READ_AS.get(codec, codec), chance) for codec, chance in likely if chance >= TIE * likely[0][1]]
    web = [codec for codec, _ in close if codec in WEB_SINGLE]
    if WESTERN in web and not RARE_WESTERN.search(sample):
        return WESTERN
    names = web or [codec for codec, _ in close]
    if likely[0][1] < LEAST_LIKELY or len({_strict(sample, codec) for codec in names}) > 1:
        return None
    return names[0]


def _has_utf8_sequences(sample: bytes) -> bool:
    """Whether most bytes beyond ASCII stand where UTF-8 has them."""
    kept = sample.decode("utf-8", "ignore").encode()
    return _wide_bytes(kept) > MIN_UTF8_SEQUENCES * _wide_bytes(sample)


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
