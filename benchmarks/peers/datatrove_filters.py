"""datatrove's four quality filters over documents in memory: run by the interpreter that has datatrove.

python datatrove_filters.py DOCUMENTS.jsonl LANGUAGE own|split|whitespace [OURS.json DECISIONS.json]

`own`: its own words and sentences. `split`: words from str.split. `whitespace`: also sentences from one expression.
OURS.json holds our reasons for each document and filter. DECISIONS.json gets the filter's: as it is and, where we decide
otherwise, with one rule changed to ours.
"""

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    c4_filters,
    fineweb_quality_filter,
    gopher_quality_filter,
    gopher_repetition_filter,
)
from datatrove.pipeline.filters.base_filter import BaseFilter

SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
OUR_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'\u201d\u2019)\]]*\s+(?![a-z])")
LINE_END_SPACE = re.compile(r"[^\S\n]+(?=\n|$)")
OUR_END_PUNCTUATION = (".", "?", "!", '"', "'", "\u201d", "\u2019", "…", "。", "！", "？")
CHINESE_STOPS = list("的一是不了在有我他这個个們们中为為和也就")
GRAMS = ((5, 0.198), (6, 0.182), (7, 0.167), (8, 0.154), (9, 0.140), (10, 0.127))  # FineWeb-2's for Mandarin
TOP_GRAMS = ((2, 0.256), (3, 0.201), (4, 0.171))


def filters_for(language: str) -> dict[str, BaseFilter]:
    """The filters with their defaults, for Mandarin with FineWeb-2's thresholds.

    C4 stands last: its sentences push the words out of the small cache that the other three share.
    """
    if language == "eng_Latn":
        return {
            "gopher repetition": GopherRepetitionFilter(language=language),
            "gopher quality": GopherQualityFilter(language=language),
            "fineweb": FineWebQualityFilter(language=language),
            "c4": C4QualityFilter(language=language),
        }
    return {
        "gopher repetition": GopherRepetitionFilter(
            dup_line_frac=0.287,
            dup_line_char_frac=0.1,
            dup_para_frac=0,
            dup_para_char_frac=0,
            top_n_grams=TOP_GRAMS,
            dup_n_grams=GRAMS,
            language=language,
        ),
        "gopher quality": GopherQualityFilter(
            min_avg_word_length=1, max_avg_word_length=5, max_non_alpha_words_ratio=0.735, stop_words=CHINESE_STOPS, language=language
        ),
        "fineweb": FineWebQualityFilter(
            line_punct_thr=0.106, short_line_thr=999, char_duplicates_ratio=0.1, new_line_ratio=0.178, language=language
        ),
        "c4": C4QualityFilter(language=language),
    }


def use_words(words: str) -> None:
    """Put str.split, and an expression for sentences, instead of its segmenters."""
    if words == "own":
        return
    for module in (gopher_repetition_filter, gopher_quality_filter, fineweb_quality_filter):
        module.split_into_words = lambda text, language: text.split()
    if words == "whitespace":
        c4_filters.split_into_sentences = lambda text, language: SENTENCE_END.split(text)


def reason_of(one: BaseFilter, text: str) -> str | None:
    """Why a filter drops a text; None when it keeps it. A text on which it fails counts as dropped."""
    try:
        verdict = one.filter(Document(text=text, id=""))
    except (ZeroDivisionError, IndexError) as error:
        return type(error).__name__
    return verdict[1] if isinstance(verdict, tuple) else (None if verdict else "dropped")


def main() -> None:
    path, language, words = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    texts = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").split("\n") if line]
    filters = filters_for(language)
    use_words(words)
    for one in filters.values():
        reason_of(one, texts[0])
    startup = time.process_time()
    reasons = [[reason_of(one, text) for one in filters.values()] for text in texts]
    seconds = time.process_time() - startup
    counts = {name: Counter(found[number] or "kept" for found in reasons) for number, name in enumerate(filters)}
    if len(sys.argv) > 4:
        ours = json.loads(Path(sys.argv[4]).read_text())
        decided = [decisions(filters, text, mine) for text, mine in zip(texts, ours, strict=True)]
        Path(sys.argv[5]).write_text(json.dumps(decided))
    kept = sum(not any(found) for found in reasons) / len(texts)
    size = sum(len(text.encode()) for text in texts)
    print(json.dumps({"bytes": size, "cpu_seconds": seconds, "startup_seconds": startup, "kept": kept, "reasons": counts}))


def decisions(filters: dict[str, BaseFilter], text: str, ours: dict[str, list[str]]) -> dict[str, dict[str, str | None]]:
    """For each filter its reason as it is and, where we decide otherwise, under each bridge."""
    found: dict[str, dict[str, str | None]] = {}
    for name, one in filters.items():
        found[name] = {"as it is": reason_of(one, text)}
        if bool(found[name]["as it is"]) != bool(ours[name]):
            found[name] |= {bridge: reason() for bridge, reason in bridges(one, text).items()}
    return found


def bridges(one: BaseFilter, text: str) -> dict[str, Callable[[], str | None]]:
    """The filter's reason with one rule changed to ours; the last changes them all."""
    trimmed = LINE_END_SPACE.sub("", text)
    every = [
        (gopher_repetition_filter, "find_top_duplicate", top_recurring),
        (c4_filters, "split_into_sentences", lambda text, language: OUR_SENTENCE_END.split(text)),
        (c4_filters, "END_PUNCTUATION", OUR_END_PUNCTUATION),
    ]
    return {
        "white space at line ends, lines of white space": lambda: reason_of(one, trimmed),
        "an n-gram that occurs once": lambda: changed(one, text, every[:1]),
        "sentence splitter": lambda: changed(one, text, every[1:2]),
        "marks that end a line": lambda: changed(one, text, every[2:]),
        "several of these": lambda: changed(one, trimmed, every),
    }


def top_recurring(grams: list[str]) -> int:
    """Characters of the most frequent n-gram; 0 when none recurs."""
    (gram, count), *_ = Counter(grams).most_common(1)
    return len(gram) * count if count > 1 else 0


def changed(one: BaseFilter, text: str, patches: list[tuple[object, str, object]]) -> str | None:
    """The filter's reason with names of its modules put to other values."""
    before = [getattr(module, name) for module, name, _ in patches]
    for module, name, value in patches:
        setattr(module, name, value)
    reason = reason_of(one, text)
    for (module, name, _), value in zip(patches, before, strict=True):
        setattr(module, name, value)
    return reason


if __name__ == "__main__":
    main()
