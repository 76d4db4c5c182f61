"""F1 over whole entities, counted as conlleval counts them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.bootstrap import estimate
from tasks.evaluate.entities import entities, entity_columns

TAGS = st.lists(st.sampled_from(["O", "", *(f"{prefix}-{kind}" for prefix in "BIESLUM" for kind in ("A", "B-C"))]), max_size=12)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-PER I-PER O B-LOC", {("PER", 1, 2), ("LOC", 4, 4)}),
        ("B-PER B-PER I-PER", {("PER", 0, 0), ("PER", 1, 2)}),
        ("O I-PER I-PER O", {("PER", 1, 2)}),  # IOB1, or a model that forgot B-
        ("I-PER I-PER B-PER I-PER", {("PER", 0, 1), ("PER", 2, 3)}),  # IOB1: B- only between two of one kind
        ("I-PER I-LOC", {("PER", 0, 0), ("LOC", 1, 1)}),
        ("B-PER I-LOC I-PER", {("PER", 0, 0), ("LOC", 1, 1), ("PER", 2, 2)}),
        ("B-PER I-PER E-PER S-PER B-LOC E-LOC", {("PER", 0, 2), ("PER", 3, 3), ("LOC", 4, 5)}),
        ("B-PER M-PER E-PER E-PER", {("PER", 0, 2), ("PER", 3, 3)}),
        ("S-PER I-PER", {("PER", 0, 0), ("PER", 1, 1)}),
        ("B-PER L-PER U-PER I-PER", {("PER", 0, 1), ("PER", 2, 2), ("PER", 3, 3)}),
        ("B-PER NOUN I-PER", {("PER", 0, 0), ("PER", 2, 2)}),
        ("B-B-C I-B-C", {("B-C", 0, 1)}),
        ("O O", set[tuple[str, int, int]]()),
        ("", set[tuple[str, int, int]]()),
    ],
)
def test_entity_is_its_type_and_both_ends(tags: str, expected: set[tuple[str, int, int]]) -> None:
    assert entities(tags.split()) == expected


@given(TAGS)
def test_entities_do_not_overlap_and_leave_out_what_is_outside(tags: list[str]) -> None:
    covered = [at for _, first, last in entities(tags) for at in range(first, last + 1)]
    assert sorted(covered) == [at for at, tag in enumerate(tags) if "-" in tag]
    assert all(tags[at].endswith(f"-{kind}") for kind, first, last in entities(tags) for at in range(first, last + 1))


@given(st.sampled_from(["IOB2", "BIOES"]), st.lists(st.sampled_from(["O", "A1", "A2", "B1", "B3"]), max_size=8))
def test_what_a_scheme_writes_is_read_back(scheme: str, parts: list[str]) -> None:
    tags, wanted = list[str](), set[tuple[str, int, int]]()
    for part in parts:
        if part == "O":
            tags.append("O")
            continue
        kind, size = part[0], int(part[1])
        wanted.add((kind, len(tags), len(tags) + size - 1))
        if scheme == "IOB2":
            tags += [f"B-{kind}", *[f"I-{kind}"] * (size - 1)]
        else:
            tags += [f"S-{kind}"] if size == 1 else [f"B-{kind}", *[f"I-{kind}"] * (size - 2), f"E-{kind}"]
    assert entities(tags) == wanted


def test_entity_that_is_a_token_short_is_wrong_twice() -> None:
    wanted = ["B-PER I-PER O B-LOC O".split(), "O O".split()]
    found = ["B-PER O O B-LOC O".split(), "O B-PER".split()]
    columns = entity_columns(found, wanted)
    assert columns.tolist() == [[2, 4], [0, 1]]
    assert estimate("ratio", columns, 100, 1).value == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))  # precision 1/3, recall 1/2


def test_nothing_to_find_and_nothing_found_is_right() -> None:
    assert estimate("ratio", entity_columns([["O"], ["O", "O"]], [["O"], ["O", "O"]]), 100, 1).value == 1.0
    assert estimate("ratio", entity_columns([["O"], ["O", "O"]], [["O"], ["O", "B-A"]]), 100, 1).value == 0.0
