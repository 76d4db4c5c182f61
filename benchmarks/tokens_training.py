"""Learning a byte-level vocabulary: row `train-tokenizer`. The same texts, pre-tokenizer, special tokens and size on both sides.

python -m benchmarks.tokens_training ours|peer CORPUS FEW VOCABULARY
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.corpus_texts import is_chinese
from benchmarks.sides import Row, Run, compared, ours, tell
from benchmarks.tokens_sides import PeakMemory
from benchmarks.tokens_texts import Material, write_corpus

if TYPE_CHECKING:
    import tokenizers

    from tasks.artifacts import Corpus
    from tasks.tokenizer.tokenizer import TokenizerConfig

FEW = 40  # documents from which each side learns once before it is measured
FEW_TOKENS = 300
LANGUAGES = ("bytes_per_token_en", "bytes_per_token_zh")


def row(material: Material, megabytes: float, vocab_size: int, folder: Path, pairs: int) -> Row:
    """MB of text a CPU second; the memory that it took, and bytes a token of text that neither has read."""
    documents = material.distinct(megabytes)
    corpora = [write_corpus(texts, folder / name).folder for name, texts in (("all", documents), ("few", documents[:FEW]))]
    found, our_run, peer_run = compared(
        "train-tokenizer",
        ours("tokens_training", "ours", *corpora, str(vocab_size)),
        ours("tokens_training", "peer", *corpora, str(vocab_size)),
        "tokenizers: BpeTrainer",
        pairs,
    )
    more: Row = {
        "vocab_size": vocab_size,
        "ours_cpu_seconds": our_run.cpu_seconds,
        "peer_cpu_seconds": peer_run.cpu_seconds,
        "ours_more": our_run.facts,
        "peer_more": peer_run.facts,
        "ours_over_peer": {name: _fact(our_run, name) / _fact(peer_run, name) for name in ("peak_megabytes", *LANGUAGES)},
    }
    return found | more


def _fact(run: Run, name: str) -> float:
    return float(str(run.facts[name]))


def learn_ours(config: "TokenizerConfig", corpus: "Corpus") -> "tokenizers.Tokenizer":
    """As the stage learns with its defaults."""
    from tasks.tokenizer.tokenizer import learn

    return learn(config, corpus)[0]


def learn_peer(config: "TokenizerConfig", corpus: "Corpus") -> "tokenizers.Tokenizer":
    """The same sample to the trainer of `tokenizers`."""
    from tokenizers import pre_tokenizers, trainers

    from tasks.sampling import sample_documents
    from tasks.tokenizer.tokenizer import DOCUMENT_BYTES
    from tasks.tokenizer.vocabulary import MIN_COUNT, new_tokenizer, special_names

    sample = sample_documents(corpus.path, "train-*.parquet", config.sample_bytes, config.seed, document_bytes=DOCUMENT_BYTES)
    tokenizer = new_tokenizer(config.algorithm, config.cut())
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=MIN_COUNT,
        special_tokens=special_names(config.algorithm),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((document.text for document in sample), trainer)
    return tokenizer


def held_out(corpus: "Corpus") -> Iterator[tuple[str, list[str]]]:
    """Texts of each language that were not learned from."""
    texts = pq.read_table(corpus.path / "validation.parquet", columns=["text"])["text"].to_pylist()
    yield "en", [text for text in texts if not is_chinese(text)]
    yield "zh", [text for text in texts if is_chinese(text)]


def bytes_per_token(tokenizer: "tokenizers.Tokenizer", texts: list[str]) -> float:
    """The more, the shorter the sequences."""
    encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return sum(len(text.encode()) for text in texts) / sum(len(one.ids) for one in encoded)


def main() -> None:
    """One side: from the corpus to a tokenizer that encodes."""
    from tasks.artifacts import Corpus
    from tasks.tokenizer.tokenizer import TokenizerConfig

    side, vocab_size = sys.argv[1], int(sys.argv[4])
    corpus, few = (Corpus(folder, "benchmark") for folder in sys.argv[2:4])
    learn = learn_ours if side == "ours" else learn_peer
    pa.set_cpu_count(1)
    size = sum(int(pq.read_table(path, columns=["bytes"])["bytes"].to_numpy().sum()) for path in corpus.path.glob("train-*"))
    learn(TokenizerConfig(vocab_size=FEW_TOKENS), few)
    startup = time.process_time()
    with PeakMemory() as peak:
        tokenizer = learn(TokenizerConfig(vocab_size=vocab_size, sample_bytes=size), corpus)
    seconds = time.process_time() - startup
    rates = {f"bytes_per_token_{name}": bytes_per_token(tokenizer, texts) for name, texts in held_out(corpus)}
    facts = {"peak_megabytes": peak.private / 1e6, "tokens": tokenizer.get_vocab_size(), **rates}
    tell(size, seconds, startup, facts)


if __name__ == "__main__":
    main()
