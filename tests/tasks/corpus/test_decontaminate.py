"""Decontaminate: what is judged on never stands in training, and shared boilerplate does not wipe the corpus."""

import json
import random
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.artifacts import Corpus, Examples
from tasks.corpus.decontaminate import (
    DecontaminateConfig,
    _check_some_left,  # pyright: ignore[reportPrivateUsage]
)
from tasks.errors import UserError
from tasks.ledger import Ledger
from tasks.sampling import is_heldout, unit_hash
from tests.tasks.corpus_run import Bench, Row, all_bytes, document, ids, rows

CONFIG = DecontaminateConfig()
HELD = next(name for name in map(str, range(99)) if is_heldout(name, CONFIG.heldout_share, CONFIG.heldout_seed))
FREE = next(name for name in map(str, range(99)) if not is_heldout(name, CONFIG.heldout_share, CONFIG.heldout_seed))


def words(seed: int, count: int) -> str:
    chooser = random.Random(seed)
    return " ".join("".join(chooser.choices("abcdefghij", k=6)) for _ in range(count))


def han(seed: int, count: int) -> str:
    return "".join(random.Random(seed).choices([chr(code) for code in range(0x4E00, 0x5200)], k=count))


def examples(folder: Path, *texts: str) -> Examples:
    folder.mkdir()
    found = [{"id": str(n), "group": "g", "text": text, "label": "x"} for n, text in enumerate(texts)]
    pq.write_table(pa.Table.from_pylist(found), folder / "heldout.parquet")
    return Examples(str(folder), "e")


def run(folder: Path, found: list[Row], judged: tuple[Examples, ...] = (), keep: str = "first", **settings: object) -> Corpus:
    bench = Bench.open(folder)
    clean = bench.annotate(bench.raw(found[: len(found) // 2], found[len(found) // 2 :]))
    unique = bench.deduplicate(clean, bench.select(clean), keep=keep)
    return bench.decontaminate(clean, unique, judged, **settings)


def test_held_out_groups_are_validation_whole_and_others_training(tmp_path: Path):
    corpus = run(tmp_path, [document(str(n), words(n, 60), HELD if n % 2 else FREE) for n in range(6)])
    assert ids(corpus, "train-*.parquet") == ["0", "2", "4"]
    assert ids(corpus, "validation.parquet") == ["1", "3", "5"]
    assert (corpus.figures["train_documents"], corpus.figures["validation_documents"]) == (3, 3)


def test_documents_without_a_group_are_split_by_their_id(tmp_path: Path):
    corpus = run(tmp_path, [document(str(n), words(n, 30)) for n in range(200)], validation_share=0.2)
    assert ids(corpus, "validation.parquet") == [str(n) for n in range(200) if unit_hash(str(n), CONFIG.seed) < 0.2]
    assert corpus.ledger.rows_out == 200


def test_a_test_set_is_set_apart_when_asked_for(tmp_path: Path):
    corpus = run(tmp_path, [document(str(n), words(n, 30)) for n in range(200)], validation_share=0.1, test_share=0.2)
    chosen = [n for n in range(200) if 0.1 <= unit_hash(str(n), CONFIG.seed) < 0.1 + 0.2]
    assert ids(corpus, "test.parquet") == [str(n) for n in chosen]
    assert corpus.figures["test_documents"] == len(chosen)


def test_a_small_corpus_still_has_a_validation_document(tmp_path: Path):
    corpus = run(tmp_path, [document(str(n), words(n, 30)) for n in range(3)], validation_share=0.001)
    assert (corpus.figures["train_documents"], corpus.figures["validation_documents"]) == (2, 1)


def test_the_validation_set_of_a_large_corpus_is_bounded(tmp_path: Path):
    found = [document(str(n), words(n, 30)) for n in range(200)]
    corpus = run(tmp_path, found, validation_share=0.5, max_validation_bytes=2_000)
    assert 0 < corpus.figures["validation_bytes"] < 6_000


def test_no_near_copy_crosses_the_split(tmp_path: Path):
    base = [words(n, 60) for n in range(40)]
    found = [document(f"{n}-{copy}", text + f" {copy}") for n, text in enumerate(base) for copy in range(3)]
    corpus = run(tmp_path, found, keep="all", validation_share=0.3, max_overlap=None)
    train, validation = ({id_.split("-")[0] for id_ in ids(corpus, name)} for name in ("train-*.parquet", "validation.parquet"))
    assert validation
    assert not train & validation
    assert corpus.ledger.rows_out == 120


def test_one_document_is_too_few(tmp_path: Path):
    with pytest.raises(UserError, match="found 1 documents, expected one to learn from and one to judge on"):
        run(tmp_path, [document("a", words(1, 30))])


def test_when_no_group_is_held_out_the_setting_is_named(tmp_path: Path):
    with pytest.raises(
        UserError, match=r"0 of 2 documents in the validation set.*\(1 groups, 0 documents in none\). Fix: raise heldout.share \(0.12\), or"
    ):
        run(tmp_path, [document(str(n), words(n, 30), FREE) for n in range(2)])


@pytest.mark.parametrize(
    ("groups", "settings", "fix"),
    [
        ([HELD, HELD], {}, "Fix: lower heldout.share (0.12), or choose another heldout.seed."),
        ([None, None], {"validation_share": 0.9999}, "Fix: lower decontaminate.validation_share (0.9999) and test_share (0.0), or"),
        ([HELD, None], {"validation_share": 0.9999}, "or choose another decontaminate.seed; or lower heldout.share"),
        ([FREE, None], {"test_share": 0.9999, "validation_share": 0.00001}, "Fix: lower decontaminate.test_share (0.9999)."),
    ],
)
def test_a_split_that_leaves_a_side_empty_names_the_keys_that_did_it(
    tmp_path: Path, groups: list[str | None], settings: dict[str, object], fix: str
):
    with pytest.raises(UserError, match=re.escape(fix)):
        run(tmp_path, [document(str(n), words(n, 30), group) for n, group in enumerate(groups)], **settings)


@pytest.mark.parametrize(
    ("dropped", "said"),
    [
        ({"mixture": 3}, "mixture dropped 3. Fix: raise the shares of decontaminate.mixture."),
        ({"mixture": 1, "repeated_blocks": 2}, "repeated_blocks dropped 2, mixture dropped 1. Fix: leave out deduplicate.blocks, or raise"),
        ({"contaminated": 2}, "Fix: raise decontaminate.max_overlap (0.3) or set decontaminate.action to mark, or"),
    ],
)
def test_when_no_training_document_is_left_every_reason_has_its_fix(dropped: dict[str, int], said: str):
    with pytest.raises(UserError, match=re.escape(said)):
        _check_some_left(CONFIG, Ledger(rows_in=5, rows_out=2, dropped=dropped), 0.0)


def test_an_evaluation_text_inside_a_long_training_document_drops_it(tmp_path: Path):
    secret, secret_zh = words(7, 40), han(7, 60)
    found = [
        document("held", words(1, 60), HELD),
        document("leak", f"{words(2, 400)} {secret.upper()} {words(3, 400)}", FREE),
        document("leak_zh", han(4, 500) + secret_zh + han(5, 500), FREE, "zh"),
        document("sound", words(6, 300), FREE),
    ]
    corpus = run(tmp_path / "w", found, (examples(tmp_path / "e", secret, secret_zh, "too short"),))
    assert ids(corpus, "train-*.parquet") == ["sound"]
    assert corpus.ledger.dropped == {"contaminated": 2}
    assert corpus.figures["items_too_short_to_check"] == 1
    matches = rows(corpus, "matches-*.parquet")
    assert [(row["id"], row["item"], row["text"], row["units"]) for row in matches] == [
        ("leak", "examples/0", secret.upper(), 40),
        ("leak_zh", "examples/1", secret_zh, 60),
    ]
    assert all(row["item_share"] == 1 for row in matches)


def leaking(secret: str) -> list[Row]:
    return [
        document("held", words(1, 60), HELD),
        document("leak", f"{words(2, 100)} {secret} {words(3, 100)}", FREE),
        document("sound", words(6, 300), FREE),
    ]


def test_a_shared_run_can_be_cut_out_and_the_rest_stays(tmp_path: Path):
    secret = words(7, 40)
    corpus = run(tmp_path / "w", leaking(secret), (examples(tmp_path / "e", secret),), action="cut")
    texts = {row["id"]: row["text"] for row in rows(corpus, "train-*.parquet")}
    assert texts["leak"] == f"{words(2, 100)}\n{words(3, 100)}"
    assert corpus.ledger.repaired_bytes == len(secret) + 1
    assert [row["action"] for row in rows(corpus, "matches-*.parquet")] == ["cut"]


def test_a_contaminated_document_can_be_marked_only(tmp_path: Path):
    secret = words(7, 40)
    corpus = run(tmp_path / "w", leaking(secret), (examples(tmp_path / "e", secret),), action="mark")
    marked = {row["id"]: dict(row["meta"]).get("contaminated") for row in rows(corpus, "train-*.parquet")}  # type: ignore[call-overload]
    assert marked == {"leak": "examples/0", "sound": None}
    assert corpus.ledger.dropped == {}


def test_text_on_the_allow_list_is_no_contamination(tmp_path: Path):
    licence = words(7, 40)
    (tmp_path / "licence.txt").write_text(licence)
    judged = (examples(tmp_path / "e", licence),)
    corpus = run(tmp_path / "w", leaking(licence), judged, allow=[str(tmp_path / "licence.txt")])
    assert ids(corpus, "train-*.parquet") == ["leak", "sound"]
    with pytest.raises(UserError, match=r"decontaminate.allow: nowhere.txt is no file"):
        run(tmp_path / "x", leaking(licence), judged, allow=["nowhere.txt"])


def test_an_allowed_text_may_be_in_any_charset(tmp_path: Path):
    licence = "本磨坊的文字可以自由地复制和分发，但是必须保留这一段说明，并且写上磨坊的名字和年份，不得用于出售。"
    (tmp_path / "licence.txt").write_bytes(licence.encode("gb18030"))
    found = [document("held", words(1, 60), HELD), document("quote", licence, FREE, "zh"), document("sound", words(2, 60), FREE)]
    corpus = run(tmp_path / "w", found, (examples(tmp_path / "e", licence),), allow=[str(tmp_path / "licence.txt")])
    assert ids(corpus, "train-*.parquet") == ["quote", "sound"]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "found 0 words or characters, expected at least an n-gram (13 words, 24"),
        (b"All rights reserved.\n", "found 3 words or characters, expected at least"),
        (bytes(range(256)) * 9, "licence.txt:1: found not_text, expected text. Fix: save the file as UTF-8."),
    ],
)
def test_an_allowed_text_that_allows_nothing_is_refused(tmp_path: Path, raw: bytes, said: str):
    (tmp_path / "licence.txt").write_bytes(raw)
    with pytest.raises(UserError, match=re.escape(said)):
        run(tmp_path / "w", leaking(words(7, 40)), allow=[str(tmp_path / "licence.txt")])


def test_a_benchmark_of_which_no_item_can_be_looked_for_is_refused(tmp_path: Path):
    (tmp_path / "quiz.jsonl").write_text('{"question": "Who mills?"}\n{"question": "Who bakes the bread of the town?"}\n')
    quiz = {"name": "quiz", "kind": "jsonl", "paths": [str(tmp_path / "quiz.jsonl")]}
    with pytest.raises(UserError, match=r"benchmark 'quiz': each of its 2 items is shorter than an n-gram \(13 words, 24 .*ngram_words"):
        run(tmp_path / "w", leaking(words(7, 40)), benchmarks=[quiz])
    assert run(tmp_path / "x", leaking(words(7, 40)), benchmarks=[quiz], ngram_words=5).figures["items_too_short_to_check"] == 1


def test_a_benchmark_file_is_kept_out_of_training(tmp_path: Path):
    secret = words(7, 40)
    item = {"id": 5, "question": {"text": secret}, "choices": ["yes", "no"]}
    (tmp_path / "quiz.jsonl").write_text(json.dumps({"question": "short"}) + "\n" + json.dumps(item) + "\n")
    quiz = {"name": "quiz", "kind": "jsonl", "paths": [str(tmp_path / "quiz.jsonl")]}
    corpus = run(tmp_path / "w", leaking(secret), benchmarks=[quiz])
    assert ids(corpus, "train-*.parquet") == ["sound"]
    assert [row["item"] for row in rows(corpus, "matches-*.parquet")] == ["quiz/quiz.jsonl:2"]
    with pytest.raises(
        UserError, match=r"benchmark 'quiz': no row has a field 'answer'; the rows have question, id, choices. Fix: correct fields"
    ):
        run(tmp_path / "x", leaking(secret), benchmarks=[{**quiz, "fields": ["answer"]}])


def test_chinese_inside_a_document_taken_for_english_is_found(tmp_path: Path):
    secret = han(7, 60)
    found = [
        document("held", words(1, 60), HELD),
        document("leak", f"{words(2, 900)} {secret}", FREE),
        document("s", words(3, 99), FREE),
    ]
    corpus = run(tmp_path / "w", found, (examples(tmp_path / "e", secret),))
    assert ids(corpus, "train-*.parquet") == ["s"]


def test_a_thai_benchmark_item_inside_a_training_document_drops_it(tmp_path: Path):
    item = "แม่น้ำสายใดไหลผ่านเมืองเก่าที่มีสะพานหินสามโค้ง"
    (tmp_path / "quiz.jsonl").write_text(json.dumps({"question": item}))
    quiz = {"name": "quiz", "kind": "jsonl", "paths": [str(tmp_path / "quiz.jsonl")]}
    text = "ชาวนานำข้าวเปลือกมาที่โรงสีริมน้ำทุกเช้า" * 3
    found = [
        document("held", words(1, 60), HELD),
        document("leak", f"{text}{item}{text}", FREE, "th"),
        document("sound", text, FREE, "th"),
    ]
    corpus = run(tmp_path / "w", found, benchmarks=[quiz])
    assert ids(corpus, "train-*.parquet") == ["sound"]
    assert [(row["item"], row["text"]) for row in rows(corpus, "matches-*.parquet")] == [("quiz/quiz.jsonl:1", item)]
    assert corpus.figures["items_too_short_to_check"] == 0


def test_a_shared_licence_header_drops_nothing(tmp_path: Path):
    licence = words(9, 60)
    found = [document("held", f"{licence} {words(1, 300)}", HELD), document("free", f"{licence} {words(2, 300)}", FREE)]
    assert ids(run(tmp_path, found), "train-*.parquet") == ["free"]


def test_a_training_document_made_of_validation_text_is_dropped(tmp_path: Path):
    long = words(1, 2_000)
    part = " ".join(long.split()[100:200])
    found = [document("held", long, HELD), document("part", part, FREE), document("free", words(2, 100), FREE)]
    corpus = run(tmp_path, found)
    assert ids(corpus, "train-*.parquet") == ["free"]
    row = rows(corpus, "dropped-*.parquet")[0]
    assert (row["reason"], row["value"]) == ("contaminated", 1.0)
    assert corpus.ledger.rows_in == 3


def test_the_mixture_takes_its_share_of_a_language(tmp_path: Path):
    found = [document(f"e{n}", words(n, 30)) for n in range(100)] + [document(f"z{n}", han(n, 60), language="zh") for n in range(100)]
    corpus = run(tmp_path, found, mixture=[{"language": "zh", "share": 0.25}])
    train = ids(corpus, "train-*.parquet")
    assert corpus.ledger.dropped == {"mixture": 200 - corpus.ledger.rows_out}
    assert 10 <= sum(id_.startswith("z") for id_ in train) <= 40
    assert sum(id_.startswith("e") for id_ in train) > 90
    told = {(row["split"], row["language"]): row["documents"] for row in rows(corpus, "mixture.parquet")}
    assert told["train", "zh"] == sum(id_.startswith("z") for id_ in train)


def test_overlap_can_be_switched_off_and_a_wiped_corpus_is_the_users_error(tmp_path: Path):
    found = [document("held", words(1, 50), HELD), document("copy", f"{words(1, 50)} {words(4, 100)}", FREE)]
    assert ids(run(tmp_path / "off", found, max_overlap=None), "train-*.parquet") == ["copy"]
    with pytest.raises(UserError, match="no training document is left; contaminated dropped 1"):
        run(tmp_path / "on", found)


def test_two_runs_give_the_same_bytes(tmp_path: Path):
    found = [document(str(n), words(n % 30, 60)) for n in range(60)]
    one, two = (run(tmp_path / name, found, keep="all", validation_share=0.2) for name in ("one", "two"))
    assert all_bytes(one) == all_bytes(two)
