"""CoNLL and CoNLL-U: tokens and their labels, a line each, with what else stands in such files: comments, document lines, ranges."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tasks.errors import UserError
from tasks.examples.config import ConllExamples
from tasks.examples.kinds.kind import UNREADABLE_PARTS, Example, Kind, Rejected, Structure
from tasks.reading.faults import Fault, shown_text
from tasks.reading.lines import Line

DOCUMENT = "-DOCSTART-"
KEY_VALUE = re.compile(r"#\s*[\w.:-]+\s*=(\s|$)|#\s*(newdoc|newpar)\b")
RANGE = re.compile(r"\d+-\d+")  # a surface token of several words
EMPTY_NODE = re.compile(r"\d+\.\d+")  # a word that the sentence does not have
ENOUGH_SENTENCES = 2  # to tell a column of numbers from text


@dataclass(frozen=True)
class _Sentence:
    """Lines without a blank one between them; `number` is that of the first."""

    number: int
    lines: Sequence[Line]


def read_conll(kind: Kind, source: ConllExamples, name: str, lines: Iterable[Line | Fault]) -> Iterator[Example | Rejected | Structure]:
    """One example a sentence. A line with too few columns, or bytes that are no UTF-8, refuse the whole sentence.

    Columns are set apart by tabs where most lines have one, else by white space. UserError for a file whose tokens are the
    numbers of CoNLL-U.
    """
    sentences = list[_Sentence]()
    for found in _sentences(lines):
        if isinstance(found, Fault):
            yield Rejected(f"{name}:{found.number}", found.reason, found.evidence)
        else:
            sentences.append(found)
    sheet = _sheet(source, [line.text for sentence in sentences for line in sentence.lines])
    numbered = 0
    for sentence in sentences:
        words = list[list[str]]()
        for line in sentence.lines:
            what = sheet.structure_of(line.text, is_first=not words)
            if what is not None:
                yield Structure(what)
            else:
                words.append(sheet.cells(line.text))
        if words:
            ids = [row[0] for row in words if not (RANGE.fullmatch(row[0]) or EMPTY_NODE.fullmatch(row[0]))]
            numbered += len(ids) > 1 and ids == [str(n) for n in range(1, len(ids) + 1)]
            yield _example(kind, source, f"{name}:{sentence.number}", sentence, words)
    if source.token_column == 0 and numbered >= max(ENOUGH_SENTENCES, len(sentences) // 2):
        raise UserError(
            f"{name}: the tokens of {numbered:,} sentences are 1, 2, 3, …: column 0 numbers them, as in CoNLL-U. "
            "Fix: set source.token_column: 1, and source.label_column: 3 for parts of speech."
        )


def _sentences(lines: Iterable[Line | Fault]) -> Iterator[_Sentence | Fault]:
    held: list[Line] = []
    number = 0
    for number, line in enumerate(lines, 1):
        if isinstance(line, Fault):
            yield Fault(line.reason, line.bytes, line.evidence, number)
        elif line.text.strip():
            held.append(line)
        elif held:
            yield _Sentence(number - len(held), held)
            held = []
    if held:
        yield _Sentence(number - len(held) + 1, held)


@dataclass(frozen=True)
class _Sheet:
    """How the lines of a file are laid out, as most of them show it."""

    has_tabs: bool
    columns: int  # of most lines
    label_column: int
    has_ids: bool  # the first column numbers words, and is not the token's
    labels: frozenset[str]  # of lines that cannot be comments

    def cells(self, text: str) -> list[str]:
        """The columns of a line."""
        return [cell.strip() for cell in text.strip("\n\r ").split("\t")] if self.has_tabs else text.split()

    def structure_of(self, text: str, is_first: bool) -> str | None:
        """What the line is where it is no token. `#` is also a token: then it has columns and a label as other tokens have.

        `is_first`: no token stands before it in its sentence.
        """
        if text.startswith(DOCUMENT):
            return "document line"
        cells = self.cells(text)
        if text.startswith("#"):
            has_label = not is_first or not self.labels.isdisjoint(_cell(cells, self.label_column))
            return None if len(cells) == self.columns and has_label and not KEY_VALUE.match(text) else "comment"
        if self.has_ids and RANGE.fullmatch(cells[0]):
            return "multiword range"
        return "empty node" if self.has_ids and EMPTY_NODE.fullmatch(cells[0]) else None


def _sheet(source: ConllExamples, lines: Sequence[str]) -> _Sheet:
    plain = [text for text in lines if not text.startswith(("#", DOCUMENT))]
    has_tabs = 2 * sum("\t" in text for text in plain) >= max(1, len(plain))
    bare = _Sheet(has_tabs, 0, source.label_column, has_ids=False, labels=frozenset())
    rows = [bare.cells(text) for text in plain]
    widths = [len(row) for row in rows]
    columns = max(set(widths), key=widths.count, default=0)
    labels = frozenset(cell for row in rows for cell in _cell(row, source.label_column))
    ids = sum(row[0].isdecimal() for row in rows)
    return _Sheet(has_tabs, columns, source.label_column, source.token_column != 0 and 2 * ids > len(rows), labels)


def _cell(row: Sequence[str], column: int) -> Sequence[str]:
    """The cell of a column, where the row has it."""
    return [row[column]] if -len(row) <= column < len(row) else []


def _example(kind: Kind, source: ConllExamples, place: str, sentence: _Sentence, words: Sequence[Sequence[str]]) -> Example | Rejected:
    evidence = shown_text("".join(line.text for line in sentence.lines))
    if any(UNREADABLE_PARTS.intersection(line.repairs) for line in sentence.lines):
        return Rejected(place, "not_utf8", evidence)
    least = max(column + 1 if column >= 0 else -column for column in (source.token_column, source.label_column))
    if any(len(row) < max(2, least) for row in words):
        return Rejected(place, "malformed", evidence)
    checked = kind.check({"tokens": [row[source.token_column] for row in words], "labels": [row[source.label_column] for row in words]})
    return Rejected(place, checked, evidence) if isinstance(checked, str) else Example("", checked, place)
