"""Best checkpoint: by which figure it is chosen, and when a run ends because nothing gets better."""

import dataclasses
from collections.abc import Collection, Mapping

from model.config.training_config import BestConfig, TrainingConfig
from model.training.checkpoint import TrainingState


def check_measured(training: TrainingConfig, has_validation: bool, more: Collection[str]) -> None:
    """Raises ValueError where the figure by which the best is chosen will not be measured; `more`: names of further validation sets."""
    if training.best is None:
        return
    figure = training.best.figure
    measured = [*(["validation_loss"] if has_validation else []), *(f"validation_loss.{name}" for name in more)]
    if figure not in measured:
        what = f"patience {training.best.patience} waits for" if training.best.patience else "the best checkpoint is chosen by"
        raise ValueError(
            f"best: {what} {figure}, but the training measures {', '.join(measured) or 'none, as there is no validation set'}; "
            "give validation data, name one that is measured, or leave best out"
        )


def judged(state: TrainingState, chosen: BestConfig, losses: Mapping[str, float]) -> tuple[TrainingState, bool]:
    """The state after an evaluation, and whether it is the best so far; `losses` by name, "" being the validation loss itself."""
    figure = losses[chosen.figure.removeprefix("validation_loss").removeprefix(".")]
    if state.best is None or figure < state.best - chosen.least_gain:
        return dataclasses.replace(state, best=figure, best_step=state.step, waited=0), True
    return dataclasses.replace(state, waited=state.waited + 1), False
