"""Annotate: documents come out mended and measured, row for row, and what cannot be mended is set aside with its reason."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.artifacts import AnnotatedCorpus
from tasks.corpus.annotate import BATCH_BYTES, bounded
from tasks.corpus.quality import QualityConfig, train_quality
from tasks.errors import UserError
from tests.clean_texts import CLEAN_TEXTS
from tests.tasks.corpus_run import Bench, Row, all_bytes, document, ids, rows

PROSE = (
    "The harbour was quiet when the ferry came in, and nobody on the quay looked up. A boy counted the lamps along the wall, "
    "lost his place twice, and began again from the other end while his sister laughed at him from an open window."
)
CHINESE = (
    "船进港的时候，码头上很安静，没有一个人抬头。一个男孩数着墙边的灯，数错了两回，又从另一头数起；他的姐姐在窗口笑他。"
    "天色渐渐暗下来，卖鱼的老人把最后一筐鱼抬上了车，回头看了看海，什么话也没有说，慢慢地走了。"
)
PAGE = f"""<html><head><title>The ferry</title><script>var x = 1;</script></head><body><nav><a href="/">Home</a></nav>
<article><h1>The ferry</h1><p>{PROSE}</p><p>{PROSE}</p><ul><li>a lamp</li><li>a wall</li></ul></article>
<footer>All rights reserved</footer></body></html>"""


def annotated(folder: Path, *found: Row, **chosen: object) -> AnnotatedCorpus:
    bench = Bench.open(folder)
    return bench.annotate(bench.raw(found), **chosen)


def test_sound_text_is_left_as_it_is(tmp_path: Path):
    clean = annotated(tmp_path, document("en", PROSE, language="und"), document("zh", CHINESE, language="und"))
    found = rows(clean, "documents-*.parquet")
    assert [(row["text"], row["language"], row["meta"]) for row in found] == [(PROSE, "en", []), (CHINESE, "zh", [])]
    assert clean.ledger.repaired_bytes == 0


def test_clean_text_of_any_language_passes_unchanged_at_the_defaults(tmp_path: Path):
    texts = [text for written in CLEAN_TEXTS.values() for text in written]
    bench = Bench.open(tmp_path)
    clean = bench.annotate(bench.raw([document(str(number), text) for number, text in enumerate(texts)]))
    assert len(CLEAN_TEXTS) >= 20
    assert [row["text"] for row in rows(clean, "documents-*.parquet")] == texts
    assert clean.figures["repaired_documents"] == 0


def test_statistics_stand_beside_each_document_in_its_order(tmp_path: Path):
    clean = annotated(tmp_path, document("a", PROSE), document("b", "\u200b\n"), document("c", CHINESE, language="zh"))
    found = rows(clean, "statistics-*.parquet")
    assert [row["id"] for row in found] == ids(clean, "documents-*.parquet") == ["a", "c"]
    assert (found[0]["words"], found[0]["chars"]) == (len(PROSE.split()), len(PROSE))
    assert found[1]["han"] == sum("\u4e00" <= character <= "\u9fff" for character in CHINESE)


def test_a_document_of_nothing_visible_is_dropped_as_empty(tmp_path: Path):
    clean = annotated(tmp_path, document("a", PROSE), document("b", "\u200b \n\x00"))
    assert clean.ledger.dropped == {"empty": 1}
    assert ids(clean, "dropped-*.parquet") == ["b"]


def test_a_page_becomes_its_main_text(tmp_path: Path):
    clean = annotated(tmp_path, document("page", PAGE, format="html"))
    (found,) = rows(clean, "documents-*.parquet")
    assert PROSE in str(found["text"])
    assert "All rights reserved" not in str(found["text"])
    assert dict(found["meta"])["title"] == "The ferry"  # type: ignore[call-overload]


def test_a_page_beyond_its_limits_is_dropped_and_its_neighbours_are_not(tmp_path: Path):
    deep = "<div>" * 5_000 + PROSE + "</div>" * 5_000
    found = [document("a", PAGE, format="html"), document("deep", deep, format="html"), document("b", PROSE)]
    clean = annotated(tmp_path, *found)
    assert ids(clean, "documents-*.parquet") == ["a", "b"]
    assert clean.ledger.dropped == {"html_too_deep": 1}


def test_repairs_are_noted_and_counted(tmp_path: Path):
    clean = annotated(tmp_path, document("a", "ab\x00cd " + PROSE, repaired="bom"), document("b", PROSE))
    found = rows(clean, "documents-*.parquet")
    assert dict(found[0]["meta"])["repaired"] == "bom,nul"  # type: ignore[call-overload]
    assert clean.figures["repaired_documents"] == 1
    assert clean.ledger.repaired_bytes == 1


def test_personal_data_is_masked_kept_or_costs_the_document(tmp_path: Path):
    text = f"{PROSE} Write to jane.doe@mills.org today."
    masked = annotated(tmp_path / "mask", document("a", text))
    assert "jane" not in str(rows(masked, "documents-*.parquet")[0]["text"])
    assert rows(masked, "statistics-*.parquet")[0]["pii_email"] == 1
    assert rows(annotated(tmp_path / "keep", document("a", text), pii={"email": "keep"}), "documents-*.parquet")[0]["text"] == text
    dropped = annotated(tmp_path / "drop", document("a", text), document("b", PROSE), pii={"email": "drop"})
    assert dropped.ledger.dropped == {"pii_email": 1}
    assert "jane" not in str(rows(dropped, "dropped-*.parquet")[0]["text"])


def test_a_declared_language_stands(tmp_path: Path):
    clean = annotated(tmp_path, document("a", PROSE, language="fr"))
    assert rows(clean, "statistics-*.parquet")[0]["language"] == "fr"


def test_words_of_the_users_lists_are_counted(tmp_path: Path):
    (tmp_path / "list.txt").write_text("码头\n")
    found = [document("a", PROSE + " Ferryman."), document("b", CHINESE, language="zh")]
    clean = annotated(tmp_path / "w", *found, toxic_words={"words": ["ferry"], "paths": [str(tmp_path / "list.txt")]})
    assert [row["toxic_words"] for row in rows(clean, "statistics-*.parquet")] == [1, 1]
    with pytest.raises(UserError, match="clean.annotate.toxic_words: nowhere.txt is no file"):
        annotated(tmp_path / "x", *found, toxic_words={"paths": ["nowhere.txt"]})


def test_a_trained_classifier_gives_each_document_its_score(tmp_path: Path):
    good = [f"the mill stands by the river number {n} and grinds grain" for n in range(60)]
    bad = [f"buy cheap pills now click here offer {n} win money" for n in range(60)]
    labelled = [{"text": text, "label": "good"} for text in good] + [{"text": text, "label": "spam"} for text in bad]
    (tmp_path / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labelled))
    source = {"name": "labelled", "kind": "jsonl", "paths": [str(tmp_path / "labelled.jsonl")]}
    config = QualityConfig.model_validate({"source": source, "good": ["good"]})
    bench = Bench.open(tmp_path / "w")
    from flows.stages import ANNOTATE, QUALITY
    from tasks.corpus.annotate import AnnotateConfig

    built = bench.workspace.begin("quality", "q", keep=False)
    outcome = train_quality(config, built)
    assert outcome.figures["accuracy"] == 1
    raw = bench.raw([document("a", "grain by the river mill"), document("b", "click here to win cheap pills")])
    quality = QUALITY.artifact(str(built), "q")
    clean = bench.stage(ANNOTATE, AnnotateConfig(), raw=raw, quality=quality)
    scores = [float(str(row["quality"])) for row in rows(clean, "statistics-*.parquet")]
    assert scores[0] > 0.5 > scores[1]


def test_long_documents_are_taken_in_batches_of_bounded_size_and_none_is_lost():
    sizes = [1, BATCH_BYTES, 5, 6, BATCH_BYTES + 1, 2, BATCH_BYTES - 2, 3]
    rows = pa.RecordBatch.from_pydict({"row": range(len(sizes)), "bytes": sizes})
    batches = list(bounded([rows, rows.slice(0, 0), rows.slice(3, 2)], BATCH_BYTES))
    assert [batch["row"].to_pylist() for batch in batches] == [[0], [1], [2, 3], [4], [5, 6], [7], [3], [4]]


def test_a_second_run_gives_the_same_bytes(tmp_path: Path):
    found = [document("a", PAGE, format="html"), document("b", CHINESE, language="und"), document("c", PROSE)]
    one, two = (annotated(tmp_path / name, *found) for name in ("one", "two"))
    assert all_bytes(one) == all_bytes(two)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=60), min_size=1, max_size=6))
def test_what_comes_in_comes_out_or_is_dropped(tmp_path_factory: pytest.TempPathFactory, texts: list[str]):
    clean = annotated(tmp_path_factory.mktemp("w"), *(document(str(n), text or "x", language="und") for n, text in enumerate(texts)))
    assert sorted(ids(clean, "documents-*.parquet") + ids(clean, "dropped-*.parquet")) == [str(n) for n in range(len(texts))]
    clean.ledger.check("annotate")
