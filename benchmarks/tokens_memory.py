"""Memory from few tokens to a hundred times as many: rows `memory` of the shards stage and of the loader.

python -m benchmarks.tokens_memory encode CORPUS TOKENIZER_FOLDER PARTS               # its table to tokens
python -m benchmarks.tokens_memory pack CORPUS TOKENIZER_FOLDER PARTS TIMES FOLDER    # that table so often, to shards
python -m benchmarks.tokens_memory load FOLDER                                        # batches at random from shards
"""

import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from benchmarks.sides import Row, Run, ours, run, tell
from benchmarks.tokens_loader import BATCH_ROWS, SEED, SHARD_ROWS, write_shards
from benchmarks.tokens_sides import PeakMemory, against_target
from benchmarks.tokens_texts import WIDTH, Material, repeated_rows, write_corpus

if TYPE_CHECKING:
    from tasks.executor.parts import Part

BATCHES = 300  # of 64 rows
FLAT = 1.15  # times the memory
BYTES_PER_TOKEN = 4.0  # of the texts, about


def rows(material: Material, tokens: tuple[int, int], folder: Path) -> list[Row]:
    """`memory` of the shards stage and of the loader: the larger amount against the smaller."""
    corpus = write_corpus(material.mixed(tokens[0] * BYTES_PER_TOKEN / 1e6), folder / "corpora").folder
    encoded = (corpus, str(material.tokenizer), str(folder / "parts"))
    run(ours("tokens_memory", "encode", *encoded))
    packed = [_packed(encoded, count // tokens[0], folder / "packed") for count in tokens]
    loaded = [_loaded(material, count, folder / "shards") for count in tokens]
    return [_row("memory-packing", packed), _row("memory-loader", loaded)]


def _row(name: str, runs: list[Run]) -> Row:
    private, resident = ([float(str(one.facts[kind])) / 1e6 for one in runs] for kind in ("private", "resident"))
    row = against_target(name, private[1] / private[0], FLAT, "times the memory", 1, less_is_better=True)
    return row | {
        "million_tokens": [one.megabytes for one in runs],
        "private_megabytes": private,
        "with_mapped_files_megabytes": resident,
        "cpu_seconds": [one.cpu_seconds for one in runs],
    }


def _packed(encoded: tuple[str, str, str], times: int, out: Path) -> Run:
    """The stage behind the encoding, over the encoded table so many times."""
    out.mkdir()
    done = run(ours("tokens_memory", "pack", *encoded, str(times), str(out)))
    shutil.rmtree(out)
    return done


def _loaded(material: Material, tokens: int, folder: Path) -> Run:
    """The loader over shards of so many tokens: one file under as many names as it takes."""
    folder.mkdir()
    shard = write_shards(repeated_rows(material.pool, min(SHARD_ROWS, tokens // WIDTH)), folder)
    for number in range(1, round(tokens / (WIDTH * SHARD_ROWS))):
        os.link(shard, folder / f"shard-{number:05d}.parquet")
    done = run(ours("tokens_memory", "load", str(folder)))
    shutil.rmtree(folder)
    return done


def _encoded(corpus: Path, tokenizer: Path, parts: Path) -> "Part":
    """The part that encoding the corpus' training table leaves, made when it is not there."""
    from tasks.artifacts import Corpus
    from tasks.executor.filetasks import FilesConfig, FileTasks
    from tasks.executor.tables import tables_of
    from tasks.shards.encoded_corpus import REVISION, EncodeWork, encode_table

    tables = tables_of(Corpus(str(corpus), corpus.name), "train-*.parquet")
    works = [EncodeWork(table, str(tokenizer), "benchmark", SEED) for table in tables]
    (part,) = FileTasks(parts, FilesConfig(workers=0)).run("encode", REVISION, encode_table, works)
    return part


def _pack(corpus: Path, tokenizer: Path, parts: Path, times: int, out: Path) -> None:
    from tasks.shards.encoded_corpus import EncodedCorpus, item_type
    from tasks.shards.shards import RowKind, ShardsConfig, pack_group
    from tasks.tokenizer.encoding import load_tokenizer, special_ids

    loaded = load_tokenizer(tokenizer)
    special = special_ids(loaded, str(tokenizer))
    vocab_size = loaded.get_vocab_size()
    kind = RowKind(
        ShardsConfig.model_validate({"context": WIDTH - 1}), vocab_size, "benchmark", special.bos, special.eos, special.pad, "benchmark"
    )
    part = _encoded(corpus, tokenizer, parts)
    startup = time.process_time()
    with PeakMemory() as peak:
        packed, _ = pack_group(kind, EncodedCorpus([part] * times, item_type(vocab_size)), "train", None, out)
    seconds = time.process_time() - startup
    tell(packed.tokens, seconds, startup, {"private": peak.private, "resident": peak.resident})


def _load(folder: Path) -> None:
    from model.data.batches import PretrainBatches
    from model.data.row_stream import RowStream
    from model.data.shard_reader import TokenRows

    startup = time.process_time()
    with PeakMemory() as peak:
        rows = TokenRows.open(sorted(folder.glob("shard-*.parquet")))
        batches = PretrainBatches(RowStream({"all": rows}, BATCH_ROWS, SEED))
        for step in range(BATCHES):
            batches.batch(step, 0, BATCH_ROWS)
    seconds = time.process_time() - startup
    tell(rows.rows * WIDTH, seconds, startup, {"private": peak.private, "resident": peak.resident})


def main() -> None:
    """One of the commands above."""
    pa.set_cpu_count(1)
    match sys.argv[1:]:
        case ["encode", corpus, tokenizer, parts]:
            _encoded(Path(corpus), Path(tokenizer), Path(parts))
            tell(0, 1.0, 0.0)
        case ["pack", corpus, tokenizer, parts, times, out]:
            _pack(Path(corpus), Path(tokenizer), Path(parts), int(times), Path(out))
        case ["load", folder]:
            _load(Path(folder))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
