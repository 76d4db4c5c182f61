"""Text to ids, one thread a process: rows `encode-en` and `encode-zh`. The ids are the same, or the row fails.

python -m benchmarks.tokens_encoding ours|peer DOCUMENTS.parquet TOKENIZER_FOLDER
"""

import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import ArrayLike

from benchmarks.corpus_texts import Language, write_tables
from benchmarks.sides import Row, compared, ours, tell
from benchmarks.tokens_texts import Material

BATCH_BYTES = 4_000_000  # of text given to either side at a time

Encode = Callable[[list[str]], Sequence[ArrayLike]]


def row(material: Material, language: Language, megabytes: float, folder: Path, pairs: int) -> Row:
    """Both sides over the same documents."""
    documents, origin = material.source.at_least(language, megabytes)
    (table,) = write_tables(documents, language, folder)
    arguments = (str(table), str(material.tokenizer))
    found, our_run, peer_run = compared(
        f"encode-{language}",
        ours("tokens_encoding", "ours", *arguments),
        ours("tokens_encoding", "peer", *arguments),
        "tokenizers.encode_batch",
        pairs,
    )
    assert our_run.facts["ids"] == peer_run.facts["ids"], f"{language}: the two sides give other ids"
    return found | {
        "text": origin,
        "ids": "identical",
        "path": our_run.facts["path"],
        "tokens": our_run.facts["tokens"],
    }


def _ours(tokenizer: Path) -> tuple[Encode, str]:
    from tasks.tokenizer.encoding import open_encoder

    encoder = open_encoder(tokenizer)
    return encoder.encode, "tiktoken" if encoder.fast is not None else "tokenizers"


def _peer(tokenizer: Path) -> tuple[Encode, str]:
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    loaded.encode_special_tokens = True  # a special token's spelling in a text stays text, as on our side

    def encode(texts: list[str]) -> list[list[int]]:
        return [one.ids for one in loaded.encode_batch(texts, add_special_tokens=False)]

    return encode, "tokenizers"


def _batches(texts: list[str]) -> Iterator[list[str]]:
    held: list[str] = []
    size = 0
    for text in texts:
        held.append(text)
        size += len(text.encode())
        if size >= BATCH_BYTES:
            yield held
            held, size = [], 0
    if held:
        yield held


def main() -> None:
    """One side: text in Python strings to ids; the digest of all ids is made when the clock has stopped."""
    side, table, tokenizer = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    encode, path = (_ours if side == "ours" else _peer)(tokenizer)
    batches = list(_batches(pq.read_table(table, columns=["text"])["text"].to_pylist()))
    size = sum(len(text.encode()) for batch in batches for text in batch)
    encode(batches[0][:20])
    startup = time.process_time()
    seconds, tokens, digest = 0.0, 0, hashlib.blake2b(digest_size=16)
    for batch in batches:
        start = time.process_time()
        encoded = encode(batch)
        seconds += time.process_time() - start
        for ids in encoded:
            values = np.asarray(ids, dtype="<u4")
            digest.update(len(values).to_bytes(8, "little") + values.tobytes())
            tokens += len(values)
    tell(size, seconds, startup, {"ids": digest.hexdigest(), "tokens": tokens, "path": path})


if __name__ == "__main__":
    main()
