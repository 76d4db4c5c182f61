"""The shards stage run by hand on small made corpora, and its rows read back plainly."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from model.data.shard_reader import TokenRows
from tasks.artifacts import Corpus, Tokenizer, Workspace, as_artifact, describe
from tasks.documents import DOCUMENTS, TableWriter
from tasks.executor.filetasks import FilesConfig, FileTasks
from tasks.ledger import Ledger, StageOutcome
from tasks.sampling import hash_keys
from tasks.shards.shards import ShardsConfig, write_shards
from tasks.tokenizer.encoding import encode_documents, load_tokenizer, special_ids

WORDS = ["river", "stone", "cloud", "山", "水", "云", "def", "return", "lamp", "<|eos|>", "42", "night"]
Texts = dict[str, str]


def write_documents(path: Path, texts: Texts) -> None:
    rows = [
        {
            "id": id,
            "text": text,
            "source": f"made-{len(text) % 2}",
            "path": id,
            "language": "zh" if "山" in text else "en",
            "bytes": len(text.encode()),
            "meta": [],
        }
        for id, text in texts.items()
    ]
    with TableWriter(path, DOCUMENTS) as writer:
        writer.write(pa.RecordBatch.from_pylist(rows, DOCUMENTS))


def make_texts(start: int, stop: int) -> Texts:
    random = np.random.default_rng(start)
    return {f"doc-{i:04d}": " ".join(random.choice(WORDS, random.integers(1, 60))) for i in range(start, stop)}


def make_corpus(root: Path, train: list[Texts], validation: Texts, fingerprint: str = "c0ffee") -> Corpus:
    workspace = Workspace(root).open()
    folder = workspace.begin("decontaminate", fingerprint, keep=False)
    for number, texts in enumerate(train):
        write_documents(folder / f"train-{number:05d}.parquet", texts)
    write_documents(folder / "validation.parquet", validation)
    manifest = describe("decontaminate", fingerprint, {}, {}, folder, StageOutcome(Ledger()), 0.0)
    return as_artifact(Corpus, workspace.publish(manifest), manifest)


TRAIN, VALIDATION = [make_texts(0, 70), make_texts(70, 120)], make_texts(120, 150)


def run(config: ShardsConfig, corpus: Corpus, tokenizer: Tokenizer, out: Path, files: FileTasks) -> tuple[Path, StageOutcome]:
    out.mkdir(parents=True, exist_ok=True)
    outcome = write_shards(config, corpus, tokenizer, out, files)
    outcome.ledger.check("shards")
    return out, outcome


def open_rows(folder: Path) -> TokenRows:
    return TokenRows.open(sorted(folder.glob("*.parquet")))


def read_rows(folder: Path) -> np.ndarray:
    rows = open_rows(folder)
    return rows.take(np.arange(rows.rows))


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def encoded(tokenizer: Tokenizer, tables: list[Texts]) -> list[list[int]]:
    """Tokens of every document in the order of the corpus: the plain version of what the stage encodes."""
    encoder = load_tokenizer(tokenizer.path)
    special = special_ids(encoder, "test")
    texts = [text for table in tables for text in table.values()]
    return [[special.bos, *ids, special.eos] for ids in encode_documents(encoder, texts)]


def shuffled(tables: list[Texts], seed: int) -> list[int]:
    """Numbers of the documents in shuffled order."""
    keys = hash_keys([id for table in tables for id in table], seed)
    return sorted(range(len(keys)), key=lambda number: int(keys[number]))


def unpacked(rows: TokenRows) -> dict[int, list[int]]:
    """Documents as the rows hold them, put together again by number and offset; overlaps must agree."""
    found: dict[int, dict[int, int]] = {}
    everything = rows.take(np.arange(rows.rows))
    for row, segments in zip(everything, rows.segments(np.arange(rows.rows)), strict=True):
        start = 0
        for end, document, offset in zip(segments.ends, segments.documents, segments.offsets, strict=True):
            for at in range(start, end):
                token = found.setdefault(int(document), {}).setdefault(int(offset) + at - start, int(row[at]))
                assert token == row[at]
            start = end
        assert (row[start:] == rows.header.pad).all()
    for tokens in found.values():
        assert sorted(tokens) == list(range(len(tokens)))
    return {document: [tokens[at] for at in range(len(tokens))] for document, tokens in found.items()}


def write_all(config: ShardsConfig, corpus: Corpus, tokenizer: Tokenizer, out: Path, parts: Path) -> None:
    write_shards(config, corpus, tokenizer, out, FileTasks(parts, FilesConfig(workers=0)))
