"""Trials: how they are noted when they end, and which one is the best."""

from pathlib import Path

from tasks.tune.trials import TRIALS, Ended, Why, append_ended, best_of, deciding_step, read_ended


def ended(name: str, why: Why, *losses: float) -> Ended:
    return Ended(name, why, tuple((100 * number, loss) for number, loss in enumerate(losses, 1)), 1.0)


def test_end_is_read_as_it_was_noted_and_a_line_that_broke_off_is_passed_over(tmp_path: Path) -> None:
    first, again = ended("a", "unfinished", 3.0), ended("a", "finished", 3.0, 2.5)
    append_ended(tmp_path, first)
    with (tmp_path / TRIALS).open("a") as file:
        file.write('{"fingerprint": "b", "why"')
    append_ended(tmp_path, again)
    assert read_ended(tmp_path) == {"a": again}


def test_best_is_the_least_loss_of_those_that_finished() -> None:
    ends = [ended("a", "finished", 3.0, 2.5), ended("b", "finished", 2.9, 2.4), ended("c", "stopped early", 1.0)]
    assert best_of(ends) == ends[1]
    assert deciding_step(ends) == 200


def test_where_none_finished_they_are_held_against_one_another_at_the_last_step_that_two_share() -> None:
    ends = [ended("a", "unfinished", 3.0, 2.0, 1.9), ended("b", "stopped early", 2.8, 2.1), ended("c", "unfinished", 2.7)]
    assert deciding_step(ends) == 200
    assert best_of(ends) == ends[0]


def test_trial_that_failed_is_never_the_best() -> None:
    ends = [ended("a", "failed", 1.0), ended("b", "stopped early", 2.0)]
    assert best_of(ends) == ends[1]
    assert best_of(ends[:1]) is None
    assert best_of([ended("c", "unfinished")]) is None
