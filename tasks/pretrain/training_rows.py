"""The rows that a pretraining reads, from what its `training.json` says: for the training itself, and to tell of it later."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from model.config.training_config import ContextPhase, MixturePhase
from model.data.shard_reader import TokenRows, artifact_shards
from tasks.errors import UserError
from tasks.settings import Json

if TYPE_CHECKING:
    from model.data.row_stream import RowStream


def open_stream(payload: Mapping[str, Json], split: str, shards: Path) -> "RowStream":
    """The rows of each step, as `training.json` of a pretraining says, from the shards wherever they lie now.

    UserError for shards that are not whole, or do not fit what the training asks of them.
    """
    from model.data.row_stream import RowStream

    training = payload["training"]
    assert isinstance(training, dict)
    is_training = split == "train"
    mixture, curriculum, window = (payload[key] for key in ("mixture", "curriculum", "window_groups"))
    try:
        groups = {
            name: TokenRows.open(paths, tokenizer=str(payload["tokenizer_fingerprint"]))
            for name, paths in artifact_shards(shards, split).items()
        }
        return RowStream(
            groups,
            batch_rows=int(str(training["batch_rows"])),
            seed=int(str(training["seed"])),
            mixture=[MixturePhase(**phase) for phase in _phases(mixture)] if is_training else (),  # type: ignore[arg-type]
            curriculum=[ContextPhase(**phase) for phase in _phases(curriculum)] if is_training else (),  # type: ignore[arg-type]
            window_groups=int(str(window)) if is_training and window is not None else None,
        )
    except ValueError as error:
        raise UserError(f"pretrain: {error}") from error


def _phases(value: Json) -> Sequence[dict[str, Json]]:
    assert isinstance(value, list)
    return [phase for phase in value if isinstance(phase, dict)]
