"""Clean: repairs keep meaning, each rule has its reason, and nothing disappears uncounted."""

import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.artifacts import RawCorpus
from tasks.clean import CleanConfig, clean_documents, judge, repair
from tasks.documents import DOCUMENTS, TableWriter
from tasks.errors import UserError

PROSE = (
    "The harbour was quiet when the ferry came in, and nobody on the quay looked up. A boy counted the lamps along the wall, "
    "lost his place twice, and began again from the other end while his sister laughed at him from an open window."
)
CHINESE = (
    "船进港的时候，码头上很安静，没有一个人抬头。一个男孩数着墙边的灯，数错了两回，又从另一头数起；他的姐姐在窗口笑他。"
    "天色渐渐暗下来，卖鱼的老人把最后一筐鱼抬上了车，回头看了看海，什么话也没有说，慢慢地走了。海面上起了一层薄薄的雾。"
)
CODE = "def area(width, height):\n    if width < 0 or height < 0:\n        raise ValueError('negative')\n    return width * height\n"
ALL_OFF = CleanConfig.model_validate(
    {name: None for name in CleanConfig.model_fields if name.startswith(("min_", "max_"))}
)


def raw(tmp_path: Path, texts: list[str], language: str = "en") -> RawCorpus:
    folder = tmp_path / "raw"
    folder.mkdir()
    rows = [
        {
            "id": str(n),
            "text": t,
            "source": "s",
            "path": str(n),
            "language": language,
            "bytes": len(t.encode()),
            "meta": [],
        }
        for n, t in enumerate(texts)
    ]
    with TableWriter(folder / "documents-00000.parquet", DOCUMENTS) as file:
        file.write(pa.RecordBatch.from_pylist(rows, schema=DOCUMENTS))
    return RawCorpus(str(folder), "raw")


def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.parametrize(("text", "language"), [(PROSE, "en"), (CHINESE, "zh"), (CODE, "code")])
def test_sound_text_passes_every_rule(text: str, language: str):
    assert judge(text, language, CleanConfig()) == (None, None)


def test_repairs_take_off_what_nobody_sees_and_leave_full_width_punctuation():
    assert repair("\ufeffa\u200b\x00b\u202e \t\r\nc\r\u2028d\n\n\n\n\n\ne\n") == "ab\nc\n\nd\n\n\ne"
    assert (
        repair("“你好”，她说：《红楼梦》！\u3000\n\u3000\u3000下一段\tx")
        == "“你好”，她说：《红楼梦》！\n\u3000\u3000下一段\tx"
    )
    assert repair("e\u0301") == "é"


@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_repairing_twice_changes_nothing_more(text: str):
    once = repair(text)
    assert repair(once) == once
    assert unicodedata.is_normalized("NFC", once)


BREAKS = [
    ("min_chars", "short", "en", {}),
    ("max_chars", PROSE, "en", {"max_chars": 150}),
    ("min_letter_share", "1234567890 " * 20, "en", {}),
    ("max_symbol_share", "abcd+=|< " * 30, "en", {}),
    ("min_word_chars", "a b c d e f g h " * 20, "en", {}),
    ("max_word_chars", "incomprehensibilities " * 20, "en", {}),
    ("max_line_share", PROSE, "en", {"max_line_share": 0.5}),
    ("max_duplicate_line_share", f"{PROSE}\n" * 3, "en", {}),
    ("max_repeated_ngram_share", f"{PROSE} " * 4, "en", {}),
    ("max_repeated_ngram_share", CHINESE * 4, "zh", {}),
    ("languages", CHINESE, "zh", {"languages": ["en"]}),
    ("empty", "", "en", {"min_chars": None}),
]


@pytest.mark.parametrize(("reason", "text", "language", "settings"), BREAKS)
def test_each_rule_gives_its_own_reason(reason: str, text: str, language: str, settings: dict[str, object]):
    assert judge(repair(text), language, CleanConfig.model_validate(settings))[0] == reason


def test_thresholds_are_inclusive():
    config = CleanConfig.model_validate({"min_chars": 10, "max_chars": 12, "min_word_chars": None})
    assert [judge(n * "abc "[:1], "zh", config)[0] for n in (9, 10, 12, 13)] == ["min_chars", None, None, "max_chars"]


def test_zero_is_a_threshold_and_null_switches_a_rule_off():
    symbols = "a + b " * 40
    strict = ALL_OFF.model_copy(update={"max_symbol_share": 0.0})
    assert judge(symbols, "en", strict)[0] == "max_symbol_share"
    assert judge(symbols, "en", ALL_OFF) == (None, None)


def test_order_is_kept_and_dropped_text_stands_beside_with_its_figure(tmp_path: Path):
    texts = [PROSE + " one", "too short", PROSE + " two\r\n", CODE + "# three"]
    outcome = clean_documents(CleanConfig(), raw(tmp_path, texts), out(tmp_path))
    outcome.ledger.check("clean")
    kept = pq.read_table(tmp_path / "out" / "documents-00000.parquet").to_pylist()
    dropped = pq.read_table(tmp_path / "out" / "dropped.parquet").to_pylist()
    assert [row["id"] for row in kept] == ["0", "2", "3"]
    assert [(row["text"], row["reason"], row["value"]) for row in dropped] == [("too short", "min_chars", 9.0)]
    assert outcome.ledger.repaired_bytes == 2


def test_when_nothing_is_left_the_rule_to_loosen_is_named(tmp_path: Path):
    with pytest.raises(
        UserError, match=r"0 of 3 documents left; min_chars \(100\) dropped 2 of them\. Fix: lower clean\.min_chars"
    ):
        clean_documents(CleanConfig(), raw(tmp_path, ["short", "shorter", "1234567890 " * 30]), out(tmp_path))


def test_bounds_that_cross_are_refused():
    with pytest.raises(ValidationError, match="above max_chars"):
        CleanConfig.model_validate({"min_chars": 10, "max_chars": 5})
    with pytest.raises(ValidationError):
        CleanConfig.model_validate({"max_symbol_share": 1.5})
