"""What travels with a model: held-out and replayed text of its base, and the labelled rows of all its tasks, in bounds."""

from pathlib import Path

import pyarrow.parquet as pq

from tasks.artifacts import PretrainedModel
from tasks.items import read_items
from tasks.memory import DOCUMENTS_SEEN, Memory, memory_of
from tasks.promotion.remember import MemoryConfig, remember
from tests.tasks.promotion.memories import Labelled, corpus, examples, judge, model, texts


def remembered(
    folder: Path,
    train: list[Labelled],
    heldout: list[Labelled],
    base: PretrainedModel | None = None,
    labels: tuple[str, ...] = ("a", "b"),
    config: MemoryConfig | None = None,
    begins: bool = False,
) -> PretrainedModel:
    """A tuned model with its memory beside it."""
    tuned = model(folder)
    found = {"task": examples(folder / "examples", train, heldout, labels)}
    remember(config or MemoryConfig(), tuned, None, base, found, folder, judge, begins)
    return tuned


def memory(artifact: PretrainedModel) -> Memory:
    found = memory_of(artifact.path)
    assert found is not None
    return found


def rows(artifact: PretrainedModel, split: str, task: str = "task") -> dict[str, str]:
    table = pq.read_table(memory(artifact).examples[task] / f"{split}.parquet")
    return dict(zip(table["text"].to_pylist(), table["label"].to_pylist(), strict=True))


def pretrained(folder: Path, config: MemoryConfig | None = None) -> PretrainedModel:
    artifact = model(folder)
    text = corpus(folder / "corpus", {f"t{n}": f"text {n} " * 20 for n in range(50)}, {f"v{n}": f"é{n}" * 3000 for n in range(9)})
    remember(config or MemoryConfig(), artifact, text, None, {}, folder, judge)
    return artifact


def test_a_pretraining_leaves_beginnings_of_held_out_documents_and_training_text_in_bounds(tmp_path: Path) -> None:
    config = MemoryConfig(validation_documents=5, validation_bytes=101, text_bytes=1_000)
    found = memory(pretrained(tmp_path / "base", config))
    assert found.validation is not None
    assert found.text is not None
    table = pq.read_table(found.validation)
    assert table.schema.equals(DOCUMENTS_SEEN)
    assert table.num_rows == 5
    assert set(table["bytes"].to_pylist()) <= {100, 101}, "an é is cut off whole"
    assert 0 < sum(map(len, texts(found.text))) <= 1_000
    assert found.anchor is not None
    (item,) = read_items(found.anchor)
    assert (item.item, item.bytes) == (str(tmp_path / "base" / "model"), 5)


def test_equal_inputs_leave_equal_bytes(tmp_path: Path) -> None:
    folders = [memory(pretrained(tmp_path / name)).folder for name in ("one", "two")]
    for path in ("validation.parquet", "text.parquet"):
        assert (folders[0] / path).read_bytes() == (folders[1] / path).read_bytes()


def test_a_tuned_model_carries_on_what_its_base_remembers_and_adds_its_own_task(tmp_path: Path) -> None:
    base = pretrained(tmp_path / "base")
    tuned = remembered(tmp_path / "tuned", [("x", "a"), ("y", "b")], [("z", "a")], base)
    for part in ("validation", "text", "anchor"):
        assert getattr(memory(tuned), part) is not None
    assert read_items(memory(tuned).folder / "anchor") == read_items(memory(base).folder / "anchor")
    assert rows(tuned, "train") == {"x": "a", "y": "b"}
    assert not memory(base).examples, "the base's own memory stays as it was"


def test_a_base_without_memory_gives_one_of_examples_alone(tmp_path: Path) -> None:
    tuned = remembered(tmp_path / "tuned", [("x", "a")], [("z", "b")], model(tmp_path / "foreign"))
    assert memory(tuned).validation is memory(tuned).text is memory(tuned).anchor is None
    assert rows(tuned, "heldout") == {"z": "b"}


def test_the_next_nights_memory_has_the_rows_of_all_nights(tmp_path: Path) -> None:
    first = remembered(tmp_path / "first", [("x", "a"), ("y", "b")], [("z", "a")])
    second = remembered(tmp_path / "second", [("new", "a")], [("other", "b"), ("z", "a")], first)
    assert rows(second, "train") == {"x": "a", "y": "b", "new": "a"}
    assert rows(second, "heldout") == {"z": "a", "other": "b"}


def test_a_question_that_is_answered_anew_keeps_its_new_answer_alone(tmp_path: Path) -> None:
    first = remembered(tmp_path / "first", [("x", "a"), ("y", "b")], [("z", "a")])
    second = remembered(tmp_path / "second", [("x", "b")], [("z", "b")], first)
    assert rows(second, "train") == {"x": "b", "y": "b"}
    assert rows(second, "heldout") == {"z": "b"}


def test_no_row_is_on_both_sides_when_the_split_changes(tmp_path: Path) -> None:
    first = remembered(tmp_path / "first", [("x", "a"), ("y", "b")], [("z", "a")])
    second = remembered(tmp_path / "second", [("z", "a")], [("x", "a")], first)
    assert rows(second, "train") == {"z": "a", "y": "b"}
    assert rows(second, "heldout") == {"x": "a"}


def test_rows_of_a_label_that_the_model_does_not_know_are_forgotten(tmp_path: Path) -> None:
    first = remembered(tmp_path / "first", [("x", "gone"), ("y", "b")], [("z", "gone")], labels=("b", "gone"))
    second = remembered(tmp_path / "second", [("new", "a")], [("other", "b")], first)
    assert rows(second, "train") == {"y": "b", "new": "a"}
    assert rows(second, "heldout") == {"other": "b"}


def test_bounds_choose_the_same_rows_however_they_came_in(tmp_path: Path) -> None:
    many = [(f"text {n}", "a") for n in range(100)]
    config = MemoryConfig(train_rows=10, heldout_rows=1)
    one = remembered(tmp_path / "one", many, [("z", "a")], config=config)
    two = remembered(tmp_path / "two", many[::-1], [("z", "a")], config=config)
    assert len(rows(one, "train")) == 10
    assert rows(one, "train") == rows(two, "train")


def test_a_model_that_begins_a_line_is_what_the_line_is_held_against(tmp_path: Path) -> None:
    base = pretrained(tmp_path / "base")
    tuned = remembered(tmp_path / "tuned", [("x", "a"), ("y", "b")], [("z", "a")], base, begins=True)
    (item,) = read_items(memory(tuned).folder / "anchor")
    assert item.item == str(tmp_path / "tuned" / "model")


def test_a_base_that_learned_more_remembers_both_texts_in_equal_parts(tmp_path: Path) -> None:
    config = MemoryConfig(validation_documents=8, text_bytes=2_000)
    before, after = pretrained(tmp_path / "base", config), model(tmp_path / "after")
    text = corpus(tmp_path / "more", {f"n{n}": f"new {n} " * 20 for n in range(50)}, {f"w{n}": f"held {n}" for n in range(9)})
    remember(config, after, text, before, {}, after.path, judge, begins=False)
    found = memory(after)
    assert found.validation is not None
    assert found.text is not None
    assert [sum(one.startswith(word) for one in texts(found.validation)) for word in ("held", "é")] == [4, 4]
    new, old = (sum(len(one) for one in texts(found.text) if one.startswith(word)) for word in ("new", "text"))
    assert 700 < new <= 1_000
    assert 700 < old <= 1_000
    assert found.anchor is not None
    (item,) = read_items(found.anchor)
    assert item.item == str(tmp_path / "base" / "model"), "the anchor of its line is carried on"


def test_little_new_text_leaves_the_old_more_room(tmp_path: Path) -> None:
    config = MemoryConfig(validation_documents=8)
    before, after = pretrained(tmp_path / "base", config), model(tmp_path / "after")
    text = corpus(tmp_path / "more", {"n": "new"}, {"w": "held"})
    remember(config, after, text, before, {}, after.path, judge)
    found = memory(after).validation
    assert found is not None
    assert len(texts(found)) == 8
