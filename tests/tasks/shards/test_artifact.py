"""A published artifact: damage, two writers, other tools."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from model.data.shard_reader import TokenRows, artifact_shards
from tasks.artifacts import Corpus, Tokenizer, TokenShards, Workspace, inspect_all
from tasks.executor.filetasks import FileTasks
from tasks.shards.shards import ShardsConfig
from tests.tasks.shards.shards_run import digests, run, write_all


def test_artifact_lists_its_shards_by_group(published: TokenShards):
    found = artifact_shards(published.path, "train")
    assert found == {"all": sorted((published.path / "train/all").glob("*.parquet"))}
    assert TokenRows.open(found["all"], tokenizer="facade", vocab_size=300, check_pages=True).context == 32


def test_missing_and_resized_shards_are_refused_by_name(published: TokenShards):
    first, second, *_ = artifact_shards(published.path, "train")["all"]
    second.write_bytes(second.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"shard-00001\.parquet has \d+ bytes, the manifest says \d+; write"):
        artifact_shards(published.path, "train")
    first.unlink()
    with pytest.raises(ValueError, match=r"shard-00000\.parquet is missing; write the shards again"):
        artifact_shards(published.path, "train")
    with pytest.raises(ValueError, match="lists no test shards"):
        artifact_shards(published.path, "test")
    with pytest.raises(ValueError, match="no finished token shards"):
        artifact_shards(published.path / "train", "train")


def test_verify_finds_a_flipped_byte(published: TokenShards):
    path = artifact_shards(published.path, "train")["all"][0]
    damaged = bytearray(path.read_bytes())
    damaged[200] ^= 1
    path.write_bytes(damaged)
    problems = [entry.problem for entry in inspect_all(Workspace(published.path.parents[1])) if entry.problem]
    assert len(problems) == 1
    assert "shard-00000.parquet was altered" in str(problems[0])


def test_tokenizer_swapped_after_packing_is_refused(published: TokenShards):
    with pytest.raises(ValueError, match="made with tokenizer facade, but this run's is another; write the shards again"):
        TokenRows.open(artifact_shards(published.path, "train")["all"], tokenizer="another")


def test_two_writers_at_once_leave_whole_shards(corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks):
    config = ShardsConfig(context=32, rows_per_shard=10)
    out = tmp_path / "out"
    out.mkdir()
    processes = [
        multiprocessing.get_context("spawn").Process(target=write_all, args=(config, corpus, tokenizer, out, tmp_path / "parts"))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    alone, _ = run(config, corpus, tokenizer, tmp_path / "alone", files)
    shards = {name: digest for name, digest in digests(out).items() if "shard-" in name}
    assert shards == {name: digest for name, digest in digests(alone).items() if "shard-" in name}


def test_other_tools_read_shards(published: TokenShards, tmp_path: Path):
    import datasets
    import duckdb
    import polars as pl

    path = artifact_shards(published.path, "train")["all"][0]
    expected = TokenRows.open([path]).take(np.array([3]))[0].tolist()
    loaded = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert np.frombuffer(loaded[3]["tokens"], "<u2").tolist() == expected
    row = pl.read_parquet(path).row(3, named=True)
    assert np.frombuffer(row["tokens"], "<u2").tolist() == expected
    found = duckdb.sql(f"select tokens, ends from '{path}' limit 1 offset 3").fetchall()[0]
    assert np.frombuffer(found[0], "<u2").tolist() == expected
    assert found[1] == row["ends"] == loaded[3]["ends"]
