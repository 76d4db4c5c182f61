"""Examples: three tasks of the standard library, files of the user, and a split through which nothing leaks."""

import gzip
import json
import tokenize
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tasks.errors import UserError
from tasks.examples.examples import example_digests, prepare_examples
from tasks.examples.kinds.table import AnyExamples
from tasks.examples.stdlib_examples import TOKEN_KINDS, first_paragraph, token_kinds, without_names
from tasks.examples.text_words import spaced
from tasks.ledger import StageOutcome
from tasks.sampling import HELDOUT_SEED, HELDOUT_SHARE, is_heldout
from tasks.settings import identity

Row = dict[str, object]


def run(
    tmp_path: Path, kind: str, source: Row, out: str = "out", **settings: object
) -> tuple[StageOutcome, list[Row], list[Row], list[str]]:
    folder = tmp_path / out
    folder.mkdir()
    config = TypeAdapter(AnyExamples).validate_python({"name": "task", "kind": kind, "source": source, **settings})
    outcome = prepare_examples(config, folder)
    outcome.ledger.check("examples")
    train, heldout = (pq.read_table(folder / f"{side}.parquet").to_pylist() for side in ("train", "heldout"))
    assert outcome.ledger.rows_out == len(train) + len(heldout)
    assert [receipt.rows for receipt in outcome.receipts[:2]] == [len(train), len(heldout)]
    return outcome, train, heldout, json.loads((folder / "labels.json").read_text())


def jsonl(path: Path, *rows: Row) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return str(path)


def labelled(count: int, start: int = 0) -> list[Row]:
    return [{"text": f"text number {n}", "label": "even" if n % 2 == 0 else "odd"} for n in range(start, start + count)]


@pytest.mark.parametrize(
    ("source", "kind", "labels"),
    [
        ("python_signatures", "instruction", 0),
        ("python_areas", "classification", 8),
        ("python_token_kinds", "token_labels", 6),
    ],
)
def test_the_standard_library_gives_enough_of_every_task_and_no_module_stands_on_both_sides(
    source: str, kind: str, labels: int, tmp_path: Path
):
    _, train, heldout, names = run(tmp_path, kind, {"kind": source})
    assert len(train) > 1_000
    assert len(heldout) > 150
    assert len(names) == labels
    assert all(is_heldout(str(row["group"]), HELDOUT_SHARE, HELDOUT_SEED) for row in heldout)
    assert not {row["group"] for row in train} & {row["group"] for row in heldout}
    text = {"instruction": "response", "classification": "text", "token_labels": "tokens"}[kind]
    if kind != "instruction":
        assert not {str(row[text]) for row in train} & {str(row[text]) for row in heldout}


def test_every_area_has_several_modules_in_training_and_one_held_out_and_none_is_most(tmp_path: Path):
    _, train, heldout, names = run(tmp_path, "classification", {"kind": "python_areas"})
    for area in names:
        assert len({row["group"] for row in train if row["label"] == area}) >= 5
        assert sum(row["label"] == area for row in heldout) >= 10
    counts = Counter(row["label"] for row in train)
    assert max(counts.values()) < 5 * min(counts.values())


def test_token_kinds_cover_the_text_and_agree_with_the_tokenizer():
    text = "def f(x):  # note\n    return f'{x}' + 'a' * 2 if not x else None\n"
    tokens, labels = token_kinds(text) or ([], [])
    assert "".join(tokens) == text.rstrip("\n")
    assert [(token.strip(), label) for token, label in zip(tokens, labels, strict=True)][4:12] == [
        (")", "OP"),
        (":", "OP"),
        ("# note", "COMMENT"),
        ("return", "KEYWORD"),
        ("f'{x}'", "STRING"),
        ("+", "OP"),
        ("'a'", "STRING"),
        ("*", "OP"),
    ]
    assert set(labels) <= set(TOKEN_KINDS)
    assert token_kinds("def f(:\n  '''") is None


@given(st.text("ab1 =(),'\"#\n\\:é林{}f", max_size=40))
def test_any_text_either_tokenizes_in_order_or_is_refused(text: str):
    found = token_kinds(text)
    if found is not None:
        assert text.startswith("".join(found[0]))
        assert len(found[0]) == len(found[1])


def test_docstrings_lose_the_name_of_their_module():
    assert without_names("The zipfile module reads ZipInfo and zipfile.", "zipfile") == "The module reads ZipInfo and"
    assert "json" not in without_names("Decode JSON with json.decoder", "json.decoder").lower()
    assert first_paragraph("\n  One\n  line.\n\nMore.") == "One line."
    assert tokenize.tok_name  # the tokenizer's names are those of the running Python


def test_files_are_split_by_the_question_so_that_other_answers_do_not_leak(tmp_path: Path):
    rows = [{"q": f"question {n % 50}", "extra": "", "a": f"answer {n}"} for n in range(200)]
    path = jsonl(tmp_path / "a.jsonl", *rows)
    source = {"kind": "jsonl", "paths": [path], "prompt_field": "q", "input_field": "extra", "response_field": "a"}
    _, train, heldout, labels = run(tmp_path, "instruction", source, heldout_share=0.3)
    assert not {row["prompt"] for row in train} & {row["prompt"] for row in heldout}
    assert len(train) + len(heldout) == 200
    assert labels == []


def test_rows_of_one_group_stay_together(tmp_path: Path):
    rows = [row | {"author": f"a{n % 20}"} for n, row in enumerate(labelled(200))]
    source = {"kind": "jsonl", "paths": [jsonl(tmp_path / "a.jsonl", *rows)], "group_field": "author"}
    _, train, heldout, _ = run(tmp_path, "classification", source, heldout_share=0.3)
    assert not {row["group"] for row in train} & {row["group"] for row in heldout}


def test_a_held_out_text_leaves_training_and_copies_and_unseen_labels_are_counted(tmp_path: Path):
    train = [*labelled(10), labelled(10)[3]]
    heldout = [*labelled(1, 4), {"text": "text number 5", "label": "other answer"}, *labelled(2, 50)]
    source = {
        "kind": "jsonl",
        "paths": [jsonl(tmp_path / "a.jsonl", *train)],
        "heldout_paths": [jsonl(tmp_path / "b.jsonl", *heldout)],
    }
    outcome, kept, judged, labels = run(tmp_path, "classification", source)
    assert outcome.ledger.dropped == {"also_held_out": 2, "duplicate_example": 1, "unseen_label": 1}
    assert (len(kept), len(judged), labels) == (8, 3, ["even", "odd"])


def test_bad_rows_are_counted_by_reason(tmp_path: Path):
    bad: list[Row] = [
        {"text": "", "label": "even"},
        {"text": 3, "label": "odd"},
        {"label": "odd"},
        {"text": "\ud800", "label": "odd"},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, [*labelled(40), *bad])) + "\nnot json\n")
    outcome, *_ = run(tmp_path, "classification", {"kind": "jsonl", "paths": [str(path)]}, heldout_share=0.3)
    assert outcome.ledger.dropped == {"empty_text": 1, "malformed": 1, "missing_field": 1, "not_text": 1, "not_utf8": 1}
    assert pq.read_table(tmp_path / "out" / "rejects.parquet").num_rows == 5


def test_a_wrong_field_name_is_the_users_error(tmp_path: Path):
    path = jsonl(tmp_path / "a.jsonl", *labelled(4))
    with pytest.raises(UserError, match=r"a\.jsonl:1: 4 of 4 rows lack one of text, sentiment; this row has text, label"):
        run(tmp_path, "classification", {"kind": "jsonl", "paths": [path], "label_field": "sentiment"})


def test_one_label_only_and_an_empty_side_are_the_users_errors(tmp_path: Path):
    same = [{"text": f"text {n}", "label": "yes"} for n in range(50)]
    with pytest.raises(UserError, match=r"found 1 label \(yes\)"):
        run(tmp_path, "classification", {"kind": "jsonl", "paths": [jsonl(tmp_path / "a.jsonl", *same)]}, "one", heldout_share=0.5)
    path = jsonl(tmp_path / "b.jsonl", *labelled(3))
    with pytest.raises(UserError, match="no held-out example"):
        run(tmp_path, "classification", {"kind": "jsonl", "paths": [path]}, "two", heldout_share=0.0001)


def test_conll_sentences_keep_their_tokens_and_broken_ones_are_counted(tmp_path: Path):
    sentences = [f"Anna{n}\tB-PER\nsees\tO\nYork\tB-LOC\n" for n in range(30)] + ["lonely\n", "-DOCSTART- O\n"]
    path = tmp_path / "a.conll.gz"
    path.write_bytes(gzip.compress("\n".join(sentences).encode()))
    outcome, train, heldout, labels = run(tmp_path, "token_labels", {"kind": "conll", "paths": [str(path)]}, heldout_share=0.3)
    assert labels == ["B-LOC", "B-PER", "O"]
    assert len(train) + len(heldout) == 30
    assert outcome.ledger.dropped == {"malformed": 1}
    assert outcome.notes == {"structure": "no tokens: 1 document line", "tags": "IOB2 (BIO), learnt as they stand"}
    tokens = train[0]["tokens"]
    assert isinstance(tokens, list)
    assert tokens[1:] == [" sees", " York"]


def test_tokens_join_to_text_with_spaces_only_where_the_script_has_them():
    assert spaced(["He", "said", "你", "好", "OK"]) == ["He", " said", "你", "好", "OK"]
    assert spaced(list("生于1967年")) == list("生于1967年")


def test_csv_without_a_header_names_fields_by_number(tmp_path: Path):
    (tmp_path / "a.tsv").write_text("".join(f'房间{n}很"好\t{"积极" if n % 2 else "消极"}\n' for n in range(60)))
    source = {"kind": "csv", "paths": [str(tmp_path / "a.tsv")], "header": False, "text_field": "0", "label_field": "1"}
    _, train, heldout, labels = run(tmp_path, "classification", source, heldout_share=0.3)
    assert labels == ["消极", "积极"]
    assert len(train) + len(heldout) == 60


def test_the_limit_chooses_the_same_examples_every_time(tmp_path: Path):
    source = {"kind": "jsonl", "paths": [jsonl(tmp_path / "a.jsonl", *labelled(300))]}
    outcome, *first = run(tmp_path, "classification", source, "one", heldout_share=0.3, limit=100)
    assert outcome.ledger.dropped == {"over_limit": 200}
    assert len(first[0]) + len(first[1]) == 100
    run(tmp_path, "classification", source, "two", heldout_share=0.3, limit=100)
    for name in ("train.parquet", "heldout.parquet", "rejects.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize(
    ("kind", "source", "message"),
    [
        ("instruction", {"kind": "python_areas"}, "'python_signatures', 'jsonl'"),
        ("instruction", {"kind": "jsonl", "paths": ["x"], "label_field": "y"}, "label_field"),
        ("classification", {"kind": "jsonl", "paths": ["x"], "header": False}, "header has no meaning"),
        ("token_labels", {"kind": "csv", "paths": ["x"]}, "CSV has not"),
        ("ranking", {"kind": "python_areas"}, "kind"),
    ],
)
def test_settings_that_do_not_fit_are_refused(kind: str, source: Row, message: str):
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(AnyExamples).validate_python({"name": "t", "kind": kind, "source": source})


def test_identity_is_the_content_of_the_files_not_their_folder(tmp_path: Path):
    configs = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = jsonl(tmp_path / folder / "x.jsonl", *labelled(3))
        configs.append(
            TypeAdapter(AnyExamples).validate_python({"name": "t", "kind": "classification", "source": {"kind": "jsonl", "paths": [path]}})
        )
    assert identity(configs[0]) == identity(configs[1])
    assert example_digests(configs[0]) == example_digests(configs[1])
    jsonl(tmp_path / "a" / "x.jsonl", *labelled(4))
    assert example_digests(configs[0]) != example_digests(configs[1])
