"""The torture set: bad input of every kind, written as files and taken through the real stages of the corpus.

    python tests/torture.py [FOLDER] [SIZE]

writes the set into FOLDER (a temporary one), runs ingest, annotate, select and deduplicate over it, and prints what came of
each case. SIZE is that of the gigantic ones in bytes: 1073741824 for lines and documents of a gigabyte.

Groups: 1 packed streams, 2 bombs, 3 charsets, 4 characters, 5 sizes, 6 pages, 7 rows and files, 8 expressions, 9 filters,
10 copies, 13 personal data. 11 (tokenizer) and 12 (packing and loading) will come with the stages that they are about.
"""

import json
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])] if __name__ == "__main__" else []

from tasks.artifacts import AnnotatedCorpus, Artifact, RawCorpus, Selection, UniqueCorpus
from tasks.errors import UserError
from tasks.filetasks import AnyWork, FilesConfig, FileTasks, Part
from tasks.ledger import StageOutcome
from tasks.select import PRESETS, Rule, read_preset
from tasks.settings import Json
from tests.tasks.corpus_run import Bench, Row, rows
from tests.torture_files import Case, write_file_cases
from tests.torture_html import MAX_BYTES, MAX_DEPTH, HtmlCase, html_cases
from tests.torture_rules import RuleCase, rule_cases
from tests.torture_text import TextCase, text_cases

SIZE = 1 << 20
AnyCase = Case | HtmlCase | TextCase | RuleCase


@dataclass(frozen=True)
class Entry:
    """A case as it lies in a source: all documents of the source, or those of one path."""

    group: int
    case: AnyCase
    source: str
    path: str | None = None


@dataclass(frozen=True)
class TortureSet:
    """The cases, the sources that hold them, and those (by case) that must fail as a whole."""

    entries: tuple[Entry, ...]
    sources: tuple[Row, ...]
    failing: tuple[Case, ...]


def write_torture_set(folder: Path, size: int = SIZE) -> TortureSet:
    """Writes all cases: files as they are, pages as .html files, texts as rows of JSON Lines."""
    cases = write_file_cases(folder, size)
    failing = tuple(case for case in cases if case.expected.error)
    entries = [Entry(case.group, case, str(case.source["name"])) for case in cases if case not in failing]
    sources: list[Row] = [dict(case.source) for case in cases if case not in failing]
    pages = folder / "6-pages"
    pages.mkdir()
    for number, page in enumerate(html_cases()):
        path = pages / f"{number:02d}-{re.sub('[^a-z0-9]+', '-', page.name.lower())}.html"
        path.write_bytes(page.html.encode("utf-8", "surrogatepass"))
        entries.append(Entry(6, page, "pages", path.name))
    sources.append({"name": "pages", "kind": "html", "paths": [str(pages)]})
    for group, found in _by_group([*text_cases(), *rule_cases()]).items():
        path = folder / f"{group}-rows.jsonl"
        lines = (json.dumps({"text": case.text, "case": case.name}, ensure_ascii=False) for case in found)
        path.write_bytes("".join(line + "\n" for line in lines).encode("utf-8", "surrogatepass"))
        name = f"rows-{group}"
        sources.append({"name": name, "kind": "jsonl", "paths": [str(path)]})
        entries += [Entry(group, case, name, f"{path.name}:{number}") for number, case in enumerate(found, 1)]
    return TortureSet(tuple(sorted(entries, key=lambda entry: entry.group)), tuple(sources), failing)


def _by_group(cases: Sequence[TextCase | RuleCase]) -> dict[int, list[TextCase | RuleCase]]:
    groups: dict[int, list[TextCase | RuleCase]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case)
    return groups


@dataclass(frozen=True)
class Timed:
    """A task's function that notes what it took: seconds, and the most memory of its process and of that one's children."""

    function: Callable[[object, Path], StageOutcome]
    stage: str
    log: Path

    def __call__(self, work: object, out: Path) -> StageOutcome:
        start = time.monotonic()
        outcome = self.function(work, out)
        peaks = [resource.getrusage(who).ru_maxrss * 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        noted = {"stage": self.stage, "file": work.label, "seconds": time.monotonic() - start, "peaks": peaks}  # type: ignore[attr-defined]
        with self.log.open("a") as log:
            log.write(json.dumps(noted) + "\n")
        return outcome


class TimedTasks(FileTasks):
    """File tasks that note what each of them took."""

    def run(
        self,
        stage: str,
        revision: Json,
        function: Callable[[AnyWork, Path], StageOutcome],
        works: Sequence[AnyWork],
        give_up: Callable[[AnyWork, Path], StageOutcome],
    ) -> list[Part]:
        timed = Timed(function, stage, self.parts.parent / "costs.jsonl")  # type: ignore[arg-type]
        return super().run(stage, revision, timed, works, give_up)


@dataclass(frozen=True)
class Fate:
    """What became of a document: `stage` and `reason` where it was dropped; `text` as far as it was mended."""

    source: str
    path: str
    text: str
    flags: tuple[str, ...]
    stage: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What the stages made of the set."""

    torture: TortureSet
    raw: RawCorpus
    clean: AnnotatedCorpus
    selection: Selection
    unique: UniqueCorpus
    fates: dict[str, Fate]  # by id, in the order read
    messages: tuple[str, ...]  # of the cases that fail as a whole, in their order
    costs: tuple[dict[str, object], ...]

    def of(self, entry: Entry) -> list[Fate]:
        """The documents and refused records of a case."""
        return self._by_place()[entry.source, entry.path]

    def _by_place(self) -> "dict[tuple[str, str | None], list[Fate]]":
        if not _PLACES.get(id(self)):
            places: dict[tuple[str, str | None], list[Fate]] = {}
            for fate in self.fates.values():
                places.setdefault((fate.source, None), []).append(fate)
                places.setdefault((fate.source, fate.path), []).append(fate)
            _PLACES[id(self)] = places
        return _PLACES[id(self)]
