import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from model.data.shard_cache import ShardCache
from model.data.shard_format import ROW_GROUP_ROWS
from model.data.shard_reader import TokenRows

MakeShard = Callable[[str, int], Path]


@pytest.fixture
def remote() -> Iterator[MemoryFileSystem]:
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def upload(system: MemoryFileSystem, name: str, content: bytes) -> str:
    system.pipe_file(f"/bucket/{name}", content)
    return f"memory://bucket/{name}"


def held(folder: Path) -> set[bytes]:
    return {path.read_bytes() for path in folder.iterdir()}


def test_file_is_fetched_once(remote: MemoryFileSystem, tmp_path: Path):
    cache, url = ShardCache(tmp_path / "cache", 100), upload(remote, "a", b"first")
    assert cache.fetch(url).read_bytes() == b"first"
    remote.rm("/bucket/a")
    assert cache.open(url).read() == b"first"
    assert held(tmp_path / "cache") == {b"first"}


def test_least_recently_used_file_goes_first(remote: MemoryFileSystem, tmp_path: Path):
    cache = ShardCache(tmp_path / "cache", 10)
    one, two, three = (upload(remote, name, name.encode() * 4) for name in "abc")
    for url in (one, two, one, three):
        cache.fetch(url)
    assert held(tmp_path / "cache") == {b"aaaa", b"cccc"}
    assert cache.fetch(two).read_bytes() == b"bbbb", "it comes again"


def test_open_file_stays_readable_when_it_is_given_up(remote: MemoryFileSystem, tmp_path: Path):
    cache = ShardCache(tmp_path / "cache", 5)
    with cache.open(upload(remote, "a", b"aaaa")) as file:
        cache.fetch(upload(remote, "b", b"bbbb"))
        assert held(tmp_path / "cache") == {b"bbbb"}
        assert file.read() == b"aaaa"


def test_file_larger_than_the_cache_is_refused_and_nothing_goes_for_it(remote: MemoryFileSystem, tmp_path: Path):
    cache = ShardCache(tmp_path / "cache", 5)
    cache.fetch(upload(remote, "a", b"aaaa"))
    with pytest.raises(ValueError, match=r"memory://bucket/b: 6 bytes, more than the whole cache of 5; allow it more"):
        cache.fetch(upload(remote, "b", b"bbbbbb"))
    assert held(tmp_path / "cache") == {b"aaaa"}


def test_missing_file_is_refused_by_name(remote: MemoryFileSystem, tmp_path: Path):
    with pytest.raises(ValueError, match="memory://bucket/gone: not found"):
        ShardCache(tmp_path / "cache", 5).fetch("memory://bucket/gone")
    assert held(tmp_path / "cache") == set()
    with pytest.raises(ValueError, match=r"memory://bucket/gone\.parquet: not found"):
        TokenRows.open(["memory://bucket/gone.parquet"], cache=ShardCache(tmp_path / "cache", 5))


def test_many_readers_of_one_small_cache_get_whole_files(tmp_path: Path):
    contents: dict[str, bytes] = {}
    for number in range(8):
        path = tmp_path / str(number)
        path.write_bytes(bytes([number]) * 1000)
        contents[f"file://{path}"] = path.read_bytes()

    def wrong(seed: int) -> int:
        cache = ShardCache(tmp_path / "cache", 3_000)
        urls = np.random.default_rng(seed).permutation(list(contents) * 10).tolist()
        return sum(cache.open(url).read() != contents[url] for url in urls)

    with ThreadPoolExecutor(4) as readers:
        assert list(readers.map(wrong, range(4))) == [0, 0, 0, 0]
    assert not list((tmp_path / "cache").glob("*.tmp"))


def test_rows_of_remote_shards_equal_those_of_local_ones(remote: MemoryFileSystem, make_shard: MakeShard, tmp_path: Path):
    paths = [make_shard(f"{rows}.parquet", rows) for rows in (ROW_GROUP_ROWS + 30, 200, 300)]
    urls = [upload(remote, path.name, path.read_bytes()) for path in paths]
    most = sum(path.stat().st_size for path in paths) - 1
    local, far = (TokenRows.open(paths), TokenRows.open(urls, check_pages=True, cache=ShardCache(tmp_path / "cache", most)))
    numbers = np.random.default_rng(1).integers(0, local.rows, 500)
    for _ in range(3):
        assert np.array_equal(far.take(numbers), local.take(numbers))
    assert [list(found.documents) for found in far.segments(numbers)] == [list(found.documents) for found in local.segments(numbers)]
    assert sum(path.stat().st_size for path in (tmp_path / "cache").iterdir()) <= most


def test_opening_remote_shards_fetches_none(remote: MemoryFileSystem, make_shard: MakeShard, tmp_path: Path):
    url = upload(remote, "a.parquet", make_shard("a.parquet", 10).read_bytes())
    assert TokenRows.open([url], cache=ShardCache(tmp_path / "cache", 10**6)).rows == 10
    assert not (tmp_path / "cache").exists()


def test_url_without_a_cache_is_refused():
    with pytest.raises(ValueError, match=r"memory://bucket/a\.parquet: a URL needs a cache"):
        TokenRows.open(["memory://bucket/a.parquet"])


def test_rows_go_to_another_process_with_their_cache(remote: MemoryFileSystem, make_shard: MakeShard, tmp_path: Path):
    url = upload(remote, "a.parquet", make_shard("a.parquet", 10).read_bytes())
    rows = TokenRows.open([url], cache=ShardCache(tmp_path / "cache", 10**6))
    numbers = np.arange(10)
    assert np.array_equal(pickle.loads(pickle.dumps(rows)).take(numbers), rows.take(numbers))
