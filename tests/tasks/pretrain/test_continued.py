"""What a continued pretraining tells of its rows: how often it reads its own text and the text that is replayed."""

from pathlib import Path

import pytest

from model.config.training_config import MixturePhase
from model.data.row_stream import RowStream
from model.data.shard_reader import TokenRows
from tasks.pretrain.continued import continued_story
from tests.tasks.pretrain.test_pretrain import write_shards


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 rows in train/en, 8 in train/zh."""
    return write_shards(tmp_path_factory.mktemp("shards"), "b" * 16).path


def stream(rows: Path, share: float) -> RowStream:
    groups = {
        name: TokenRows.open([rows / "train" / folder / "shard-00000.parquet"]) for name, folder in (("own", "en"), ("general", "zh"))
    }
    mixture = [MixturePhase(0, {"own": 1 - share, "general": share})] if share else []
    return RowStream(groups, batch_rows=4, seed=1, mixture=mixture)


def test_readings_of_both_groups_are_told_and_few_need_no_word(rows: Path) -> None:
    told = continued_story(stream(rows, 0.25), steps=8)
    assert told.figures == {"epochs.own": 24 / 12, "epochs.general": 8 / 8}
    assert told.notes == {}


def test_general_text_that_is_read_too_often_is_spoken_of(rows: Path) -> None:
    told = continued_story(stream(rows, 0.5), steps=20)
    assert told.figures["epochs.general"] == 5
    assert told.notes["replay"].startswith(
        "general text is read 5.0 times, and beyond 4 it teaches little more: name more of it in replay.sources"
    )


def test_without_replay_all_text_is_its_own(rows: Path) -> None:
    assert continued_story(stream(rows, 0), steps=10).figures == {"epochs.own": 2.0}
