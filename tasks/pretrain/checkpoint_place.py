"""Checkpoint place: the second place of a pretraining's checkpoints, which a machine that lost its disk goes on from."""

from pathlib import Path

from model.data.remote_files import open_remote
from model.data.shard_cache import is_url
from tasks.reading.remote import answering
from tasks.settings import given_path

KEY = "pretrain.checkpoint_place"


def place_of(given: str | None, out: Path) -> str | None:
    """Where in a given place the checkpoints of the training in `out` go: PLACE/pretrain/<fingerprint>. Trainings share a place.

    UserError for a place that cannot be opened, or does not answer.
    """
    if given is None:
        return None
    place = given.rstrip("/") if is_url(given) else str(given_path(given).absolute())
    with answering(KEY, place):
        files, path = open_remote(place)
        files.exists(path)
    return f"{place}/pretrain/{out.name.removesuffix('.partial')}"
