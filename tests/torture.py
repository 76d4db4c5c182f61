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
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # a script is given its own folder, not the project's
    sys.path.insert(0, str(Path(__file__).parents[1]))

from tasks.artifacts import AnnotatedCorpus, Artifact, RawCorpus, Selection, UniqueCorpus
from tasks.corpus.select import PRESETS, Rule, read_preset
from tasks.errors import UserError
from tasks.executor.filetasks import FilesConfig, FileTasks
from tasks.executor.parts import AnyWork, Part
from tasks.ledger import StageOutcome
from tasks.settings import Json
from tests.tasks.corpus_run import Bench, Row, rows
from tests.torture_files import Case, write_file_cases
from tests.torture_html import MAX_BYTES, MAX_DEPTH, HtmlCase, html_cases
from tests.torture_rules import RuleCase, rule_cases
from tests.torture_text import TextCase, text_cases

SIZE = 1 << 20
AnyCase = Case | HtmlCase | TextCase | RuleCase


def own_peak() -> int:
    """Most bytes this process held in memory. Not ru_maxrss: a new process inherits that from the one that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@dataclass(frozen=True)
class Entry:
    """A case as it lies in a source: all its documents, or those of one path or of what lies in one folder."""

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
    folder.mkdir(parents=True, exist_ok=True)
    cases = write_file_cases(folder, size)
    failing = tuple(case for case in cases if case.expected.error)
    entries: list[Entry] = []
    sources: list[Row] = []
    for source, alike in _by_settings([case for case in cases if case not in failing]):
        sources.append(source)
        places = [None] if len(alike) == 1 else [case.files[0].parent.name for case in alike]
        entries += [Entry(case.group, case, str(source["name"]), place) for case, place in zip(alike, places, strict=True)]
    pages = folder / "6-pages"
    pages.mkdir()
    for number, page in enumerate(html_cases()):
        path = pages / f"{number:02d}-{re.sub('[^a-z0-9]+', '-', page.name.lower())}.html"
        path.write_bytes(page.html.encode("utf-8", "surrogatepass"))
        entries.append(Entry(6, page, "pages", path.name))
    sources.append({"name": "pages", "kind": "html", "paths": [str(pages)]})
    for group, found in _by_group([*text_cases(), *rule_cases()]).items():
        path = folder / f"{group}-rows.jsonl"
        path.write_text("".join(json.dumps({"text": case.text, "case": case.name}) + "\n" for case in found))
        name = f"rows-{group}"
        sources.append({"name": name, "kind": "jsonl", "paths": [str(path)]})
        entries += [Entry(group, case, name, f"{path.name}:{number}") for number, case in enumerate(found, 1)]
    return TortureSet(tuple(sorted(entries, key=lambda entry: entry.group)), tuple(sources), failing)


def _by_settings(cases: Sequence[Case]) -> Iterator[tuple[Row, list[Case]]]:
    """Cases whose sources differ by nothing but their folder, in one source with many folders."""
    alike: dict[str, list[Case]] = {}
    for case in cases:
        settings = {name: value for name, value in case.source.items() if name not in ("name", "paths")}
        is_plain = case.source["paths"] == [str(case.files[0].parent)] and "id_field" not in settings
        own = [] if is_plain else [case.name]
        alike.setdefault(json.dumps([settings, own]), []).append(case)
    for number, found in enumerate(alike.values()):
        paths = [path for case in found for path in case.source["paths"]]  # type: ignore[attr-defined]
        yield {**found[0].source, "name": f"{found[0].source['kind']}-{number}", "paths": paths}, found


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
        peaks = [own_peak(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024]
        noted = {"stage": self.stage, "file": work.label, "seconds": time.monotonic() - start, "peaks": peaks}  # type: ignore[attr-defined]
        with self.log.open("a") as log:
            log.write(json.dumps(noted) + "\n")
        return outcome


class TimedTasks(FileTasks):
    """File tasks that note what each of them took."""

    def run(self, stage: str, revision: Json, function: Callable[[AnyWork, Path], StageOutcome], works: Sequence[AnyWork]) -> list[Part]:
        timed = Timed(function, stage, self.parts.parent / "costs.jsonl")  # type: ignore[arg-type]
        return super().run(stage, revision, timed, works)


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
    fates: dict[tuple[str, str | None], list[Fate]]  # by source and path, and by source alone; in the order read
    messages: tuple[str, ...]  # of the cases that fail as a whole, in their order
    costs: tuple[dict[str, object], ...]

    def of(self, entry: Entry) -> list[Fate]:
        """The documents and refused records of a case."""
        return self.fates.get((entry.source, entry.path), [])

    @property
    def slowest(self) -> tuple[float, str]:
        """Seconds of the slowest task, and what it was."""
        return max((float(str(cost["seconds"])), f"{cost['stage']} {cost['file']}") for cost in self.costs)

    @property
    def peak_bytes(self) -> tuple[int, int]:
        """Most memory of a process that worked on files, and of one that read pages for it."""
        own, children = zip(*(cost["peaks"] for cost in self.costs), strict=True)  # type: ignore[misc]
        return max(own), max(children)


def run_torture_set(torture: TortureSet, folder: Path, workers: int = 2) -> Outcome:
    """The corpus stages over the set; the rules of all presets look at group 9 alone, the others are far too short for them."""
    bench = Bench.open(folder)
    messages: list[str] = []
    for case in torture.failing:
        try:
            bench.ingest(dict(case.source))
        except UserError as error:
            messages.append(str(error))
    bench = Bench(bench.workspace, TimedTasks(bench.workspace.root / "parts", FilesConfig(workers=workers)))
    try:
        raw = bench.ingest(*torture.sources)
        clean = bench.annotate(raw, pages={"max_bytes": MAX_BYTES, "max_depth": MAX_DEPTH})
        selection = bench.select(clean, rules=[rule.model_dump() for rule in every_rule(["rows-9"])])
        unique = bench.deduplicate(clean, selection)
    finally:
        bench.files.close()
    costs = [json.loads(line) for line in (bench.workspace.root / "costs.jsonl").read_text().splitlines()]
    fates: dict[tuple[str, str | None], list[Fate]] = {}
    for fate in fates_of(raw, clean, unique):
        for place in {None, fate.path, fate.path.split("/")[0]}:
            fates.setdefault((fate.source, place), []).append(fate)
    return Outcome(torture, raw, clean, selection, unique, fates, tuple(messages), tuple(costs))


def every_rule(sources: list[str]) -> list[Rule]:
    """The rules of all presets, for some sources."""
    names = ["basic", *sorted(path.stem for path in PRESETS.glob("*.yaml") if path.stem != "basic")]
    return [rule.model_copy(update={"sources": sources}) for name in names for rule in read_preset(name).rules]


def fates_of(raw: RawCorpus, clean: AnnotatedCorpus, unique: UniqueCorpus) -> Iterator[Fate]:
    """What became of each document and refused record, in the order of the tables."""
    verdicts = {str(row["id"]): row for row in rows(unique, "verdicts-*.parquet")}
    mended = {str(row["id"]): row for row in rows(clean, "documents-*.parquet")}
    dropped = {str(row["id"]): row for row in rows(clean, "dropped-*.parquet")}
    for row in rows(raw, "documents-*.parquet"):
        mark = str(row["id"])
        if mark in dropped:
            yield _fate(dropped[mark], dropped[mark])
        else:
            yield _fate(mended[mark], verdicts[mark])
    for row in rows(raw, "rejects-*.parquet"):
        yield _fate(row, row)


def _fate(document: Row, verdict: Row) -> Fate:
    flags = dict(document["meta"] or ()).get("repaired", "")  # type: ignore[call-overload]
    stage, reason = verdict["stage"], verdict["reason"]
    return Fate(
        str(document["source"]),
        str(document["path"]),
        str(document["text"]),
        tuple(filter(None, flags.split(","))),
        None if stage is None else str(stage),
        None if reason is None else str(reason),
    )


def outcome_of(entry: Entry, fates: Sequence[Fate]) -> tuple[str, str]:
    """A line of the table: kept, repaired, or rejected, and why.

    The cases share texts: what is another case's copy counts as kept, but in group 10, which is about copies.
    """
    gone = [fate for fate in fates if fate.reason is not None and (entry.group == 10 or fate.stage != "deduplicate")]
    kept = len(fates) - len(gone)
    reasons = Counter(fate.reason for fate in gone)
    flags = sorted({flag for fate in fates if fate not in gone for flag in fate.flags})
    told = ", ".join(f"{reason} {count}" if count > 1 else str(reason) for reason, count in sorted(reasons.items(), key=str))
    stays = f"repaired ({', '.join(flags)})" if flags else "kept"
    if len(fates) == 1:
        return (stays if kept else "rejected"), told
    return f"{stays} {kept}" + (f", rejected {len(gone)}" if gone else ""), told


def table(outcome: Outcome) -> Iterator[str]:
    """The lines to show; of the boilerplate's pages the first two."""
    yield "group | case | outcome | reason"
    for entry in outcome.torture.entries:
        if not re.fullmatch(r"boilerplate (\d\d+|[2-9])", entry.case.name):
            told, reason = outcome_of(entry, outcome.of(entry))
            files = f" ({entry.case.files[0].name})" if isinstance(entry.case, Case) else ""
            yield f"{entry.group} | {entry.case.name}{files} | {told} | {reason}"
    for case, message in zip(outcome.torture.failing, outcome.messages, strict=True):
        yield f"{case.group} | {case.name} | message | {message}"


def totals(outcome: Outcome) -> Iterator[str]:
    """What went in and came out of each stage, and what it cost."""
    artifacts: list[Artifact] = [outcome.raw, outcome.clean, outcome.selection, outcome.unique]
    for name, artifact in zip(("ingest", "annotate", "select", "deduplicate"), artifacts, strict=True):
        ledger = artifact.ledger
        yield f"{name}: {ledger.rows_in} in, {ledger.rows_out} out, {sum(ledger.dropped.values())} dropped"
    seconds, file = outcome.slowest
    own, child = outcome.peak_bytes
    yield f"{len(outcome.torture.entries)} cases, 0 crashes, longest file {seconds:.1f} s ({file})"
    yield f"most memory: {own / 2**20:.0f} MiB in a worker, {child / 2**20:.0f} MiB in its reader of pages"


def main() -> None:
    """Writes the set, runs it, shows what came of it."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="torture-"))
    start = time.monotonic()
    torture = write_torture_set(folder / "files", int(sys.argv[2]) if len(sys.argv) > 2 else SIZE)
    written = time.monotonic()
    outcome = run_torture_set(torture, folder / "workspace")
    print(*table(outcome), *totals(outcome), sep="\n")
    print(f"{written - start:.0f} s to write, {time.monotonic() - written:.0f} s to run; all of it lies in {folder}")


if __name__ == "__main__":
    main()
