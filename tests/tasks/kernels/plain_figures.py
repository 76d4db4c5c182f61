"""What the statistics are, in plain Python: the reference of tasks/kernels/statistics.py."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}
STOP_WORDS_ZH = set("的一是不了在有我他这這个個们們中为為和也就")
BULLETS = ("-", "•")
POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
SENTENCE_END = ".?!。！？．؟۔।॥‼⁇⁈⁉｡"  # those of the living scripts that the tests use
UNIT = re.compile(r"[\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f]|[\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")


def kind(character: str) -> str:
    """han, kana, hangul, latin, letter (of another script), digit, punctuation, symbol, space, newline or other."""
    code, category = ord(character), unicodedata.category(character)[0]
    if character == "\n":
        return "newline"
    if character in "\t\v\f\r" or category == "Z":
        return "space"
    if UNIT.fullmatch(character) and code not in (0x30FB, 0x30A0, 0x309B, 0x309C):
        return "kana" if (code <= 0x31FF and code != 0x3007) or 0xFF66 <= code <= 0xFF9F else "han"
    if category in "LM" and code < 0x33FFF:
        if 0x41 <= code <= 0x24F or 0x1E00 <= code <= 0x1EFF or 0xFF21 <= code <= 0xFF5A:
            return "latin"
        return "hangul" if 0x1100 <= code <= 0x11FF or 0xAC00 <= code <= 0xD7FF else "letter"
    if code >= 0x33FFF:
        return "other"
    return {"N": "digit", "P": "punctuation", "S": "symbol"}.get(category, "other")


LETTERS = {"han", "kana", "hangul", "latin", "letter"}


def words_of(text: str) -> list[tuple[str, bool]]:
    """Words, each with whether white space stands before it (not for the first)."""
    found: list[tuple[str, bool]] = []
    spaced = open_word = False
    for character in text:
        what = kind(character)
        if what in ("space", "newline"):
            spaced, open_word = True, False
        elif open_word and what not in ("han", "kana"):
            found[-1] = (found[-1][0] + character, found[-1][1])
        else:
            found.append((character, spaced and bool(found)))
            spaced, open_word = False, what not in ("han", "kana")
    return found


def strip(line: str) -> str:
    """Without white space at its ends."""
    start, end = 0, len(line)
    while start < end and kind(line[start]) == "space":
        start += 1
    while end > start and kind(line[end - 1]) == "space":
        end -= 1
    return line[start:end]


def lines_of(text: str) -> list[str]:
    return [line for line in text.split("\n") if strip(line)]


def paragraphs_of(text: str) -> list[str]:
    parts = ("\n".join(lines_of(part)) for part in re.split(r"\n{2,}", text))
    return [part for part in parts if part]


def sentences_of(line: str) -> int:
    """Sentences of a line that ends one.

    One ends at punctuation, more of it and closing quotes behind; after . ? ! it takes white space, and no small letter after that.
    """
    inner = 0
    for found in re.finditer(r"[.?!。！？．؟۔।॥‼⁇⁈⁉｡](?:\s*[.?!。！？．؟۔।॥‼⁇⁈⁉｡]|[)\]\"'’”」』】》）])*", strip(line)):
        rest = strip(line)[found.end() :]
        is_ascii_end = re.sub(r"[)\]\"'’”」』】》）\s]", "", found.group())[-1] in ".?!"
        if rest and not (is_ascii_end and (kind(rest[0]) != "space" or "a" <= strip(rest)[0] <= "z")):
            inner += 1
    return inner + 1


def c4_figures(lines: Sequence[str]) -> dict[str, float]:
    """What C4's page rules look at. A line that ends in no punctuation, in an ellipsis, is short or has a giant word goes first."""
    figures = {"c4_sentences": 0, "c4_brackets": 0, "c4_lorem": 0}
    for line in lines:
        visible, words = strip(line), [word for word, _ in words_of(line)]
        if not visible.endswith((*SENTENCE_END, '"', "'", "”", "’")) or visible.endswith("..."):
            continue
        if len(words) < 3 or any(len(word) > 1000 for word in words):
            continue
        small = line.lower()
        if "lorem ipsum" in small:
            figures["c4_lorem"] += 1
        elif "javascript" not in small:
            figures["c4_brackets"] += "{" in line
            if not any(phrase in small for phrase in POLICY):
                figures["c4_sentences"] += sentences_of(line)
    return dict(figures)


def repeated(elements: Sequence[str]) -> tuple[int, int]:
    """How many stood before, and their characters."""
    again = [element for at, element in enumerate(elements) if element in elements[:at]]
    return len(again), sum(map(len, again))


def top_gram_chars(words: Sequence[tuple[str, bool]], n: int) -> int:
    """Times the most frequent n-gram (the first of them) occurs, times its characters with one for each space inside."""
    grams = [tuple(word for word, _ in words[at : at + n]) for at in range(len(words) - n + 1)]
    if not grams:
        return 0
    gram, times = Counter(grams).most_common(1)[0]
    at = grams.index(gram)
    spaces = sum(spaced for _, spaced in words[at + 1 : at + n])
    return 0 if times == 1 else times * (sum(map(len, gram)) + spaces)


def repeated_gram_chars(words: Sequence[tuple[str, bool]], n: int) -> int:
    """Characters of n-grams that stood before, from left to right, going on behind each."""
    seen: set[tuple[str, ...]] = set()
    at = total = 0
    while at <= len(words) - n:
        gram = tuple(word for word, _ in words[at : at + n])
        if gram in seen:
            total += sum(map(len, gram))
            at += n
        else:
            seen.add(gram)
            at += 1
    return total


def ratio(part: float, whole: float) -> float:
    return part / max(1, whole)


def figures(text: str) -> dict[str, float]:
    """Every column of COUNTS and SHARES."""
    words, lines, paragraphs = words_of(text), lines_of(text), paragraphs_of(text)
    kinds = Counter(kind(character) for character in text)
    letters = sum(kinds[name] for name in LETTERS)
    visible = len(text) - kinds["space"] - kinds["newline"]
    spelled = [word for word, _ in words]
    content = [word for word in spelled if any(kind(c) not in ("punctuation", "symbol") for c in word)]
    lines_again, line_chars_again = repeated(lines)
    paragraphs_again, paragraph_chars_again = repeated(paragraphs)
    ends = [strip(line) for line in lines]
    return {
        "bytes": len(text.encode()),
        "chars": len(text),
        "length": len(text) + 3 * (kinds["han"] + kinds["kana"] + kinds["hangul"]),
        "words": len(words),
        "lines": len(lines),
        "paragraphs": len(paragraphs),
        "stop_words": len(STOP_WORDS.intersection(spelled)),
        "stop_words_zh": len(STOP_WORDS_ZH.intersection(text)),
        "han": kinds["han"],
        **c4_figures(lines),
        "replaced": text.count("\ufffd"),
        "word_chars": ratio(sum(map(len, content)), len(content)),
        "hash_share": ratio(text.count("#"), len(words)),
        "ellipsis_share": ratio(text.count("...") + text.count("…"), len(words)),
        "bullet_line_share": ratio(sum(line.startswith(BULLETS) for line in ends), len(lines)),
        "ellipsis_line_share": ratio(sum(line.endswith(("...", "…")) for line in ends), len(lines)),
        "alpha_word_share": ratio(sum(any(kind(c) in LETTERS for c in word) for word in spelled), len(words)),
        "duplicate_line_share": ratio(lines_again, len(lines)),
        "duplicate_line_char_share": ratio(line_chars_again, len(text.replace("\n", ""))),
        "duplicate_paragraph_share": ratio(paragraphs_again, len(paragraphs)),
        "duplicate_paragraph_char_share": ratio(paragraph_chars_again, len(text)),
        **{f"top_{n}gram_share": min(1.0, ratio(top_gram_chars(words, n), len(text))) for n in (2, 3, 4)},
        **{f"duplicate_{n}gram_share": ratio(repeated_gram_chars(words, n), len(text)) for n in range(5, 11)},
        "punctuated_line_share": ratio(sum(line.endswith(tuple(SENTENCE_END)) for line in ends), len(lines)),
        "short_line_share": ratio(sum(len(line) <= 30 for line in lines), len(lines)),
        "newlines_per_word": ratio(text.count("\n"), len(words)),
        "letter_share": ratio(letters, visible),
        "symbol_share": ratio(kinds["symbol"], visible),
        "digit_share": ratio(kinds["digit"], visible),
        "han_share": ratio(kinds["han"], letters),
        "latin_share": ratio(kinds["latin"], letters),
        "kana_share": ratio(kinds["kana"], letters),
        "hangul_share": ratio(kinds["hangul"], letters),
        "other_script_share": ratio(kinds["letter"], letters),
        "longest_line_share": ratio(max(map(len, lines), default=0), len(text)),
    }
