"""When a run would be through."""

from tasks.planning.schedule import Job, wall_seconds

#   a 4 ─┬─► b 3 ─┬─► d 2
#        └─► c 5 ─┘
DIAMOND = [Job("a", 4, ()), Job("b", 3, ("a",)), Job("c", 5, ("a",)), Job("d", 2, ("b", "c"))]


def test_with_one_place_it_is_the_sum() -> None:
    assert wall_seconds(DIAMOND, 1) == 14


def test_with_places_enough_it_is_the_longest_way() -> None:
    assert wall_seconds(DIAMOND, 2) == 11


def test_places_that_are_too_few_are_waited_for() -> None:
    assert wall_seconds([Job(name, 3, ()) for name in "abcde"], 2) == 9


def test_trainings_that_start_a_ray_of_their_own_work_one_at_a_time() -> None:
    assert wall_seconds([Job("a", 4, (), True), Job("b", 4, (), True), Job("c", 1, ())], 2) == 8


def test_what_is_done_takes_no_place() -> None:
    assert wall_seconds([Job("done", 0, ()), Job("a", 4, ("done",)), Job("b", 4, ("done", "gone"))], 2) == 4
