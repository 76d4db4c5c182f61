"""Night: a recipe run over the labelled rows that no night has used, from the first look to the morning page."""

import logging
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from filelock import FileLock, Timeout

from flows.recipe import FinetuneRecipe
from flows.runner.execution import Execution
from flows.runner.morning import Told, leave_morning, night_of
from flows.runner.session import RunSummary, run_dag
from flows.stages import Outcome
from flows.tonight import used_sets, what_to_gather
from tasks.artifacts import Workspace
from tasks.promotion.gather import GatherConfig
from tasks.promotion.new_rows import NewRows, close_night, look_for_new, write_chosen
from tasks.report.facts import RunStory

logger = logging.getLogger("wordmill")

NightDag = Callable[[Execution, Mapping[str, GatherConfig]], Outcome]


def run_night(recipe: FinetuneRecipe, dag: NightDag, story: Callable[[Execution, float], RunStory]) -> RunSummary:
    """Look for new rows; learn from them, judge, register; leave the state, the morning page and a message.

    A night that fails leaves champion and used rows as they were.
    """
    workspace = Workspace(recipe.workspace).open()
    with alone(workspace, recipe.name):
        told = Told(recipe, workspace, datetime.now(UTC), time.monotonic())
        news = look_for_new(workspace.root, recipe.name, used_sets(recipe))
        logger.info("night: %s", news.told)
        if not news.has_news:
            leave_morning(told, news, "nothing new", news.told)
            return RunSummary((), None, "", (), (), "", time.monotonic() - told.clock, (news.told,))
        try:
            return learn(told, news, dag, story)
        except Exception as error:
            leave_morning(told, news, "failed", str(error).splitlines()[0] if str(error) else type(error).__name__)
            raise


def learn(told: Told, news: NewRows, dag: NightDag, story: Callable[[Execution, float], RunStory]) -> RunSummary:
    """Run the DAG over what is new, and close the night."""
    root, name = told.workspace.root, told.recipe.name
    chosen = what_to_gather(told.recipe, news, lambda found: write_chosen(root, name, found))

    def close(execution: Execution, summary: RunSummary) -> None:
        night = night_of(execution)
        close_night(told.workspace.root, told.recipe.name, news, night.verdict, night.why)
        leave_morning(told, news, night.state, night.why, execution, summary)

    return run_dag("finetune", told.recipe, lambda execution: dag(execution, chosen), story, close)


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
