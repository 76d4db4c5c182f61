import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import model.data.shard_format
import model.data.shard_reader
from model.data.shard_format import ROW_GROUP_ROWS, Codec
from model.data.shard_reader import TokenRows
from model.data.shard_writer import write_token_shard

METADATA: dict[str, int | str | None] = {"vocab_size": 61, "tokenizer": "t1"}
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
    write_token_shard(tmp_path / "b.parquet", tokens, None, {**METADATA, "tokenizer": "t2", "bos": 0, "eos": 1, "pad": 2})
    with pytest.raises(ValueError, match=r"b\.parquet: tokenizer is t2, but the first shard has t1"):
        TokenRows.open([make_shard("a.parquet", 3), tmp_path / "b.parquet"])


def test_shards_of_another_tokenizer_or_vocabulary_than_wanted_are_refused_with_the_fix(make_shard: MakeShard):
    path = make_shard("a.parquet", 3)
    assert TokenRows.open([path], tokenizer="t1", vocab_size=61).rows == 3
    with pytest.raises(ValueError, match=r"a\.parquet: .*tokenizer t1, but this run's is t2; write the shards again with that one, or"):
        TokenRows.open([path], tokenizer="t2")
    with pytest.raises(ValueError, match=r"a\.parquet: .*vocabulary of 61, but this run's has 70; write the shards again"):
        TokenRows.open([path], vocab_size=70)


def test_shard_of_an_older_format_is_refused_with_the_fix(make_shard: MakeShard, tmp_path: Path):
    table = pq.read_table(make_shard("a.parquet", 3))
    header = json.loads(table.schema.metadata[b"wordmill"])
    del header["format"]
    pq.write_table(table.replace_schema_metadata({b"wordmill": json.dumps(header)}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet: token shard of format 1, expected 2; write the shards again"):
        TokenRows.open([tmp_path / "b.parquet"])


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_flipped_byte_in_any_page_is_found_when_pages_are_checked(tmp_path: Path, codec: Codec):
    path = tmp_path / "a.parquet"
    tokens = np.random.default_rng(1).integers(0, 61, (300, 17)).astype(np.uint16)
    beside = pa.table({"document": [f"d{row}" for row in range(300)]})
    write_token_shard(path, tokens, beside, METADATA, codec)
    whole = path.read_bytes()
    TokenRows.open([path], check_pages=True)
    for number in range(2):
        column = pq.read_metadata(path).row_group(0).column(number)
        damaged = bytearray(whole)
        damaged[column.data_page_offset + column.total_compressed_size - 9] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.parquet: a page is damaged .*write the shards again"):
            TokenRows.open([path], check_pages=True)
        path.write_bytes(whole)


def test_archive_is_decoded_and_damage_in_it_found_on_the_way(tmp_path: Path):
    path = tmp_path / "a.parquet"
    tokens = np.repeat(np.random.default_rng(1).integers(0, 61, (3 * ROW_GROUP_ROWS, 4)), 2, axis=1).astype(np.uint16)
    write_token_shard(path, tokens, None, METADATA, "zstd")
    assert path.stat().st_size < tokens.nbytes
    wanted = np.random.default_rng(2).integers(0, len(tokens), 200)
    assert np.array_equal(TokenRows.open([path]).take(wanted), tokens[wanted])
    column = pq.read_metadata(path).row_group(1).column(0)
    damaged = bytearray(path.read_bytes())
    damaged[column.data_page_offset + 60 : column.data_page_offset + 90] = bytes(30)
    path.write_bytes(damaged)
    rows = TokenRows.open([path])
    assert np.array_equal(rows.take(np.array([5])), tokens[5:6])
    with pytest.raises(ValueError, match=r"a\.parquet: row group 1 is damaged"):
        rows.take(np.array([ROW_GROUP_ROWS]))


def test_archive_of_more_row_groups_than_are_kept_gives_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(model.data.shard_reader, "KEPT_GROUPS", 1)
    monkeypatch.setattr(model.data.shard_format, "ROW_GROUP_ROWS", 10)
    tokens = np.random.default_rng(1).integers(0, 61, (45, 5)).astype(np.uint16)
    write_token_shard(tmp_path / "a.parquet", tokens, None, METADATA, "zstd")
    rows = TokenRows.open([tmp_path / "a.parquet"])
    assert rows.group_rows.tolist() == [10, 10, 10, 10, 5]
    wanted = np.random.default_rng(2).permutation(45)
    assert np.array_equal(rows.take(wanted), tokens[wanted])


def test_more_files_than_are_mapped_at_a_time_give_every_row(make_shard: MakeShard, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(model.data.shard_reader, "MAPPED_FILES", 2)
    paths = [make_shard(f"{rows}.parquet", rows) for rows in range(3, 9)]
    everything = np.concatenate([decoded(path) for path in paths])
    rows = TokenRows.open(paths)
    for seed in range(20):
        wanted = np.random.default_rng(seed).integers(0, rows.rows, 4)
        assert np.array_equal(rows.take(wanted), everything[wanted])


def test_long_rows_make_small_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(model.data.shard_format, "ROW_GROUP_BYTES", 100)
    tokens = np.random.default_rng(1).integers(0, 61, (7, 17)).astype(np.uint16)
    write_token_shard(tmp_path / "a.parquet", tokens, None, METADATA)
    rows = TokenRows.open([tmp_path / "a.parquet"])
    assert rows.group_rows.tolist() == [2, 2, 2, 1]
    assert np.array_equal(rows.take(np.arange(7)), tokens)


def test_segments_come_in_the_order_asked_for(make_shard: MakeShard):
    rows = TokenRows.open([make_shard("a.parquet", 5000), make_shard("b.parquet", 7)])
    found = rows.segments(np.array([5003, 4999, 0, 4999]))
    assert [segments.documents.tolist() for segments in found] == [[3], [4999], [0], [4999]]
    assert all(segments.ends.tolist() == [17] and segments.offsets.tolist() == [0] for segments in found)


def test_segments_of_a_shard_that_does_not_tell_them_are_refused(tmp_path: Path):
    write_token_shard(tmp_path / "a.parquet", np.zeros((2, 5), np.uint16), None, METADATA)
    with pytest.raises(ValueError, match=r"a\.parquet: no column ends, documents, offsets"):
        TokenRows.open([tmp_path / "a.parquet"]).segments(np.array([0]))


def test_shard_that_is_cut_off_or_removed_after_it_was_opened_is_refused_by_name(make_shard: MakeShard):
    path = make_shard("a.parquet", 50)
    rows = TokenRows.open([path])
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"a\.parquet: not a whole token shard \(cut off\)"):
        rows.take(np.array([0]))
    path.unlink()
    with pytest.raises(ValueError, match=r"a\.parquet: it was there when the shards were opened"):
        rows.take(np.array([0]))


def test_two_writers_of_one_shard_leave_it_whole(tmp_path: Path):
    path = tmp_path / "a.parquet"
    tokens = np.random.default_rng(1).integers(0, 61, (2000, 65)).astype(np.uint16)
    writers = [threading.Thread(target=write_token_shard, args=(path, tokens, None, METADATA)) for _ in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert np.array_equal(TokenRows.open([path], check_pages=True).take(np.arange(2000)), tokens)
    assert [left.name for left in tmp_path.iterdir()] == ["a.parquet"]


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
def test_shard_that_does_not_fit_is_not_written(tmp_path: Path, tokens: np.ndarray, metadata: dict[str, int | str], message: str):
    with pytest.raises(ValueError, match=message):
        write_token_shard(tmp_path / "a.parquet", tokens, None, metadata)
    assert not (tmp_path / "a.parquet").exists()
