"""Night: a recipe run over the labelled rows that no night has used, from the first look to the morning page."""

import logging
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from tasks.promotion.gather import GatherConfig

from flows.recipe import FinetuneRecipe
from flows.runner.execution import Execution
from flows.runner.morning import leave_morning
from flows.runner.session import RunSummary
from flows.stages import Outcome
from tasks.artifacts import Workspace
from tasks.examples.kinds.table import AnyExamples
from tasks.promotion.new_rows import NewRows, NightVerdict, look_for_new, write_chosen
from tasks.report.facts import RunStory

logger = logging.getLogger("wordmill")

Dag = Callable[[Execution], Outcome]


@dataclass(frozen=True)
class Night:
    """What became of a night, for who called it."""

    verdict: NightVerdict
    why: str
    rows: str  # in words
    summary: RunSummary | None  # None where no stage ran


def run_night(
    recipe: FinetuneRecipe, dag: Callable[[Mapping[str, GatherConfig]], Dag], story: Callable[[Execution, float], RunStory]
) -> Night:
    """Look for new rows; learn from them, judge, register; leave the state, the morning page and a message.

    A night that fails leaves champion and used rows as they were.
    """
    workspace = Workspace(recipe.workspace).open()
    with alone(workspace, recipe.name):
        began, started = time.monotonic(), datetime.now(UTC)
        news = look_for_new(workspace.root, recipe.name, used_sets(recipe))
        logger.info("night: %s", news.told)
        if not news.has_news:
            night = Night("nothing new", news.told, news.told, None)
        else:
            night = learn(recipe, news, dag, story)
        leave_morning(recipe, night, news, started, time.monotonic() - began)
        return night


def used_sets(recipe: FinetuneRecipe) -> list[AnyExamples]:
    """The sets of examples that a fine-tuning learns from."""
    used = {name for tuning in recipe.finetune for name in tuning.sets}
    return [entry for entry in recipe.examples if entry.name in used]


@contextmanager
def alone(workspace: Workspace, recipe: str) -> Generator[None]:
    """One night of a recipe at a time; another one waits."""
    folder = workspace.root / "locks"
    folder.mkdir(exist_ok=True)
    lock = FileLock(folder / f"night-{recipe}.lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("night: another night of %s is at work; this one waits for it", recipe)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def gathering(workspace: Path, recipe: FinetuneRecipe, news: NewRows) -> dict[str, GatherConfig]:
    """What each set of examples is gathered from, by its name."""
    assert recipe.night is not None
    return {
        entry.name: GatherConfig.of(entry, recipe.night, news.sets[entry.name], write_chosen(workspace, recipe.name, news.sets[entry.name]))
        for entry in used_sets(recipe)
    }
