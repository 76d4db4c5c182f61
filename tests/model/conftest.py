"""What the tests of the model share: one thread, a tiny model and rows of tokens."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from model.batches import PretrainBatches
from model.config import ModelConfig
from model.shards import TokenRows, write_token_shard

VOCAB = 61
CONTEXT = 16


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tiny() -> ModelConfig:
    return ModelConfig(layers=2, width=32, heads=4, kv_heads=2, context=CONTEXT)


@pytest.fixture
def make_shard(tmp_path: Path) -> Callable[[str, int], Path]:
    """Writes a shard of random rows under a name; returns its path."""

    def make(name: str, rows: int) -> Path:
        path = tmp_path / name
        tokens = np.random.default_rng(rows).integers(0, VOCAB, (rows, CONTEXT + 1)).astype(np.uint16)
        write_token_shard(path, tokens, None, {"vocab_size": VOCAB, "tokenizer": "t1"})
        return path

    return make


@pytest.fixture
def pretrain_batches(make_shard: Callable[[str, int], Path]) -> PretrainBatches:
    return PretrainBatches(TokenRows.open([make_shard("train.parquet", 50)]), batch_rows=8, seed=3)
