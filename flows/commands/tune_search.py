"""Search of recipe fields, ready to begin: its trials, its folder, and the steps at which trials are ended."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.commands.tune_asked import Asked, check_asked
from flows.commands.tune_trials import Drawn, Trial, draw_trials
from flows.dags import load
from flows.recipe import Recipe, check_sources
from flows.runner.until_pretraining import PlannedPretraining, plan_pretraining
from tasks.artifacts import Workspace, fingerprint
from tasks.errors import UserError
from tasks.settings import Json, identity
from tasks.tracking.address import require_answer, tracking_address
from tasks.tune.search import KEEPS
from tasks.tune.spaces import Space


@dataclass(frozen=True)
class Search:
    """A search that is ready to begin."""

    asked: Asked
    recipe: Recipe
    workspace: Workspace
    spaces: Mapping[str, Space]
    drawn: Drawn
    target: Path
    tracking: str

    @property
    def own(self) -> Trial:
        """The recipe as it stands."""
        return self.drawn.trials[0]

    @property
    def folder(self) -> Path:
        """Where it is kept: the same for the same recipe, spaces and seed, however many trials and minutes."""
        told: Json = {"spaces": {name: identity(space) for name, space in self.spaces.items()}, "seed": self.asked.seed}
        return self.workspace.folder("tune", fingerprint("tune", told, {"pretrain": self.own.fingerprint}))

    @property
    def first_rung(self) -> int:
        """Steps before a trial may be ended: a measurement at which no learning rate is rising any more."""
        every = self.recipe.pretrain.evaluate_every
        warmup = max(trial.planned.config.pretrain.optimizer.warmup_steps for trial in self.drawn.trials)
        return min(every * max(1, math.ceil(warmup / every)), self.recipe.pretrain.steps)

    @property
    def rungs(self) -> list[int]:
        """Steps at which ASHA ends trials."""
        return [step for power in range(64) if (step := self.first_rung * KEEPS**power) < self.recipe.pretrain.steps]


def prepare(asked: Asked) -> Search:
    """Checks it and draws its trials; nothing is started. UserError for what cannot be searched."""
    checked = check_asked(asked)
    recipe = checked.recipe
    check_sources(recipe)
    workspace = Workspace(recipe.workspace).open()
    tracking = tracking_address(recipe.tracking.uri, workspace)
    require_answer(tracking)
    drawn = draw_trials(checked.spaces, recipe, asked.trials, asked.seed, lambda changes: plan(asked, changes))
    if len(drawn.trials) < 2:
        raise UserError(f"--over: no other recipe than the one as it stands can be tried. {' '.join(drawn.notes)}")
    return Search(asked, recipe, workspace, checked.spaces, drawn, checked.target, tracking)


def plan(asked: Asked, changes: Sequence[str]) -> PlannedPretraining:
    """The pretraining of the recipe with these changes. UserError where they make no recipe."""
    loaded = load(asked.recipe, [*asked.changes, *changes])
    assert isinstance(loaded.recipe, Recipe)
    workspace = Workspace(loaded.recipe.workspace)
    return plan_pretraining(loaded.dag, workspace, tracking_address(loaded.recipe.tracking.uri, workspace))
