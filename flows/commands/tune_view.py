"""Views of a search: a trial a row, the best, the recipe that was written with its diff, and the next command."""

import shlex

from rich.text import Text

from flows.commands.tables import rendered, table_of
from flows.commands.tune_asked import Asked
from flows.commands.tune_result import Tuned
from flows.commands.tune_trials import Trial, told_values
from flows.runner.summaries import duration
from tasks.settings import Json


def next_command(asked: Asked, tuned: Tuned) -> str:
    """The run that is still to be made."""
    changes = [part for change in asked.changes for part in ("--set", change)]
    return shlex.join(["wordmill", "run", str(tuned.written or asked.recipe), *changes])


def tuned_view(asked: Asked, tuned: Tuned) -> str:
    """For people."""
    names = list(tuned.best.values)
    table = table_of("trial>", *(f"{name.rpartition('.')[2]}>" for name in names), "steps>", "validation loss>", "time>", "ended")
    for trial in tuned.trials:
        table.add_row(*_cells(tuned, trial), style="green" if trial is tuned.best else "")
    lines = [rendered(table), f"best: trial {tuned.best.number}, {told_values(tuned.best)}: {_told(tuned)}"]
    if tuned.written is None:
        lines.append(f"None of the others is better: no recipe is written. Next: {next_command(asked, tuned)}")
    else:
        lines += [f"wrote {tuned.written}:", "", tuned.diff, ""]
    lines += [f"note: {note}" for note in (*_doubts(tuned), *tuned.notes)]
    lines += [f"MLflow: {tuned.tracking}"]
    lines += [f"next: {next_command(asked, tuned)}"] if tuned.written is not None else []
    return "\n".join(lines)


def _cells(tuned: Tuned, trial: Trial) -> list[Text]:
    ended, loss = tuned.ended.get(trial.fingerprint), tuned.loss_of(trial)
    why = "not begun" if ended is None else ended.why
    values = [f"{value:g}" if isinstance(value, float) else str(value) for value in trial.values.values()]
    return [
        Text(cell)
        for cell in (
            str(trial.number),
            *values,
            "" if ended is None else f"{ended.step:,}",
            "" if loss is None else f"{loss:.4f}",
            "" if ended is None else duration(ended.seconds),
            f"{why}{'' if trial.changes else ' (recipe as it stands)'}",
        )
    ]


def _told(tuned: Tuned) -> str:
    best = tuned.ended[tuned.best.fingerprint]
    own = tuned.ended.get(tuned.trials[0].fingerprint)
    step = best.step if best.why == "finished" else tuned.step
    loss, before = best.loss_at(step), None if own is None else own.loss_at(step)
    told = f"validation loss {loss:.4f} at step {step:,}"
    if before is None or loss is None or not tuned.best.changes:
        return told
    return f"{told}, {before - loss:.4f} below the recipe as it stands ({before:.4f})"


def _doubts(tuned: Tuned) -> list[str]:
    """What the figures do not show."""
    measured = sum(tuned.loss_of(trial) is not None for trial in tuned.trials)
    doubts = [
        f"the best of {measured} trials of one seed is also the luckiest of them: part of its lead is chance. Trials measure the "
        "validation loss alone; what the whole run scores is still to be seen"
    ]
    if tuned.ended[tuned.best.fingerprint].why != "finished":
        doubts.append(
            f"no trial came to its last step: they are held against one another at step {tuned.step:,}, where the order may still change"
        )
    return doubts


def tuned_json(asked: Asked, tuned: Tuned) -> dict[str, Json]:
    """The documented form."""
    trials: list[Json] = []
    for trial in tuned.trials:
        ended = tuned.ended.get(trial.fingerprint)
        trials.append(
            {
                "trial": trial.number,
                "fingerprint": trial.fingerprint,
                "values": dict(trial.values),
                "step": 0 if ended is None else ended.step,
                "validation_loss": tuned.loss_of(trial),
                "seconds": 0.0 if ended is None else ended.seconds,
                "ended": "not begun" if ended is None else ended.why,
                "told": "" if ended is None else ended.told,
            }
        )
    return {
        "trials": trials,
        "best": tuned.best.number,
        "step": tuned.step,
        "written": None if tuned.written is None else str(tuned.written),
        "diff": tuned.diff,
        "folder": str(tuned.folder),
        "tracking": tuned.tracking,
        "notes": [*_doubts(tuned), *tuned.notes],
        "next": next_command(asked, tuned),
    }
