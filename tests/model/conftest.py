"""What the tests of the model share: one thread, a tiny model and rows of tokens."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from model.config.model_config import ModelConfig
from model.data.batches import PretrainBatches
from model.data.row_stream import RowStream
from model.data.shard_format import SEGMENT_FIELDS
from model.data.shard_reader import TokenRows
from model.data.shard_writer import write_token_shard

VOCAB = 61
CONTEXT = 16
BOS, EOS, PAD = 0, 1, 2
METADATA: dict[str, int | str | None] = {
    "vocab_size": VOCAB,
    "tokenizer": "t1",
    "packing": "documents",
    "bos": BOS,
    "eos": EOS,
    "pad": PAD,
}


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tiny() -> ModelConfig:
    return ModelConfig(layers=2, width=32, heads=4, kv_heads=2, context=CONTEXT)


@pytest.fixture
def make_shard(tmp_path: Path) -> Callable[[str, int], Path]:
    """Writes a shard of random rows under a name; returns its path. Row i is all of document i."""

    def make(name: str, rows: int) -> Path:
        path = tmp_path / name
        tokens = np.random.default_rng(rows).integers(PAD + 1, VOCAB, (rows, CONTEXT + 1)).astype(np.uint16)
        tokens[:, 0], tokens[:, -1] = BOS, EOS
        columns = [[[CONTEXT + 1]] * rows, [[row] for row in range(rows)], [[0]] * rows]
        beside = pa.table(columns, schema=pa.schema(SEGMENT_FIELDS))
        write_token_shard(path, tokens, beside, METADATA)
        return path

    return make


@pytest.fixture
def pretrain_batches(make_shard: Callable[[str, int], Path]) -> PretrainBatches:
    return PretrainBatches(RowStream({"all": TokenRows.open([make_shard("train.parquet", 50)])}, batch_rows=8, seed=3))
