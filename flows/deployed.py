"""Prefect flows: a recipe's path and its overrides are the parameters, so the Prefect UI shows a form."""

import secrets
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_API_URL,
    PREFECT_SERVER_API_AUTH_STRING,
    PREFECT_SERVER_CORS_ALLOWED_ORIGINS,
    temporary_settings,
)

from flows.dags import load
from flows.evaluate import score
from flows.finetune import nightly
from flows.ladder import climb, laddered
from flows.recipe import FinetuneRecipe
from flows.runner.environment import settle
from flows.runner.night import run_night
from flows.runner.report_facts import tell
from flows.runner.room import require_room
from flows.runner.session import run_dag
from tasks.errors import UserError
from tasks.machine import this_machine
from tasks.settings import Json
from tasks.tracking.address import basic, silent


@flow(name="pretrain", flow_run_name="{recipe}")
def pretrain(recipe: str = "configs/demo.yaml", overrides: list[str] | None = None) -> dict[str, Json]:
    """Raw text in; a language model out that is trained, fine-tuned, scored, explained and registered.

    recipe: a YAML file, seen from the project folder. overrides: such as "model.layers=4", a line each.
    """
    return _run("pretrain", recipe, overrides or [])


@flow(name="corpus", flow_run_name="{recipe}")
def corpus(recipe: str = "configs/corpus/mixed.yaml", overrides: list[str] | None = None) -> dict[str, Json]:
    """Raw text in; a corpus out that is mended, measured, without copies and clear of what models are judged on.

    recipe: a YAML file, seen from the project folder. overrides: such as "clean.select.presets=[gopher]", a line each.
    """
    return _run("corpus", recipe, overrides or [])


@flow(name="finetune", flow_run_name="{recipe}")
def finetune(recipe: str = "configs/nightly.yaml", overrides: list[str] | None = None) -> dict[str, Json]:
    """Start from the registered champion and new labelled data; promote the challenger only when it is better.

    recipe: a YAML file, seen from the project folder. overrides: such as "finetune.0.steps=200", a line each.
    """
    return _run("finetune", recipe, overrides or [])


@flow(name="ladder", flow_run_name="{recipe}")
def ladder(recipe: str = "configs/demo.yaml", overrides: list[str] | None = None) -> dict[str, Json]:
    """Train small models of a recipe's own data, and predict the validation loss of its whole run.

    recipe: a YAML file, seen from the project folder. overrides: such as "ladder.rungs=3", a line each.
    """
    settle()
    chosen = laddered(load(recipe, overrides or []).recipe)
    return run_dag("ladder", chosen, lambda run: climb(run, chosen), partial(tell, recipe=chosen, flow_name="ladder")).as_json()


def _run(name: str, recipe: str, overrides: Sequence[str]) -> dict[str, Json]:
    """The body of all flows that follow a recipe."""
    settle()
    loaded = load(recipe, overrides, name)
    require_room(loaded.recipe, loaded.dag, this_machine())
    story = partial(tell, recipe=loaded.recipe, flow_name=name)
    if isinstance(loaded.recipe, FinetuneRecipe) and loaded.recipe.night is not None:
        chosen = loaded.recipe
        return run_night(chosen, lambda run, gathering: nightly(run, chosen, gathering), story).as_json()
    return run_dag(name, loaded.recipe, loaded.dag, story).as_json()


FLOWS = {flow.name: flow for flow in (pretrain, corpus, finetune)}  # that follow a recipe


@flow(name="evaluate", flow_run_name="{model}")
def evaluate(
    model: str = "models:/wordmill@champion", suite: str = "configs/suites/quick.yaml", workspace: str = "workspace"
) -> dict[str, Json]:
    """Score any model on a suite.

    model: a run id, a registry name, an artifact folder or a Hugging Face folder. suite: a YAML file.
    """
    settle()
    rows = score_task(model, suite, workspace)
    create_table_artifact(table=rows, key="scores", description=f"{model} on {suite}")
    return {"scores": [*rows]}


@task(name="score")
def score_task(model: str, suite: str, workspace: str) -> list[dict[str, Json]]:
    """Score the model in the workspace."""
    return [row.to_json() for row in score(model, suite, [], Path(workspace))]


def guarded() -> AbstractContextManager[object]:
    """While open, the temporary server that Prefect starts for a run takes orders from this run alone."""
    if PREFECT_API_URL.value():
        return nullcontext()
    pair = f"wordmill:{secrets.token_urlsafe(24)}"
    return temporary_settings(
        {
            PREFECT_API_AUTH_STRING: pair,
            PREFECT_SERVER_API_AUTH_STRING: pair,
            PREFECT_SERVER_CORS_ALLOWED_ORIGINS: "http://127.0.0.1",
        }
    )


def prefect_problem() -> tuple[str, str | None] | None:
    """The server that Prefect's settings name and why it does not answer us, if it does not; None where none is named."""
    url, pair, key = PREFECT_API_URL.value(), PREFECT_API_AUTH_STRING.value(), PREFECT_API_KEY.value()
    if not url:
        return None
    authorization = basic(pair) if pair else f"Bearer {key}" if key else None  # in the order of Prefect's client
    return url, silent(f"{url.rstrip('/')}/admin/version", authorization)


def require_server() -> None:
    """UserError when a Prefect server is named but silent or refuses us; none named is fine, a temporary one is started."""
    url, problem = prefect_problem() or ("", None)
    if problem is not None:
        raise UserError(
            f"Prefect at {url} {problem}. Start it (make up), set PREFECT_API_AUTH_STRING if it asks for a password, or unset "
            "PREFECT_API_URL and remove prefect.toml to run without one."
        )
