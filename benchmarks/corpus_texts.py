"""The documents that the corpus benchmarks work on, from a folder of texts or from what every machine has.

Text files, JSON and tables are cut into documents along their lines. Where there is less text than is asked for, the files
are cut again with other document lengths and beginnings, and the output says how often.
"""

import csv
import gzip
import hashlib
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Literal

Language = Literal["en", "zh"]

MEAN_CHARS = {"en": 3_000, "zh": 1_200}  # of a document
FIELD_BYTES = 40  # a shorter field of a table or record is a label, not text
HAN_TEXT = 0.2  # share of Han characters from which a text is Chinese
HAN = re.compile(r"[㐀-鿿]")
SYNTHETIC_WORDS = 20_000
SYNTHETIC_BYTES = 2_000_000


@dataclass(frozen=True)
class Source:
    """Where the text comes from: a folder, or None for what every machine has."""

    folder: Path | None

    def distinct(self, language: Language) -> list[str]:
        """Every text once, cut into documents, shuffled."""
        return list(_cut(self.folder, language, 0))

    def at_least(self, language: Language, megabytes: float) -> tuple[list[str], str]:
        """Documents of at least so much text, and a sentence about where it comes from."""
        wanted, total, cuttings = megabytes * 1e6, 0, 0
        distinct = 0
        documents: list[str] = []
        while total < wanted:
            for text in _cut(self.folder, language, cuttings):
                documents.append(text)
                total += len(text.encode())
            cuttings += 1
            distinct = distinct or total
        random.Random(7).shuffle(documents)
        origin = "the folder's texts" if self.folder else ("the Python library" if language == "en" else "made-up Chinese")
        return first(documents, megabytes), f"{origin}: {distinct / 1e6:.1f} MB, cut {cuttings} times with other lengths"


def first(documents: list[str], megabytes: float) -> list[str]:
    """The leading documents of so much text."""
    total = 0
    for count, text in enumerate(documents, 1):
        total += len(text.encode())
        if total >= megabytes * 1e6:
            return documents[:count]
    return documents


def _cut(folder: Path | None, language: Language, cutting: int) -> Iterator[str]:
    """Documents of a language: consecutive lines of a file up to a length that is drawn anew each time."""
    draw = random.Random(cutting)
    documents: list[str] = []
    for lines in _files(folder, language):
        skipped = draw.randrange(min(len(lines), 40)) if cutting else 0
        held: list[str] = []
        size, target = 0, _target(draw, language)
        for line in [*lines[skipped:], None]:
            if line is not None:
                held.append(line)
                size += len(line) + 1
            if held and (line is None or size >= target):
                text = "\n".join(held).strip("\n")
                if text.strip() and is_chinese(text) == (language == "zh"):
                    documents.append(text)
                held, size, target = [], 0, _target(draw, language)
    random.Random(cutting + 100).shuffle(documents)
    yield from documents


def _target(draw: random.Random, language: Language) -> float:
    return min(8.0, max(0.15, draw.lognormvariate(-0.3, 0.8))) * MEAN_CHARS[language]


def is_chinese(text: str) -> bool:
    """Whether Han characters make up a fifth of the text."""
    return len(HAN.findall(text)) > HAN_TEXT * len(text)


@cache
def _files(folder: Path | None, language: Language) -> list[list[str]]:
    """Lines of each file of the folder, blank ones included."""
    if folder is None:
        return [list(lines) for lines in (_library_lines() if language == "en" else [_made_up_lines()])]
    paths = [path for path in sorted(folder.rglob("*")) if path.name.removesuffix(".gz").endswith((".txt", ".jsonl", ".json", ".tsv"))]
    return [lines for path in paths if (lines := list(_lines(path)))]


def _lines(path: Path) -> Iterator[str]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8", "replace")
    match path.name.removesuffix(".gz").rsplit(".", 1)[1]:
        case "txt":
            yield from text.splitlines()
        case "jsonl":
            for line in text.splitlines():
                yield from _strings(json.loads(line))
        case "json":
            yield from _strings(json.loads(text))
        case _:
            for row in csv.reader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE):
                yield from (field for field in row if len(field.encode()) >= FIELD_BYTES)


def _strings(value: object) -> Iterator[str]:
    """Every long string of a JSON value, line by line, in order."""
    if isinstance(value, str) and len(value.encode()) >= FIELD_BYTES:
        yield from value.splitlines()
    elif isinstance(value, list):
        for entry in value:
            yield from _strings(entry)
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _strings(entry)


def _library_lines() -> Iterator[list[str]]:
    from tasks.reading.stdlib import python_texts

    for document in python_texts(100_000):
        if document.kind != "source":
            yield document.text.splitlines()


def _made_up_lines() -> Iterator[str]:
    """Lines of sentences of made-up words of one to three common Han characters, the frequent ones frequent."""
    draw = random.Random(11)
    characters = [chr(0x4E00 + int(20_000 * draw.random() ** 2)) for _ in range(3_000)]
    words = ["".join(draw.choices(characters, k=draw.choice((1, 2, 2, 2, 3)))) for _ in range(SYNTHETIC_WORDS)]
    weights = list(accumulate(1 / (rank + 3) for rank in range(SYNTHETIC_WORDS)))
    written = 0
    while written < SYNTHETIC_BYTES:
        line = "".join(
            "".join(draw.choices(words, cum_weights=weights, k=draw.randint(4, 9)))
            + "，"
            + "".join(draw.choices(words, cum_weights=weights, k=draw.randint(4, 9)))
            + draw.choice("。。。！？")
            for _ in range(draw.randint(2, 8))
        )
        written += len(line.encode()) + 1
        yield line


def write_tables(documents: list[str], language: Language | Literal["und"], folder: Path, tables: int = 1) -> list[Path]:
    """Document tables of the project's schema, of a declared language (`und`: to be told), and beside each the same as JSON lines."""
    import pyarrow as pa

    from tasks.documents import DOCUMENTS, TableWriter

    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for number in range(tables):
        part = documents[number::tables]
        path = folder / f"documents-{number:03d}.parquet"
        ids = [hashlib.blake2b(f"{number}/{row}".encode(), digest_size=10).hexdigest() for row in range(len(part))]
        with TableWriter(path, DOCUMENTS) as writer:
            for start in range(0, len(part), 1_000):
                texts = part[start : start + 1_000]
                rows = len(texts)
                writer.write(
                    pa.RecordBatch.from_arrays(
                        [
                            pa.array(ids[start : start + rows]),
                            pa.array(texts, pa.large_string()),
                            pa.array(["benchmark"] * rows),
                            pa.array([str(number)] * rows),
                            pa.array([language] * rows),
                            pa.array([len(text.encode()) for text in texts], pa.int64()),
                            pa.array([[]] * rows, DOCUMENTS.field("meta").type),
                        ],
                        schema=DOCUMENTS,
                    )
                )
        with path.with_suffix(".jsonl").open("w", encoding="utf-8") as lines:
            for name, text in zip(ids, part, strict=True):
                lines.write(json.dumps({"id": name, "text": text}, ensure_ascii=False) + "\n")
        paths.append(path)
    return paths
