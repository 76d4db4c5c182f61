"""Deduplicate: copies go, the first stays, what only looks alike is kept, and nothing is signed twice."""

import random
from pathlib import Path

import pytest

from tasks.artifacts import UniqueCorpus
from tasks.errors import UserError
from tests.tasks.corpus_run import Bench, all_bytes, document, kept, rows

HAN = [chr(code) for code in range(0x4E00, 0x4E00 + 800)]


def words(seed: int, count: int = 300) -> list[str]:
    chooser = random.Random(seed)
    return ["".join(chooser.choices("abcdefghij", k=6)) for _ in range(count)]


def han(seed: int, count: int = 300) -> list[str]:
    return random.Random(seed).choices(HAN, k=count)


def deduplicated(folder: Path, *tables: list[str], drop: str = "", **settings: object) -> UniqueCorpus:
    bench = Bench.open(folder)
    numbers = iter(range(10_000))
    raw = bench.raw(*([document(str(next(numbers)), text) for text in texts] for texts in tables))
    clean = bench.annotate(raw)
    rules = [{"column": "chars", "min": 2}] if drop else []
    return bench.deduplicate(clean, bench.select(clean, rules=rules), **settings)


def test_copies_that_differ_in_case_and_space_are_exact(tmp_path: Path):
    unique = deduplicated(tmp_path, ["Hello  World", "other", "hello\nworld "])
    assert kept(unique) == ["0", "1"]
    assert unique.ledger.dropped == {"exact_copy": 1}


def test_near_copies_go_in_english_and_chinese_and_the_first_stays(tmp_path: Path):
    english, chinese = words(1), han(2)
    near_english = " ".join([*english[:150], "changed", *english[151:]])
    near_chinese = "".join([*chinese[:150], "变", *chinese[151:]])
    unique = deduplicated(
        tmp_path, [" ".join(words(3)), " ".join(english), "".join(chinese)], [near_english, near_chinese, "".join(han(4))]
    )
    assert kept(unique) == ["0", "1", "2", "5"]
    assert {(row["id"], row["root_id"], row["size"]) for row in rows(unique, "clusters.parquet")} == {
        ("1", "1", 2),
        ("3", "1", 2),
        ("2", "2", 2),
        ("4", "2", 2),
    }
    gone = [row for row in rows(unique, "verdicts-*.parquet") if not row["kept"]]
    assert [(row["id"], row["cluster"], row["stage"], row["reason"]) for row in gone] == [
        ("3", "1", "deduplicate", "near_copy"),
        ("4", "2", "deduplicate", "near_copy"),
    ]
    assert all(0.9 <= float(str(row["value"])) < 1 for row in gone)
    assert unique.figures == {"clusters": 2, "largest_cluster": 2}


REPORT = (
    "On day {} the mill ground {} sacks of barley and {} of wheat, sold {} loaves at {} coins each, and the river stood at {} hands "
    "above the mark that grandfather had cut."
)
THAI = (
    "โรงสีตั้งอยู่ริมแม่น้ำทุกฤดูใบไม้ผลิน้ำขึ้นถึงขั้นที่สามที่ปู่ของเขาทำเครื่องหมายไว้ไม่มีใครเชื่อชายชราเด็กวิ่งเล่นอยู่ริมตลิ่ง"
    "ผู้ใหญ่กำลังกินข้าวในบ้านหลังเล็กใต้ต้นไม้ใหญ่วันรุ่งขึ้น{}ตกหนักสะพานขาดชาวบ้านต้องพายเรือข้ามไปตลาด"
)
KHMER = "ម៉ាស៊ីនកិនស្រូវនៅក្បែរទន្លេរៀងរាល់និទាឃរដូវទឹកឡើងដល់ជណ្តើរទីបីដែលជីតាបានគូសសម្គាល់ទុកហើយ{}បានធ្លាក់ខ្លាំងនៅថ្ងៃបន្ទាប់"


def test_reports_that_differ_in_their_figures_are_kept_unless_digits_are_folded(tmp_path: Path):
    chooser = random.Random(5)
    reports = [REPORT.format(day, *(chooser.randrange(100) for _ in range(5))) for day in range(8)]
    assert kept(deduplicated(tmp_path / "auto", reports)) == list("01234567")
    assert len(kept(deduplicated(tmp_path / "keep", reports, digits="keep"))) == 8
    assert len(kept(deduplicated(tmp_path / "fold", reports, digits="fold"))) < 4


def test_texts_without_spaces_that_differ_in_one_word_are_near_copies(tmp_path: Path):
    texts = [THAI.format("ฝน"), THAI.format("หิมะ"), KHMER.format("ភ្លៀង"), KHMER.format("ព្រិល"), "".join(reversed(THAI.format("ฝน")))]
    unique = deduplicated(tmp_path, texts)
    assert kept(unique) == ["0", "2", "4"]
    assert unique.ledger.dropped == {"near_copy": 2}


def test_texts_that_share_half_are_both_kept(tmp_path: Path):
    shared = words(1, 150)
    unique = deduplicated(tmp_path, [" ".join(shared + words(2, 150)), " ".join(shared + words(3, 150))])
    assert kept(unique) == ["0", "1"]


def test_the_threshold_can_be_switched_off(tmp_path: Path):
    english = words(1)
    unique = deduplicated(tmp_path, [" ".join(english), " ".join(english[:-1]), " ".join(english)], threshold=None)
    assert kept(unique) == ["0", "1"]


def test_short_texts_are_compared_exactly_only(tmp_path: Path):
    unique = deduplicated(tmp_path, ["one two", "one two three", "one two", "!!!", "???"])
    assert kept(unique) == ["0", "1", "3", "4"]


def test_a_chain_of_near_copies_is_one_cluster(tmp_path: Path):
    base = words(1)
    texts = [" ".join([*(f"new{n}" for n in range(shift)), *base[shift:]]) for shift in (0, 15, 30, 45)]
    unique = deduplicated(tmp_path, texts)
    assert kept(unique) == ["0"]
    assert unique.figures["largest_cluster"] == 4


def test_a_document_that_a_rule_dropped_takes_no_copy_with_it(tmp_path: Path):
    unique = deduplicated(tmp_path, ["a", "A", "whole"], drop="short")
    assert kept(unique) == ["2"]
    assert unique.ledger.rows_in == 1
    assert [row["stage"] for row in rows(unique, "verdicts-*.parquet")] == ["select", "select", None]


def test_copies_can_be_kept_and_marked_with_their_cluster(tmp_path: Path):
    unique = deduplicated(tmp_path, ["same text", "other", "Same  text"], keep="all")
    assert kept(unique) == ["0", "1", "2"]
    assert [row["cluster"] for row in rows(unique, "verdicts-*.parquet")] == ["0", None, "0"]


def test_copies_of_an_earlier_corpus_go(tmp_path: Path):
    old, new = " ".join(words(1)), " ".join(words(2))
    earlier = deduplicated(tmp_path / "earlier", [old])
    unique = deduplicated(tmp_path / "now", [old + " more", new], against=[earlier.folder])
    assert kept(unique) == ["1"]
    assert unique.ledger.dropped == {"earlier_copy": 1}


def test_an_earlier_corpus_of_other_signatures_is_refused(tmp_path: Path):
    earlier = deduplicated(tmp_path / "earlier", ["text"], bands=4)
    with pytest.raises(UserError, match=r"made with bands 4, this recipe has 20"):
        deduplicated(tmp_path / "now", ["text"], against=[earlier.folder])
    with pytest.raises(UserError, match="no finished deduplication"):
        deduplicated(tmp_path / "then", ["text"], against=[str(tmp_path)])


def test_tables_and_one_table_give_the_same_verdicts(tmp_path: Path):
    texts = [" ".join(words(n % 3)) + (" x" if n > 3 else "") for n in range(6)]
    one = deduplicated(tmp_path / "one", texts)
    many = deduplicated(tmp_path / "many", texts[:1], texts[1:4], texts[4:])
    assert rows(one, "verdicts-*.parquet") == rows(many, "verdicts-*.parquet")
    assert (one.path / "clusters.parquet").read_bytes() == (many.path / "clusters.parquet").read_bytes()


def test_two_runs_give_the_same_bytes(tmp_path: Path):
    texts = [" ".join(words(n % 3)) + (" x" if n > 3 else "") for n in range(6)]
    assert all_bytes(deduplicated(tmp_path / "one", texts)) == all_bytes(deduplicated(tmp_path / "two", texts))


NOTICE = "This notice stands under every page of the site, and nobody has read it since the site began."


def test_lines_of_earlier_documents_are_cut_out_of_later_ones(tmp_path: Path):
    texts = [" ".join(words(n, 20)) for n in range(3)]
    found = [
        document("a", f"{texts[0]}\n{NOTICE}"),
        document("b", f"{NOTICE}\n\n{texts[1]}\n{NOTICE}"),
        document("c", NOTICE),
    ]
    found += [document(str(n), " ".join(words(n, 30))) for n in range(40, 60)]
    bench = Bench.open(tmp_path)
    clean = bench.annotate(bench.raw(found[:2], found[2:]))
    unique = bench.deduplicate(clean, bench.select(clean), blocks="lines")
    assert unique.figures["repeated_blocks"] == 3
    corpus = bench.decontaminate(clean, unique, max_overlap=None)
    left = {row["id"]: row["text"] for name in ("train-*.parquet", "validation.parquet") for row in rows(corpus, name)}
    assert left["a"] == f"{texts[0]}\n{NOTICE}"
    assert left["b"] == texts[1]
    assert "c" not in left
    assert corpus.ledger.dropped == {"repeated_blocks": 1}


def test_paragraphs_can_be_cut_instead_and_what_stays_keeps_its_breaks(tmp_path: Path):
    shared = "\n".join([NOTICE, NOTICE[::-1]])
    found = [
        document("a", shared),
        document("b", f"one {NOTICE[:40]}\n\n{shared}\n\ntwo {NOTICE[40:]}"),
        document("c", "other"),
    ]
    bench = Bench.open(tmp_path)
    clean = bench.annotate(bench.raw(found))
    unique = bench.deduplicate(clean, bench.select(clean), blocks="paragraphs", threshold=None)
    corpus = bench.decontaminate(clean, unique, max_overlap=None, validation_share=0.0001)
    left = {row["id"]: row["text"] for name in ("train-*.parquet", "validation.parquet") for row in rows(corpus, name)}
    assert left["b"] == f"one {NOTICE[:40]}\n\ntwo {NOTICE[40:]}"
