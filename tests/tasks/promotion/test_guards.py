"""What a challenger may not be worse at, whatever the deciding figure says."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tasks.errors import UserError
from tasks.inference.task_file import ModelTask
from tasks.promotion.decision import Comparison, Decision
from tests.tasks.promotion.contests import Mind, Tuned, texts, texts_alone, tuned

CHAT = ModelTask("chat", "instruction", ())
BETTER, CHAMPION = Mind(right=0.95), Mind(right=0.6)


def writer(folder: Path, challenger: Mind, champion: Mind | None = CHAMPION, base: Mind | None = None) -> Tuned:
    """A model that was tuned to answer; the champion, and its general text with what the base scored on it."""
    contest = tuned(folder, challenger, champion, task=CHAT)
    memory = contest.room.memory("theirs with text", texts_alone(60), base)
    if champion is None:
        contest.memory = memory
    else:
        contest.rival = contest.room.rival(champion, memory)
    return contest


def guards(decision: Decision) -> dict[str, Comparison]:
    return {one.task: one for one in decision.comparisons if one.role == "guard"}


def test_better_answers_do_not_pay_for_lost_general_text(tmp_path: Path) -> None:
    found = writer(tmp_path, replace(BETTER, bits=2.1)).held()
    guard = guards(found)["general text, against the champion"]
    assert found.comparisons[0].passed
    assert (found.verdict, guard.passed, guard.items, guard.p) == ("refused", False, 60, None)
    assert guard.gain == pytest.approx(-0.1, abs=0.01)
    assert guard.low < guard.gain < guard.high < 0
    assert "guard general text, against the champion: bits_per_byte worse by 0.1" in found.why
    assert "more than the 0.05 that is tolerated" in found.why


def test_small_loss_of_general_text_is_tolerated_as_the_recipe_says(tmp_path: Path) -> None:
    contest = writer(tmp_path, replace(BETTER, bits=2.03))
    assert contest.held().verdict == "promoted"
    (tmp_path / "out" / "judged").rename(tmp_path / "before")
    assert contest.held(general_tolerance=0.01).verdict == "refused"


def test_many_nights_may_not_lose_what_one_may_not(tmp_path: Path) -> None:
    """The champion has lost 0.04 since the base, this night would lose 0.03 more."""
    found = writer(tmp_path, replace(BETTER, bits=2.07), replace(CHAMPION, bits=2.04), base=Mind(bits=2.0)).held()
    assert {name: one.passed for name, one in guards(found).items()} == {
        "general text, against the champion": True,
        "general text, against the base": False,
    }
    assert found.verdict == "refused"
    assert "guard general text, against the base" in found.why


def test_base_that_was_asked_fewer_texts_is_compared_on_those(tmp_path: Path) -> None:
    contest = writer(tmp_path, BETTER, base=Mind(bits=2.0))
    for name in ("items", "figures"):
        path = tmp_path / "memory-theirs with text" / "memory" / "anchor" / f"{name}.parquet"
        table = pq.read_table(path)
        pq.write_table(table.slice(0, 40).take(list(range(40))[::-1]), path)
    assert guards(contest.held())["general text, against the base"].items == 40


def test_first_of_its_name_may_not_lose_general_text_against_its_base(tmp_path: Path) -> None:
    found = writer(tmp_path, replace(BETTER, bits=2.2), None, base=Mind(bits=2.0)).held()
    assert list(guards(found)) == ["general text, against the base"]
    assert found.verdict == "refused"


def test_text_that_travels_with_the_challenger_serves_where_the_champion_has_none(tmp_path: Path) -> None:
    contest = writer(tmp_path, replace(BETTER, bits=2.5))
    assert contest.rival is not None
    contest.rival = replace(contest.rival, memory=None)
    contest.memory = contest.room.memory("mine with text", texts_alone(50))
    found = contest.held()
    assert (found.verdict, guards(found)["general text, against the champion"].items) == ("refused", 50)


def test_general_text_that_is_nowhere_is_told_and_holds_nobody_back(tmp_path: Path) -> None:
    contest = writer(tmp_path, replace(BETTER, bits=9.0))
    assert contest.rival is not None
    contest.rival = replace(contest.rival, memory=None)
    found = contest.held()
    assert (found.verdict, guards(found)["general text"].items) == ("promoted", 0)
    assert found.why.endswith("general text not measured: no general text travels with the champion or the challenger")


@pytest.mark.parametrize(
    ("task", "architecture", "told"),
    [
        (
            ModelTask("tone", "classification", ("bad", "good")),
            "LlamaForSequenceClassification",
            "a model of classification writes no text",
        ),
        (CHAT, "BertForMaskedLM", "a model with the head 'masked' has no bits per byte of text"),
    ],
)
def test_model_without_bits_per_byte_is_not_asked_general_text(tmp_path: Path, task: ModelTask, architecture: str, told: str) -> None:
    contest = writer(tmp_path, BETTER)
    contest.model = contest.room.model("c0ffee2", BETTER, architecture, task)
    found = contest.held()
    assert (found.verdict, guards(found)["general text"].reason) == ("promoted", f"not asked: {told}")
    assert "general text" not in [label for _, label in contest.room.asked]
    assert "not asked" not in found.why


def other_task(folder: Path, challenger: Mind) -> Tuned:
    """The champion was tuned for another task too."""
    contest = tuned(folder, challenger, replace(CHAMPION, other=0.8))
    contest.rival = contest.room.rival(
        replace(CHAMPION, other=0.8), contest.room.memory("of two", tone=texts("asked", 10), other=texts("another", 50))
    )
    return contest


def test_other_tasks_of_the_champion_may_not_get_worse(tmp_path: Path) -> None:
    found = other_task(tmp_path, replace(BETTER, other=0.7)).held()
    assert list(guards(found)) == ["general text", "other"]  # what decides, tone, is no guard
    guard = guards(found)["other"]
    assert (guard.metric, guard.items, guard.gain, guard.margin) == ("accuracy", 50, pytest.approx(-0.1), 0.02)
    assert (found.verdict, guard.passed) == ("refused", False)
    assert "guard other: accuracy worse by 0.1000, more than the 0.02 that is tolerated" in found.why


@pytest.mark.parametrize("tolerance", [0.2, None])
def test_other_tasks_are_as_strict_as_the_recipe_says(tmp_path: Path, tolerance: float | None) -> None:
    found = other_task(tmp_path, replace(BETTER, other=0.7)).held(task_tolerance=tolerance)
    assert found.verdict == "promoted"
    assert ("other" in guards(found)) == (tolerance is not None)


def test_task_that_the_challenger_has_no_head_for_is_not_asked(tmp_path: Path) -> None:
    contest = other_task(tmp_path, BETTER)
    contest.model = contest.room.model("c0ffee2", BETTER, "LlamaForSequenceClassification", ModelTask("tone", "classification", ("a", "b")))
    guard = guards(contest.held())["other"]
    assert (guard.items, guard.passed) == (0, True)
    assert guard.reason == "not asked: the challenger has no head for classification of these labels"


def suite(metric: str, tolerance: float = 0.1) -> list[dict[str, object]]:
    return [{"suite": "suites/bias.yaml", "metric": metric, "tolerance": tolerance}]


@pytest.mark.parametrize(
    ("metric", "value", "passed"),
    [("perplexity", 8.05, True), ("perplexity", 8.2, False), ("rouge_l", 0.45, True), ("rouge_l", 0.3, False)],
)
def test_figure_of_a_named_suite_may_not_get_worse_whichever_way_is_better(tmp_path: Path, metric: str, value: float, passed: bool) -> None:
    found = tuned(tmp_path, replace(BETTER, suite={metric: value}), CHAMPION).held(guards=suite(metric))
    guard = guards(found)["bias"]
    assert (guard.passed, found.verdict) == (passed, "promoted" if passed else "refused")
    assert guard.gain < 0


def test_figure_that_a_suite_does_not_yield_is_the_users_to_mend(tmp_path: Path) -> None:
    contest = tuned(tmp_path, BETTER, CHAMPION)
    with pytest.raises(UserError, match=r"suites/bias\.yaml yields no toxicity of this model, but: perplexity, rouge_l\. Fix: name one"):
        contest.held(guards=suite("toxicity"))


def test_champion_without_the_suites_figure_cannot_be_scored(tmp_path: Path) -> None:
    found = tuned(tmp_path, BETTER, replace(CHAMPION, suite={"perplexity": 8.0})).held(guards=suite("rouge_l"))
    assert found.verdict == "refused"
    assert found.why == "the champion cannot be scored: bias: it yields no rouge_l, only: perplexity"


def test_suite_without_a_champion_is_told(tmp_path: Path) -> None:
    found = tuned(tmp_path, BETTER, None).held(guards=suite("rouge_l"))
    assert found.verdict == "promoted"
    assert "bias not measured: there is no champion to hold it against" in found.why


def test_all_guards_are_measured_where_the_deciding_figure_is_no_better(tmp_path: Path) -> None:
    found = tuned(tmp_path, Mind(right=0.1), CHAMPION).held(guards=suite("rouge_l"))
    assert (found.verdict, guards(found)["bias"].items) == ("refused", 40)


def test_base_is_shown_beside_where_it_is_asked_and_decides_nothing(tmp_path: Path) -> None:
    contest = tuned(tmp_path, Mind(right=0.9), Mind(right=0.5))
    assert contest.rival is not None
    contest.base = contest.rival.model
    found = contest.held()
    (row,) = (one for one in found.comparisons if one.role == "base")
    assert (found.verdict, row.passed, row.task, row.metric) == ("promoted", True, "tone, against the base", "accuracy")
    assert row.gain > 0.3
