"""docs/plan.md says the figures of the code."""

from pathlib import Path

from tasks.planning.advice import MOST_EPOCHS, OPTIMAL
from tasks.planning.estimate import SPREAD_OF_ONE
from tasks.planning.fitting import MOST_SETTINGS, REFUSED
from tasks.planning.hardware import ASSUMED_GPU
from tasks.planning.probe import LONGEST_SECONDS, STEPS
from tasks.planning.training_time import CPU_SHARE, CPU_SPREAD, GPU_SHARE, GPU_SPREAD

PAGE = (Path(__file__).parents[2] / "docs" / "plan.md").read_text(encoding="utf-8")


def test_page_says_what_is_assumed_and_how_far_it_may_lie_off() -> None:
    assert f"at {GPU_SHARE:.0%} MFU".replace("%", " %") in PAGE
    assert f"within a factor of {GPU_SPREAD:g}" in PAGE
    assert f"at {CPU_SHARE:.0%} of".replace("%", " %") in PAGE
    assert f"within a factor of {CPU_SPREAD:g}" in PAGE
    assert f"a factor of {SPREAD_OF_ONE:g}" in PAGE
    assert f"an {ASSUMED_GPU} is assumed" in PAGE


def test_page_says_the_bounds_of_probes_refusals_and_advice() -> None:
    assert f"runs {STEPS} steps ({LONGEST_SECONDS:g} s at most)" in PAGE
    assert f"more than {REFUSED:g} times" in PAGE
    assert MOST_SETTINGS == 3
    assert f"beside the {OPTIMAL:g} that are best" in PAGE
    assert MOST_EPOCHS == 4
