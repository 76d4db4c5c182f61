"""Samples of what was dropped: the same ones on every look, with what they are held against."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.artifacts import Artifact, Manifest, Workspace, read_manifest
from tasks.corpus.decontaminate import DecontaminateConfig
from tasks.corpus.samples.collect import samples_of
from tasks.corpus.samples.excerpts import Document, difference, excerpt
from tasks.corpus.samples.groups import Group
from tasks.corpus.samples.rows import Row, read_documents
from tasks.documents import DOCUMENTS, TableWriter
from tasks.sampling import is_heldout, unit_hash
from tests.tasks.corpus_run import Bench, document, rows

WORDS = "the a mill wheel turns grain into flour while old stones wait under water and children carry bread home".split()
DEFAULT = DecontaminateConfig()
HELD = next(n for n in map(str, range(99)) if is_heldout(n, DEFAULT.heldout_share, DEFAULT.heldout_seed))
FREE = next(n for n in map(str, range(99)) if not is_heldout(n, DEFAULT.heldout_share, DEFAULT.heldout_seed))
PAGE = "<html><head><title>Mills</title></head><body><nav>home</nav><article><p>{}</p></article></body></html>"


def text(seed: int, count: int) -> str:
    chooser = random.Random(seed)
    return " ".join(chooser.choice(WORDS) + str(chooser.randrange(90)) for _ in range(count))


@dataclass(frozen=True)
class Corpus:
    """Finished artifacts of every stage."""

    workspace: Workspace
    stages: dict[str, Artifact]

    def manifest(self, stage: str) -> Manifest:
        manifest = read_manifest(self.stages[stage].path)
        assert manifest is not None
        return manifest

    def groups(self, stage: str, count: int = 3, only: str | None = None, alone: bool = False) -> dict[str, Group]:
        found = samples_of(self.workspace, self.manifest(stage), count, 200, only, alone)
        return {group.reason: group for group in found}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Lines, one of them broken, and a page; of the lines some are short, one is a copy, one is copied but for its end."""
    folder = tmp_path_factory.mktemp("specimens")
    whole = [text(seed, 40 + seed) for seed in range(12)]
    near = f"{' '.join(whole[3].split()[:-1])} changed"
    lines = [*whole, *(text(seed, 5) for seed in range(20, 28)), whole[2], near, "It was Ã©tÃ© there. " + text(31, 60)]
    stored = [json.dumps({"text": line}, ensure_ascii=False) for line in lines]
    (folder / "lines.jsonl").write_text("\n".join([*stored, '{"text": "broken']) + "\n", encoding="utf-8")
    (folder / "page.html").write_text(PAGE.format(text(40, 120)))
    bench = Bench.open(folder / "workspace")
    raw = bench.ingest(
        {"kind": "jsonl", "name": "lines", "paths": [str(folder / "lines.jsonl")]},
        {"kind": "html", "name": "pages", "paths": [str(folder / "page.html")]},
    )
    clean = bench.annotate(raw)
    selection = bench.select(clean, rules=[{"column": "words", "min": 30}])
    unique = bench.deduplicate(clean, selection)
    stages: dict[str, Artifact] = {
        "ingest": raw,
        "annotate": clean,
        "select": selection,
        "deduplicate": unique,
        "decontaminate": contaminated(bench),
    }
    return Corpus(bench.workspace, stages)


def contaminated(bench: Bench) -> Artifact:
    """A corpus in which one training document holds a validation text; half of the others are mixed out."""
    secret = text(90, 40)
    given = [document("held", secret, HELD), document("leak", f"{text(91, 300)} {secret} {text(92, 300)}", FREE)]
    given += [document(f"sound{n}", text(100 + n, 60), FREE) for n in range(6)]
    clean = bench.annotate(bench.raw(given))
    unique = bench.deduplicate(clean, bench.select(clean))
    return bench.decontaminate(clean, unique, mixture=[{"source": "s", "share": 0.6}])


def test_every_reason_of_the_ledger_has_its_samples(corpus: Corpus):
    for stage in corpus.stages:
        dropped = corpus.manifest(stage).ledger.dropped
        groups = corpus.groups(stage)
        assert {reason: group.rows for reason, group in groups.items() if group.rows} == dict(dropped)
        assert all(len(group.pairs) == min(3, group.rows) for group in groups.values() if group.rows)


def test_samples_are_those_with_the_smallest_hashes(corpus: Corpus):
    dropped = [str(row["id"]) for row in rows(corpus.stages["select"], "verdicts-*") if row["reason"] == "min_words"]
    shown = [pair.sample.id for pair in corpus.groups("select", count=4)["min_words"].pairs]
    assert shown == sorted(dropped, key=lambda document_id: unit_hash(document_id, 0))[:4]
    assert corpus.groups("select", 4) == corpus.groups("select", 4)


def test_a_refused_record_stands_beside_one_of_the_same_file(corpus: Corpus):
    (pair,) = corpus.groups("ingest")["malformed"].pairs
    assert pair.sample.text.rstrip() == '{"text": "broken'
    assert pair.sample.path.startswith("lines.jsonl")
    assert pair.beside is not None
    assert pair.beside.path.startswith("lines.jsonl")


def test_a_rules_samples_carry_its_figure_and_stand_beside_the_nearest_kept(corpus: Corpus):
    group = corpus.groups("select")["min_words"]
    assert group.rule == "words at least 30"
    assert [pair.sample.value for pair in group.pairs] == [5, 5, 5]
    assert [pair.beside.value for pair in group.pairs if pair.beside] == [40, 41, 42]


def test_a_copy_stands_beside_the_document_kept_in_its_place(corpus: Corpus):
    groups = corpus.groups("deduplicate")
    (exact,), (near,) = groups["exact_copy"].pairs, groups["near_copy"].pairs
    assert exact.beside is not None
    assert (exact.sample.text, exact.sample.value) == (exact.beside.text, 1.0)
    assert exact.sample.id != exact.beside.id
    assert near.beside is not None
    assert "changed" in near.sample.text  # both are shown where they differ
    assert "changed" not in near.beside.text


def test_what_an_earlier_stage_dropped_is_not_shown_again(corpus: Corpus):
    assert "min_words" not in corpus.groups("deduplicate")


def test_mended_documents_stand_beside_what_was_read(corpus: Corpus):
    groups = corpus.groups("annotate")
    (page,), (decoded,) = groups["main_text"].pairs, groups["mojibake"].pairs
    assert page.beside is not None
    assert "<p>" in page.beside.text
    assert page.sample.text[:30] in page.beside.text
    assert decoded.beside is not None
    assert "été" in decoded.sample.text
    assert "Ã©tÃ©" in decoded.beside.text


def test_a_contaminated_document_is_shown_around_the_run_it_shares(corpus: Corpus):
    (pair,) = corpus.groups("decontaminate")["contaminated"].pairs
    secret = text(90, 40)
    assert pair.sample.marked is not None
    start, end = pair.sample.marked
    assert secret.startswith(pair.sample.text[start:end])
    assert pair.beside is not None
    assert pair.beside.id == "held"
    assert "validation/held; 100%" in pair.note


def test_one_reason_alone_and_dropped_text_alone(corpus: Corpus):
    assert list(corpus.groups("annotate", only="mojibake")) == ["mojibake"]
    assert corpus.groups("select", only="min_chars") == {}
    alone = corpus.groups("deduplicate", alone=True)
    assert all(pair.beside is None for group in alone.values() for pair in group.pairs)
    assert corpus.groups("annotate", alone=True) == {}


def test_a_removed_input_leaves_reasons_without_text(corpus: Corpus, tmp_path: Path):
    workspace = Workspace(tmp_path)
    folder = workspace.folder("select", corpus.stages["select"].fingerprint)
    folder.parent.mkdir()
    folder.symlink_to(corpus.stages["select"].path)
    (group,) = samples_of(workspace, corpus.manifest("select"))
    assert (group.reason, group.rows, group.pairs) == ("min_words", 8, ())


def test_rows_are_read_from_their_row_groups(tmp_path: Path):
    path = tmp_path / "documents.parquet"
    batches = [[document(f"{part}-{n}", f"text {part}-{n}") for n in range(100)] for part in range(4)]
    with TableWriter(path, DOCUMENTS) as file:
        for batch in batches:
            file.write(pa.RecordBatch.from_pylist(batch, schema=DOCUMENTS))
            file._flush()  # a row group each
    wanted = [Row(path, number, "", "") for number in (0, 99, 100, 250, 399)]
    found = read_documents(wanted)
    assert [found[row].id for row in wanted] == ["0-0", "0-99", "1-0", "2-50", "3-99"]


@given(st.text("ab", max_size=30), st.text("ab", max_size=30))
def test_difference_is_the_first_character_that_differs(one: str, other: str):
    at = difference(one, other)
    assert one[:at] == other[:at]
    assert at in (len(one), len(other)) or one[at] != other[at]


@given(st.text(max_size=80), st.integers(1, 40), st.data())
def test_an_excerpt_holds_the_characters_it_is_about(text: str, chars: int, data: st.DataObject):
    around = data.draw(st.integers(0, max(0, len(text) - 1)))
    shown = excerpt(Document("i", "s", "p", "en", 0, text), chars, around, marked=1)
    assert len(shown.text) <= chars
    assert shown.text in text
    assert shown.marked is not None
    start, end = shown.marked
    assert shown.text[start:end] == text[around : around + 1]
