"""The examples of a night: new rows checked, split and set beside what the champion remembers; what is set aside is counted."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from tasks.artifacts import PretrainedModel
from tasks.examples.kinds.kind import TEXT, Example
from tasks.examples.kinds.table import KINDS, AnyExamples
from tasks.inference.task_file import ModelTask, write_task
from tasks.ledger import StageOutcome
from tasks.promotion.drift import DriftConfig, read_drift
from tasks.promotion.gather import gather_examples, gathering
from tasks.promotion.new_rows import close_night, look_for_new, write_chosen
from tasks.sampling import is_heldout
from tests.tasks.promotion.memories import Labelled, model, write_tables

SHARE, SEED = 0.2, 3


def text(number: int) -> str:
    chooser = random.Random(number)
    return " ".join("".join(chooser.choices("abcdefghijklmnop", k=6)) for _ in range(9))


def row(number: int, label: str = "") -> dict[str, object]:
    return {"text": text(number), "label": label or "ab"[number % 2]}


def on_train(found: str) -> bool:
    return not is_heldout(Example("", {"text": found, "label": ""}, "").question, SHARE, SEED)


def numbers(heldout: bool, count: int, start: int) -> list[int]:
    """Numbers of texts that fall on that side."""
    return [n for n in range(start, start + 40 * count) if on_train(text(n)) is not heldout][:count]


LEARNED, HELD = numbers(False, 60, 0), numbers(True, 10, 0)
NEW, NEW_HELD = numbers(False, 20, 10_000), numbers(True, 5, 10_000)


def pairs(found: Sequence[int]) -> list[Labelled]:
    return [(text(n), "ab"[n % 2]) for n in found]


def champion(folder: Path, labels: Sequence[str] = ("b", "a"), memory: bool = True) -> PretrainedModel:
    """A classifier that remembers 60 rows and is judged on 10."""
    found = model(folder)
    write_task(ModelTask("tuned", "classification", tuple(labels)), folder / "model")
    if memory:
        write_tables(folder / "memory" / "examples" / "task", pairs(LEARNED), pairs(HELD), ["a", "b"])
    return found


class Night:
    """A recipe's rows in one file, and what a night gathers of them."""

    def __init__(
        self, root: Path, rows: Sequence[Mapping[str, object]], base: PretrainedModel | None = None, kind: str = "classification"
    ) -> None:
        self.root, self.out = root, root / "out"
        (root / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
        source = {"kind": "jsonl", "paths": [str(root / "rows.jsonl")]}
        values = {"name": "task", "kind": kind, "source": source, "heldout_share": SHARE, "seed": SEED}
        self.config: AnyExamples = TypeAdapter(AnyExamples).validate_python(values)
        self.champion = base or champion(root / "champion")

    def gather(self, replay: float = 0.25, drift: DriftConfig | None = None, out: str = "out") -> StageOutcome:
        news = look_for_new(self.root, "mill", [self.config]).sets["task"]
        config = gathering(self.config, news, write_chosen(self.root, "mill", news), replay, drift or DriftConfig())
        self.out = self.root / out
        self.out.mkdir()
        outcome = gather_examples(config, self.champion, self.out)
        outcome.ledger.check("gather")
        return outcome

    def texts(self, name: str) -> list[str]:
        return pq.read_table(self.out / f"{name}.parquet")["text"].to_pylist()

    def refused(self) -> list[str]:
        return pq.read_table(self.out / "rejects.parquet")["reason"].to_pylist()


def test_new_rows_are_learned_remembered_ones_judged_on_and_replayed(tmp_path: Path) -> None:
    night = Night(tmp_path, [row(n) for n in [*NEW, *NEW_HELD]])
    outcome = night.gather()
    assert sorted(night.texts("train")) == sorted(map(text, NEW))
    assert set(night.texts("heldout")) == {text(n) for n in [*HELD, *NEW_HELD]}
    assert set(night.texts("replay")) == {text(n) for n in LEARNED}
    assert dict(outcome.figures) == {
        "train_examples": 20,
        "heldout_examples": 15,
        "new_heldout_examples": 5,
        "replay_examples": 60,
        "set_aside": 0,
        "labels": 2,
    }
    assert "ends" not in outcome.notes


def test_rows_that_an_earlier_night_used_are_not_gathered_again(tmp_path: Path) -> None:
    night = Night(tmp_path, [row(n) for n in NEW[:10]])
    close_night(tmp_path, "mill", look_for_new(tmp_path, "mill", [night.config]), "promoted", "why")
    night = Night(tmp_path, [row(n) for n in NEW], night.champion)
    night.gather()
    assert sorted(night.texts("train")) == sorted(map(text, NEW[10:]))


def test_labels_keep_the_champions_order_and_new_ones_come_behind(tmp_path: Path) -> None:
    night = Night(tmp_path, [row(n, "b" if n % 3 else "0new") for n in NEW])
    night.gather()
    assert json.loads((night.out / "labels.json").read_text()) == ["b", "a", "0new"]


def test_labels_of_a_champion_of_another_task_are_not_taken_over(tmp_path: Path) -> None:
    night = Night(tmp_path, [row(n) for n in [*NEW, *NEW_HELD]], champion(tmp_path / "other", ("x", "y"), memory=False))
    night.gather()
    assert json.loads((night.out / "labels.json").read_text()) == ["a", "b"]


def test_without_replay_none_is_sampled(tmp_path: Path) -> None:
    night = Night(tmp_path, [row(n) for n in NEW])
    night.gather(replay=0.0)
    assert night.texts("replay") == []


def test_a_question_that_is_answered_anew_is_not_replayed_with_its_old_answer(tmp_path: Path) -> None:
    night = Night(tmp_path, [row(LEARNED[0], "other"), *(row(n) for n in NEW)])
    outcome = night.gather()
    assert text(LEARNED[0]) in night.texts("train")
    assert text(LEARNED[0]) not in night.texts("replay")
    assert outcome.figures["replay_examples"] == 59


def test_a_held_out_row_with_another_answer_replaces_the_one_that_is_remembered(tmp_path: Path) -> None:
    night = Night(tmp_path, [row(HELD[0], "a" if HELD[0] % 2 else "b"), *(row(n) for n in NEW)])
    night.gather()
    assert sorted(night.texts("heldout")) == sorted(text(n) for n in HELD)
    table = pq.read_table(night.out / "heldout.parquet").to_pylist()
    assert {one["label"] for one in table if one["text"] == text(HELD[0])} == {"a" if HELD[0] % 2 else "b"}


def test_rows_that_hold_held_out_text_are_set_aside_with_evidence(tmp_path: Path) -> None:
    copied = next(spelled for n in range(99) if on_train(spelled := f"{text(HELD[0])}{' !' * n}"))
    night = Night(tmp_path, [{"text": copied, "label": "a"}, *(row(n) for n in NEW)])
    outcome = night.gather()
    (evidence,) = pq.read_table(night.out / "matches.parquet").to_pylist()
    assert copied not in night.texts("train")
    assert evidence["item"] == f"examples/{Example('', row(HELD[0]), '').id}"  # pyright: ignore[reportArgumentType]
    assert dict(outcome.ledger.dropped) in ({"near_held_out": 1}, {"held_out_text": 1})


def test_rows_that_hold_general_held_out_text_are_set_aside(tmp_path: Path) -> None:
    general = " ".join(text(n) for n in range(500, 520))
    (held,) = [part for n in range(9) if on_train(part := general[70 * n : 70 * n + 280])][:1]
    night = Night(tmp_path, [{"text": held, "label": "a"}, *(row(n) for n in NEW)])
    table = pq.read_table(tmp_path / "champion" / "memory" / "examples" / "task" / "train.parquet").select(["id", "text"]).slice(0, 1)
    pq.write_table(table.set_column(1, "text", [[general]]), tmp_path / "champion" / "memory" / "validation.parquet")
    outcome = night.gather()
    assert sorted(night.texts("train")) == sorted(map(text, NEW))
    assert dict(outcome.ledger.dropped) == {"near_held_out": 1}


def test_a_row_to_judge_on_that_the_champion_has_learned_is_set_aside(tmp_path: Path) -> None:
    base = model(tmp_path / "champion")
    write_tables(tmp_path / "champion" / "memory" / "examples" / "task", pairs([*LEARNED, NEW_HELD[0]]), pairs(HELD), ["a", "b"])
    night = Night(tmp_path, [row(n) for n in [*NEW, *NEW_HELD]], base)
    outcome = night.gather()
    assert text(NEW_HELD[0]) not in night.texts("heldout")
    assert dict(outcome.ledger.dropped) == {"learned_before": 1}


def test_choices_of_another_number_than_the_champions_are_set_aside(tmp_path: Path) -> None:
    def choice(number: int, choices: int) -> dict[str, object]:
        return {"question": text(number), "choices": [text(number + one) for one in range(choices)], "answer": 0}

    base, folder = model(tmp_path / "champion"), tmp_path / "champion" / "memory" / "examples" / "task"
    folder.mkdir(parents=True)
    for name, found in (("train", LEARNED), ("heldout", HELD)):
        columns = {"id": TEXT, "group": TEXT, **KINDS["multiple_choice"].columns}
        rows = [{"id": str(n), "group": str(n), **choice(n, 3)} for n in found]
        pq.write_table(pa.Table.from_pylist(rows, pa.schema(list(columns.items()))), folder / f"{name}.parquet")
    (folder / "labels.json").write_text("[]")
    night = Night(tmp_path, [choice(n, 4) for n in [*NEW, *NEW_HELD]], base, "multiple_choice")
    outcome = night.gather()
    assert outcome.figures["heldout_examples"] == 10
    assert dict(outcome.ledger.dropped) == {"other_number_of_choices": 25}
    assert outcome.notes["why"] == "nothing to learn from: 25 new rows, all set aside: other_number_of_choices 25"


def test_only_the_broken_rows_of_this_night_are_counted(tmp_path: Path) -> None:
    night = Night(tmp_path, [row(n) for n in NEW[:10]] + [{"text": "no label"}])
    close_night(tmp_path, "mill", look_for_new(tmp_path, "mill", [night.config]), "promoted", "why")
    broken: list[dict[str, object]] = [{"text": "no label"}, {"text": "no label either"}, {"text": " ", "label": "a"}]
    night = Night(tmp_path, [row(n) for n in NEW] + broken, night.champion)
    outcome = night.gather()
    assert dict(outcome.ledger.dropped) == {"missing_field": 1, "empty_text": 1}
    assert sorted(night.refused()) == ["empty_text", "missing_field"]


def test_rows_that_went_between_looking_and_gathering_are_counted(tmp_path: Path) -> None:
    night = Night(tmp_path, [row(n) for n in NEW])
    news = look_for_new(tmp_path, "mill", [night.config]).sets["task"]
    chosen = write_chosen(tmp_path, "mill", news)
    night = Night(tmp_path, [row(n) for n in [*NEW[:18], *NEW_HELD]], night.champion)
    night.out.mkdir()
    outcome = gather_examples(gathering(night.config, news, chosen, 0.25, DriftConfig()), night.champion, night.out)
    assert dict(outcome.ledger.dropped) == {"gone": 2}
    assert sorted(night.texts("train")) == sorted(map(text, NEW[:18])), "nor are rows learned that came meanwhile"


def test_a_night_of_refused_rows_alone_ends_with_the_reason(tmp_path: Path) -> None:
    first = Night(tmp_path, [row(n) for n in NEW])
    close_night(tmp_path, "mill", look_for_new(tmp_path, "mill", [first.config]), "promoted", "why")
    copies: list[dict[str, object]] = [{"text": f"{text(n)} .", "label": "a"} for n in HELD]
    night = Night(tmp_path, [*(row(n) for n in NEW), {"text": "no label"}, *copies], first.champion)
    outcome = night.gather()
    copies_refused = sum(reason == "near_held_out" or reason == "held_out_text" for reason in night.refused())
    assert outcome.figures["train_examples"] == 0
    assert outcome.notes["ends"] == "nothing to learn from"
    assert outcome.notes["why"].startswith("nothing to learn from: 11 new rows, ")
    assert copies_refused >= 5
    assert "missing_field 1" in outcome.notes["why"]


def test_without_held_out_rows_a_night_cannot_tell(tmp_path: Path) -> None:
    outcome = Night(tmp_path, [row(n) for n in NEW], model(tmp_path / "foreign")).gather()
    assert outcome.notes["ends"] == "cannot tell"


@pytest.mark.parametrize("stop", [False, True])
def test_a_drift_is_told_and_ends_the_night_if_the_recipe_says_so(tmp_path: Path, stop: bool) -> None:
    night = Night(tmp_path, [{"text": f"{text(n)} {text(n + 1)} {text(n + 2)}", "label": "a"} for n in range(20_000, 20_300, 3)])
    outcome = night.gather(drift=DriftConfig(stop=stop))
    assert "strong drift of labels" in outcome.notes["drift"]
    assert outcome.figures["drift.lengths"] > 0.25
    assert read_drift(night.out).stops is stop
    assert outcome.notes.get("ends") == ("drift" if stop else None)


def test_equal_rows_in_another_order_are_gathered_to_equal_replays(tmp_path: Path) -> None:
    night = Night(tmp_path, [row(n) for n in NEW])
    night.gather()
    first = night.texts("replay")
    night = Night(tmp_path, [row(n) for n in NEW[::-1]], night.champion)
    night.gather(out="again")
    assert night.texts("replay") == first
