"""The gate: one verdict for each case, and why."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.contracts import check_table
from tasks.errors import UserError
from tasks.promotion.decision import Decision, read_decision
from tasks.promotion.gate import Contest, gate, record
from tasks.promotion.gate_config import GateConfig
from tasks.promotion.history import Entry, EntryKind
from tests.tasks.promotion.contests import (
    LABELS,
    Mind,
    Room,
    Tuned,
    texts,
    texts_alone,
    tuned,
    write_answers,
    write_examples,
)


def entry(kind: EntryKind, fingerprint: str = "", number: int = 1, level: float = 0.005) -> Entry:
    return Entry(number, kind, "2026-05-01T02:00:00+00:00", "mill@host", "2", "1", "2", "better", fingerprint, level, 0.05, "accuracy", 0.1)


def test_challenger_that_is_surely_better_is_promoted(tmp_path: Path) -> None:
    found = tuned(tmp_path, Mind(right=0.9), Mind(right=0.6)).held()
    assert (found.verdict, found.rival, found.rival_version) == ("promoted", "champion, version 3", "3")
    first = found.comparisons[0]
    assert (first.role, first.task, first.metric, first.items, first.clusters) == ("deciding", "tone", "accuracy", 100, 100)
    assert (first.challenger, first.rival, first.gain) == (0.9, 0.6, pytest.approx(0.3))
    assert first.p is not None and first.p <= first.level < first.low  # noqa: PT018
    assert found.why.startswith("surely better: ")
    assert "accuracy 0.9000 against 0.6000 of the champion, version 3 on 100 items" in found.why
    assert found.budget is not None
    assert (found.budget.number, found.budget.level) == (1, first.level)


@pytest.mark.parametrize(
    ("challenger", "champion", "verdict", "told"),
    [
        (0.6, 0.9, "refused", "not better ("),
        (0.8, 0.8, "refused", "not better ("),
        (0.83, 0.8, "cannot tell", "better, but not surely: luck alone does as well with a chance of 0.12"),
    ],
)
def test_challenger_that_is_not_surely_better_is_not_promoted(
    tmp_path: Path, challenger: float, champion: float, verdict: str, told: str
) -> None:
    found = tuned(tmp_path, Mind(right=challenger), Mind(right=champion)).held()
    assert found.verdict == verdict
    assert found.why.startswith(told)


def test_gain_that_is_no_more_than_the_margin_is_refused(tmp_path: Path) -> None:
    contest = tuned(tmp_path, Mind(right=0.9), Mind(right=0.6))
    found = contest.held(margin=0.35)
    assert (found.verdict, found.comparisons[0].margin) == ("refused", 0.35)
    assert found.why.startswith("not better by more than 0.35")


def test_few_items_or_few_groups_cannot_tell_and_spend_nothing(tmp_path: Path) -> None:
    found = tuned(tmp_path, Mind(right=1.0), Mind(right=0.1), heldout=19).held()
    assert (found.verdict, found.budget) == ("cannot tell", None)
    assert found.why == "tone has 19 items to judge on, the gate needs 20 (gate.min_items)"


def test_held_out_rows_of_few_documents_cannot_tell(tmp_path: Path) -> None:
    contest = tuned(tmp_path, Mind(right=1.0), Mind(right=0.1))
    path = contest.scores.path / "items.parquet"
    items = pq.read_table(path)
    groups = [str(number // 10) for number in range(items.num_rows)]
    pq.write_table(items.set_column(items.column_names.index("cluster"), items.schema.field("cluster"), [groups]), path)
    assert contest.held().why == "tone has 100 items of 10 groups to judge on, the gate needs 20 (gate.min_items)"


@pytest.mark.parametrize(("promote", "verdict"), [("always", "promoted"), ("never", "refused")])
def test_what_the_recipe_orders_is_not_compared_and_says_so(tmp_path: Path, promote: str, verdict: str) -> None:
    contest = tuned(tmp_path, Mind(right=0.1), Mind(right=0.9))
    contest.contest = Contest(GateConfig(), promote, "mill-tone", None)  # type: ignore[arg-type]
    found = contest.held()
    assert (found.verdict, found.why) == (verdict, f"the recipe says promote: {promote}; nothing was compared")
    assert (found.comparisons, found.budget, contest.room.asked) == ((), None, [])


@pytest.mark.parametrize("kind", ["promoted", "refused", "cannot tell"])
def test_model_that_was_decided_on_is_not_decided_on_again(tmp_path: Path, kind: EntryKind) -> None:
    contest = tuned(tmp_path, Mind(right=0.9), Mind(right=0.1))
    contest.entries = (entry(kind, "c0ffee"), entry("rolled back", "c0ffee", 2), entry("promoted", "other", 3))
    found = contest.held()
    assert (found.verdict, found.earlier, contest.room.asked) == (kind, True, [])
    assert found.why == "decided on before, as entry 1 of the history (2026-05-01T02:00:00+00:00): better"


def test_champion_is_not_compared_with_itself(tmp_path: Path) -> None:
    contest = tuned(tmp_path, Mind(), Mind())
    assert contest.rival is not None
    contest.rival = replace(contest.rival, fingerprint="c0ffee")
    assert (contest.held().verdict, contest.held().why) == ("refused", "it is the champion already, version 3")


@pytest.mark.parametrize("problem", ["its files, stored at s3://gone, cannot be had", ""])
def test_champion_that_cannot_be_scored_is_no_reason_to_promote(tmp_path: Path, problem: str) -> None:
    contest = tuned(tmp_path, Mind(right=1.0), Mind(refuses="tokenizer.json: not JSON"))
    assert contest.rival is not None
    contest.rival = replace(contest.rival, problem=problem)
    found = contest.held()
    assert (found.verdict, found.budget) == ("refused", None)
    assert found.why == f"the champion cannot be scored: {problem or 'tone: tokenizer.json: not JSON'}"


def test_champion_of_other_software_without_a_memory_is_compared_all_the_same(tmp_path: Path) -> None:
    contest = tuned(tmp_path, Mind(right=0.9), Mind(right=0.6))
    assert contest.rival is not None
    contest.rival = replace(contest.rival, memory=None, fingerprint="")
    assert contest.held().verdict == "promoted"


def test_champion_that_yields_another_figure_is_named(tmp_path: Path) -> None:
    contest = tuned(tmp_path, Mind(right=0.9), Mind(right=0.6))
    judge = contest.room.judge

    def other(model: Path, asked: object, out: Path) -> None:
        judge(model, asked, out)  # type: ignore[arg-type]
        table = pq.read_table(out / "figures.parquet")
        renamed = [["mse"] * table.num_rows]
        pq.write_table(table.set_column(table.column_names.index("metric"), table.schema.field("metric"), renamed), out / "figures.parquet")

    contest.room.judge = other  # type: ignore[method-assign]
    assert contest.held().why == "the champion cannot be scored: tone: it yields no accuracy, only: mse"


def test_first_of_its_name_must_beat_the_trivial_baseline(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    found = tuned(tmp_path / "good", Mind(right=0.9), None).held()
    assert (found.verdict, found.rival, found.rival_version) == ("promoted", "baseline: majority", "")
    below = tuned(tmp_path / "bad", Mind(right=0.4), None).held()
    assert below.verdict == "refused"
    assert "accuracy 0.4000 against 0.5000 of the baseline: majority" in below.why


def test_first_of_its_name_without_a_baseline_cannot_tell(tmp_path: Path) -> None:
    contest = tuned(tmp_path, Mind(right=0.9), None)
    path = contest.scores.path / "figures.parquet"
    table = pq.read_table(path)
    pq.write_table(table.filter([name == "model" for name in table["model"].to_pylist()]), path)
    assert (contest.held().verdict, contest.held().why) == ("cannot tell", "there is no champion, and no baseline's accuracy to beat")


def test_figure_that_the_suite_did_not_measure_is_the_users_to_mend(tmp_path: Path) -> None:
    contest = tuned(tmp_path, Mind(), Mind())
    contest.contest = replace(contest.contest, metric="entity_f1")
    with pytest.raises(UserError, match=r"measured no entity_f1 of classification, only: accuracy\. Fix: add its task"):
        contest.held()


def test_items_that_another_seed_chose_are_asked_anew_of_both(tmp_path: Path) -> None:
    contest = tuned(tmp_path, Mind(right=0.9), Mind(right=0.6))
    for name in ("items", "figures"):  # the evaluation's own order
        path = contest.scores.path / f"{name}.parquet"
        table = pq.read_table(path)
        pq.write_table(table.take(list(range(table.num_rows))[::-1]), path)
    assert contest.held().comparisons[0].gain == pytest.approx(0.3)
    assert [one for one in contest.room.asked if one[1] == "tone"] == [("champion-3", "tone"), ("c0ffee", "tone")]


def test_decisions_before_leave_less_to_err(tmp_path: Path) -> None:
    contest = tuned(tmp_path, Mind(right=0.88), Mind(right=0.8))  # 8 of 8: p of 0.4 %
    assert contest.held().verdict == "promoted"
    contest.entries = tuple(entry("refused", f"{number}", number) for number in range(1, 41))
    (tmp_path / "out" / "judged").rename(tmp_path / "before")
    found = contest.held()
    assert found.verdict == "cannot tell"
    assert found.budget is not None
    assert (found.budget.number, found.budget.spent) == (41, pytest.approx(40 * 0.005 + found.budget.level))


def base(folder: Path, challenger: Mind, champion: Mind, documents: int = 60) -> Tuned:
    """Pretrained models, each with its own held-out text."""
    room = Room(folder)
    model = room.model("c0ffee", challenger)
    rival = room.rival(champion, room.memory("theirs", texts_alone(documents, "theirs") + texts_alone(5, "shared")))
    memory = room.memory("mine", texts_alone(documents, "mine") + texts_alone(5, "shared"))
    scores = room.scores("c0ffee", inputs={"model": "c0ffee", "corpus": "c0de"})
    contest = Contest(GateConfig(), "better", "mill", "bits_per_byte")
    return Tuned(room, challenger, None, scores, model, memory, rival, contest)  # type: ignore[arg-type]


def test_pretrained_model_competes_on_the_held_out_text_of_both(tmp_path: Path) -> None:
    found = base(tmp_path, Mind(bits=1.9), Mind(bits=2.0)).held()
    first = found.comparisons[0]
    assert (found.verdict, first.items, first.metric) == ("promoted", 60 + 60 + 5, "bits_per_byte")
    assert first.gain == pytest.approx(0.1, abs=0.01)
    assert len(found.comparisons) == 1  # general text decides; it is no guard as well
    assert [(one.by, one.part) for one in found.parts] == [("source", "s0"), ("source", "s1"), ("kind of byte", "digits")]
    assert [one.gain > 0 for one in found.parts] == [True] * 3


def test_worse_pretrained_model_is_refused(tmp_path: Path) -> None:
    assert base(tmp_path, Mind(bits=2.1), Mind(bits=2.0)).held().verdict == "refused"


def test_pretrained_model_that_cannot_do_what_nights_taught_the_champion_is_refused(tmp_path: Path) -> None:
    """It has better general text, and would have thrown away what the champion was fine-tuned for."""
    contest = base(tmp_path, Mind(bits=1.9, answer_bits=2.3), Mind(bits=2.0, answer_bits=2.0))
    assert contest.rival is not None
    assert contest.rival.memory is not None
    write_answers(contest.rival.memory.folder / "examples" / "answers", 40)
    found = contest.held()
    assert (found.verdict, found.comparisons[0].passed) == ("refused", True)
    assert "guard answers: bits_per_byte worse by 0.3000, more than the 0.02 that is tolerated" in found.why


def test_first_pretrained_model_must_beat_the_unigram_model(tmp_path: Path) -> None:
    contest = base(tmp_path, Mind(bits=1.9), Mind())
    contest.rival = None
    assert (contest.held().verdict, contest.held().rival) == ("promoted", "baseline: unigram")


def test_losses_over_other_tokens_are_not_compared(tmp_path: Path) -> None:
    contest = base(tmp_path, Mind(bits=1.9), Mind(bits=2.0))
    contest.contest = replace(contest.contest, metric="masked_loss")
    judge = contest.room.judge

    def masked(model: Path, asked: object, out: Path) -> None:
        judge(model, asked, out)  # type: ignore[arg-type]
        table = pq.read_table(out / "figures.parquet")
        table = table.filter([one == "bits_per_byte" for one in table["metric"].to_pylist()])
        tokens = 4.0 if model.parent.name == "c0ffee" else 5.0
        rows = [{**row, "metric": "masked_loss", "columns": [row["columns"][0], tokens]} for row in table.to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows, table.schema), out / "figures.parquet")

    contest.room.judge = masked  # type: ignore[method-assign]
    found = contest.held()
    assert found.verdict == "refused"
    assert found.why.endswith("masked_loss is a mean over tokens, and its tokenizer makes others of the same text")


def test_without_any_held_out_text_pretrained_models_cannot_be_told_apart(tmp_path: Path) -> None:
    contest = base(tmp_path, Mind(), Mind())
    contest.memory = contest.room.memory("empty")
    assert contest.rival is not None
    contest.rival = replace(contest.rival, memory=None)
    assert contest.held().verdict == "cannot tell"
    assert "nothing to judge on" in contest.held().why


def test_items_that_got_better_and_worse_are_shown_with_both_answers(tmp_path: Path) -> None:
    contest = tuned(tmp_path, Mind(right=0.9), Mind(right=0.6))
    found = contest.held()
    assert (len(found.better), found.worse) == (5, ())
    first = found.better[0]
    assert (first.challenger, first.rival, first.gain, first.rival_answer) == (1.0, 0.0, 1.0, "?")
    assert first.challenger_answer == first.expected in LABELS
    assert first.shown.startswith("asked number 6")


def stage(contest: Tuned, out: Path) -> Decision:
    """The decision as the stage writes it, held to its contract."""
    out.mkdir()
    outcome = record(contest.decision(out), out)
    found = read_decision(out)
    assert outcome.notes["verdict"] == found.verdict
    assert outcome.notes["why"] == found.why
    assert outcome.figures["promoted"] == float(found.verdict == "promoted")
    assert [receipt.contract for receipt in outcome.receipts] == ["Decisions"]
    return found


def test_stage_writes_the_decision_and_its_table(tmp_path: Path) -> None:
    contest = tuned(tmp_path, Mind(right=0.9), Mind(right=0.6))
    found = stage(contest, tmp_path / "decided")
    rows = pq.read_table(tmp_path / "decided" / "decision.parquet").to_pylist()
    assert [row["role"] for row in rows] == ["deciding", "guard", "condition", "condition", "condition"]
    assert {row["verdict"] for row in rows} == {"promoted"}
    assert rows[0]["gain"] == found.comparisons[0].gain
    assert rows[1]["gain"] is None  # not measured
    assert rows[2]["items"] == 0


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("passed", None, "passed"),
        ("role", "umpire", "role"),
        ("gain", float("nan"), "gain"),
        ("level", 1.0, "a level between 0 and 1"),
        ("p", 0.0, "a p above 0"),
        ("gain", None, "figures where items were compared"),
        ("high", -1.0, "low <= gain <= high"),
        ("verdict", "perhaps", "verdict"),
        ("reason", "", "reason"),
    ],
)
def test_table_of_a_decision_that_says_nothing_sensible_breaks_its_contract(tmp_path: Path, column: str, value: object, told: str) -> None:
    stage(tuned(tmp_path, Mind(right=0.9), Mind(right=0.6)), tmp_path / "decided")
    path = tmp_path / "decided" / "decision.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[0][column] = value
    pq.write_table(pa.Table.from_pylist(rows, pa.schema([field.with_nullable(True) for field in table.schema])), path)
    with pytest.raises(AssertionError, match=told):
        check_table("Decisions", path)


def test_decision_without_a_comparison_is_a_table_too(tmp_path: Path) -> None:
    contest = tuned(tmp_path, Mind(), Mind())
    contest.contest = replace(contest.contest, promote="never")
    stage(contest, tmp_path / "decided")
    assert pq.read_metadata(tmp_path / "decided" / "decision.parquet").num_rows == 0


def test_same_contest_has_the_same_decision(tmp_path: Path) -> None:
    contest = tuned(tmp_path, Mind(right=0.83), Mind(right=0.8))
    first = stage(contest, tmp_path / "one")
    second = stage(contest, tmp_path / "two")
    assert replace(first, decided="", seconds=0.0) == replace(second, decided="", seconds=0.0)


def test_artifact_that_was_altered_is_not_scored(tmp_path: Path) -> None:
    contest = tuned(tmp_path, Mind(right=1.0), Mind(right=0.1))
    (contest.model.path / "model" / "config.json").write_text("{}")
    found = contest.held()
    assert (found.verdict, found.comparisons, found.budget, contest.room.asked) == ("refused", (), None, [])
    assert found.why.startswith("condition failed: artifact is whole: ")
    assert "config.json has 2 bytes" in found.why


def test_broken_round_trip_refuses(tmp_path: Path) -> None:
    contest = tuned(tmp_path, Mind(right=1.0), Mind(right=0.1))
    contest.room.certified = False
    assert contest.held().why == "condition failed: round trip holds: logits differ by 0.5"


def test_pretrained_model_without_a_decontaminated_corpus_is_refused(tmp_path: Path) -> None:
    contest = base(tmp_path, Mind(bits=1.0), Mind(bits=2.0))
    contest.scores = contest.room.scores("c0ffee", inputs={"model": "c0ffee"})
    found = contest.held()
    assert found.verdict == "refused"
    assert "not checked: the scores name no corpus" in found.why


def test_held_out_rows_that_were_learned_do_not_count(tmp_path: Path) -> None:
    """Ninety questions were learned by heart, in capitals or with a word more: what is left is too little."""
    contest = tuned(tmp_path, Mind(right=0.9), Mind(right=0.4))
    generator = np.random.default_rng(0)
    words = ["".join(map(chr, 97 + generator.integers(0, 26, 5))) for _ in range(400)]
    heldout = [(" ".join(generator.choice(words, 100)), label) for _, label in texts("asked", 100)]
    learned = [(text.upper(), label) for text, label in heldout[:40]] + [(f"{text} again", label) for text, label in heldout[40:90]]
    write_examples(contest.examples.path, learned, heldout)
    contest.scores = contest.room.scores("c0ffee", contest.examples)
    found = contest.held()
    condition = next(one for one in found.conditions if one.name == "held-out text was not learned")
    assert condition.passed
    assert condition.found.endswith("left out of the comparison: 40 that were learned, 50 near copies")
    assert (found.verdict, found.why) == ("cannot tell", "tone has 10 items to judge on, the gate needs 20 (gate.min_items)")


def test_gate_asks_each_model_each_set_once(tmp_path: Path) -> None:
    contest = tuned(tmp_path, Mind(right=0.9), Mind(right=0.6))
    contest.held(guards=[{"suite": "bias.yaml", "metric": "perplexity"}, {"suite": "bias.yaml", "metric": "perplexity"}])
    assert sorted(contest.room.asked) == [("c0ffee", "bias"), ("champion-3", "bias"), ("champion-3", "tone")]


def test_gate_is_called_as_the_flow_calls_it(tmp_path: Path) -> None:
    contest = tuned(tmp_path, Mind(right=0.9), Mind(right=0.6))
    (tmp_path / "out").mkdir()
    found = gate(
        contest.contest,
        contest.model,
        contest.scores,
        contest.memory,
        contest.examples,
        tmp_path / "out",
        contest.rival,
        (),
        contest.room.judge,
        contest.room.certify,
    )
    assert found.seconds >= 0
    assert found.decided.endswith("+00:00")
