"""CoNLL files as they are found: comments, document lines, ranges and empty nodes are no tokens; a `#` that is one stays."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.errors import UserError
from tests.tasks.examples.prepared import Prepared, from_lines

MANY = 40


def sentences(found: Prepared) -> list[str]:
    return ["".join(map(str, row["tokens"])) for row in found.rows]  # type: ignore[call-overload]


def test_comments_ranges_and_empty_nodes_of_conllu_are_skipped_and_counted(tmp_path: Path) -> None:
    text = "# global.columns = ID FORM LEMMA UPOS XPOS FEATS HEAD DEPREL DEPS MISC\n"
    text += "".join(
        f"# newdoc\n# sent_id = {n}\n# text = vámonos al mar {n}\n"
        "1-2\tvámonos\t_\t_\t_\t_\t_\t_\t_\t_\n"
        "1\tvamos\tir\tVERB\t_\t_\t0\troot\t_\t_\n2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_\n"
        "2.1\tel\tel\tDET\t_\t_\t_\t_\t_\t_\n"
        f"3\t10 000{n}\tmar\tNOUN\t_\t_\t1\tobl\t_\tSpaceAfter=No\n \t \n"
        for n in range(MANY)
    )
    found = from_lines(tmp_path, text, token_column=1, label_column=3)
    assert sorted(sentences(found)) == sorted(f"vamos nos 10 000{n}" for n in range(MANY))
    assert found.labels == ["NOUN", "PRON", "VERB"]
    assert found.dropped == {}
    assert found.outcome.notes["structure"] == "no tokens: 121 comments, 40 empty nodes, 40 multiword ranges"


def test_document_lines_and_comments_by_spaces_are_skipped(tmp_path: Path) -> None:
    text = "-DOCSTART- -X- O O\n\n" + "".join(f"# sent_id = {n}\nAnna{n} NNP B-NP B-PER\nsees VBZ B-VP O\n   \n" for n in range(MANY))
    found = from_lines(tmp_path, text)
    assert found.labels == ["B-PER", "O"]
    assert len(found.rows) == MANY
    assert found.outcome.notes["structure"] == "no tokens: 40 comments, 1 document line"


@pytest.mark.parametrize(
    "comment",
    ["# newpar", "# id c0ffee\tdomain=train", "# text = He is O", "#begin document (nw/01);", "# sent_id = 3", "#sent_id=3", "# O B"],
)
def test_comment_of_any_form_is_no_token(comment: str, tmp_path: Path) -> None:
    found = from_lines(tmp_path, "".join(f"{comment}\nAnna{n} B-PER\nsees O\n\n" for n in range(MANY)))
    assert found.labels == ["B-PER", "O"]
    assert all(str(line).startswith("Anna") for line in sentences(found))


def test_number_sign_that_is_a_token_is_learnt(tmp_path: Path) -> None:
    found = from_lines(tmp_path, "".join(f"#\tO\n#tag{n}\tB-TAG\n#\tO\nyes\tO\n\n" for n in range(MANY)))
    assert sorted(sentences(found)) == sorted(f"# #tag{n} # yes" for n in range(MANY))
    assert "structure" not in found.outcome.notes


def test_tabs_part_columns_where_most_lines_have_one(tmp_path: Path) -> None:
    text = "".join(f"New York {n}\tB-LOC \nis \t O\n\n" for n in range(MANY)) + "no tab here\nbig\tO\n\n"
    found = from_lines(tmp_path, text)
    assert found.labels == ["B-LOC", "O"]
    assert "New York 3 is" in sentences(found)
    assert found.dropped == {"malformed": 1}


@pytest.mark.parametrize(("label", "reason"), [("", "no_label"), ("-100", None)])
def test_line_without_a_label_costs_its_sentence_and_an_ignored_one_does_not(label: str, reason: str | None, tmp_path: Path) -> None:
    text = "".join(f"Anna{n}\tB-PER\nsees\tO\n\n" for n in range(MANY)) + f"lost\t{label}\nhere\tO\n\n"
    found = from_lines(tmp_path, text)
    assert found.labels == ["B-PER", "O"]
    assert found.dropped == ({} if reason is None else {reason: 1})


def test_numbers_of_conllu_are_not_taken_for_tokens(tmp_path: Path) -> None:
    text = "".join(f"1-2\tdunno\t_\n1\tAnna{n}\tPROPN\n2\tsees\tVERB\n2.1\tx\tX\n\n" for n in range(MANY))
    with pytest.raises(UserError, match=r"lines\.conll: the tokens of 40 sentences are 1, 2, 3.*token_column: 1"):
        from_lines(tmp_path, text)


@pytest.mark.parametrize("column", [7, -7])
def test_label_column_that_no_line_has_refuses_the_sentences(tmp_path: Path, column: int) -> None:
    with pytest.raises(UserError, match="malformed"):
        from_lines(tmp_path, "a O\nb O\n# O\n\n" * MANY + "# O\nc O\n", label_column=column)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text("a1#-. =\tO", max_size=12), max_size=12))
def test_lines_of_any_form_cost_their_sentence_at_most(tmp_path: Path, lines: list[str]) -> None:
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    folder.mkdir()
    found = from_lines(folder, "".join(f"Anna{n}\tB-PER\nsees\tO\n\n" for n in range(MANY)) + "\n".join(lines) + "\n")
    assert sum(line.startswith("Anna") for line in sentences(found)) == MANY
