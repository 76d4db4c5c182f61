from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.shards import ROW_GROUP_ROWS, TokenRows, write_token_shard

METADATA = {"vocab_size": 61, "tokenizer": "t1"}
MakeShard = Callable[[str, int], Path]


def decoded(path: Path, item_type: type = np.uint16) -> np.ndarray:
    column = pq.read_table(path, columns=["tokens"]).column(0).to_pylist()
    return np.array([np.frombuffer(cell, item_type) for cell in column])


@pytest.mark.parametrize("rows", [1, ROW_GROUP_ROWS, ROW_GROUP_ROWS * 2 + 5])
def test_mapped_rows_equal_those_that_pyarrow_reads(make_shard: MakeShard, rows: int):
    path = make_shard("a.parquet", rows)
    mapped = TokenRows.open([path])
    assert mapped.rows == rows
    assert (mapped.context, mapped.vocab_size, mapped.tokenizer) == (16, 61, "t1")
    assert np.array_equal(mapped.take(np.arange(rows)), decoded(path))


def test_rows_come_in_the_order_asked_for_across_files(make_shard: MakeShard):
    paths = [make_shard("a.parquet", 5000), make_shard("b.parquet", 7), make_shard("c.parquet", 30)]
    everything = np.concatenate([decoded(path) for path in paths])
    wanted = np.array([5036, 0, 4999, 5000, 4096, 5006, 5007, 0])
    assert np.array_equal(TokenRows.open(paths).take(wanted), everything[wanted])


def test_ids_of_four_bytes_and_other_columns_are_kept(tmp_path: Path):
    tokens = np.arange(40, dtype=np.uint32).reshape(8, 5) * 2500
    extra = pa.table({"document": [f"d{row}" for row in range(8)]})
    write_token_shard(tmp_path / "a.parquet", tokens, extra, {"vocab_size": 100_000, "tokenizer": "t"})
    assert np.array_equal(TokenRows.open([tmp_path / "a.parquet"]).take(np.arange(8)), tokens)
    assert pq.read_table(tmp_path / "a.parquet", columns=["document"]).equals(extra)


def test_shard_rewritten_with_compression_is_decoded(make_shard: MakeShard, tmp_path: Path):
    path = make_shard("a.parquet", 5000)
    pq.write_table(pq.read_table(path), tmp_path / "b.parquet", compression="zstd", row_group_size=999)
    wanted = np.array([4999, 1000, 3])
    assert np.array_equal(TokenRows.open([tmp_path / "b.parquet"]).take(wanted), decoded(path)[wanted])


def test_shard_rewritten_with_small_pages_is_decoded(make_shard: MakeShard, tmp_path: Path):
    path = make_shard("a.parquet", 5000)
    table = pq.read_table(path)
    pq.write_table(table, tmp_path / "b.parquet", compression="none", use_dictionary=False, data_page_size=1000)
    assert np.array_equal(TokenRows.open([tmp_path / "b.parquet"]).take(np.arange(5000)), decoded(path))


def test_truncated_shard_is_refused_by_name(make_shard: MakeShard):
    path = make_shard("a.parquet", 100)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"a\.parquet: not a whole token shard .*write the shards again"):
        TokenRows.open([path])


def test_foreign_parquet_is_refused_by_name(tmp_path: Path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet: not a token shard"):
        TokenRows.open([tmp_path / "a.parquet"])


def test_missing_shard_is_refused_by_name(tmp_path: Path):
    with pytest.raises(ValueError, match=r"gone\.parquet"):
        TokenRows.open([tmp_path / "gone.parquet"])


def test_shards_of_two_tokenizers_are_refused(make_shard: MakeShard, tmp_path: Path):
    tokens = np.zeros((3, 17), dtype=np.uint16)
    write_token_shard(
        tmp_path / "b.parquet", tokens, None, {**METADATA, "tokenizer": "t2", "bos": 0, "eos": 1, "pad": 2}
    )
    with pytest.raises(ValueError, match=r"b\.parquet: tokenizer is t2, but the first shard has t1"):
        TokenRows.open([make_shard("a.parquet", 3), tmp_path / "b.parquet"])


def test_row_outside_of_the_shards_is_refused(make_shard: MakeShard):
    with pytest.raises(IndexError, match="not all within 0 to 4"):
        TokenRows.open([make_shard("a.parquet", 5)]).take(np.array([0, 5]))


@pytest.mark.parametrize(
    ("tokens", "metadata", "message"),
    [
        (np.full((2, 5), 61, np.uint16), METADATA, "token id 61 is outside"),
        (np.zeros((2, 5), np.int64), METADATA, "expected uint16 or uint32"),
        (np.zeros((2, 5), np.uint16), {"vocab_size": 61}, "expected a fingerprint"),
        (np.zeros((2, 5), np.uint16), {**METADATA, "context": 5}, "metadata says context 5, but the rows have 4"),
    ],
)
def test_shard_that_does_not_fit_is_not_written(
    tmp_path: Path, tokens: np.ndarray, metadata: dict[str, int | str], message: str
):
    with pytest.raises(ValueError, match=message):
        write_token_shard(tmp_path / "a.parquet", tokens, None, metadata)
    assert not (tmp_path / "a.parquet").exists()
