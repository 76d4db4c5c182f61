"""Raw Parquet text to what training reads: rows `prepare-vs-datatrove` and `prepare-vs-nanogpt`, with the same vocabulary.

Ours reads the corpus, encodes, shuffles and packs it into checked Parquet shards with their segments. datatrove's stage
writes shuffled documents one behind the other and an index; nanoGPT's script a flat file, each on top of its encoding.

    python -m benchmarks.tokens_prepare CORPUS FEW TOKENIZER_FOLDER FOLDER        # our side
"""

import shutil
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.sides import Row, compared, ours, peer, tell
from benchmarks.tokens_texts import Material, write_corpus

FEW = 400  # documents over which each side runs once before it is measured
CONTEXT = 2_048
COLUMNS = ["id", "text", "bytes"]  # what peers read; ours has more columns to step over


def datatrove_row(material: Material, megabytes: float, python: Path, folder: Path, pairs: int) -> Row:
    """Ours against the ParquetReader and DocumentTokenizer of datatrove."""
    from tasks.tokenizer.encoding import EOS

    tables = _tables(material, megabytes, folder)
    arguments = (str(tables / "few"), str(material.tokenizer / "tokenizer.json"), EOS, str(folder / "datatrove"))
    found, our_run, peer_run = compared(
        "prepare-vs-datatrove",
        _ours(material, folder),
        peer(python, "datatrove_tokens.py", str(tables / "all"), *arguments),
        "datatrove 0.10.1: ParquetReader, DocumentTokenizer",
        pairs,
    )
    more: Row = {"ours_more": our_run.facts, "peer_more": peer_run.facts}
    return found | more


def nanogpt_row(material: Material, megabytes: float, script: Path, folder: Path, pairs: int) -> Row:
    """Ours against nanoGPT's data/openwebtext/prepare.py.

    However little the text, the script writes 2 x 1,024 parts: `rate_beyond_few` is the peer's rate over what the text has
    more than its first 2,048 documents, as on a corpus so large that this does not matter.
    """
    tables = _tables(material, megabytes, folder)
    found, our_run, peer_run = compared(
        "prepare-vs-nanogpt",
        _ours(material, folder),
        peer(Path(sys.executable), "nanogpt_tokens.py", str(script), str(tables / "all"), str(material.tokenizer), str(folder / "nanogpt")),
        "nanoGPT: prepare.py, one process",
        pairs,
    )
    more: Row = {"ours_more": our_run.facts, "peer_more": peer_run.facts}
    return found | more


def _ours(material: Material, folder: Path) -> list[str]:
    return ours("tokens_prepare", str(folder), str(material.tokenizer))


def _tables(material: Material, megabytes: float, folder: Path) -> Path:
    """The corpus as our stage reads it, and the same documents in one table for the peers; of all and of few."""
    peers = folder / "tables"
    if not peers.exists():
        documents = material.mixed(megabytes)
        for name, texts in (("all", documents), ("few", documents[:FEW])):
            corpus = write_corpus(texts, folder / "corpora" / name)
            (peers / name).mkdir(parents=True)
            tables = [pq.read_table(path, columns=COLUMNS) for path in sorted(corpus.path.glob("*.parquet"))]
            pq.write_table(pa.concat_tables(tables), peers / name / "documents.parquet", compression="zstd")
    return peers


def main() -> None:
    """Our side: the shards stage in this process alone, once over the few documents and once over all."""
    folder, tokenizer = Path(sys.argv[1]), Path(sys.argv[2])
    pa.set_cpu_count(1)
    out = folder / "ours"
    shutil.rmtree(out, ignore_errors=True)
    prepare(folder / "corpora" / "few", tokenizer, out / "few")
    startup = time.process_time()
    figures = prepare(folder / "corpora" / "all", tokenizer, out / "all")
    seconds = time.process_time() - startup
    written = sum(path.stat().st_size for path in (out / "all" / "shards").rglob("*.parquet"))
    sizes = [pq.read_table(path, columns=["bytes"])["bytes"] for path in (folder / "tables" / "all").glob("*.parquet")]
    tell(int(sizes[0].to_numpy().sum()), seconds, startup, {"written": written, "figures": figures})


def prepare(corpora: Path, tokenizer: Path, out: Path) -> dict[str, float]:
    """The stage over a finished corpus; its figures."""
    from tasks.artifacts import Corpus, Tokenizer
    from tasks.executor.filetasks import FilesConfig, FileTasks
    from tasks.shards.shards import ShardsConfig, write_shards

    (corpus,) = (corpora / "corpus").iterdir()
    shards = out / "shards"
    shards.mkdir(parents=True)
    files = FileTasks(out / "parts", FilesConfig(workers=0))
    config = ShardsConfig.model_validate({"context": CONTEXT})
    found = write_shards(config, Corpus(str(corpus), corpus.name), Tokenizer(str(tokenizer), "benchmark"), shards, files)
    return dict(found.figures)


if __name__ == "__main__":
    main()
