"""Fields to tune: what `--over FIELD=SPACE` asks for, and what of a recipe cannot be searched, with the reason."""

from collections.abc import Mapping, Sequence

from flows.recipe import Recipe
from flows.recipe_fields import find_field
from tasks.errors import UserError
from tasks.tune.spaces import Space, parse_space

TUNED = ("model", "pretrain")  # sections
BEFORE = ("ingest", "quality", "clean", "deduplicate", "decontaminate", "examples", "adapt", "replay", "tokenizer", "shards", "heldout")
REFUSED: Mapping[str, str] = {  # field, or the section that it is in -> why
    "pretrain.steps": "trials of other lengths stand at other places of their schedules at the same step. Take those of the whole run",
    "pretrain.objective": "another objective has another loss, by which trials cannot be held against one another",
    "pretrain.evaluate_every": "it says how often is measured, and bears on no loss",
    "pretrain.evaluate_batches": "it says on what is measured: the losses of trials would be of other text",
    "pretrain.checkpoint_every": "it says what is kept, and bears on no loss",
    "pretrain.keep_checkpoints": "it says what is kept, and bears on no loss",
    "pretrain.keep_every": "it says what is kept, and bears on no loss",
    "pretrain.log_every": "it says how often is told, and bears on no loss",
    "pretrain.micro_rows": "it says in what portions a batch is computed, and bears on no loss",
    "pretrain.best": "it says which checkpoint is kept, and when a training ends",
    "pretrain.start": "where a training begins is no setting of it",
}


def spaces_of(over: Sequence[str], recipe: Recipe) -> dict[str, Space]:
    """Field -> space, in the order given. UserError for what cannot be tuned in this recipe."""
    spaces: dict[str, Space] = {}
    for text in over:
        name, equals, given = text.partition("=")
        if not equals or not name or not given:
            raise UserError(
                f"--over {text}: expected FIELD=SPACE, such as model.layers=2,4,6 or pretrain.optimizer.learning_rate=1e-4..1e-2:log"
            )
        if name in spaces:
            raise UserError(f"--over {text}: {name} is given twice; give it once")
        spaces[name] = _space(text, name, given, recipe)
    if not spaces:
        raise UserError("--over: missing. Name what to search, such as --over pretrain.optimizer.learning_rate=1e-4..1e-2:log")
    return spaces


def _space(text: str, name: str, given: str, recipe: Recipe) -> Space:
    try:
        field = find_field(Recipe, name)
    except UserError as error:
        raise UserError(f"--over {text}: {error}") from None
    why = "it says where, or how fast, not what: tuning over it finds nothing" if field.is_placement else _refusal(name, recipe)
    if why is None and field.takes is None:
        why = "it is a section or a list; a field of one value can be tuned"
    if why is not None or field.takes is None:
        raise UserError(f"--over {text}: {name}: {why}.")
    try:
        return parse_space(given, field.takes)
    except ValueError as error:
        raise UserError(f"--over {text}: {name}: {error}.") from error


def _refusal(name: str, recipe: Recipe) -> str | None:
    section = name.partition(".")[0]
    if section in BEFORE:
        return (
            "it stands before the pretraining. Of other text or other tokens the loss by token is another measure, by which trials "
            "cannot be held against one another. Fields of model and pretrain can be tuned"
        )
    if section not in TUNED:
        return "it does not bear on the pretraining, whose validation loss decides. Fields of model and pretrain can be tuned"
    if section == "model" and recipe.start is not None:
        return "the model has the shape of its base. Fields of pretrain can be tuned"
    return next((why for place, why in REFUSED.items() if name == place or name.startswith(f"{place}.")), None)
