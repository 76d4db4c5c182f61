"""Small trainings for tests: shards of random tokens, a tokenizer, and a launcher without another process."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tokenizers
import torch
from tokenizers.models import BPE

from model.data.shard_format import SEGMENT_FIELDS
from model.data.shard_writer import write_token_shard
from tasks.artifacts import Tokenizer, TokenShards
from tasks.cluster import Training
from tasks.tokenizer.encoding import SPECIAL_TOKENS
from tests.tasks.launch_here import here

VOCAB, CONTEXT = 61, 16
BOS, EOS, PAD = 0, 1, 2


def write_shards(folder: Path, tokenizer: str) -> TokenShards:
    """Rows of random tokens, one document each, in two groups; with the manifest of an artifact."""
    for group, rows in (("train/en", 12), ("train/zh", 8), ("validation/all", 4)):
        tokens = np.random.default_rng(rows).integers(3, VOCAB, (rows, CONTEXT + 1)).astype(np.uint16)
        tokens[:, 0], tokens[:, -1] = BOS, EOS
        columns = [[[CONTEXT + 1]] * rows, [[row + 12 * group.endswith("zh")] for row in range(rows)], [[0]] * rows]
        (folder / group).mkdir(parents=True)
        metadata = {
            "vocab_size": VOCAB,
            "tokenizer": tokenizer,
            "packing": "documents",
            "bos": BOS,
            "eos": EOS,
            "pad": PAD,
        }
        beside = pa.table(columns, schema=pa.schema(SEGMENT_FIELDS))
        write_token_shard(folder / group / "shard-00000.parquet", tokens, beside, metadata)
    documents = {
        "id": [f"{n:020x}" for n in range(20)],
        "source": ["s"] * 20,
        "language": ["en"] * 12 + ["zh"] * 8,
        "bytes": [60] * 20,
        "tokens": [CONTEXT + 1] * 20,
    }
    pq.write_table(pa.table(documents), folder / "documents-train.parquet")
    write_manifest(folder)
    return TokenShards(str(folder), "a" * 16, figures={"context": float(CONTEXT)})


def write_manifest(folder: Path) -> None:
    entries = [{"path": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size} for path in sorted(folder.rglob("*.parquet"))]
    (folder / "manifest.json").write_text(json.dumps({"files": entries}))


def write_tokenizer(folder: Path, fingerprint: str, tokens: Iterable[str]) -> Tokenizer:
    """One whose tokens are the special ones and these."""
    folder.mkdir(parents=True)
    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *tokens])}
    tokenizers.Tokenizer(BPE(vocabulary, [])).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text("{}")
    return Tokenizer(str(folder), fingerprint)


def call_here(training: Training) -> None:
    """A launcher without another process."""
    torch.set_num_threads(1)
    here(training)
