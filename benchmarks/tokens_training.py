"""Learning a byte-level vocabulary: row `train-tokenizer`. The same pieces, special tokens, size and texts on both sides.

python -m benchmarks.tokens_training ours|peer LEARNED.parquet HELD_OUT.parquet VOCABULARY
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.corpus_texts import is_chinese, write_tables
from benchmarks.sides import Row, Run, compared, ours, tell
from benchmarks.tokens_sides import PeakMemory
from benchmarks.tokens_texts import HELD_OUT, Material

if TYPE_CHECKING:
    import tokenizers

BATCH_ROWS = 500


def row(material: Material, megabytes: float, vocab_size: int, folder: Path, pairs: int) -> Row:
    """MB of text a CPU second; the memory that it took, and bytes a token of text that neither has read."""
    documents = material.distinct(megabytes)
    (learned,) = write_tables(
        [text for number, text in enumerate(documents) if number % HELD_OUT], "und", folder / "learned"
    )
    (held_out,) = write_tables(documents[::HELD_OUT], "und", folder / "held_out")
    arguments = (str(learned), str(held_out), str(vocab_size))
    found, our_run, peer_run = compared(
        "train-tokenizer",
        ours("tokens_training", "ours", *arguments),
        ours("tokens_training", "peer", *arguments),
        "tokenizers: BpeTrainer",
        pairs,
    )
    ratios = {
        name: _fact(our_run, name) / _fact(peer_run, name) for name in ("bytes_per_token_en", "bytes_per_token_zh")
    }
    return found | {
        "vocab_size": vocab_size, "ours_cpu_seconds": our_run.cpu_seconds, "peer_cpu_seconds": peer_run.cpu_seconds,
        "ours_more": our_run.facts, "peer_more": peer_run.facts, "ours_over_peer": ratios,
        "memory_over_peer": _fact(our_run, "peak_megabytes") / _fact(peer_run, "peak_megabytes"),
    }  # fmt: skip


def _fact(run: Run, name: str) -> float:
    return float(str(run.facts[name]))


def _texts(table: Path) -> Iterator[str]:
    with pq.ParquetFile(table) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=["text"]):
            yield from batch.column(0).to_pylist()


def learn_ours(table: Path, vocab_size: int) -> "tokenizers.Tokenizer":
    """With the recipe's defaults."""
    from tasks.vocabulary import SPECIAL_TOKENS, learn_merges_fast, new_tokenizer

    tokenizer = new_tokenizer()
    learn_merges_fast(tokenizer, "mixed", lambda: _texts(table), vocab_size, SPECIAL_TOKENS)
    return tokenizer


def learn_peer(table: Path, vocab_size: int) -> "tokenizers.Tokenizer":
    """With the trainer of `tokenizers`, and our pieces, special tokens and least count."""
    from tokenizers import pre_tokenizers, trainers

    from tasks.vocabulary import MIN_COUNT, SPECIAL_TOKENS, new_tokenizer

    tokenizer = new_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=MIN_COUNT, special_tokens=list(SPECIAL_TOKENS), show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    tokenizer.train_from_iterator(_texts(table), trainer)
    return tokenizer


def bytes_per_token(tokenizer: "tokenizers.Tokenizer", texts: list[str]) -> float:
    """Of texts that were not learned from."""
    encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return sum(len(text.encode()) for text in texts) / sum(len(one.ids) for one in encoded)


def main() -> None:
    """One side: from the table to a tokenizer that encodes."""
    side, learned, held_out, vocab_size = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    learn = learn_ours if side == "ours" else learn_peer
    pa.set_cpu_count(1)
    few = learned.with_name("few.parquet")
    pq.write_table(pq.read_table(learned).slice(0, 20), few)
    learn(few, 300)
    startup = time.process_time()
    with PeakMemory() as peak:
        tokenizer = learn(learned, vocab_size)
    seconds = time.process_time() - startup
    texts = list(_texts(held_out))
    languages = {
        "en": [text for text in texts if not is_chinese(text)],
        "zh": [text for text in texts if is_chinese(text)],
    }
    tell(
        sum(pq.read_table(learned, columns=["bytes"])["bytes"].to_pylist()), seconds, startup,
        {
            "peak_megabytes": peak.private / 1e6, "tokens": tokenizer.get_vocab_size(),
            **{f"bytes_per_token_{name}": bytes_per_token(tokenizer, part) for name, part in languages.items()},
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
