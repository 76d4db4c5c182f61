"""Trials of a search: the recipe as it stands, and recipes with values drawn from the spaces, each checked as any recipe is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from flows.dags import load
from flows.recipe import Recipe
from flows.recipe_edit import spelled
from flows.recipe_fields import value_at
from flows.runner.until_pretraining import PlannedPretraining
from tasks.errors import UserError
from tasks.tune.spaces import Scalar, Space, draws, how_many, rounded

RATE, FINAL = "pretrain.optimizer.learning_rate", "pretrain.optimizer.final_learning_rate"
MOST_DRAWS = 50  # for each trial asked for: of few valid values, most draws are no new trial
Planner = Callable[[Sequence[str]], PlannedPretraining]  # of the recipe with these changes, such as model.layers=4


@dataclass(frozen=True)
class Trial:
    """A recipe to try."""

    number: int  # from 1, which is the recipe as it stands
    values: Mapping[str, Scalar]  # of the fields that are tuned
    changes: Mapping[str, Scalar]  # in the recipe: these, and what follows from them; none of the recipe as it stands
    planned: PlannedPretraining

    @property
    def fingerprint(self) -> str:
        """Of its pretraining."""
        return self.planned.fingerprint


@dataclass(frozen=True)
class Drawn:
    """Trials, and what was drawn and is no recipe."""

    trials: tuple[Trial, ...]
    invalid: tuple[str, ...]  # why, of each

    @property
    def notes(self) -> tuple[str, ...]:
        """Of what was left out."""
        if not self.invalid:
            return ()
        return (f"{len(self.invalid)} of the values drawn do not go together, and are no trials; the first: {self.invalid[0]}",)


def told_values(trial: Trial) -> str:
    """`layers 4, learning_rate 0.003`, for people."""
    shown = ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in trial.values.items())
    return shown if trial.changes else f"the recipe as it stands ({shown})"


def follows(spaces: Mapping[str, Space]) -> bool:
    """Whether the final learning rate is to keep its share of the learning rate."""
    return RATE in spaces and FINAL not in spaces


def changes_of(values: Mapping[str, Scalar], recipe: Recipe) -> dict[str, Scalar]:
    """The values, and the final learning rate at the share that it has in the recipe, unless it is tuned too."""
    rate = values.get(RATE)
    if not isinstance(rate, int | float) or FINAL in values or recipe.pretrain.optimizer.decay == "constant":
        return dict(values)
    own = recipe.pretrain.optimizer
    return {**values, FINAL: rounded(rate * own.final_learning_rate / own.learning_rate)}


def as_overrides(changes: Mapping[str, Scalar]) -> list[str]:
    """As `--set` takes them."""
    return [f"{name}={spelled(value)}" for name, value in changes.items()]


def check_ends(spaces: Mapping[str, Space], recipe: Recipe, path: str, changes: Sequence[str]) -> None:
    """UserError for a choice, or an end of a range, that is not valid in the recipe."""
    for name, space in spaces.items():
        for value in space.ends:
            try:
                load(path, [*changes, *as_overrides(changes_of({name: value}, recipe))])
            except UserError as error:
                told = str(error).removeprefix(f"--set {name}={spelled(value)}: ")
                raise UserError(f"--over {name}: {spelled(value)} is not valid in this recipe: {told}") from None


def draw_trials(spaces: Mapping[str, Space], recipe: Recipe, count: int, seed: int, plan: Planner) -> Drawn:
    """The recipe as it stands, and so many others that there are `count` in all, or as many as there can be."""
    said = recipe.model_dump(mode="json", by_alias=True)
    own = Trial(1, {name: cast(Scalar, value_at(said, name)) for name in spaces}, {}, plan([]))
    trials, seen, invalid = [own], {own.fingerprint}, dict[str, str]()
    most, tried = how_many(spaces), set[str]()
    for number, values in enumerate(draws(spaces, seed)):
        if len(trials) >= count or len(tried) == most or number >= MOST_DRAWS * count:
            break
        told = " ".join(as_overrides(values))
        if told in tried:
            continue
        tried.add(told)
        changes = changes_of(values, recipe)
        try:
            planned = plan(as_overrides(changes))
        except UserError as error:
            invalid[told] = f"{told}: {error}"
            continue
        if planned.fingerprint not in seen:
            seen.add(planned.fingerprint)
            trials.append(Trial(len(trials) + 1, values, changes, planned))
    return Drawn(tuple(trials), tuple(invalid.values()))
