"""Decontaminate: what is judged on never stands in training, and shared boilerplate does not wipe the corpus."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.artifacts import Examples, UniqueCorpus
from tasks.contracts import check_table
from tasks.decontaminate import DecontaminateConfig, decontaminate
from tasks.documents import DOCUMENTS, TableWriter
from tasks.errors import UserError
from tasks.heldout import is_heldout, unit_hash
from tasks.ledger import StageOutcome

CONFIG = DecontaminateConfig()
HELD = next(name for name in map(str, range(99)) if is_heldout(name, CONFIG.heldout_share, CONFIG.heldout_seed))
FREE = next(name for name in map(str, range(99)) if not is_heldout(name, CONFIG.heldout_share, CONFIG.heldout_seed))
Row = dict[str, object]


def words(seed: int, count: int) -> str:
    chooser = random.Random(seed)
    return " ".join("".join(chooser.choices("abcdefghij", k=6)) for _ in range(count))


def han(seed: int, count: int) -> str:
    return "".join(random.Random(seed).choices([chr(code) for code in range(0x4E00, 0x5200)], k=count))


def document(mark: str, text: str, group: str | None = None, language: str = "en") -> Row:
    meta = [("group", group)] if group else []
    size = len(text.encode())
    return {"id": mark, "text": text, "source": "s", "path": "p", "language": language, "bytes": size, "meta": meta}


def examples(tmp_path: Path, *texts: str) -> Examples:
    folder = tmp_path / "examples"
    folder.mkdir()
    rows = [{"id": str(n), "group": "g", "text": text, "label": "x"} for n, text in enumerate(texts)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "heldout.parquet")
    return Examples(str(folder), "e")


def run(
    tmp_path: Path, rows: list[Row], judged: tuple[Examples, ...] = (), **settings: object
) -> tuple[StageOutcome, list[str], list[str]]:
    folder, out = tmp_path / "unique", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    with TableWriter(folder / "documents-00000.parquet", DOCUMENTS) as file:
        file.write(pa.RecordBatch.from_pylist(rows, schema=DOCUMENTS))
    config = DecontaminateConfig.model_validate(settings)
    outcome = decontaminate(config, UniqueCorpus(str(folder), "u"), judged, out)
    outcome.ledger.check("decontaminate")
    names = ("train-00000.parquet", "validation.parquet")
    for name in names:
        check_table("Documents", out / name)
    check_table("Dropped", out / "dropped.parquet")
    train, validation = (pq.read_table(out / name).column("id").to_pylist() for name in names)
    return outcome, train, validation


def test_held_out_groups_are_validation_whole_and_others_training(tmp_path: Path):
    rows = [document(str(n), words(n, 60), HELD if n % 2 else FREE) for n in range(6)]
    outcome, train, validation = run(tmp_path, rows)
    assert (train, validation) == (["0", "2", "4"], ["1", "3", "5"])
    assert (outcome.figures["train_documents"], outcome.figures["validation_documents"]) == (3, 3)


def test_documents_without_a_group_are_split_by_their_id(tmp_path: Path):
    rows = [document(str(n), words(n, 30)) for n in range(200)]
    _, train, validation = run(tmp_path, rows, validation_share=0.2)
    assert validation == [str(n) for n in range(200) if unit_hash(str(n), CONFIG.seed) < 0.2]
    assert len(train) + len(validation) == 200


def test_a_small_corpus_still_has_a_validation_document(tmp_path: Path):
    _, train, validation = run(tmp_path, [document(str(n), words(n, 30)) for n in range(3)], validation_share=0.001)
    assert (len(train), len(validation)) == (2, 1)


def test_one_document_is_too_few(tmp_path: Path):
    with pytest.raises(UserError, match="two documents or more"):
        run(tmp_path, [document("a", words(1, 30))])


def test_when_no_group_is_held_out_the_setting_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"0 of 2 documents in the validation set.*raise decontaminate.heldout_share"):
        run(tmp_path, [document(str(n), words(n, 30), FREE) for n in range(2)])


def test_an_evaluation_text_inside_a_long_training_document_drops_it(tmp_path: Path):
    secret, secret_zh = words(7, 40), han(7, 60)
    rows = [
        document("held", words(1, 60), HELD),
        document("leak", f"{words(2, 400)} {secret.upper()} {words(3, 400)}", FREE),
        document("leak_zh", han(4, 500) + secret_zh + han(5, 500), FREE, "zh"),
        document("sound", words(6, 300), FREE),
    ]
    outcome, train, _ = run(tmp_path, rows, (examples(tmp_path, secret, secret_zh, "too short"),))
    assert train == ["sound"]
    assert outcome.ledger.dropped == {"contaminated": 2}
    assert outcome.figures["items_too_short_to_check"] == 1
    matches = pq.read_table(tmp_path / "out" / "matches.parquet").to_pylist()
    assert [(row["id"], row["item"], row["text"]) for row in matches] == [
        ("leak", "examples/0", secret.upper()),
        ("leak_zh", "examples/1", secret_zh),
    ]
    assert all(row["item_share"] == 1 for row in matches)


def test_chinese_inside_a_document_taken_for_english_is_found(tmp_path: Path):
    secret = han(7, 60)
    rows = [
        document("held", words(1, 60), HELD),
        document("leak", f"{words(2, 900)} {secret}", FREE),
        document("s", words(3, 99), FREE),
    ]
    _, train, _ = run(tmp_path, rows, (examples(tmp_path, secret),))
    assert train == ["s"]


def test_a_shared_licence_header_drops_nothing(tmp_path: Path):
    licence = words(9, 60)
    rows = [document("held", f"{licence} {words(1, 300)}", HELD), document("free", f"{licence} {words(2, 300)}", FREE)]
    _, train, _ = run(tmp_path, rows)
    assert train == ["free"]


def test_a_training_document_made_of_validation_text_is_dropped(tmp_path: Path):
    long = words(1, 2_000)
    part = " ".join(long.split()[100:200])
    rows = [document("held", long, HELD), document("part", part, FREE), document("free", words(2, 100), FREE)]
    outcome, train, _ = run(tmp_path, rows)
    assert train == ["free"]
    row = pq.read_table(tmp_path / "out" / "dropped.parquet").to_pylist()[0]
    assert (row["reason"], row["value"]) == ("contaminated", 1.0)
    assert outcome.ledger.rows_in == 3


def test_overlap_can_be_switched_off_and_a_wiped_corpus_is_the_users_error(tmp_path: Path):
    rows = [document("held", words(1, 50), HELD), document("copy", words(1, 50), FREE)]
    _, train, _ = run(tmp_path, rows, max_overlap=None)
    assert train == ["copy"]
    (tmp_path / "again").mkdir()
    with pytest.raises(UserError, match="all 1 training documents"):
        run(tmp_path / "again", rows)
