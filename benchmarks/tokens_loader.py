"""Reading rows to train on: rows `batches-vs-memmap`, `batches-vs-list` and `first-batch`.

Every side makes batches of 64 rows of 2,049 tokens as int64, from files that it has read once before.

    python -m benchmarks.tokens_loader write POOL.npy ROWS FOLDER                  # the same rows in all three layouts
    python -m benchmarks.tokens_loader shards|memmap|list FOLDER BATCHES           # one side
    python -m benchmarks.tokens_loader first FOLDER STEP                           # open, and one batch
"""

import gc
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.sides import Row, compared, ours, run, tell
from benchmarks.tokens_sides import against_target, in_tokens
from benchmarks.tokens_texts import WIDTH, Material, repeated_rows

BATCH_ROWS = 64
SHARD_ROWS = 16_384
LIST_GROUP_ROWS = 1_024
LIST_WINDOW = 4  # row groups that the peer's reader holds and shuffles
SEED = 1
STEPS = (0, 10**6, 10**9)
SHARDS = 100
TARGET_MS = 50.0
HEADER: dict[str, int | str | None] = {
    "vocab_size": 2**16,
    "tokenizer": "benchmark",
    "packing": "best_fit",
    "bos": 0,
    "eos": 1,
    "pad": 2,
}

Batch = NDArray[np.int64]


def memmap_row(material: Material, rows: int, batches: int, folder: Path, pairs: int) -> Row:
    """Ours in random order over all rows, against rows of a flat file at random, however numpy takes them fastest."""
    layouts = _layouts(material, rows, folder)
    found, our_run, peer_run = compared(
        "batches-vs-memmap",
        ours("tokens_loader", "shards", layouts, str(batches)),
        ours("tokens_loader", "memmap", layouts, str(batches)),
        "numpy.memmap of a flat uint16 file: flat[rows].astype(int64)",
        pairs,
    )
    more: Row = {"rows": rows, "tokens": rows * WIDTH, "ours_more": our_run.facts, "peer_more": peer_run.facts}
    return in_tokens(found) | more


def list_row(material: Material, rows: int, batches: int, peer_batches: int, folder: Path, pairs: int) -> Row:
    """Ours as above, against a list<int32> column, for which a row at random would mean to decode a row group each time.

    So its reader takes the row groups in random order, four at a time, and shuffles the rows of these.
    """
    layouts = _layouts(material, rows, folder)
    found, _, _ = compared(
        "batches-vs-list",
        ours("tokens_loader", "shards", layouts, str(batches)),
        ours("tokens_loader", "list", layouts, str(peer_batches)),
        "list<int32> Parquet, zstd and dictionary, row groups of 1,024, four of them shuffled at a time, pyarrow",
        pairs,
    )
    return in_tokens(found) | {"rows": rows, "tokens": rows * WIDTH}


def first_batch_row(material: Material, shard_rows: int, folder: Path, runs: int) -> Row:
    """Milliseconds from the names of 100 shards to the first batch, at a few steps, each in a fresh process."""
    folder.mkdir(parents=True)
    shard = write_shards(repeated_rows(material.pool, shard_rows), folder)
    for number in range(1, SHARDS):
        os.link(shard, folder / f"shard-{number:05d}.parquet")
    milliseconds: dict[str, float] = {}
    cpu_milliseconds: dict[str, float] = {}
    for step in STEPS:
        timed = [run(ours("tokens_loader", "first", str(folder), str(step))) for _ in range(runs)]
        milliseconds[f"{step:,}"] = statistics.median(float(str(one.facts["milliseconds"])) for one in timed)
        cpu_milliseconds[f"{step:,}"] = statistics.median(1e3 * one.cpu_seconds for one in timed)
    row = against_target("first-batch", max(milliseconds.values()), TARGET_MS, "ms, wall, of the slowest step", runs, less_is_better=True)
    shards = {"shards": SHARDS, "rows_of_a_shard": shard_rows, "load": os.getloadavg()[0]}
    return row | {"by_step": milliseconds, "cpu_by_step": cpu_milliseconds} | shards


def _layouts(material: Material, rows: int, folder: Path) -> str:
    """The folder with the rows in all three layouts, written once."""
    if not folder.exists():
        folder.mkdir(parents=True)
        run(ours("tokens_loader", "write", str(material.pool), str(rows), str(folder)))
    return str(folder)


def write_shards(rows: NDArray[np.uint16], folder: Path) -> Path:
    """Our shards of `rows`; the last one's path."""
    from model.data.shard_writer import write_token_shard

    path = folder
    for number, start in enumerate(range(0, len(rows), SHARD_ROWS)):
        path = folder / f"shard-{number:05d}.parquet"
        write_token_shard(path, rows[start : start + SHARD_ROWS], None, HEADER)
    return path


def _write(pool: Path, rows: int, folder: Path) -> None:
    values = repeated_rows(pool, rows)
    write_shards(values, folder)
    values.tofile(folder / "flat.bin")
    schema = pa.schema([pa.field("tokens", pa.list_(pa.int32()))])
    with pq.ParquetWriter(folder / "list.parquet", schema, compression="zstd", use_dictionary=True) as writer:
        for start in range(0, rows, LIST_GROUP_ROWS):
            part = values[start : start + LIST_GROUP_ROWS].astype(np.int32)
            offsets = np.arange(0, part.size + 1, WIDTH, dtype=np.int32)
            writer.write_table(pa.table([pa.ListArray.from_arrays(offsets, part.ravel())], schema=schema))
    tell(0, 1.0, 0.0)


def _from_shards(folder: Path) -> Iterator[Batch]:
    from model.data.row_stream import RowStream
    from model.data.shard_reader import TokenRows

    stream = RowStream({"all": TokenRows.open(sorted(folder.glob("shard-*.parquet")))}, BATCH_ROWS, SEED)
    step = 0
    while True:
        yield stream.take(stream.rows_at(step))
        step += 1


def _from_memmap(folder: Path) -> Iterator[Batch]:
    rows = np.asarray(np.memmap(folder / "flat.bin", np.uint16, "r")).reshape(-1, WIDTH)
    draw = np.random.default_rng(SEED)
    while True:
        yield rows[draw.integers(0, len(rows), BATCH_ROWS)].astype(np.int64)


def _from_slices(folder: Path) -> Iterator[Batch]:
    """The way it is usually written: each row its own slice of the map."""
    flat = np.memmap(folder / "flat.bin", np.uint16, "r")
    draw = np.random.default_rng(SEED)
    while True:
        starts = draw.integers(0, len(flat) - WIDTH, BATCH_ROWS)
        yield np.stack([flat[start : start + WIDTH].astype(np.int64) for start in starts])


def _from_list(folder: Path) -> Iterator[Batch]:
    draw = np.random.default_rng(SEED)
    with pq.ParquetFile(folder / "list.parquet", memory_map=True) as file:
        while True:
            order = draw.permutation(file.num_row_groups).tolist()
            for start in range(0, len(order), LIST_WINDOW):
                window = file.read_row_groups(order[start : start + LIST_WINDOW], use_threads=False).column(0)
                values = pa.concat_arrays(window.chunks).flatten().to_numpy()
                rows, shuffled = values.reshape(-1, WIDTH), draw.permutation(len(window))
                for first in range(0, len(rows) - BATCH_ROWS + 1, BATCH_ROWS):
                    yield rows[shuffled[first : first + BATCH_ROWS]].astype(np.int64)


def _loader(folder: Path) -> Iterator[Batch]:
    """What training takes: ids, and targets that know where documents end."""
    from model.data.batches import PretrainBatches
    from model.data.row_stream import RowStream
    from model.data.shard_reader import TokenRows

    stream = RowStream({"all": TokenRows.open(sorted(folder.glob("shard-*.parquet")))}, BATCH_ROWS, SEED)
    batches = PretrainBatches(stream)
    step = 0
    while True:
        yield batches.batch(step, 0, BATCH_ROWS).targets.numpy()
        step += 1


SIDES: dict[str, Callable[[Path], Iterator[Batch]]] = {
    "shards": _from_shards,
    "memmap": _from_memmap,
    "slices": _from_slices,
    "list": _from_list,
    "loader": _loader,
}
BESIDE = {"shards": "loader", "memmap": "slices"}  # timed in the same process, told beside


def _side(name: str, folder: Path, batches: int) -> None:
    for path in sorted(folder.iterdir()):
        path.read_bytes()
    startup_seconds, seconds = _timed(SIDES[name](folder), batches)
    facts = {}
    if name in BESIDE:
        _, other = _timed(SIDES[BESIDE[name]](folder), batches)
        facts = {f"{BESIDE[name]}, million tokens per CPU second": batches * BATCH_ROWS * WIDTH / 1e6 / other}
    tell(batches * BATCH_ROWS * WIDTH, seconds, startup_seconds, facts)


def _timed(side: Iterator[Batch], batches: int) -> tuple[float, float]:
    """Processor seconds before, the first batch included, and of the batches behind it."""
    assert next(side).shape[0] == BATCH_ROWS
    start = time.process_time()
    for _ in islice(side, batches):
        pass
    return start, time.process_time() - start


def _first(folder: Path, step: int) -> None:
    from model.data.batches import PretrainBatches
    from model.data.row_stream import RowStream
    from model.data.shard_reader import TokenRows

    paths = sorted(folder.glob("shard-*.parquet"))
    paths[0].read_bytes()
    gc.collect()  # what the imports left behind would else be collected in the measured part: 70 ms
    startup, start = time.process_time(), time.perf_counter()
    batches = PretrainBatches(RowStream({"all": TokenRows.open(paths)}, BATCH_ROWS, SEED))
    batch = batches.batch(step, 0, BATCH_ROWS)
    milliseconds, seconds = 1e3 * (time.perf_counter() - start), time.process_time() - startup
    tell(batch.ids.numel(), seconds, startup, {"milliseconds": milliseconds})


def main() -> None:
    """One of the commands above."""
    pa.set_cpu_count(1)
    match sys.argv[1:]:
        case ["write", pool, rows, folder]:
            _write(Path(pool), int(rows), Path(folder))
        case ["first", folder, step]:
            _first(Path(folder), int(step))
        case [side, folder, batches]:
            _side(side, Path(folder), int(batches))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
