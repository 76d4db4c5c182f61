"""Labels as people write them: names, numbers, lists, answers and conversations; what is none is refused with its row and reason."""

import json
import math
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config.heads import IGNORED
from model.config.model_config import ModelConfig
from tasks.errors import UserError
from tasks.examples.kinds.kind import LabelledExamples
from tasks.examples.kinds.table import KINDS
from tasks.examples.label_values import Unlabelled, alike, label_of, sorted_labels, tag_scheme, whole_names
from tasks.examples.rows import encode_examples
from tasks.tokenizer.encoding import load_tokenizer
from tests.tasks.examples.prepared import Row, from_columns, from_rows, prepared
from tests.tasks.foreign import write_bert

MANY = 60


def texts(labels: list[object], extra: list[object]) -> list[Row]:
    """Many rows with the labels in turns, and one row more for each of `extra`."""
    return [{"text": f"text {n}", "label": labels[n % len(labels)]} for n in range(MANY)] + [
        {"text": f"more {n}", "label": label} for n, label in enumerate(extra)
    ]


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (None, "no_label"),
        ("", "no_label"),
        (" \t", "no_label"),
        (math.nan, "no_label"),
        (-100, "ignored_label"),
        ("-100", "ignored_label"),
        (-100.0, "ignored_label"),
        (["good"], "nested_label"),
        ({"name": "good"}, "nested_label"),
        (0.5, "unclear_label"),
        (math.inf, "unclear_label"),
    ],
)
def test_cell_that_is_no_label_is_refused_with_its_row(label: object, reason: str, tmp_path: Path) -> None:
    found = from_rows(tmp_path, "classification", texts(["good", "bad"], [label]))
    assert found.refused == {f"rows.jsonl:{MANY + 1}": reason}
    assert found.labels == ["bad", "good"]


def test_space_around_labels_is_taken_off_and_told(tmp_path: Path) -> None:
    found = from_rows(tmp_path, "classification", texts(["good", "bad"], ["good ", " bad", "\u00a0bad\n"]))
    assert found.labels == ["bad", "good"]
    assert found.outcome.notes == {"labels_trimmed": "space around labels was taken off in 3 examples"}


def test_whole_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    found = from_rows(tmp_path, "classification", texts(list(range(12)), []))
    assert found.labels == [str(n) for n in range(12)]
    assert sorted_labels({"10", "9", "-1", "2.5"}) == ["-1", "2.5", "9", "10"]
    assert sorted_labels({"10", "9", "b"}) == ["10", "9", "b"]


def test_whole_floats_are_the_classes_that_they_stand_for(tmp_path: Path) -> None:
    columns = {
        "text": pa.array([f"text {n}" for n in range(MANY)]),
        "label": pa.array([None if n == 7 else n % 3 for n in range(MANY)], pa.float64()),
    }
    found = from_columns(tmp_path, "classification", columns)
    assert found.labels == ["0", "1", "2"]
    assert found.dropped == {"no_label": 1}


def test_whole_floats_in_csv_are_the_same_classes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"text {n},{n % 3}.0\n" for n in range(MANY)))
    found = prepared(tmp_path, "classification", tmp_path / "a.csv")
    assert found.labels == ["0", "1", "2"]
    assert found.outcome.notes["labels_renamed"] == "0.0 is 0, 1.0 is 1, 2.0 is 2"
    assert whole_names({"1.0", "1.5"}) == whole_names({"1", "2"}) == {}


def test_names_of_classes_in_parquet_are_the_labels(tmp_path: Path) -> None:
    told = {
        "info": {"features": {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}, "text": {"dtype": "string", "_type": "Value"}}}
    }
    columns = {"text": pa.array([f"text {n}" for n in range(MANY)]), "label": pa.array([-1 if n == 7 else n % 2 for n in range(MANY)])}
    found = from_columns(tmp_path, "classification", columns, {"huggingface": json.dumps(told)})
    assert found.labels == ["neg", "pos"]
    assert found.dropped == {"no_label": 1}


@pytest.mark.parametrize("kind", ["Sequence", "List"])
def test_names_of_classes_in_lists_are_the_labels_and_minus_100_is_not_learnt(kind: str, tmp_path: Path) -> None:
    feature = {"feature": {"names": ["O", "B-PER"], "_type": "ClassLabel"}, "_type": kind}
    columns = {
        "tokens": pa.array([["Anna", "sees", f"B{n}"] for n in range(MANY)]),
        "labels": pa.array([[1, 0, -100] for _ in range(MANY)]),
    }
    found = from_columns(tmp_path, "token_labels", columns, {"huggingface": json.dumps({"info": {"features": {"labels": feature}}})})
    assert found.labels == ["B-PER", "O"]
    assert all(row["labels"] == ["B-PER", "O", ""] for row in found.rows)
    assert found.outcome.notes["labels_ignored"] == f"{MANY} tokens are read but not learnt: their label is null or -100"


@pytest.mark.parametrize(
    ("tokens", "labels", "reason"),
    [
        (["a", "b"], ["O", ""], "no_label"),
        (["a", "b"], [None, -100], "no_label"),
        (["a", "b"], ["O", ["B"]], "nested_label"),
        (["a", "b"], ["O", 0.5], "unclear_label"),
        (["a", None], ["O", "O"], "empty_text"),
        (["a", ["b"]], ["O", "O"], "not_text"),
        (["a", "b"], ["O"], "uneven_labels"),
        ("a b", "O O", "no_list"),
    ],
)
def test_sentence_whose_labels_are_none_is_refused(tokens: object, labels: object, reason: str, tmp_path: Path) -> None:
    good: list[Row] = [{"tokens": ["Anna", f"b{n}"], "labels": ["B-PER ", " O"]} for n in range(MANY)]
    found = from_rows(tmp_path, "token_labels", [*good, {"tokens": tokens, "labels": labels}])
    assert found.refused == {f"rows.jsonl:{MANY + 1}": reason}
    assert found.labels == ["B-PER", "O"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["b ", "a"], ["a", "b"]),
        ('["b", "a"]', ["a", "b"]),
        ([], []),
        ([2, 1.0], ["1", "2"]),
        ("a;b", "no_list"),
        (None, "no_label"),
        ([["a"]], "nested_label"),
    ],
)
def test_several_labels_are_a_list(labels: object, expected: object, tmp_path: Path) -> None:
    good: list[Row] = [{"text": f"text {n}", "labels": ["a", "b", "1", "2"]} for n in range(MANY)]
    found = from_rows(tmp_path, "multi_label", [*good, {"text": "one", "labels": labels}])
    kept = [row["labels"] for row in found.rows if row["text"] == "one"]
    assert (kept or [found.refused[f"rows.jsonl:{MANY + 1}"]]) == [expected]


def test_several_labels_in_one_text_are_told_how_to_be_read_and_then_are(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": f"text {n}", "labels": "a, b" if n % 2 else ""}) + "\n" for n in range(MANY))
    )
    with pytest.raises(UserError, match=r"a\.jsonl:1: 60 of 60 rows have no list.*separator"):
        prepared(tmp_path, "multi_label", tmp_path / "a.jsonl")
    found = prepared(tmp_path, "multi_label", tmp_path / "a.jsonl", separator=",")
    assert sorted({tuple(row["labels"]) for row in found.rows}) == [(), ("a", "b")]  # type: ignore[arg-type]
    (tmp_path / "a.csv").write_text("text,labels\n" + "".join(f"text {n},{'a|b' if n % 2 else 'b'}\n" for n in range(MANY)))
    assert prepared(tmp_path, "multi_label", tmp_path / "a.csv", separator="|").labels == ["a", "b"]


@pytest.mark.parametrize(
    ("choices", "answer", "expected"),
    [
        (["red", "blue"], "blue", 1),
        (["red", "blue"], " B ", 1),
        (["red", "blue"], "b)", 1),
        (["red", "blue"], "(A)", 0),
        (["red", "blue"], 1, 1),
        (["red", "blue"], 1.0, 1),
        (["red", "blue"], "1", 1),
        (["1", "2"], "1", 0),
        (["1", "2"], 0, 0),
        ([1, 2], 1, "unclear_choice"),
        ([7, 9], 9, 1),
        (["red", "blue"], "C", "no_such_choice"),
        (["red", "blue"], 3, "no_such_choice"),
        (["red", "blue"], True, "no_such_choice"),
        (["red", "blue"], [1], "no_such_choice"),
        (["red", "blue"], None, "no_answer"),
        (["red", "blue"], "", "no_label"),
        (["red"], "red", "one_choice"),
        ("red, blue", "red", "no_list"),
        ({"text": ["red", "blue"], "label": ["1", "2"]}, "2", 1),
        ({"text": ["red", "blue"], "label": ["B", "A"]}, "A", 1),
    ],
)
def test_answer_is_a_choice_its_letter_or_its_number(choices: object, answer: object, expected: int | str, tmp_path: Path) -> None:
    good: list[Row] = [{"question": f"question {n}", "choices": ["x", "y"], "answer": n % 2} for n in range(MANY)]
    found = from_rows(tmp_path, "multiple_choice", [*good, {"question": "one", "choices": choices, "answer": answer}])
    answers = [row["answer"] for row in found.rows if row["question"] == "one"]
    assert (answers or [found.refused[f"rows.jsonl:{MANY + 1}"]]) == [expected]


def test_numbers_of_choices_count_from_1_where_nothing_else_fits(tmp_path: Path) -> None:
    rows: list[Row] = [{"question": f"question {n}", "choices": ["x", "y", "z"], "answer": n % 3 + 1} for n in range(MANY)]
    found = from_rows(tmp_path, "multiple_choice", rows)
    assert {(row["question"], row["answer"]) for row in found.rows} == {(f"question {n}", n % 3) for n in range(MANY)}
    assert "answers_count_from_1" in found.outcome.notes


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("3.5", 3.5),
        (" -2 ", -2.0),
        (4, 4.0),
        ("n/a", None),
        (math.nan, None),
        (math.inf, None),
        ("1_000", None),
        (True, None),
        ("", None),
        ([1.0], None),
    ],
)
def test_regression_reads_numbers_and_refuses_the_rest(value: object, expected: float | None, tmp_path: Path) -> None:
    good: list[Row] = [{"text": f"text {n}", "value": n / 2} for n in range(MANY)]
    found = from_rows(tmp_path, "regression", [*good, {"text": "one", "value": value}])
    assert [row["value"] for row in found.rows if row["text"] == "one"] == ([] if expected is None else [expected])
    assert found.dropped == ({"not_a_number": 1} if expected is None else {})


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}, ("Hi", "Ho")),
        ({"messages": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]}, ("Hi", "Ho")),
        (
            {"messages": [{"role": "system", "content": "Be."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]},
            ("Be.\nHi", "Ho"),
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, {"role": "assistant", "content": "Ho"}]},
            ("Hi", "Ho"),
        ),
        ({"messages": [{"role": "user", "content": [{"type": "image", "url": "x"}]}, {"role": "assistant", "content": "Ho"}]}, "not_text"),
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": None}]}, "no_answer"),
        ({"messages": [{"role": "user", "content": "Hi"}]}, "no_answer"),
        ({"messages": [{"role": "user", "content": "Hi"}, {"content": "Ho"}]}, "unknown_role"),
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}] * 2}, "several_turns"),
        ({"messages": [{"role": "assistant", "content": "Ho"}]}, "no_question"),
        ({"messages": []}, "empty_text"),
        ({"messages": None}, "empty_text"),
    ],
)
def test_conversation_of_one_question_and_its_answer_is_an_example(row: Row, expected: object, tmp_path: Path) -> None:
    good: list[Row] = [{"messages": [{"role": "user", "content": f"q {n}"}, {"role": "assistant", "content": "yes"}]} for n in range(MANY)]
    found = from_rows(tmp_path, "instruction", [*good, row], messages_field="messages")
    kept = [(row["prompt"], row["response"]) for row in found.rows if not str(row["prompt"]).startswith("q ")]
    assert (kept or [found.refused[f"rows.jsonl:{MANY + 1}"]]) == [expected]


@pytest.mark.parametrize(
    ("prompt", "response", "reason"), [("a", None, "no_answer"), ("a", " ", "no_answer"), (None, "b", "empty_text"), ("a", 3, "not_text")]
)
def test_instruction_without_an_answer_is_refused(prompt: object, response: object, reason: str, tmp_path: Path) -> None:
    good: list[Row] = [{"prompt": f"q {n}", "response": "yes"} for n in range(MANY)]
    found = from_rows(tmp_path, "instruction", [*good, {"prompt": prompt, "response": response}])
    assert found.refused == {f"rows.jsonl:{MANY + 1}": reason}


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        ("classification", {"text": "T", "label": [1]}, "have a list or an object for a label.*kind: multi_label"),
        ("classification", {"text": "T", "label": 0.5}, "have a label such as 0.5.*kind: regression"),
        ("regression", {"text": "T", "value": "good"}, "have no number.*kind: classification"),
        ("multiple_choice", {"question": "T", "choices": ["a", "b"], "answer": "c d"}, "have an answer that is none of the choices"),
        ("token_labels", {"tokens": "T", "labels": "O"}, "have no list"),
        ("instruction", {"messages": [{"role": "user", "content": "T"}]}, "this row has messages. Fix: set messages_field: messages"),
        ("classification", {"text": "T", "sentiment": "good"}, "lack one of text, label; this row has text, sentiment"),
    ],
)
def test_setting_that_fits_no_row_is_told_with_what_fits(kind: str, row: Row, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        from_rows(tmp_path, kind, [{name: f"{value} {n}" if value == "T" else value for name, value in row.items()} for n in range(10)])


def test_small_file_without_labels_costs_its_rows_and_not_the_run(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, rows in (("a", texts(["good", "bad"], [])), ("b", [{"text": "one"}, {"text": "two"}])):
        (tmp_path / "in" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = prepared(tmp_path, "classification", tmp_path / "in" / "a.jsonl", paths=[str(tmp_path / "in")])
    assert found.dropped == {"missing_field": 2}


def test_labels_that_look_alike_stand_for_nothing_or_are_rare_are_told(tmp_path: Path) -> None:
    found = from_rows(
        tmp_path, "classification", texts(["Good", "good", "caf\u00e9", "cafe\u0301", "None"], [f"rare {n}" for n in range(9)])
    )
    assert "'Good' and 'good'" in found.outcome.notes["labels_alike"]
    assert found.outcome.notes["labels_like_no_label"].startswith("'None' (")
    assert "labels_with_one_example" in found.outcome.notes
    assert found.dropped.get("unseen_label", 0) == 0 or "labels_never_trained" in found.outcome.notes
    assert alike(["a", "b", "A b", "a  B"]) == [["A b", "a  B"]]


def test_one_label_alone_is_told_with_counts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"found 1 label \(good\) in \d+ training examples \(\d+ held out, refused: no_label 1\)"):
        from_rows(tmp_path, "classification", texts(["good"], [None]))


def test_scheme_of_tags_is_told_and_the_tags_stand(tmp_path: Path) -> None:
    assert tag_scheme([["B-PER", "I-PER", "O"]]) == "IOB2 (BIO)"
    assert tag_scheme([["I-PER", "I-PER", "O"]]) == "IOB1"
    assert tag_scheme([["B-PER", "E-PER", "S-LOC"]]) == "BIOES"
    assert tag_scheme([["B-PER", "O", "I-LOC"]]) == "BIO in which 1 of 2 spans begin by I-"
    assert tag_scheme([["NOUN", "VERB"]]) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=6,
    )
)
def test_any_cell_is_a_label_that_can_be_stored_or_has_a_reason(cell: object) -> None:
    found = label_of(cell)
    if isinstance(found, Unlabelled):
        return
    assert found == found.strip() != ""
    assert found.encode()


CELLS = st.recursive(
    st.none() | st.booleans() | st.integers(-101, 101) | st.floats() | st.text("ab1-[]{},:\"' ", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["role", "from", "content", "value", "text", "label", "type"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", sorted(KINDS))
@given(st.data())
def test_any_row_is_an_example_or_has_a_reason(kind: str, data: st.DataObject) -> None:
    found = KINDS[kind].check({name: data.draw(CELLS) for name in KINDS[kind].columns})
    assert isinstance(found, str) or set(found) == set(KINDS[kind].columns)
    settle = KINDS[kind].settle
    if settle is not None and not isinstance(found, str):
        assert len(settle([found]).values) == 1


def test_token_that_is_not_to_be_learnt_is_read_and_no_target(tmp_path: Path) -> None:
    columns = {"id": ["a"], "group": ["a"], "tokens": [["apple", " is", " here"]], "labels": [["B", "", "O"]]}
    examples = LabelledExamples(KINDS["token_labels"], ("B", "O"), pa.table(columns))
    tokenizer = load_tokenizer(write_bert(tmp_path / "bert"))
    row = encode_examples(examples, tokenizer, ModelConfig(family="bert", context=16)).table.to_pylist()[0]
    assert len(row["ids"]) == len(row["targets"])
    assert [target for target in row["targets"] if target != IGNORED] == [0, 1]


@pytest.mark.parametrize("field", ["text", "label", "group", "other"])
def test_value_of_any_depth_costs_its_row_at_most(field: str, tmp_path: Path) -> None:
    deep = json.dumps({"text": "deep", "label": "a", "group": "g"} | {field: "HERE"}).replace('"HERE"', "[" * 900 + "]" * 900)
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in texts(["a", "b"], [])) + deep + "\n")
    found = prepared(tmp_path, "classification", file, group_field="group")
    reasons = {"text": {"not_text": 1}, "label": {"nested_label": 1}, "group": {"malformed": 1}, "other": {}}
    assert found.dropped == reasons[field]
    assert len(found.rows) == MANY + (field == "other")


@pytest.mark.parametrize(
    "told",
    ["[" * 100_000, '{"info": {"features": {"label": %s}}}' % ('{"feature": ' * 900 + "1" + "}" * 900), '{"info": null}', "[]", "3"],
)
def test_what_parquet_says_of_its_classes_is_passed_over_where_it_makes_no_sense(told: str, tmp_path: Path) -> None:
    columns = {"text": pa.array([f"text {n}" for n in range(MANY)]), "label": pa.array(["a", "b"] * (MANY // 2))}
    assert from_columns(tmp_path, "classification", columns, {"huggingface": told}).labels == ["a", "b"]
