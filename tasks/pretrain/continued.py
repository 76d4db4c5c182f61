"""Continued pretraining: the weights that it starts from, and how often it reads each kind of text."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model.config.objective_config import ObjectiveConfig
from tasks.errors import UserError
from tasks.inference.folder_writing import TEMPLATE_FILE, TOKENIZER_CONFIG, TOKENS_MAP
from tasks.shards.shards import GENERAL, OWN
from tasks.tokenizer.new_tokens import read_spelled

if TYPE_CHECKING:
    from model.data.row_stream import RowStream
    from model.objectives.objectives import PretrainableModel

TOKENIZER_FILES = ("tokenizer.json", TOKENIZER_CONFIG, TOKENS_MAP, TEMPLATE_FILE)
MOST_EPOCHS = 4  # of the general text; up to so many readings are nearly as good as new text: arXiv 2305.16264


def continued_model(base: Path, tokenizer: Path, objective: ObjectiveConfig, seed: int) -> "PretrainableModel":
    """The model of a base's folder, with a row for each new token of the folder `tokenizer`.

    UserError for weights that cannot be read, and for a model that does not learn the objective.
    """
    from model.huggingface.huggingface import load_folder
    from model.nn.models import LanguageModel, MaskedLanguageModel, Seq2SeqModel
    from model.nn.vocabulary_size import start_new_tokens

    try:
        model = load_folder(base)
    except ValueError as error:
        raise UserError(f"base: {error}") from error
    if not isinstance(model, LanguageModel | MaskedLanguageModel | Seq2SeqModel):
        raise UserError(f"base: a {type(model).__name__} does not learn the objective {objective.kind}. Fix: name a pretrained model.")
    start_new_tokens(model, read_spelled(tokenizer), seed)
    return model.train()


@dataclass(frozen=True)
class Told:
    """What a continued pretraining adds to its outcome."""

    figures: dict[str, float]
    notes: dict[str, str]


def continued_story(stream: "RowStream", steps: int) -> Told:
    """How often a run of so many data steps reads the rows of each group, with a word where the replayed ones come too often."""
    if stream.mixture is None:
        return Told({f"epochs.{OWN}": steps * stream.batch_rows / stream.rows}, {})
    counts = stream.mixture.counts(steps * stream.batch_rows).tolist()
    epochs = {name: count / stream.token_rows[name].rows for name, count in zip(stream.names, counts, strict=True)}
    often = epochs.get(GENERAL, 0.0)
    told = f"general text is read {often:.1f} times, and beyond {MOST_EPOCHS} it teaches little more"
    notes = {"replay": f"{told}: name more of it in replay.sources, or lower replay.share"}
    return Told({f"epochs.{name}": found for name, found in epochs.items()}, notes if often > MOST_EPOCHS else {})
